"""The numbers of docs/probing.md: every update of a study opened up, ranges over its news.

    python -m newnews run configs/demo.yaml --out runs/probed --set news.split=dev --set news.per_domain=1 \\
        --set news.questions=8 --set "ask=[free]" --set bank=5 \\
        --set "axes={protocol: [naive, self_qa, self_qa_shadowed], seed: [0, 1]}"
    python docs/probe_study.py runs/probed runs/probed/probes.csv

A second start goes on where the first was broken off. Beside the CSV: a picture of the same name.
"""

import sys
from pathlib import Path

import torch
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from model.files import read_json                                                           # noqa: E402
from model.lora import gated, remove_lora                                                   # noqa: E402
from newnews.examples import Example                                                        # noqa: E402
from newnews.loading import load                                                            # noqa: E402
from newnews.probing import compare, context, gate, heads, knockout, lens, output, patch    # noqa: E402
from newnews.probing import readout, shadow, spectrum, transplant, updates                  # noqa: E402
from newnews.probing.asked import asked, measure                                            # noqa: E402
from newnews.prompts import prompts_for                                                     # noqa: E402
from newnews.protocols import protocols                                                     # noqa: E402
from newnews.replay import read_conversations                                               # noqa: E402
from newnews.studies.sources import source                                                  # noqa: E402

STUDY, OUT = Path(sys.argv[1]), Path(sys.argv[2])
spec = read_json(STUDY / "study.json")["study"]
news = source(spec["news"], "study").load()
model, chat, about = load(spec["model"], None, "cpu", "fp32")
prompts, L = prompts_for(about["folder"]), model.config.num_hidden_layers
names, rows = ("naive", "self_qa", "self_qa_shadowed"), []
if OUT.exists():
    rows = [{**row, "seed": int(row["seed"])} for row in output.read_csv(OUT)]


def add(item, seed, protocol, what, value):
    rows.append({"news": item.id, "seed": seed, "protocol": protocol, "what": what, "value": value})


def weights(item, seed, mine, others):
    """Sizes, and who points where: mine {protocol: update}; others: another seed's Self-QA about the same
    news, and this seed's about the next."""
    flat = {**mine, "self_qa, other seed": others[0], "self_qa, other news": others[1],
            "twin": updates.random_twin(mine["self_qa"])}
    G = compare.gram(list(flat.values()))
    cosines = compare.cosines(G)
    for k, (label, update) in enumerate(flat.items()):
        add(item, seed, label, "norm", float(G[k, k].sqrt()))
        add(item, seed, label, "cosine with self_qa", float(cosines[1, k]))
        add(item, seed, label, "step along self_qa", float(G[1, k] / G[1, 1]))
        overlaps = [compare.overlaps(mine["self_qa"][m], update[m])[0] for m in update]
        add(item, seed, label, "column overlap with self_qa", sum(overlaps) / len(overlaps))
        found = list(spectrum.rows(update))
        add(item, seed, label, "effective rank", sum(row["effective_rank"] for row in found) / len(found))


def activations(item, seed, labels, closed, read):
    """What each does to the answers, where, and to the heads. The model carries the updates as a bank."""
    whole = torch.ones_like(closed.answer)
    for label, k in (("base", -1), *((label, k) for k, label in enumerate(labels))):
        for way, batch in (("closed book", closed), ("in context", read)):
            add(item, seed, label, f"log-odds {way}", measure(model, batch, k)["log_odds"])
        for site in ("last", "question"):
            with knockout.knocked(model, knockout.queries_of(read)[site], read.sites["news"], range(L)):
                odds = measure(model, read, k)["log_odds"]
            add(item, seed, label, f"in context, {site} cut off the news", odds)
        if label not in names:
            continue
        sets = {f"only {site}": (mask, range(L), "all") for site, mask in closed.sites.items()}
        sets |= {"all but last": (~closed.sites["last"], range(L), "all")}
        sets |= {f"only layer {layer}": (whole, [layer], "all") for layer in range(L)}
        sets |= {f"only {part}": (whole, range(L), part) for part in ("attention", "mlp")}
        for name, (mask, layers, part) in sets.items():
            with gated(model, gate.gates(model, mask, layers, part)):
                add(item, seed, label, name, measure(model, closed, k)["log_odds"])
        add(item, seed, label, "as a mean vector", transplant.averaged(model, closed, k)["log_odds"])
        pairs = {label: ((closed, -1), (closed, k))}
        for row in patch.rows(model, pairs, None, ["subject", "last"], ["residual"]):
            add(item, seed, label, f"patched: {row['site']} layer {row['layer']}", row["log_odds"])
    for row in patch.rows(model, {"": ((closed, -1), (read, -1))}, None, ["subject", "last"], ["residual"]):
        add(item, seed, "base", f"patched: {row['site']} layer {row['layer']}", row["log_odds"])
    for row in context.frozen(model, closed, {"news": read}, labels):
        for key in ("asim", "moved", "mean_share"):
            if row[key] is not None:
                add(item, seed, row["update"], f"{key} layer {row['layer']}", row[key])
    found = heads.rows(model, chat, read, {"base": -1} | {label: k for k, label in enumerate(labels)})
    for key in heads.SCORES:
        best = heads.readers(found, key, 3)
        for row in output.means([r for r in found if (r["layer"], r["head"]) in best], ["run"], [key]):
            add(item, seed, row["run"], f"{key}, the base's 3 best heads", row[key])
    runs = {"base": (closed, -1), "base, in context": (read, -1)}
    runs |= {label: (closed, k) for k, label in enumerate(labels)}
    for row in lens.rows(model, runs):
        if row["site"] == "last":
            add(item, seed, row["run"], f"lens layer {row['layer']}", row["logprob"])


def readings(item, seed, labels):
    said = readout.decode_rows(model, chat, item, labels, (0.0, 1.0), 32)
    said = [{**row, "true": row["oracle"] == "true"} for row in said]
    for row in output.means(said, ["update", "a"], ["recall", "true"]):
        add(item, seed, row["update"], f"recall, amplified by {row['a']:g}", row["recall"])
        add(item, seed, row["update"], f"stated truly, amplified by {row['a']:g}", row["true"])


def training(item, seed, mine, replay):
    """What the first two Self-QA elements teach the base, with the news before them and without."""
    messages = [row["messages"] for row in replay if row["news"] == item.id][:2]
    front = protocols(prompts)["self_qa_shadowed"]
    forms = [(alone, front.messages({"messages": alone}, item)) for alone in messages]
    pairs = [[Example(*chat.conversation(form)) for form in two] for two in forms]
    for row in shadow.rows(model, chat, pairs, mine):
        if row["place"] == "all":
            for key in ("loss", "norm", *(f"cosine {label}" for label in mine)):
                add(item, seed, f"{row['news']} news", f"gradient: {key}", row[key])


folders = {}        # (protocol, seed): folder of a bank
for folder in (STUDY / "updates").iterdir():
    run = read_json(folder / "manifest.json")["run"]
    folders[run["protocol"], run["recipe"]["seed"]] = folder
seeds = sorted({seed for _, seed in folders})
read = {(p, s, item.id): updates.read_update(model, folder / item.id, about["digest"])
        for (p, s), folder in folders.items() for item in news}
for seed, (number, item) in [(seed, pair) for seed in seeds for pair in enumerate(news)]:
    if any((row["news"], row["seed"]) == (item.id, seed) for row in rows):
        continue                                                        # read from the CSV
    other = news[(number + 1) % len(news)]
    closed, context_ = (asked(chat, prompts, item, way) for way in (False, True))
    mine = {p: read[p, seed, item.id] for p in names}
    unrelated = {f"{p}, other news": read[p, seed, other.id] for p in names}
    again = read["self_qa", seeds[seeds.index(seed) - 1], item.id]
    weights(item, seed, mine, (again, unrelated["self_qa, other news"]))
    group = {**mine, **unrelated, "twin": updates.random_twin(mine["self_qa"])}
    rest = [read["self_qa", seed, i.id] for i in news if i is not item]
    group["mean of other news"] = updates.mean_of(rest)
    updates.mount(model, list(group.values()))
    activations(item, seed, list(group), closed, context_)
    if seed == seeds[0]:
        readings(item, seed, list(group)[:6])
        replay = next(p for p in (STUDY / "replay").glob("self_qa-*.jsonl")
                      if read_json(f"{p}.manifest.json")["run"]["seed"] == seed)
        training(item, seed, mine, read_conversations(replay))
    remove_lora(model)
    output.write_csv(OUT, rows)
    print(item.id, seed, file=sys.stderr, flush=True)

def over(values):
    """Mean and range over news."""
    return f"{sum(values) / len(values):8.3f} [{min(values):.3f}, {max(values):.3f}]"


table = {}          # {what: {protocol: {news: mean over seeds}}}
for row in output.means(rows, ["what", "protocol", "news"], ["value"]):
    table.setdefault(row["what"], {}).setdefault(row["protocol"], {})[row["news"]] = row["value"]
for what, by in table.items():
    print(what)
    for protocol, found in by.items():
        minus = [x - by["base"][item] for item, x in found.items()] if "base" in by else []
        print(f"    {protocol:28} {over(found.values())}", "  minus base " + over(minus) if minus else "")

# A panel for each family of numbers; a bar from the lowest to the highest news item, a dot at the mean.
NULLS = {"naive, other news": "null: naive, other news", "self_qa, other news": "null: Self-QA, other news",
         "twin": "null: random twin of Self-QA"}
WHO = {"base": "base", "base, in context": "base, in context", "naive": "naive", "self_qa": "Self-QA",
       "self_qa_shadowed": "Self-QA, shadowed", **NULLS}
PANELS = {
    "adapter on at these tokens only (log-odds)": {
        "log-odds closed book": "all", "only subject": "subject", "only question": "question",
        "only frame": "frame", "only last": "last", "all but last": "all but\nlast"},
    "in context (log-odds)": {
        "log-odds in context": "whole", "in context, last cut off the news": "last cut off\nthe news",
        "in context, question cut off the news": "question cut\noff the news"},
    "the answer by layer (lens, nats)": {f"lens layer {layer}": str(layer) for layer in range(L)},
    "scores of the base's 3 best heads": {f"{key}, the base's 3 best heads": key for key in heads.SCORES},
    "residual stream put into the base, subject": {f"patched: subject layer {x}": str(x) for x in range(L)},
    "residual stream put into the base, last": {f"patched: last layer {x}": str(x) for x in range(L)}}
made, axes = output.figure(PANELS, 4.2, 3, 3)
for ax, (title, whats) in zip(axes, PANELS.items()):
    for k, (who, label) in enumerate(WHO.items()):
        points = [(x + 0.1 * (k - 3.5), table[what][who].values()) for x, what in enumerate(whats)
                  if who in table.get(what, ())]
        colour = dict(zip(NULLS, ("#5a5a5a", output.GREY, "#c8c8c8"))).get(who, output.COLOURS[k])
        means = [sum(values) / len(values) for _, values in points]
        ax.plot([x for x, _ in points], means, "o", color=colour, markersize=3.5, label=label)
        for x, values in points:
            ax.plot([x, x], [min(values), max(values)], "-", color=colour, linewidth=1)
    ax.set_xticks(range(len(whats)), whats.values(), fontsize=7)
    ax.tick_params(axis="y", labelsize=7)
    ax.set_title(title, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize=8,
            frameon=False)
made.savefig(OUT.with_suffix(".png"), dpi=100)
