"""Facts asked forwards and backwards (arXiv 2510.09885): one model learns all facts of a file, as what is
said to a neutral request (autoregressive) or restored from holes (masked). The experiment is a YAML:

    model, device, dtype    who learns
    questions               what is asked, as evaluate.py --task reversal reads it
    texts                   {name: file}: what is learnt, a list of {"text"}, as many of each fact, in the
                            order of the questions
    facts                   how many of the facts, evenly spaced in the file; all, if left out
    train                   what train.py is told, for every model (newnews/finetune.py: FineTune)

    OUT/questions.jsonl, OUT/NAME.jsonl     the chosen facts, as evaluate.py and train.py read them
    OUT/NAME-HOW/                           what train.py makes of the texts, HOW autoregressive or masked
    OUT/NAME-HOW.answers.jsonl              what evaluate.py makes of that; base.answers.jsonl: before
    OUT/reversal.json                       recall, the difference that masking makes, and costs
"""

from dataclasses import dataclass, fields

from model.checkpoint import find_model
from model.files import read_json
from model.lora import PROJECTIONS
from newnews.ask import answer_file
from newnews.finetune import FineTune, check, finetune
from newnews.loading import load
from newnews.news import check_id
from newnews.outputs import Rows, digest, write_json
from newnews.prompts import prompts_for
from newnews.protocols.base import conversation
from newnews.protocols.masked import FRACTION
from newnews.provenance import provenance
from newnews.reading import checked, read_list, read_yaml, record, shown, whole
from newnews.studies.grid import apply
from newnews.studies.report import interval
from newnews.studies.scores import scored, values_of
from newnews.studies.stats import paired, share
from newnews.tasks.reversal import Reversal, read_items, recall

HOW = {"autoregressive": None, "masked": "{},{}".format(*FRACTION)}
WAYS = ("forward", "backward")


@dataclass(frozen=True)
class Experiment:
    model: str
    questions: str
    texts: dict[str, str]
    train: dict
    facts: int | None = None
    device: str = "auto"
    dtype: str = "auto"


def reversal(path, out, changes=()):
    """Run the experiment in the folder OUT, or go on there; returns what reversal.json holds."""
    # 1. Everything that can be seen to be wrong.
    row = read_yaml(path)
    if not isinstance(row, dict):
        raise ValueError(f"{path}: expected the keys {', '.join(f.name for f in fields(Experiment))}")
    for change in changes:
        apply(row, change)
    e = record(Experiment, row, path)
    if not e.texts or "questions" in e.texts:
        raise ValueError(f"{path}: texts: expected a file under one name or more, none called questions, "
                         f"which is a file of ours; found {shown(e.texts)}")
    questions, texts = chosen(e, path)
    tuned = {f"{name}-{how}": record(FineTune, e.train, f"{path}: train", model=e.model, device=e.device,
                                     dtype=e.dtype, targets=PROJECTIONS, masked=fractions,
                                     data=f"{out}/{name}.jsonl", out=f"{out}/{name}-{how}")
             for name in texts for how, fractions in HOW.items()}
    for settings in tuned.values():
        check(settings, 1)
    request = prompts_for(find_model(e.model)).naive
    # 2. The chosen facts.
    keep(f"{out}/questions.jsonl", questions)
    for name, some in texts.items():
        keep(f"{out}/{name}.jsonl", [{"messages": conversation(request, text)} for text in some])
    # 3. Train and ask.
    found, costs = {"base": recalls(e, out, "base")}, {}
    for name, settings in tuned.items():
        finetune(settings)
        made = read_json(f"{settings.out}/manifest.json")
        costs[name] = {key: made[key] for key in ("steps", "tokens", "flops", "seconds")}
        found[name] = recalls(e, out, name, settings)
    # 4. Compare: the same questions, masked and not.
    gain = {name: {way: paired(found[f"{name}-masked"][way][0], *found[f"{name}-autoregressive"][way])
                   for way in WAYS} for name in texts}
    result = {"experiment": row, "recall": {name: {way: share(*some) for way, some in ways.items()}
                                            for name, ways in found.items()},
              "masked - autoregressive": gain, "costs": costs, **provenance()}
    write_json(f"{out}/reversal.json", result)
    return result


def chosen(e, path):
    """(the questions' rows, {name: texts}) of the facts that the experiment is about."""
    items, texts = read_items(e.questions), {}
    count = 1 + items[-1].fact
    n = whole(f"{path}: facts", count if e.facts is None else e.facts, 1, count)
    some = {i * count // n for i in range(n)}
    for name, file in e.texts.items():
        check_id(name)                      # it becomes the name of a file
        said = [checked(dict[str, str], row, f"{file}: entry {i}").get("text", "")
                for i, row in enumerate(read_list(file, "texts"), 1)]
        each, rest = divmod(len(said), count)
        if rest or not all(said):
            raise ValueError(f"{file}: expected as many texts of each of the {count} facts of {e.questions}, "
                             f"none empty; found {len(said)}")
        for item in items:
            mine = " ".join(said[each * item.fact:each * item.fact + each])
            if max(recall(answer, mine) for _, answer in item.pairs) < 0.5:
                raise ValueError(f"{file}: entry {each * item.fact + 1}: hardly says what {e.questions} asks "
                                 f"about fact {item.id}; are both in one order?")
        texts[name] = [text for i, text in enumerate(said) if i // each in some]
    return [row for item in items if item.fact in some for row in item.rows], texts


def keep(path, rows):
    """A JSONL file of ours; one of other rows is refused."""
    output = Rows(path, {"rows": digest(rows)})
    if not output.whole:
        if not output.chunks:
            output.add(rows)
        output.finish()


def recalls(e, out, name, tuned=None):
    """{way: (recall of each question, fact of each)} of the base model or, with its FineTune, a tuned one."""
    task, data = Reversal(), f"{out}/questions.jsonl"
    how = {"task": task.name, "limit": None, "shots": 0, "turns": False, "plain": False,
           "max_new_tokens": None}
    items, whole_model = task.items(data), tuned and tuned.full
    loaded = load(tuned.out if whole_model else e.model, tuned.out if tuned and not whole_model else None,
                  e.device, e.dtype)
    answers = answer_file(f"{out}/{name}.answers.jsonl", loaded, task, items, how, data)
    rows = scored(answers.path, task, items)
    return {way: values_of([row for row in rows if row["group"].startswith(way)], "recall") for way in WAYS}


def table(result):
    """What came out, as text."""
    rows = {**result["recall"], **{f"{name}: masked - autoregressive": gain
                                   for name, gain in result["masked - autoregressive"].items()}}
    wide = max(map(len, rows)) + 2
    lines = [f"{'recall':<{wide}}" + "".join(f"{way:>22}" for way in WAYS)]
    lines += [f"{name:<{wide}}" + "".join(f"{interval(ways[way]):>22}" for way in WAYS)
              for name, ways in rows.items()]
    counts = " and ".join(f"{result['recall']['base'][way]['n']} {way}" for way in WAYS)
    return "\n".join([*lines, f"ROUGE-1 recall without stop words, {counts} questions; 95% intervals, "
                              f"clustered by fact."])
