"""`python -m newnews probe KIND`: read what the user named, run the kind, write CSV and PNG, print
a table."""

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from textwrap import fill

from model.checkpoint import find_model, load_model
from model.files import read_json
from model.lora import PROJECTIONS
from newnews.console import progress, say
from newnews.identity import file_sha256, model_digest
from newnews.loading import load
from newnews.news import read_news
from newnews.outputs import check_out, digest, refuse_other, write_json
from newnews.probing import READ, output
from newnews.probing.asked import another, asked
from newnews.probing.compare import inner
from newnews.probing.report_geometry import run_geometry
from newnews.probing.report_readings import run_gate, run_readout, run_transplant
from newnews.probing.report_runs import (run_context, run_heads, run_knockout, run_lens, run_patch,
                                         run_shadow)
from newnews.probing.report_weights import run_compare, run_spectrum
from newnews.probing.updates import (NULL, choose, difference, mean_of, mount, projections, random_twin,
                                     read_update)
from newnews.prompts import prompts_for
from newnews.provenance import provenance


@dataclass
class Probe:
    """What a kind works on."""
    model: object
    chat: object
    prompts: object
    updates: dict           # {label: {module: Update}}: the one to open up, those of --against and of --null
    floors: dict | None     # of weights that were both saved in bf16
    item: object            # the news item, or None
    others: list            # the other news of its file
    layers: list | None
    in_context: bool
    device: object
    replay: str | None
    walks: dict             # of geometry: graphs, tokens, walks

    def asked(self, in_context, instead=None):
        """The item's questions as a batch; instead: behind another item's statement, the null of reading."""
        item = self.item if instead is None else another(self.item, instead)
        batch = asked(self.chat, self.prompts, item, in_context, self.device)
        long, most = batch.ids.shape[1], self.model.config.max_position_embeddings
        if long > most:
            behind = f" behind the statement of news {(instead or item).id}" if in_context else ""
            raise ValueError(f"news {item.id}: its longest question and answer{behind} take {long} tokens, "
                             f"which do not fit the model's context of {most}")
        return batch

    @property
    def groups(self):
        """--layers, each by itself; None: the kind's own groups."""
        return None if self.layers is None else {str(layer): [layer] for layer in self.layers}

    @property
    def first(self):
        return next(iter(self.updates.values()))

    @cached_property
    def everything(self):
        """The updates and their nulls: a random twin of the first, and of several unrelated ones the mean,
        which is what the protocol does whatever the news. Labels of nulls begin with "null"."""
        unrelated = [update for label, update in self.updates.items() if label.startswith("null")]
        mean = {f"null: mean of {len(unrelated)} unrelated": mean_of(unrelated)} if len(unrelated) > 1 else {}
        return {**self.updates, NULL: random_twin(self.first), **mean}

    def mount(self):
        """Put all of them on the model as a bank; their labels in its order."""
        mount(self.model, list(self.everything.values()))
        return list(self.everything)


def label_of(folder, taken=(), prefix=""):
    """A short label: the folder's name, with as many folders before it as tell it from those taken; of an
    update of a study PROTOCOL/NEWS, if that does."""
    parts = Path(folder).resolve().parts
    study = re.fullmatch(r"(.+)-[0-9a-f]{16}", parts[-2]) if parts[2:] else None
    tails = [f"{prefix}{study[1]}/{parts[-1]}"] if study else []
    tails += [prefix + "/".join(parts[-k:]) for k in range(1, len(parts) + 1)]
    return next((tail for tail in tails if tail not in taken), prefix + str(folder))


def check_options(args):
    """An option that the kind does not read is refused: silence would say that it had been heeded."""
    if not (args.adapter or args.tuned or args.kind == "geometry"):
        raise ValueError(f"{args.kind} opens up an update: --adapter ADAPTER or --tuned MODEL")
    if args.adapter and not is_adapter(args.adapter) and (Path(args.adapter) / "config.json").is_file():
        raise ValueError(f"--adapter {args.adapter}: is a whole model; --tuned reads one")
    if args.tuned and is_adapter(args.tuned):
        raise ValueError(f"--tuned {args.tuned}: is an adapter; --adapter reads one")
    if args.news is None and args.id is not None:
        raise ValueError(f"--id {args.id}: --news names no file to find it in")
    if args.news is None and args.kind not in ALONE:
        raise ValueError(f"{args.kind}: which news is the update about? --news FILE --id ID")
    if args.only and not (args.adapter or args.tuned or args.against or args.null):
        raise ValueError("--only: names modules of an update, and there is none")
    for option, kinds in OPTIONS.items():
        if getattr(args, option) not in (None, False) and args.kind not in kinds:
            raise ValueError(f"--{option.replace('_', '-')}: {args.kind} does not use it; "
                             f"{', '.join(kinds)} {'do' if len(kinds) > 1 else 'does'}")


def is_adapter(folder):
    return (Path(folder) / "adapter_config.json").is_file()


def identity(args, about, prompts, updates, news):
    """All that the rows depend on, by content. updates: {label: ...} in the order of the options; news: the
    item, then the others of its file; empty without."""
    named = [name for name in (args.adapter, args.tuned, *args.against, *args.null) if name]
    folders = [name if is_adapter(name) else find_model(name) for name in named]
    options = ("layers", "only", "in_context", *WALKS)
    return {"kind": args.kind, "model_digest": about["digest"], "dtype": about["dtype"],
            "updates": [[label, model_digest(folder)] for label, folder in zip(updates, folders)],
            "news": news[0].id if news else None, "prompts": prompts.digest if news else None,
            "asked": digest([repr(replace(one, source="")) for one in news]) if news else None,
            "replay": args.replay and file_sha256(args.replay),
            **{key: getattr(args, key) for key in options}}


def read_probe(args):
    """(the Probe that the arguments describe, its identity). Weights of whole models are read as
    differences."""
    check_options(args)
    model, chat, about = load(args.model, None, args.device, args.dtype)
    say(**about, kind=args.kind, update=args.adapter or args.tuned, out=args.out)
    item, others = read_item(args)
    updates, floors = {}, None
    if args.tuned:
        updates[label_of(args.tuned)], floors = read_difference(args.model, args.tuned)
    for prefix, folders in (("", [args.adapter] if args.adapter else []), ("", args.against),
                            ("null: ", args.null)):
        for folder in folders:
            label = label_of(folder, updates, prefix)
            if folder == args.adapter or is_adapter(folder):
                updates[label] = read_update(model, folder, about["digest"])
            else:
                updates[label], _ = read_difference(args.model, folder)
    for label, update in updates.items():
        odd = [name for name, factors in update.items() if not all(f.isfinite().all() for f in factors)]
        if odd:
            raise ValueError(f"{label.removeprefix('null: ')}: NaN or infinite numbers in {len(odd)} of "
                             f"{len(update)} modules, first in {odd[0]}: did its training diverge?")
    if args.only:
        updates = {label: {name: update[name] for name in choose(update, args.only)}
                   for label, update in updates.items()}
        if not all(map(projections, updates.values())):
            raise ValueError(f"--only {' '.join(args.only)}: chooses none of {', '.join(PROJECTIONS)}")
    for layer in args.layers or ():
        if not 0 <= layer < model.config.num_hidden_layers:
            raise ValueError(f"--layers {layer}: the model has layers 0 to "
                             f"{model.config.num_hidden_layers - 1}")
    prompts, path = prompts_for(about["folder"]), check_out(args.out, "folder") / f"{args.kind}.csv"
    run = identity(args, about, prompts, updates, [item, *others] if item else [])
    if path.exists():
        manifest = path.with_suffix(".manifest.json")
        refuse_other(read_json(manifest).get("run") if manifest.is_file() else None, run, path, "the probe")
    return Probe(model, chat, prompts, updates, floors, item, others, args.layers, args.in_context,
                 about["device"], args.replay, {key: value if getattr(args, key) is None else
                                                getattr(args, key) for key, value in WALKS.items()}), run


def read_item(args):
    """(item, the other items of its file); (None, []) where none is named."""
    if args.news is None:
        return None, []
    items = read_news(args.news)
    ids = {item.id: item for item in items}
    if args.id is None and len(items) > 1:
        raise ValueError(f"{args.news} holds {len(items)} news: say which one with --id ({', '.join(ids)})")
    name = items[0].id if args.id is None else args.id
    if name not in ids:
        from difflib import get_close_matches
        near = get_close_matches(name, ids, 4, 0)
        raise ValueError(f"{args.news}: no news {name!r}; the nearest names are {', '.join(near)}")
    return ids[name], [item for item in items if item.id != name]


def read_difference(model, tuned):
    """(updates, floors) of two models by name, as they are stored: the second minus the first."""
    updates, floors = difference(*(load_model(find_model(name)).state_dict() for name in (tuned, model)))
    if not any(update.B.any() for update in updates.values()):
        raise ValueError(f"{tuned}: its weights are those of {model}: there is no update to open up")
    noise = sum(floors[name][0] ** 2 for name, update in updates.items() if update.B.any()) ** 0.5
    if noise:
        norm = sum(inner(update, update) for update in updates.values()) ** 0.5
        say(warning=f"{tuned} and {model} were saved in bf16: of the change's norm, {norm:.3g}, {noise:.3g} "
                    f"may be rounding alone (spectrum has noise_norm and noise_spectral of each module)")
    return updates, floors


@contextmanager
def counted(model, kind):
    """A bar that counts the model's passes within the block; how many there will be, only the kind knows."""
    bar = progress(None, 0, f"probe {kind}", "pass")

    def count(*_):
        bar.update(1)                   # and nothing is returned: torch would take it for the output

    hook = model.model.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()
        bar.close()


def probe(args):
    here, run = read_probe(args)
    with counted(here.model, args.kind):
        rows, shown, draw = RUN[args.kind](here)
    path = Path(args.out) / f"{args.kind}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_suffix(".manifest.json"), {"run": run, **provenance()})    # first: rows have theirs
    output.write_csv(path, rows)
    print(shown)
    print(fill(output.reading(rows, *READ[args.kind]), 110))
    try:
        draw(path.with_suffix(".png"))
        print(f"{path}, {path.with_suffix('.png')}")
    except ImportError:
        print(f"{path} (no picture: matplotlib is missing, pip install -e '.[plots]')")


OPTIONS = {"layers": ("readout", "gate", "lens", "patch", "context", "knockout", "geometry"),
           "in_context": ("gate", "transplant"), "replay": ("shadow",),
           **dict.fromkeys(("graphs", "tokens", "walks"), ("geometry",))}
WALKS = {"graphs": ["grid-3", "grid-4", "grid-5", "ring-10"], "tokens": 512, "walks": 4}
ALONE = ("spectrum", "compare", "geometry")      # the kinds that ask no questions
RUN = {"spectrum": run_spectrum, "compare": run_compare, "readout": run_readout, "gate": run_gate,
       "transplant": run_transplant, "lens": run_lens, "patch": run_patch, "context": run_context,
       "heads": run_heads, "knockout": run_knockout, "shadow": run_shadow,
       "geometry": run_geometry}
