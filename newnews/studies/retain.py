"""What an update cost: the same questions before and after it, paired item by item. No torch.

Three parts: asked (how many, and the share right before and after), kept (of what was right before, how much
still is; of what was wrong, how much is right now), flipped (which).
"""

from model.files import read_json
from newnews.outputs import differing, manifest_of
from newnews.studies.report import interval
from newnews.studies.scores import scored
from newnews.studies.stats import mcnemar, paired, share
from newnews.studies.summary import verdicts
from newnews.tasks.settings import check_how, make_items, make_task, requests_digest

SHOWN = 20          # flipped ids of one direction, at most, in the text


def retain(before, after, data, name=None):
    """The comparison of two answers files, {"task", "fields": {field: ...}, "before", "after"}.

    data: the file that was asked. name: the task, if it is to be checked. A ValueError where the two were not
    asked the same, or the data are not those that were asked.
    """
    runs = [run_of(path) for path in (before, after)]
    how = runs[0]["how"]
    if name not in (None, how["task"]):
        raise ValueError(f"{before}: answers to the task {how['task']}, expected {name}")
    if runs[0]["requests"] != runs[1]["requests"]:
        # the digest of a prompt file is none of the words; answers before 2026-11-26 have it
        differs = ", ".join(key for key in differing(how, runs[1]["how"]) if key != "prompts.digest")
        why = f"they differ in {differs}" if differs else "the data or the examples differ"
        raise ValueError(f"{after}: was asked otherwise than {before}; compare answers to the same questions "
                         f"in the same words ({why})")
    task, items = make_task(how), make_items(how, data)
    if requests_digest(task, items) != runs[0]["data"]:
        raise ValueError(f"{data}: these are not the questions that {before} was asked")
    if how["task"] == "news":
        first, second = (news_rows(verdicts(path, task, items)) for path in (before, after))
        fields = {format: format for format in task.formats}
    else:
        first, second = (benchmark_rows(scored(path, task, items), task) for path in (before, after))
        fields = task.columns
    return {"task": how["task"], "before": str(before), "after": str(after),
            "fields": {title: compared(first[field], second[field]) for field, title in fields.items()}}


def run_of(path):
    manifest = manifest_of(path)
    if not manifest.is_file():
        raise ValueError(f"{path}: expected finished answers and their {manifest.name} (evaluate.py)")
    run = read_json(manifest).get("run")
    if not isinstance(run, dict) or not {"how", "data", "requests"} <= set(run):
        raise ValueError(f"{manifest}: expected run with how, data and requests (evaluate.py); ask again")
    try:
        check_how(run["how"])
    except ValueError as error:
        raise ValueError(f"{manifest}: how: {error}") from None
    return run


def benchmark_rows(rows, task):
    """{field: {name of a verdict: (cluster, right)}}; verdicts on a prompt's instructions are numbered."""
    out = {field: {} for field in task.columns}
    for row in rows:
        for field, found in out.items():
            if isinstance(row[field], list):
                found |= {f"{row['item']}.{i}": (row["item"], right) for i, right in enumerate(row[field], 1)}
            else:
                found[row["item"]] = row["item"], row[field]
    return out


def news_rows(rows):
    """{format: {question: (news item, right)}}."""
    out = {}
    for row in rows:
        out.setdefault(row["format"], {})[row["question"]] = row["news"], row["right"]
    return out


def compared(before, after):
    """Two {name: (cluster, right)} of the same names: {"n", "before", "after", "kept", "gained",
    "difference", "mcnemar", "lost": names, "won": names}."""
    names, clusters = list(before), [cluster for cluster, _ in before.values()]
    pairs = [(before[name][1], after[name][1]) for name in names]

    def share_of(was):
        some = [(now, cluster) for (then, now), cluster in zip(pairs, clusters) if then == was]
        return share([now for now, _ in some], [cluster for _, cluster in some])

    lost = [name for name, pair in zip(names, pairs) if pair == (True, False)]
    won = [name for name, pair in zip(names, pairs) if pair == (False, True)]
    then, now = [x for x, _ in pairs], [y for _, y in pairs]
    return {"n": len(names), "before": share(then, clusters), "after": share(now, clusters),
            "kept": share_of(True), "gained": share_of(False), "difference": paired(now, then, clusters),
            "mcnemar": mcnemar(len(lost), len(won)), "lost": lost, "won": won}


# ---- as text ----

def report(found, most=SHOWN):
    """The three parts as text, for each field; of the flipped names at most so many of one direction."""
    lines = [f"{found['task']}: {found['before']} -> {found['after']}"]
    for title, f in found["fields"].items():
        difference = f["difference"]
        lines += ["", title,
                  f"  asked    {f['n']} questions; right before {interval(f['before'], 3)}, "
                  f"after {interval(f['after'], 3)}",
                  f"  kept     {interval(f['kept'], 3)} of the {f['kept']['n']} right before; gained "
                  f"{interval(f['gained'], 3)} of the {f['gained']['n']} wrong before",
                  f"  flipped  {len(f['lost'])} lost, {len(f['won'])} gained; after - before "
                  f"{interval(difference, 3)}, McNemar's exact p {f['mcnemar']:.3g}"]
        if difference["clusters"] < f["n"] and difference["p"] is not None:
            lines[-1] += f" (by clusters {difference['p']:.3g})"
        lines += [f"    {word:<8} {listed(f[key], most)}" for word,
                  key in (("lost", "lost"), ("gained", "won")) if f[key]]
    return "\n".join([*lines, "", "Intervals: 95%, clustered by item where several answers belong to one."])


def listed(names, most):
    more = f" and {len(names) - most} more (--all lists them)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
