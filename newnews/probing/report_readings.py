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
    else:
        text += ("\n\nno difference lens, steering or removal: they take the texts of other news, and the "
                 "file holds none")
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
    # all layers together, or each of those that were named
    shown = [row for row in rows if (row["layers"] == "all" or here.layers)
             and (row["modules"] == "all" or row["update"] == labels[0])]
    columns = ["update", "positions", "layers", "modules", "how", "log_odds", "gain", "share", "accuracy"]
    text = (f"log-odds of the right option, mean of {len(here.item.questions)} questions: "
            f"base {base['log_odds']:.2f}, tuned {tuned['log_odds']:.2f}\n"
            + output.table(shown, columns, 60))
    return rows, text, lambda path: output.draw_maps(path, panels, len(panels) // 2)


def run_transplant(here):
    batch, labels = here.asked(here.in_context), here.mount()
    model = here.model
    rows, twins = (transplant.transplants(model, batch, k) for k in (0, labels.index(NULL)))
    whole = [{"how": label, "what": "whole", **measure(model, batch, k)}
             for k, label in enumerate(labels[1:], 1)]
    # Cuts and sums are other updates: they are mounted anew.
    unmount(model)
    highest = max(update.A.shape[0] for update in here.first.values())
    ranks = [r for r in (1, 2, 4, 8, 16, 32) if r < highest]
    group = [transplant.cut(update, r) for update in (here.first, here.everything[NULL]) for r in ranks]
    sums = {f"with {label}": sum_of([here.first, other]) for label, other in list(here.updates.items())[1:]}
    group += list(sums.values())
    if group:
        mount(model, group)
    found = [measure(model, batch, k) for k in range(len(group))]
    rows += [{"how": "rank", "what": r, **one} for r, one in zip(ranks, found)]
    twins += found[len(ranks):]
    low = rows[0]["log_odds"]
    rows = [{**row, "null_log_odds": twin["log_odds"], "null_gain": twin["log_odds"] - low}
            for row, twin in zip(rows, twins)]
    rows += whole + [{"how": "sum", "what": what, **one} for what, one in zip(sums, found[2 * len(ranks):])]
    rows = gate.with_share([{"update": labels[0], **row} for row in rows], *rows[:2])
    panels = [(title, {"update": points(rows, how), "null: random twin": points(rows, how, "null_log_odds")})
              for title, how in (("scaled by a", "scale"), ("cut to rank r", "rank"))]
    panels[0][1].update({row["how"]: [(1.0, row["log_odds"])] for row in whole if row["how"] != NULL})
    layers = [row for row in rows if str(row["what"]).startswith("layer")]
    names = {"keep": ("keep",), "remove": ("remove",), "null: twin's kept": ("keep", "null_log_odds")}
    panels.append(("one layer", {name: list(enumerate(y for _, y in points(layers, *which)))
                                 for name, which in names.items()}))
    columns = ["how", "what", "log_odds", "gain", "null_gain", "share", "accuracy", "mean_share"]
    return rows, output.table(rows, columns, 60), lambda path: output.draw_curves(path, panels, "a; r; layer")


def points(rows, how, key="log_odds"):
    return [(row["what"], row[key]) for row in rows if row["how"] == how]
