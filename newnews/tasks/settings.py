"""From settings to a task and its items. The settings stand in the manifest of an answers file as "how", so
its verdicts can be made again from it and the data alone.

    {"task", "limit", "world", "in_context", "seed", "formats", "prompts"}      news
    {"task", "limit", "shots", "turns", "plain", "max_new_tokens"}              a benchmark
"""

from dataclasses import asdict

from newnews.news import check_asked, read_news
from newnews.outputs import digest
from newnews.prompts import Prompts
from newnews.reading import checked, whole
from newnews.tasks.choice import Choice
from newnews.tasks.gsm8k import GSM8K
from newnews.tasks.ifeval import IFEval
from newnews.tasks.mmlu_pro import MMLUPro
from newnews.tasks.news import NewsTask
from newnews.tasks.reversal import Reversal

BENCHMARKS = {task.name: task for task in (MMLUPro, GSM8K, IFEval, Choice, Reversal)}
NAMES = ("news", *BENCHMARKS)


NEWS = {"world": int, "in_context": bool, "seed": int, "formats": list[str],
        "prompts": Prompts}
BENCHMARK = {"shots": int, "turns": bool, "plain": bool, "max_new_tokens": int | None}
LEAST = {"limit": 1, "world": 0, "seed": 0, "shots": 0, "max_new_tokens": 1}


def check_how(how):
    """Settings as a file gives them: each is there, of its kind and in its range. A ValueError names
    the key."""
    if not isinstance(how, dict) or how.get("task") not in NAMES:
        raise ValueError(f"task: expected {', '.join(NAMES)}")
    for key, kind in {"limit": int | None, **(NEWS if how["task"] == "news" else BENCHMARK)}.items():
        if key not in how:
            raise ValueError(f"{key}: is missing")
        checked(kind, how[key], key)
        if key in LEAST and how[key] is not None:
            whole(key, how[key], LEAST[key])


def make_items(how, path):
    """The first `limit` items of the data (None: all)."""
    if how["task"] == "news":
        items = read_news(path, how["world"])
        check_asked(items)
    else:
        items = BENCHMARKS[how["task"]]().items(path)
    return items[:how["limit"]]


def make_task(how, examples=None):
    """The task. examples: file of the worked examples; without it, none stand before the questions, which
    changes what is asked but no verdict."""
    if how["task"] == "news":
        return NewsTask(Prompts(**how["prompts"]), how["in_context"], how["seed"], how["formats"])
    kind, limits = BENCHMARKS[how["task"]], {key: how[key] for key in ("plain", "max_new_tokens")}
    if examples is None:
        return kind(**limits)
    return kind(kind().examples(examples), how["shots"], how["turns"], **limits)


def requests_digest(task, items):
    """A short hash of all that the task asks about the items."""
    return digest([[item.id, [asdict(request) for request in task.requests(item)]] for item in items])
