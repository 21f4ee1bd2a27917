"""The kinds that look at attention: rows, table and picture of heads and knockout.

Each function takes command.Probe and returns (rows, text, function(path) that draws)."""

from newnews.probing import heads, knockout, output
from newnews.probing.asked import another, asked


def run_heads(here):
    here.need_item()
    runs = {"base": -1} | {label: k for k, label in enumerate(here.mount())}
    batch = asked(here.chat, here.prompts, here.item, True, here.device)
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
    here.need_item()
    read = asked(here.chat, here.prompts, here.item, True, here.device)
    runs = {"base": (read, -1)} | {label: (read, k) for k, label in enumerate(here.mount())}
    if here.others:
        before = asked(here.chat, here.prompts, another(here.item, here.others[0]), True, here.device)
        runs["null: base, another news"] = before, -1
    groups = None if here.layers is None else {str(layer): [layer] for layer in here.layers}
    rows = knockout.rows(here.model, runs, groups)
    panels = [(run, *output.pivot([r for r in rows if r["run"] == run and r["from"] != "none"],
                                  "from", "layers", "change")) for run in runs]
    shown = [row for row in rows if row["layers"] == "all"]
    for pair in dict.fromkeys((row["run"], row["from"]) for row in rows if row["layers"] != "all"):
        some = [r for r in rows if (r["run"], r["from"]) == pair and r["layers"] != "all"]
        shown.append(min(some, key=lambda row: row["change"]))
    text = ("log-odds of the right option with the news in context, and their change when attention to the "
            "news is knocked out:\nin all layers, then in those that hurt most\n"
            + output.table(shown, limit=60))
    return rows, text, lambda path: output.draw_maps(path, panels)
