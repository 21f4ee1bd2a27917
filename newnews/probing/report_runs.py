"""The kinds that compare runs: rows, table and picture of lens, patch, context, heads, knockout and shadow.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from newnews.examples import Example
from newnews.probing import context, heads, knockout, lens, output, patch, shadow
from newnews.probing.asked import SITES
from newnews.protocols.base import conversation
from newnews.protocols.shadow import Shadowed
from newnews.replay import read_conversations

HEADS = 32          # patched one by one, at most: each takes a pass for each site and pair
ELEMENTS = 4        # replay elements that shadow reads; each token takes one backward pass


def run_lens(here):
    closed, read = here.asked(False), here.asked(True)
    runs = {"base, closed book": (closed, -1), "base, in context": (read, -1)}
    runs |= {f"{label}, closed book": (closed, k) for k, label in enumerate(here.mount())}
    rows, panels = lens.rows(here.model, runs, here.layers), []
    for key in ("logprob", "rank"):
        for site in SITES:
            some = [row for row in rows if row["site"] == site]
            curves = dict.fromkeys(runs, ()) | output.curves(some, "run", "layer", key)
            panels.append((f"{key} at {site}", curves))
    shown = [row for row in rows if row["site"] in ("last", "subject")]
    return rows, output.table(shown, limit=60), lambda path: output.draw_curves(path, panels)


def run_patch(here):
    closed, read = here.asked(False), here.asked(True)
    labels = here.mount()
    base = (closed, -1)
    pairs = {"base in context -> base closed": (base, (read, -1)),
             f"base in context -> {labels[0]} closed": ((closed, 0), (read, -1))}
    pairs |= {f"{label} closed -> base closed": (base, (closed, k)) for k, label in enumerate(labels)}
    config = here.model.config
    count = len(here.layers or range(config.num_hidden_layers)) * config.num_attention_heads
    few = count <= HEADS
    rows = patch.rows(here.model, pairs, here.layers, outputs=list(patch.OUTPUTS)[:4 if few else 3])
    # the share is of the pair's own effect, which may be nothing: maps show nats
    rows = [{**row, "gain": row["log_odds"] - row["recipient"]} for row in rows]
    panels, largest = [], []
    for pair in pairs:
        some = [{**r, "what": f"{r['output']} {r['site']}"} for r in rows if r["pair"] == pair]
        # heads are many: the map has them where the answer is predicted, the CSV at every site
        drawn = [{**r, "what": f"head {r['head']} last"} if r["output"] == "head" else r for r in some
                 if r["output"] != "head" or r["site"] == "last"]
        panels.append((pair, *output.pivot(drawn, "what", "layer", "gain")))
        for what in dict.fromkeys(r["what"] for r in some):
            largest.append(max((r for r in some if r["what"] == what), key=lambda r: abs(r["gain"])))
    columns = ["pair", "what", "layer", "head", "log_odds", "recipient", "donor", "recovered", "gain"]
    text = f"the layer with the largest effect (all are in the CSV)\n{output.table(largest, columns, 60)}"
    if not few:
        text += f"\n{count} heads are too many to be put in one by one: name layers, so that {HEADS} are left"
    return rows, text, lambda path: output.draw_maps(path, panels)


def run_context(here):
    if not any(name.endswith(context.MODULES) for name in here.first):
        raise ValueError(f"context compares with {', '.join(context.MODULES)}, "
                         f"and this update changes none of them")
    closed, read = here.asked(False), here.asked(True)
    before = {"news": read}
    if here.others:     # the null of reading: another news item before the same questions
        before["null: another news"] = here.asked(True, here.others[0])
    contexts = {name: context.context_patches(here.model, closed, batch, here.layers)
                for name, batch in before.items()}
    rows = context.rows(contexts, here.everything)
    frozen, panels = context.frozen(here.model, closed, before, here.mount(), here.layers), []
    measures = [("asim", ""), ("moved", ""), ("mean_share", ""),
                *((key, module) for key in ("cosine", "effect") for module in context.MODULES)]
    for key, module in measures:
        some = [{**r, "label": r["update"] if r["context"] == "news" else f"{r['context']}, {r['update']}"}
                for r in rows + frozen if r.get("module", "") == module
                and (r["context"] == "news" or key != "mean_share" and not r["update"].startswith("null"))]
        panels.append((f"{key} {module}", output.curves(some, "label", "layer", key)))
    by = ["context", "update"]
    outputs = output.means(frozen, by, ["asim", "moved", "mean_share"])
    patches = output.means(rows, [*by, "module"], ["cosine", "columns", "rows", "effect"])
    text = f"means over layers\n{output.table(outputs)}\n\n{output.table(patches, limit=60)}"
    return rows + frozen, text, lambda path: output.draw_curves(path, panels)


def run_heads(here):
    batch = here.asked(True)
    runs = {"base": -1} | {label: k for k, label in enumerate(here.mount())}
    rows, panels, text = heads.rows(here.model, here.chat, batch, runs), [], ""
    for key in heads.SCORES:
        some = [row for row in rows if row[key] is not None]
        for run in runs if some else ():
            mine = [row for row in some if row["run"] == run]
            what, title = (key, key) if run == "base" else (f"change_{key}", f"{key}: {run} - base")
            panels.append((title, *output.pivot(mine, "layer", "head", what)))
        best = heads.readers(rows, key)
        found = output.means([r for r in rows if (r["layer"], r["head"]) in best], ["run"],
                             [key, f"null_{key}", f"change_{key}"])
        text += f"{key}: the base's best heads, {best or f'none is {heads.MARGIN} above its null'}\n"
        text += f"{output.table(found)}\n\n" if best else ""
    return rows, text.rstrip(), lambda path: output.draw_maps(path, panels, len(runs))


def run_knockout(here):
    read = here.asked(True)
    runs = {"base": (read, -1)} | {label: (read, k) for k, label in enumerate(here.mount())}
    if here.others:
        runs["null: base, another news"] = here.asked(True, here.others[0]), -1
    rows = knockout.rows(here.model, runs, here.groups)
    panels = [(run, *output.pivot([r for r in rows if r["run"] == run and r["from"] != "none"],
                                  "from", "layers", "change")) for run in runs]
    where, shown = "in each of the layers named", rows
    if here.layers is None:
        where = "in all layers, then in those that hurt most"
        shown = [row for row in rows if row["layers"] == "all"]
        for pair in dict.fromkeys((row["run"], row["from"]) for row in rows if row["layers"] != "all"):
            some = [r for r in rows if (r["run"], r["from"]) == pair and r["layers"] != "all"]
            shown.append(min(some, key=lambda row: row["change"]))
    text = ("log-odds of the right option with the news in context, and their change when attention to the "
            f"news is knocked out:\n{where}\n" + output.table(shown, limit=60))
    return rows, text, lambda path: output.draw_maps(path, panels)


def run_shadow(here):
    if here.replay is None:     # the item's own questions, as if they had been rehearsed
        messages = [conversation(q.ask, q.right) for q in here.item.questions]
    else:
        messages = [row["messages"] for row in read_conversations(here.replay)
                    if row.get("news", here.item.id) == here.item.id]
    if not messages:
        raise ValueError(f"{here.replay or here.item.id}: no replay elements about {here.item.id}")
    if any(turns[0]["role"] == "text" for turns in messages):
        raise ValueError(f"{here.replay}: holds plain texts, which have no turn that the news could stand "
                         f"before")
    front, elements = Shadowed(here.prompts), []
    for alone in messages[:ELEMENTS]:
        shadowed = front.messages({"messages": alone}, here.item)
        elements.append([Example(*here.chat.conversation(form)) for form in (alone, shadowed)])
    long, most = max(len(e.ids) for e in sum(elements, [])), here.model.config.max_position_embeddings
    if long > most:
        raise ValueError(f"{here.replay or here.item.id}: an element with the news before it has {long} "
                         f"tokens, which do not fit the model's context of {most}")
    updates = here.everything
    rows = shadow.rows(here.model, here.chat, elements, updates)
    keys = ["loss", "norm", *(f"cosine {label}" for label in updates)]
    whole, each = ([row for row in rows if (row["place"] == "all") == all_] for all_ in (True, False))
    means = output.means(whole, ["news"], keys)
    tokens = [row for row in each if row["element"] == 0]
    curves = {key: {f"{news} the news": list(enumerate(row[key] for row in each if row["news"] == news))
                    for news in ("without", "with")} for key in keys}
    text = (f"{len(elements)} replay elements, each whole, mean\n{output.table(means)}\n\n"
            f"the first by token\n"
            + output.table(tokens, ["news", "place", "token", *keys[:3]]))
    panels = list(curves.items())
    return rows, text, lambda path: output.draw_curves(path, panels, "supervised token")
