"""The kinds that read weights alone: rows, table and picture of spectrum and compare.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from tqdm import tqdm

from newnews.probing import compare, output, spectrum


def mean(rows, key):
    return sum(row[key] for row in rows) / len(rows)


def run_spectrum(here):
    rows, summary, energy = [], [], {}
    for label, update in here.updates.items():
        weights = {name: here.model.get_submodule(name).weight for name in update}
        floors = here.floors if update is here.first else None
        with tqdm(total=len(update), desc=label, unit="matrix", disable=None) as bar:
            some = [{"update": label, **row} for row in spectrum.rows(update, weights, floors, bar.update)]
        summary.append({"update": label, "norm": sum(row["norm"] ** 2 for row in some) ** 0.5,
                        **{key: mean(some, key) for key in ("relative", "stable_rank", "effective_rank")},
                        **{key: sum(row[key] for row in some) for key in ("intruders", "null_intruders")}})
        energy[label] = list(enumerate(row["intruder_energy"] for row in some))
        rows += some
    first = rows[:len(here.first)]
    energy["null: random twin"] = list(enumerate(row["null_intruder_energy"] for row in first))
    panels = [(title, *output.pivot(first, "layer", "module", key)) for title, key in
              (("||dW|| / ||W0||", "relative"), ("effective rank", "effective_rank"))]
    values = {f"{row['layer']} {row['module']}": [(i, row[f"s{i}"]) for i in range(1, 9) if f"s{i}" in row]
              for row in first if row["layer"] == first[-1]["layer"]}
    curves = [("singular values, last layer", values), ("energy of intruders, by module", energy)]
    columns = ["layer", "module", "norm", "relative", "stable_rank", "effective_rank", "intruders",
               "null_intruders", "intruder_energy", "null_intruder_energy"]
    if here.floors is not None:
        columns += ["noise_norm", "noise_spectral"]

    def draw(path):
        output.draw_maps(path, panels)
        output.draw_curves(path.with_name("spectrum_curves.png"), curves, "index")

    text = f"{output.table(first, columns)}\n\nwhole updates, means over modules\n{output.table(summary)}"
    return rows, text, draw


def run_compare(here):
    others = dict(list(here.updates.items())[1:])
    if not others:
        raise ValueError("compare needs another adapter: --against ADAPTER [ADAPTER ...]")
    rows, group = compare.rows(here.first, others), compare.group_rows(here.updates)
    keys, summary = [key for key in rows[0] if key not in ("with", "layer", "module")], []
    for label, module in dict.fromkeys((row["with"], row["module"]) for row in rows):
        some = [row for row in rows if (row["with"], row["module"]) == (label, module)]
        summary.append({"with": label, "module": module,
                        **{key: mean(some, key) for key in keys if key in some[0]}})
    panels = []
    for key in ("cosine", "columns", "rows"):
        curves = {}
        for label in others:
            for name, column in ((label, key), (f"null: random twin of {label}", f"null_{key}")):
                mine = [row for row in rows if row["with"] == label and row["module"] != "all"]
                layers = dict.fromkeys(row["layer"] for row in mine)
                curves[name] = [(n, mean([row for row in mine if row["layer"] == n], column)) for n in layers]
        panels.append((key, curves))
    text = (f"means over layers\n{output.table(summary)}\n\n"
            f"whole updates, with and without the group's mean\n{output.table(group)}")
    return rows + group, text, lambda path: output.draw_curves(path, panels)
