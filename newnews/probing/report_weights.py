"""The kinds that read weights alone: rows, table and picture of spectrum and compare.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from tqdm import tqdm

from newnews.probing import compare, output, spectrum


def run_spectrum(here):
    rows, summary, energy, state = [], [], {}, here.model.state_dict()
    for label, update in here.updates.items():
        found = spectrum.rows(update, state, here.floors if update is here.first else None)
        some = [{"update": label, **row}
                for row in tqdm(found, total=len(update), desc=label, unit="matrix", disable=None)]
        average, = output.means(some, ["update"], ["relative", "stable_rank", "effective_rank"])
        summary.append({"update": label, "norm": sum(row["norm"] ** 2 for row in some) ** 0.5, **average,
                        **{k: sum(row.get(k, 0) for row in some) for k in ("intruders", "null_intruders")}})
        energy[label] = list(enumerate(row["intruder_energy"] for row in some if "intruders" in row))
        rows += some
    first = [row for row in rows[:len(here.first)] if "intruders" in row]
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

    beside = [row for row in rows[:len(here.first)] if "intruders" not in row]      # norms and so on
    shown = [output.table(some, columns) for some in (first, beside) if some]
    return rows, "\n\n".join([*shown, f"whole updates, means over modules\n{output.table(summary)}"]), draw


def run_compare(here):
    others = dict(list(here.updates.items())[1:])
    if not others:
        raise ValueError("compare needs another adapter: --against ADAPTER [ADAPTER ...]")
    rows, group = compare.rows(here.first, others), compare.group_rows(here.updates)
    if all(row["module"] == "all" for row in rows):
        raise ValueError(f"compare: the update and {', '.join(others)} share no projection")
    keys = [key for key in rows[0] if key not in ("with", "layer", "module")]
    summary, panels = output.means(rows, ["with", "module"], keys), []
    layers = output.means([row for row in rows if row["module"] != "all"], ["with", "layer"], keys)
    for key in ("cosine", "columns", "rows"):
        twins = [{**row, "with": f"null: random twin of {row['with']}"} for row in layers]
        panels.append((key, {**output.curves(layers, "with", "layer", key),
                             **output.curves(twins, "with", "layer", f"null_{key}")}))
    text = (f"means over layers\n{output.table(summary)}\n\n"
            f"whole updates, with and without the group's mean\n{output.table(group)}")
    labels, found = list(here.updates), {(row["one"], row["two"]): row for row in group}
    maps = [(key, labels, labels, [[found[a, b][key] if a != b else None for b in labels] for a in labels])
            for key in ("cosine", "centred", "with_mean") if group[0][key] is not None]

    def draw(path):
        output.draw_curves(path, panels)
        output.draw_maps(path.with_name("compare_group.png"), maps)

    return rows + group, text, draw
