"""The kinds that switch the update on and off: rows, table and picture of readout, gate and transplant.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

import torch

from model.lora import adapted, gated, remove_lora
from newnews.probing import gate, output, readout, transplant
from newnews.probing.asked import asked, measure
from newnews.probing.updates import mount, random_twin


def run_readout(here):
    here.need_item()
    labels = here.mount()
    rows = readout.decode_rows(here.model, here.chat, here.item, labels)
    texts, lens = [item.statement for item in here.others], []
    if texts:
        lens = readout.lens_rows(here.model, here.chat, here.item, labels, texts, here.layers)
    summary, curves = [], {label: [] for label in labels}
    for update, a in dict.fromkeys((row["update"], row["a"]) for row in rows):
        some = [row for row in rows if (row["update"], row["a"]) == (update, a)]
        mean, best = sum(r["recall"] for r in some) / len(some), max(some, key=lambda r: r["recall"])
        summary.append({"update": update, "a": a, "recall": mean, "best": best["recall"],
                        "text": best["text"]})
        if update in curves:
            curves[update].append((a, mean))
    shown = [row for row in lens if row["position"] in (1, 4)]
    text = (f"{here.item.statement}\n\n{output.table(summary)}\n\n"
            f"difference lens: top tokens at two positions\n"
            + output.table(shown, ["update", "layer", "position", "norm", "recall", "tokens"]))
    return rows + lens, text, lambda path: output.draw_curves(
        path, [("recall of the statement's content words", curves)], "amplification a")


def run_gate(here):
    here.need_item()
    labels = here.mount()
    batch = asked(here.chat, here.prompts, here.item, here.in_context, here.device)
    groups = None if here.layers is None else {str(layer): [layer] for layer in here.layers}
    rows = [{"update": labels[0], **row} for row in gate.gate_map(here.model, batch, 0, groups=groups)]
    # the others: what the same positions, all layers, are worth under them
    whole = {"all": list(range(here.model.config.num_hidden_layers))}
    for k, label in enumerate(labels[1:], 1):
        found = gate.gate_map(here.model, batch, k, ("all",), whole)
        rows += [{"update": label, **row} for row in found]
    base, tuned = rows[:2]
    # log-odds above the base: one colour scale holds for all updates
    rows = [{**row, "gain": row["log_odds"] - base["log_odds"]} for row in rows]
    panels = []
    for how in ("only", "without"):
        mine = [r for r in rows if (r["how"], r["update"]) == (how, labels[0]) and r["positions"] != "none"]
        for part in gate.PARTS:
            some = [r for r in mine if r["modules"] == part]
            panels.append((f"{how}: {part}", *output.pivot(some, "positions", "layers", "gain")))
        some = [r for r in rows if (r["how"], r["layers"], r["modules"]) == (how, "all", "all")]
        panels.append((f"{how}: each update, all layers", *output.pivot(some, "positions", "update", "gain")))
    columns = ["update", "positions", "modules", "how", "log_odds", "gain", "share", "accuracy"]
    text = (f"log-odds of the right option, mean of {len(here.item.questions)} questions: "
            f"base {base['log_odds']:.2f}, tuned {tuned['log_odds']:.2f}\n"
            + output.table([row for row in rows if row["layers"] == "all"], columns, 60))
    return rows, text, lambda path: output.draw_maps(path, panels)


def run_transplant(here):
    here.need_item()
    labels = here.mount()
    model, twin, first = here.model, len(labels) - 1, labels[0]
    batch = asked(here.chat, here.prompts, here.item, here.in_context, here.device)
    rows = transplant.transplants(model, batch)
    base, tuned = rows[:2]
    for k, label in enumerate(labels[1:], 1):
        rows.append({"how": "other", "what": label, **measure(model, batch, k)})
    # 1. The nulls of scaling and of the mean: the random twin.
    for a in transplant.SCALES:
        with gated(model, {name: torch.full((1, 1), a) for name in adapted(model)}):
            rows.append({"how": "null scale", "what": a, **measure(model, batch, twin)})
    rows.append({"how": "null mean", "what": "all modules", **transplant.averaged(model, batch, twin)})
    # 2. Cuts and sums are other updates: they are mounted anew.
    remove_lora(model)
    highest = max(update.A.shape[0] for update in here.first.values())
    mounted = []
    for how, updates in (("rank", here.first), ("null rank", random_twin(here.first))):
        mounted += [(how, r, transplant.cut(updates, r)) for r in (1, 2, 4, 8, 16, 32) if r < highest]
    for label, other in list(here.updates.items())[1:]:
        mounted.append(("sum", f"with {label}", transplant.sum_of(here.first, other)))
    if mounted:
        mount(model, [updates for *_, updates in mounted])
    for k, (how, what, _) in enumerate(mounted):
        rows.append({"how": how, "what": what, **measure(model, batch, k)})
    rows = gate.with_share([{"update": first, **row} for row in rows], base, tuned)
    panels = [(title, {"update": points(rows, how), "null: random twin": points(rows, f"null {how}")})
              for title, how in (("scaled by a", "scale"), ("cut to rank r", "rank"))]
    layers = [{**row, "what": row["what"].removeprefix("layer ")} for row in rows
              if row["how"] in ("keep", "remove") and row["what"].startswith("layer")]
    panels.append(("one layer", {how: list(enumerate(y for _, y in points(layers, how)))
                                 for how in ("keep", "remove")}))
    columns = ["how", "what", "log_odds", "share", "accuracy", "mean_share"]
    return rows, output.table(rows, columns, 60), lambda path: output.draw_curves(path, panels, "a; r; layer")


def points(rows, how):
    return [(row["what"], row["log_odds"]) for row in rows if row["how"] == how]
