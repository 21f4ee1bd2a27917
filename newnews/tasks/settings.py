"""From settings to a task and its items. The settings stand in the manifest of an answers file as "how", so
its verdicts can be made again from it and the data alone.

    {"task", "limit", "world", "in_context", "seed", "formats", "prompts"}      news
    {"task", "limit", "shots", "turns", "plain", "max_new_tokens"}              a benchmark
"""

from newnews.news import check_asked, read_news
from newnews.outputs import digest
from newnews.prompts import Prompts
from newnews.tasks.choice import Choice
from newnews.tasks.gsm8k import GSM8K
from newnews.tasks.ifeval import IFEval
from newnews.tasks.mmlu_pro import MMLUPro
from newnews.tasks.news import NewsTask
from newnews.tasks.reversal import Reversal

BENCHMARKS = {task.name: task for task in (MMLUPro, GSM8K, IFEval, Choice, Reversal)}
NAMES = ("news", *BENCHMARKS)


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
    return digest([[item.id, [request.content() for request in task.requests(item)]] for item in items])
