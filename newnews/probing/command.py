"""`python -m newnews probe KIND`: read what the user named, run the kind, write CSV and PNG, print a table."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from newnews.console import say
from newnews.loading import load
from newnews.news import read_news
from newnews.probing import compare, output, readout, spectrum
from newnews.probing.updates import choose, difference, mount, random_twin, read_updates
from newnews.prompts import prompts_for

NULL = "null: random twin"


@dataclass
class Probe:
    """What a kind works on."""
    model: object
    chat: object
    prompts: object
    updates: dict           # {label: {module: Update}}: the one to open up, then those of --against
    floors: dict | None     # of weights that were both saved in bf16
    item: object            # the news item, or None
    others: list            # the other news of its file
    layers: list | None

    @property
    def first(self):
        return next(iter(self.updates.values()))

    def mount(self):
        """Put the updates and a random twin of the first on the model as a bank; their labels in its order.
        The others are nulls: unrelated adapters."""
        mount(self.model, [*self.updates.values(), random_twin(self.first)])
        return [*self.updates, NULL]


def label_of(folder, taken):
    """A short label: the folder's name, or its whole path where that is taken."""
    name = Path(folder).name
    return str(folder) if not name or name in taken else name


def read_probe(args):
    """The Probe that the arguments describe. Weights of whole models are read as differences."""
    model, chat, about = load(args.model, None, args.device, args.dtype)
    say(**about, kind=args.kind, update=args.adapter or args.tuned, out=args.out)
    item, others = read_item(args)
    updates, floors = {}, None
    for folder in [args.adapter, *args.against] if args.adapter else args.against:
        updates[label_of(folder, updates)] = next(iter(read_updates(model, [folder]).values()))
    if args.tuned:
        first, floors = read_difference(args)
        updates = {label_of(args.tuned, updates): first, **updates}
    if args.only:
        updates = {label: {name: update[name] for name in choose(update, args.only)}
                   for label, update in updates.items()}
    for layer in args.layers or ():
        if not 0 <= layer < model.config.num_hidden_layers:
            raise ValueError(f"--layers {layer}: the model has layers 0 to {model.config.num_hidden_layers - 1}")
    return Probe(model, chat, prompts_for(about["folder"]), updates, floors, item, others, args.layers)


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


def read_difference(args):
    """(updates, floors) of --tuned minus --model, both as they are stored."""
    import torch

    from model.checkpoint import find_model, load_model
    if args.kind not in WEIGHTS:
        raise ValueError(f"--tuned: {args.kind} switches an adapter on and off, so it needs --adapter; "
                         f"{' and '.join(WEIGHTS)} read whole weights")
    base, tuned = (load_model(find_model(name)).state_dict() for name in (args.model, args.tuned))
    updates, floors = difference(tuned, base)
    if any(floor for floor, _ in floors.values()):
        say(warning="both models were saved in bf16: differences below noise_norm and noise_spectral are rounding")
    same = torch.equal
    if all(same(tuned[key], base[key]) for key in base):
        raise ValueError(f"{args.tuned}: its weights are those of {args.model}: there is no update to open up")
    return updates, floors


def probe(args):
    here = read_probe(args)
    rows, shown, draw = RUN[args.kind](here)
    path = Path(args.out) / f"{args.kind}.csv"
    output.write_csv(path, rows)
    print(shown)
    try:
        draw(path.with_suffix(".png"))
        print(f"{path}, {path.with_suffix('.png')}")
    except ImportError:
        print(f"{path} (no picture: matplotlib is missing, pip install -e '.[plots]')")


def run_spectrum(here):
    weights = {name: here.model.get_submodule(name).weight for name in here.first}
    bar = lambda names: tqdm(names, desc="spectrum", unit="matrix", disable=None)       # noqa: E731
    rows = spectrum.rows(here.first, weights, here.floors, bar)
    parts = [output.pivot(rows, "layer", "module", key) for key in ("relative", "effective_rank")]
    panels = [("||dW|| / ||W0||", *parts[0]), ("effective rank", *parts[1])]
    intruding = {"update": "intruder_energy", "null: random twin": "null_intruder_energy"}
    curves = [("singular values, each module", {f"{row['layer']} {row['module']}": [
        (i, row[f"s{i}"]) for i in range(1, 9) if f"s{i}" in row] for row in rows[:8]}),
        ("energy of intruders", {label: [(i, row[key]) for i, row in enumerate(rows)]
                                 for label, key in intruding.items()})]

    def draw(path):
        output.draw_maps(path, panels)
        output.draw_curves(path.with_name("spectrum_curves.png"), curves, "index of value; of module")

    columns = ["layer", "module", "norm", "relative", "stable_rank", "effective_rank", "intruders",
               "null_intruders", "intruder_energy", "null_intruder_energy"]
    return rows, output.table(rows, columns + ["noise_norm", "noise_spectral"] * (here.floors is not None)), draw


def run_compare(here):
    others = dict(list(here.updates.items())[1:])
    if not others:
        raise ValueError("compare needs --against ADAPTER [ADAPTER ...]")
    rows, group = compare.rows(here.first, others), compare.group_rows(here.updates)
    panels = []
    for key in ("cosine", "columns", "rows"):
        curves = {}
        for row in rows:
            if row["module"] != "all":
                for label, column in ((row["with"], key), (f"null {row['with']}", f"null_{key}")):
                    curves.setdefault(label, {}).setdefault(row["layer"], []).append(row[column])
        panels.append((key, {label: [(layer, sum(v) / len(v)) for layer, v in points.items()]
                             for label, points in curves.items()}))
    shown = f"{output.table(rows)}\n\nwhole updates, with and without the group's mean\n{output.table(group)}"
    return rows + group, shown, lambda path: output.draw_curves(path, panels)


def run_readout(here):
    if here.item is None:
        raise ValueError("readout needs the news to score against: --news FILE --id ID")
    labels = here.mount()
    rows = readout.decode_rows(here.model, here.chat, here.item, labels)
    texts = [item.statement for item in here.others]
    if texts:
        rows += readout.lens_rows(here.model, here.chat, here.item, labels, texts, here.layers)
    means = {}
    for row in rows:
        if "a" in row:
            means.setdefault((row["update"], row["a"]), []).append(row)
    summary = [{"update": update, "a": a, "recall": sum(r["recall"] for r in some) / len(some),
                "best": max(r["recall"] for r in some), "text": max(some, key=lambda r: r["recall"])["text"]}
               for (update, a), some in means.items()]
    lens = [row for row in rows if "tokens" in row and row["position"] in (1, 4)]
    curves = {label if label == list(here.updates)[0] else f"null: {label.removeprefix('null: ')}":
              [(row["a"], row["recall"]) for row in summary if row["update"] == label] for label in labels}
    shown = (f"{here.item.statement}\n\n{output.table(summary)}\n\n"
             f"difference lens, layer, position, top tokens\n"
             f"{output.table(lens, ['update', 'layer', 'position', 'norm', 'recall', 'tokens'])}")
    return rows, shown, lambda path: output.draw_curves(
        path, [("recall of the statement's content words", curves)], "amplification a")


WEIGHTS = ("spectrum", "compare")
RUN = {"spectrum": run_spectrum, "compare": run_compare, "readout": run_readout}
