"""`python -m newnews probe KIND`: read what the user named, run the kind, write CSV and PNG, print
a table."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill

from model.checkpoint import find_model, load_model
from model.lora import PROJECTIONS
from newnews.console import say
from newnews.loading import load
from newnews.news import read_news
from newnews.probing import READ, output
from newnews.probing.compare import inner
from newnews.probing.report_attention import run_heads, run_knockout
from newnews.probing.report_geometry import run_geometry
from newnews.probing.report_readings import run_gate, run_readout, run_transplant
from newnews.probing.report_runs import run_context, run_lens, run_patch, run_shadow
from newnews.probing.report_weights import run_compare, run_spectrum
from newnews.probing.updates import (NULL, choose, difference, mean_of, mount, projections, random_twin,
                                     read_updates)
from newnews.prompts import prompts_for


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
    kind: str
    replay: str | None
    walks: dict             # of geometry: graphs, tokens, walks

    def need_item(self):
        if self.item is None:
            raise ValueError(f"{self.kind} needs the news that the update is about: --news FILE --id ID")

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
    """A short label: the folder's name, with as many folders before it as tell it from those taken."""
    parts = Path(folder).resolve().parts
    tails = [prefix + "/".join(parts[-k:]) for k in range(1, len(parts) + 1)]
    return next((tail for tail in tails if tail not in taken), prefix + str(folder))


def check_options(args):
    """An option that the kind does not read is refused: silence would say that it had been heeded."""
    if not (args.adapter or args.tuned or args.kind == "geometry"):
        raise ValueError(f"{args.kind} opens up an update: --adapter ADAPTER or --tuned MODEL")
    for option, kinds in OPTIONS.items():
        if getattr(args, option) not in (None, False) and args.kind not in kinds:
            raise ValueError(f"--{option.replace('_', '-')}: {args.kind} does not use it; "
                             f"{', '.join(kinds)} {'do' if len(kinds) > 1 else 'does'}")


def read_probe(args):
    """The Probe that the arguments describe. Weights of whole models are read as differences."""
    check_options(args)
    model, chat, about = load(args.model, None, args.device, args.dtype)
    say(**about, kind=args.kind, update=args.adapter or args.tuned, out=args.out)
    item, others = read_item(args)
    updates, floors = {}, None
    for prefix, folder in [("", args.adapter or args.tuned), *(("", f) for f in args.against),
                           *(("null: ", f) for f in args.null)]:
        label = label_of(folder or "", updates, prefix)
        if folder and folder != args.adapter and not (Path(folder) / "adapter_config.json").is_file():
            updates[label], noise = read_difference(args.model, folder)
            floors = noise if folder == args.tuned else floors
        elif folder:
            updates[label], = read_updates(model, [folder]).values()
    if args.only:
        updates = {label: {name: update[name] for name in choose(update, args.only)}
                   for label, update in updates.items()}
        if not all(map(projections, updates.values())):
            raise ValueError(f"--only {' '.join(args.only)}: chooses no projection ({', '.join(PROJECTIONS)}), "
                             f"and every kind reads some")
    for layer in args.layers or ():
        if not 0 <= layer < model.config.num_hidden_layers:
            raise ValueError(f"--layers {layer}: the model has layers 0 to "
                             f"{model.config.num_hidden_layers - 1}")
    return Probe(model, chat, prompts_for(about["folder"]), updates, floors, item, others, args.layers,
                 args.in_context, about["device"], args.kind, args.replay,
                 {key: value if getattr(args, key) is None else getattr(args, key)
                  for key, value in WALKS.items()})


def read_item(args):
    """(item, the other items of its file); (None, []) where none is named."""
    if args.news is None:
        if args.id is not None:
            raise ValueError(f"--id {args.id}: --news names no file to find it in")
        return None, []
    items = read_news(args.news)
    ids = {item.id: item for item in items}
    if args.id is None and len(items) > 1:
        raise ValueError(f"{args.news} holds {len(items)} news: say which one with --id ({', '.join(ids)})")
    name = items[0].id if args.id is None else args.id
    if name not in ids:
        from difflib import get_close_matches
        near = get_close_matches(name, ids, 4, 0) or list(ids)[:4]
        raise ValueError(f"{args.news}: no news {name!r}; the nearest names are {', '.join(near)}")
    return ids[name], [item for item in items if item.id != name]


def read_difference(model, tuned):
    """(updates, floors) of two models by name, as they are stored: the second minus the first."""
    updates, floors = difference(*(load_model(find_model(name)).state_dict() for name in (tuned, model)))
    if not any(update.B.any() for update in updates.values()):
        raise ValueError(f"{tuned}: its weights are those of {model}: there is no update to open up")
    noise = sum(floor ** 2 for floor, _ in floors.values()) ** 0.5
    if noise:
        norm = sum(inner(update, update) for update in updates.values()) ** 0.5
        say(warning=f"{tuned} and {model} were saved in bf16: of the change's norm {norm:.3g}, {noise:.3g} may be "
                    f"rounding alone (spectrum has noise_norm and noise_spectral of each module)")
    return updates, floors


def probe(args):
    here = read_probe(args)
    rows, shown, draw = RUN[args.kind](here)
    path = Path(args.out) / f"{args.kind}.csv"
    output.write_csv(path, rows)
    print(shown)
    print(fill(output.reading(rows, READ[args.kind]), 110))
    try:
        draw(path.with_suffix(".png"))
        print(f"{path}, {path.with_suffix('.png')}")
    except ImportError:
        print(f"{path} (no picture: matplotlib is missing, pip install -e '.[plots]')")


OPTIONS = {"layers": ("readout", "gate", "lens", "patch", "context", "knockout", "geometry"),
           "in_context": ("gate", "transplant"), "replay": ("shadow",),
           **dict.fromkeys(("graphs", "tokens", "walks"), ("geometry",))}
WALKS = {"graphs": ["grid-3", "grid-4", "grid-5", "ring-10"], "tokens": 512, "walks": 4}
RUN = {"spectrum": run_spectrum, "compare": run_compare, "readout": run_readout, "gate": run_gate,
       "transplant": run_transplant, "lens": run_lens, "patch": run_patch, "context": run_context,
       "heads": run_heads, "knockout": run_knockout, "shadow": run_shadow,
       "geometry": run_geometry}
