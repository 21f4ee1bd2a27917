"""Run a study: its cells through the stages, then the summary.

    OUT/study.json      which file belongs to which cell, and the settings
    OUT/prompts.yaml    the words in which was asked; prompts.2.yaml, ... those of further models
    OUT/summary.json    accuracies with intervals, gap recovered, overlap, costs

and the stages' files beside them (newnews/studies/stages.py). A killed study goes on from its last whole
chunk and ends in the same bytes, timings apart.
"""

import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

from model.files import read_json
from newnews import locks
from newnews.console import say
from newnews.distributed import own_gpu
from newnews.outputs import check_out, manifest_of, write_json
from newnews.prompts import source_of
from newnews.protocols import protocols
from newnews.provenance import provenance
from newnews.reading import read_jsonl, shown
from newnews.studies.checks import check_models, check_study, check_unchanged, sources_of
from newnews.studies.grid import cells
from newnews.studies.pace import paced
from newnews.studies.sources import source
from newnews.studies.stages import Stages
from newnews.studies.summary import Finished, summarise
from newnews.studies.ways import EVERY, KL, news_of, task_of, ways_of
from newnews.tasks.news import WAYS
from newnews.together import work_off


def run_study(study, out, store=None):
    """Compute what is missing in the folder `out`; returns the summary. Under torchrun the processes share
    the cells, and only the first returns it.

    store: where stages are kept, OUT by default; studies that name one folder share what they have in common.
    """
    out = check_study(out, study, store)
    origin = source(study["news"], "study")
    items = origin.load()
    every = cells(study)
    folders, news = check_models(every, study, items), news_of(study, origin, items)
    check_unchanged(out, study, store, folders)
    short = [cell.name for cell in every if cell.recipe.warmup > cell.recipe.steps]
    if short:
        who = f"{shown(short[0])}{' and others have' if short[1:] else ' has'}"
        say(warning=f"{who} more steps of warm-up than steps: the rate never reaches recipe.rate")
    out.mkdir(parents=True, exist_ok=True)
    stages = Stages(out if store is None else check_out(store, "folder"), study["device"], study["dtype"])
    with alone(out, study, store):
        return computed(study, out, stages, items, every, folders, news)


@contextmanager
def alone(out, study, store):
    """Two studies started at once into one folder do not mix: the second is refused, or finds there what the
    first has become. Of a group of processes the first has the lock for all."""
    if os.environ.get("RANK", "0") != "0":      # torchrun's; a study needs no group
        yield
        return
    locks.hold(out / "study.json")
    try:
        check_study(out, study, store)
        yield
    finally:
        locks.release(out / "study.json")


def computed(study, out, stages, items, every, folders, news):
    """The summary of a study that was checked. every: its cells; folders: of its models; news: what is asked,
    by way."""
    index = {"study": study, "prompts": {}, "base": {}, "cells": [], "seconds": 0.0,
             "sources": sources_of(study, folders), **provenance()}
    spent = {}      # file: seconds of each stage, however often the study was broken off
    commits = set() # at which they were computed

    def answers(model, who, label, update=None, ways=ways_of(study)):
        """{way: file} of the raw answers."""
        prompts, files = stages.reader(model).prompts, {}
        for way in ways:
            if way == KL:
                output = stages.drift(model, items, study["neutral"]["source"], who, label, update)
            else:
                output = stages.answers(model, task_of(way, study, prompts), news[way], EVERY[way].file, who,
                                        label, update)
            files[way] = os.path.relpath(output.path, out)
            commits.add(str(read_json(manifest_of(output.path)).get("git")))
            spent[files[way]] = output.totals.get("seconds", 0.0)
        return files

    def enter(i):
        stages.place = f"{i}/{len(every)} "
        pace.start(i - 1)

    def tuned(i, cell):
        """What study.json says of a cell, all of its files whole."""
        enter(i)
        # what is trained on comes first, since it may need another model than the learner
        rows = [stages.replay(cell, s.name, items) for s in protocols(None)[cell.protocol].sources]
        update = stages.update(cell, items, rows)
        mine = {"name": cell.name, "protocol": cell.protocol, "model": cell.model, "writer": cell.writer,
                "learner": cell.learner, "neutral": list(cell.neutral), "form": cell.form,
                "recipe": asdict(cell.recipe),
                "answers": answers(cell.model, cell.protocol, cell.name, update),
                "replay": [os.path.relpath(r.path, out) for r in rows],
                "flops": update.flops + sum(r.totals.get("flops", 0) for r in rows), "tokens": update.tokens,
                "course": course({folder.parent for folder in update.folders.values()}),
                "diverged": update.diverged, "empty": update.empty}
        if update.arrivals:     # closed book, about all news so far; the last of them is what stands above
            after = [answers(cell.model, cell.protocol, f"{cell.name} after {n}", arrival, WAYS[:1])[WAYS[0]]
                     for n, arrival in enumerate(update.arrivals, 1)]
            mine["arrivals"] = [{"news": list(arrival.folders), "answers": file}
                                for arrival, file in zip(update.arrivals, after)]
        commits.update(str(read_json(manifest_of(r.path)).get("git")) for r in rows)
        commits.update(str(manifest.get("git")) for manifest in update.manifests)
        spent.update({os.path.relpath(r.path, out): r.totals.get("seconds", 0.0) for r in rows})
        trained = tuple(update.folders.values())        # cells may share it: draws change nothing in naive
        spent[trained] = update.seconds
        files = {trained, *mine["replay"], *mine["answers"].values(),
                 *(arrival["answers"] for arrival in mine.get("arrivals", ()))}
        return {**mine, "seconds": round(sum(spent[file] for file in files), 1)}

    own_gpu(study["device"])
    models = dict.fromkeys(cell.model for cell in every)
    with paced(study, every, news, len(items)) as pace:
        if not work_off([partial(answers, model, "base", "base") for model in models]
                        + [partial(tuned, i, cell) for i, cell in enumerate(every, 1)]):
            return None
        for i, cell in enumerate(every, 1):
            enter(i)
            if cell.model not in index["base"]:
                index["base"][cell.model] = answers(cell.model, "base", "base")
            index["cells"].append(tuned(i, cell))
    index["seconds"], index["computed_at"] = round(sum(spent.values()), 1), sorted(commits)
    index["prompts"] = {model: "prompts.yaml" if i == 1 else f"prompts.{i}.yaml"
                        for i, model in enumerate(index["base"], 1)}
    write_json(out / "study.json", index)               # our mark: before what others have names for too
    for model, name in index["prompts"].items():        # aside, then renamed: half of one would be another's
        shutil.copyfile(source_of(folders[model]), out / f"{name}.part")
        os.replace(out / f"{name}.part", out / name)
    summary = {**summarise(Finished(out)), **provenance()}
    write_json(out / "summary.json", summary)
    return summary


def course(banks):
    """[[step, loss, gradient norm]] at a twentieth of the steps each, means over the adapters of some banks;
    the norm is that before clipping. From what training noted (newnews/training.py: metrics.jsonl)."""
    lines = [read_jsonl(bank / "metrics.jsonl") for bank in sorted(banks)]
    steps = min(map(len, lines), default=0)

    def mean(step, key):
        known = [x for some in lines for x in some[step][key] if x is not None]
        return sum(known) / len(known) if known else None

    return [[step, mean(step, "loss"), mean(step, "grad_norm")]
            for step in dict.fromkeys(round(i * (steps - 1) / 20) for i in range(21) if steps)]
