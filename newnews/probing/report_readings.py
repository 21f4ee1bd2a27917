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


def run_gate(here):
    here.need_item()
    labels = here.mount()
    batch = asked(here.chat, here.prompts, here.item, here.in_context, here.device)
    rows, everywhere = [], {"all": batch.answer | True, **batch.sites}
    groups = None if here.layers is None else {str(layer): [layer] for layer in here.layers}
    rows += [{"update": labels[0], **row} for row in gate.gate_map(here.model, batch, 0, groups=groups)]
    # the nulls: what the same positions, all layers, are worth under another update
    for k, label in enumerate(labels[1:], 1):
        rows += [{"update": label, **row} for row in gate.gate_map(
            here.model, batch, k, ("all",), {"all": list(range(here.model.config.num_hidden_layers))})]
    base, tuned = rows[:2]
    effect = tuned["log_odds"] - base["log_odds"]
    # log-odds above the base, so that one colour scale holds for all updates
    rows = [{**row, "gain": row["log_odds"] - base["log_odds"]} for row in rows]
    panels = []
    for how in ("only", "without"):
        for part in gate.PARTS:
            some = [r for r in rows if r["update"] == labels[0] and r["modules"] == part
                    and (r["how"] == how or r["positions"] in ("none",) and part == "all")]
            panels.append((f"{how}: {part}", *output.pivot(some, "positions", "layers", "gain")))
        some = [r for r in rows if r["how"] == how and (r["layers"], r["modules"]) == ("all", "all")]
        panels.append((f"{how}: each update, all layers", *output.pivot(some, "positions", "update", "gain")))
    shown = [row for row in rows if row["layers"] == "all"]
    text = (f"log-odds of the right option: base {base['log_odds']:.2f}, tuned {tuned['log_odds']:.2f}, "
            f"effect {effect:+.2f} nats, mean of {len(here.item.questions)} questions\n"
            + output.table(shown, ["update", "positions", "modules", "how", "log_odds", "gain", "share", "accuracy"], 60))
    return rows, text, lambda path: output.draw_maps(path, panels)


def run_transplant(here):
    here.need_item()
    labels = here.mount()
    batch = asked(here.chat, here.prompts, here.item, here.in_context, here.device)
    rows = [{"update": labels[0], **row} for row in transplant.transplants(here.model, batch)]
    base, tuned = rows[0], rows[1]
    # what is mounted anew: cuts and sums
    found = [("null", label, k) for k, label in enumerate(labels) if k]
    more = [{"update": labels[0], "how": how, "what": what, **measure(here.model, batch, k)} for how, what, k in found]
    remove_lora(here.model)
    ranks = [r for r in (1, 2, 4, 8, 16, 32) if r < max(u.A.shape[0] for u in here.first.values())]
    twin = random_twin(here.first)
    others = list(here.updates.items())[1:]
    mounted = [("rank", r, transplant.cut(here.first, r)) for r in ranks]
    mounted += [("null rank", r, transplant.cut(twin, r)) for r in ranks]
    mounted += [("sum", f"with {label}", transplant.sum_of(here.first, other)) for label, other in others]
    mount(here.model, [updates for *_, updates in mounted])
    for k, (how, what, _) in enumerate(mounted):
        more.append({"update": labels[0], "how": how, "what": what, **measure(here.model, batch, k)})
    rows += [{"update": labels[0], **row} for row in gate.with_share(more, base, tuned)]
    lines = {"update": "scale", "null: random twin": "null scale"}
    # the null of scaling: the random twin, scaled
    remove_lora(here.model)
    mount(here.model, [twin])
    for a in transplant.SCALES:
        with gated(here.model, {name: torch.full((1, 1), a) for name in adapted(here.model)}):
            rows += gate.with_share([{"update": labels[-1], "how": "null scale", "what": a,
                                      **measure(here.model, batch, 0)}], base, tuned)
    panels = [("scaled by a", {label: [(r["what"], r["log_odds"]) for r in rows if r["how"] == how]
                               for label, how in lines.items()}),
              ("cut to rank r", {label: [(r["what"], r["log_odds"]) for r in rows if r["how"] == how]
                                 for label, how in (("update", "rank"), ("null: random twin", "null rank"))})]
    layers = [r for r in rows if r["how"] in ("keep", "remove") and r["what"].startswith("layer")]
    panels.append(("one layer", {how: [(i, r["log_odds"]) for i, r in
                                       enumerate(r for r in layers if r["how"] == how)]
                                 for how in ("keep", "remove")}))
    columns = ["how", "what", "log_odds", "share", "accuracy", "mean_share"]
    return rows, output.table(rows, columns, 60), lambda path: output.draw_curves(path, panels, "a; r; layer")
