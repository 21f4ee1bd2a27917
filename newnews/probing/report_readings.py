"""The kinds that switch the update on and off: rows, table and picture of readout, gate and transplant.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from newnews.probing import gate, output, readout, transplant
from newnews.probing.asked import measure
from newnews.probing.updates import NULL, mount, sum_of, unmount


def run_readout(here):
    batch, labels = here.asked(False), here.mount()
    rows = readout.decode_rows(here.model, here.chat, here.item, labels)
    panels = [("amplified: recall of content words", curves(rows, "a"))]
    text = f"{here.item.statement}\n\n{output.table(best(rows, ['update', 'a']))}"
    texts = [item.statement for item in here.others]
    if texts:
        here_too = here.model, here.chat, here.item
        lens = readout.lens_rows(*here_too, labels, texts, here.layers)
        cause = readout.cause_rows(*here_too, batch, labels, texts, here.layers)
        steered = [row for row in cause if "steered" in row]
        panels.append(("steered: recall of content words", curves(steered, "steered")))
        shown = [row for row in lens if row["position"] in (1, 4)]
        columns = ["update", "layer", "position", "norm", "recall", "tokens"]
        text += (f"\n\ndifference lens: top tokens at two positions\n{output.table(shown, columns)}\n\n"
                 f"the base steered by it\n{output.table(best(steered, ['update', 'layer', 'steered']))}\n\n"
                 "loss of the right answers when it is taken out again\n"
                 + output.table([row for row in cause if "loss" in row]))
        rows += lens + cause
    return rows, text, lambda path: output.draw_curves(path, panels, "strength a")


def best(rows, by):
    """Means over openings, the share that the oracle finds true, and the text with most recall."""
    rows = [{**row, "true": float(row["oracle"] == "true")} if "oracle" in row else row for row in rows]
    out = output.means(rows, by, ["recall", "true"])
    for one in out:
        some = [row for row in rows if all(row[key] == one[key] for key in by)]
        top = max(some, key=lambda row: row["recall"])
        one |= {"best": top["recall"], "text": top["text"]}
    return out


def curves(rows, x):
    """Mean recall over openings against the strength, by update."""
    return output.curves(output.means(rows, ["update", x], ["recall"]), "update", x, "recall")


def run_gate(here):
    batch, labels, groups = here.asked(here.in_context), here.mount(), here.groups
    rows = [{"update": labels[0], **row} for row in gate.gate_map(here.model, batch, 0, groups=groups)]
    # the others: the same positions, all layers; and the same layers and modules, all positions
    whole = {"all": list(range(here.model.config.num_hidden_layers))}
    for k, label in enumerate(labels[1:], 1):
        found = gate.gate_map(here.model, batch, k, ("all",), whole)
        found += gate.gate_map(here.model, batch, k, groups=groups, sites={})[2:]
        rows += [{"update": label, **row} for row in found]
    base, tuned = rows[:2]
    panels = []         # of gains, log-odds above the base: one colour scale holds for all updates
    for how in ("only", "without"):
        mine = [r for r in rows if (r["how"], r["update"]) == (how, labels[0]) and r["positions"] != "none"]
        for part in gate.PARTS:
            some = [r for r in mine if r["modules"] == part]
            panels.append((f"{how}: {part}", *output.pivot(some, "positions", "layers", "gain")))
        some = [r for r in rows if (r["how"], r["layers"], r["modules"]) == (how, "all", "all")]
        panels.append((f"{how}: each update, all layers", *output.pivot(some, "positions", "update", "gain")))
        some = [{**r, "what": f"{r['modules']} {r['layers']}"} for r in rows
                if (r["how"], r["positions"]) == (how, "all")]
        panels.append((f"{how}: each update, all positions", *output.pivot(some, "what", "update", "gain")))
    columns = ["update", "positions", "modules", "how", "log_odds", "gain", "share", "accuracy"]
    text = (f"log-odds of the right option, mean of {len(here.item.questions)} questions: "
            f"base {base['log_odds']:.2f}, tuned {tuned['log_odds']:.2f}\n"
            + output.table([row for row in rows if row["layers"] == "all"
                            and (row["modules"] == "all" or row["update"] == labels[0])], columns, 60))
    return rows, text, lambda path: output.draw_maps(path, panels, len(panels) // 2)


def run_transplant(here):
    batch, labels = here.asked(here.in_context), here.mount()
    model, first = here.model, labels[0]
    rows = transplant.transplants(model, batch)
    base, tuned = rows[:2]
    for k, label in enumerate(labels[1:], 1):
        rows.append({"how": "other", "what": label, **measure(model, batch, k)})
    # 1. The nulls of keeping, scaling and the mean: the same of the random twin.
    twins = transplant.transplants(model, batch, labels.index(NULL))[2:]
    rows += [{**row, "how": f"null {row['how']}"} for row in twins]
    # 2. Cuts and sums are other updates: they are mounted anew.
    unmount(model)
    highest = max(update.A.shape[0] for update in here.first.values())
    mounted = []
    for how, updates in (("rank", here.first), ("null rank", here.everything[NULL])):
        mounted += [(how, r, transplant.cut(updates, r)) for r in (1, 2, 4, 8, 16, 32) if r < highest]
    for label, other in list(here.updates.items())[1:]:
        mounted.append(("sum", f"with {label}", sum_of([here.first, other])))
    if mounted:
        mount(model, [updates for *_, updates in mounted])
    for k, (how, what, _) in enumerate(mounted):
        rows.append({"how": how, "what": what, **measure(model, batch, k)})
    rows = gate.with_share([{"update": first, **row} for row in rows], base, tuned)
    panels = [(title, {"update": points(rows, how), "null: random twin": points(rows, f"null {how}")})
              for title, how in (("scaled by a", "scale"), ("cut to rank r", "rank"))]
    # the other updates and nulls, whole
    panels[0][1].update({row["what"]: [(1.0, row["log_odds"])] for row in rows if row["how"] == "other"})
    layers = [row for row in rows if str(row["what"]).startswith("layer")]
    names = {"keep": "keep", "remove": "remove", "null: twin's kept": "null keep"}
    panels.append(("one layer", {name: list(enumerate(y for _, y in points(layers, how)))
                                 for name, how in names.items()}))
    columns = ["how", "what", "log_odds", "gain", "share", "accuracy", "mean_share"]
    return rows, output.table(rows, columns, 60), lambda path: output.draw_curves(path, panels, "a; r; layer")


def points(rows, how):
    return [(row["what"], row["log_odds"]) for row in rows if row["how"] == how]
