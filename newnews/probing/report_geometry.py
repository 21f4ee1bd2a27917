"""The kind geometry: rows, table and pictures. It takes command.Probe, with an update or without, and returns
(rows, text, function(path) that draws)."""

from tqdm import tqdm

from newnews.probing import geometry, output


def run_geometry(here):
    tokens, count = here.walks["tokens"], here.walks["walks"]
    most, L = here.model.config.max_position_embeddings, here.model.config.num_hidden_layers
    if not 16 <= tokens <= most or count < 1:
        raise ValueError(f"--tokens {tokens} --walks {count}: expected walks of 16 to {most} tokens, "
                         f"at least one")
    graphs = {name: geometry.graph(name) for name in here.walks["graphs"]}
    layers = here.layers or sorted({L * k // 4 - 1 for k in (1, 2, 3, 4)} - {-1})
    runs = {"base": -1} | ({label: k for k, label in enumerate(here.mount())} if here.updates else {})
    rows, places, summary = [], [], []
    for name, near in tqdm(graphs.items(), unit="graph", disable=None):
        for run, adapter in runs.items():
            found, maps = geometry.rows(here.model, here.chat, name, layers, adapter, tokens, count)
            rows += [{"run": run, **row} for row in found]
            last = [row for row in found if row["context"] == tokens]
            best = min(last, key=lambda row: row["energy"] / row["null_low"])
            summary.append({"run": run, "graph": name, "nodes": len(near),
                            **{key: best[key] for key in ("layer", "energy", "null_energy", "null_low",
                                                          "following", "null_following")},
                            "transition": geometry.transition(found)})
            if run == "base":
                where, shares, words = maps[best["layer"]]
                places.append((f"{name}, layer {best['layer']}, {tokens} tokens: energy "
                               f"{best['energy']:.2f}, null {best['null_low']:.2f}\n"
                               f"components with {shares[0]:.0%} and {shares[1]:.0%} of the variance",
                               where.tolist(), near.triu().nonzero().tolist(), words))
    text = (f"after {tokens} tokens, {count} walks, the layer with least energy for its null\n"
            f"{output.table(summary)}\n{powers(summary)}")
    return rows, text, lambda path: draw(path, rows, places, list(runs), layers)


def powers(summary):
    """A line a run: the exponent of the transition's context length over the size, by family of graphs."""
    lines = []
    for run, family in dict.fromkeys((row["run"], row["graph"].partition("-")[0]) for row in summary):
        some = [row for row in summary if row["run"] == run and row["graph"].startswith(family)]
        some = [(row["nodes"], row["transition"]) for row in some if row["transition"]]
        slope = geometry.exponent(*zip(*some)) if some else None
        if slope is not None:
            lines.append(f"{run}, {family}: transition ~ nodes^{slope:.2f} over {len(some)} sizes")
    return "\n".join(lines)


def draw(path, rows, places, runs, layers):
    """Energy by layer of the base and following by run, for every graph; the words in their components."""
    panels = []
    for name in dict.fromkeys(row["graph"] for row in rows):
        some = [row for row in rows if row["graph"] == name]
        base = [row for row in some if row["run"] == runs[0]]
        nulls = output.means(base, ["context"], ["null_energy", "null_low"])
        curves = {f"layer {layer}": points for layer, points in
                  output.curves(base, "layer", "context", "energy").items()}
        curves |= {"null: nodes permuted, mean": [(r["context"], r["null_energy"]) for r in nulls],
                   "null: nodes permuted, 5%": [(r["context"], r["null_low"]) for r in nulls]}
        panels.append((f"relative energy, {name}", curves))
    for name in dict.fromkeys(row["graph"] for row in rows):
        some = [row for row in rows if row["graph"] == name and row["layer"] == layers[0]]
        panels.append((f"following, {name}", {
            **output.curves(some, "run", "context", "following"),
            "null: the words alone": [(r["context"], r["null_following"]) for r in some
                                      if r["run"] == runs[0]]}))
    output.draw_curves(path, panels, "context, tokens", log=True)
    output.draw_graphs(path.with_name("geometry_maps.png"), places)
