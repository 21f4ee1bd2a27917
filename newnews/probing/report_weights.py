"""The kinds that read weights alone: rows, table and picture of spectrum and compare.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from tqdm import tqdm

from newnews.probing import compare, output, spectrum


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
    if here.floors is not None:
        columns += ["noise_norm", "noise_spectral"]
    return rows, output.table(rows, columns), draw


def run_compare(here):
    others = dict(list(here.updates.items())[1:])
    if not others:
        raise ValueError("compare needs another adapter: --against ADAPTER [ADAPTER ...]")
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
