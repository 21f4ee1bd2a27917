"""The page of a study: the claims, the figures, every number in a table that sorts, and a walk through single
news items. One file that fetches nothing; no torch, no model.

    OUT/report.html             replaced only if it is such a page
    OUT/figures/NAME.csv        the numbers of each figure
"""

from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path

import yaml

from newnews.html import check_page, shell, write_page
from newnews.outputs import check_out, read_manifest, read_rows
from newnews.probing.output import write_csv
from newnews.studies import figures as fig
from newnews.studies import probed, sections, stream
from newnews.studies.contrasts import answered
from newnews.studies.fits import fit_rows
from newnews.studies.report import ORDER, TITLES, left_out, overlapping, shades
from newnews.studies.stats import paired
from newnews.studies.walk import embedded, walk_data
from newnews.studies.ways import KL, formats_of
from newnews.tasks.news import CLOZE, WAYS

MAKER, WHAT = "report", "report of a study"
TABLES = ("accuracy", "claims", "costs", "fits", "kept", "kinds", "recovered", "stream", "training")
CLOSED, CONTEXT = WAYS
LIMITS = ("mean", "low", "high")
COVERAGE = ("How often the 95% intervals hold the truth, simulated for 15 to 75 news under one seed and "
            "three (tests/test_stats_coverage.py): .92 to 1.00; above .97, so too wide, where answers hardly "
            "differ, with few news, and where seeds agree; down to .85 where the means of three seeds "
            "scatter by .1 or more near 0 or 1, or where few answers change, of a few news, all in one "
            "direction. Those of KL: .94 and .95 where the logarithm of a news item's KL scatters by .6, .83 "
            "and .86 where it scatters by 1.4 (25 and 75 news): too narrow where few news hold most of it.")
HERE = Path(__file__).parent


def check_report(out):
    """Before hours of work: may the page and its tables be written there?"""
    check_page(Path(out) / "report.html", MAKER, WHAT)
    check_out(Path(out) / "figures", "folder")


def write_report(done, summary):
    """Write the page of a study, a `summary.Finished`, and its tables. summary: what summarise says of it."""
    # cells that differ in their seed alone are shown as one group
    groups = summary["groups"]
    bases = list(done.base_of.values())
    tuned = {name: group["cells"] for name, group in groups.items() if name not in bases}
    tables = {"accuracy": accuracy_rows({**groups, **summary["cells"]}, done.ways),
              "recovered": recovered_rows({name: groups[name] for name in tuned}),
              "kept": kept_rows(done, tuned), "costs": cost_rows(done, groups, tuned)}
    if kinds := kind_rows(groups):
        tables["kinds"] = kinds
    if fits := fit_rows(done, tuned, tables["costs"]):
        tables["fits"] = fits
    if courses := course_rows(done, tuned):
        tables["training"] = courses
    if summary.get("contrasts"):
        tables["claims"] = summary["contrasts"]
    if arrived := stream.matrix(done):
        tables["stream"] = arrived
        with suppress(ImportError):         # matplotlib
            stream.draw(arrived, done.out / "stream.png")
    data = walk_data(done, [*bases, *(cells[0] for cells in tuned.values())])
    text = page(done, summary, groups, tuned, tables, data)
    write_tables(done.out / "figures", tables)
    write_page(done.out / "report.html", MAKER, WHAT, text)


def write_tables(folder, tables):
    """{name: rows} as FOLDER/NAME.csv; what an earlier report had of TABLES, and this one has not, goes."""
    folder.mkdir(exist_ok=True)
    (folder / "made.json").unlink(missing_ok=True)          # a note that reports before 2026-11-26 left
    for name in TABLES:
        if name in tables:
            write_csv(folder / f"{name}.csv", tables[name])
        else:
            (folder / f"{name}.csv").unlink(missing_ok=True)


# ---- the numbers ----

def accuracy_rows(cells, ways):
    """{name: cell or group} of a summary as flat rows."""
    return [{"cell": name, "format": format, "way": way, "domain": domain,
             **{key: part[key] for key in (*LIMITS, "n")}}
            for name, cell in cells.items() for format in (*ORDER, CLOZE, KL) for way in ways
            if format in cell[way]
            for domain, part in {"all": cell[way][format], **cell[way][format]["by_domain"]}.items()]


def kind_rows(groups):
    """Accuracy by what questions need, and by their steps of thought, where they differ in it."""
    found = [(name, format, way, group[way][format]) for name, group in groups.items() for format in ORDER
             for way in WAYS if format in group[way]]
    return [{"cell": name, "format": format, "way": way,
             "kind": (kind or "other").replace("_", " ") + (words if kind != "1" else " step"),
             **{key: part[key] for key in (*LIMITS, "n")}}
            for by, words in (("by_needs", ""), ("by_steps", " steps"))
            if len(found[0][-1][by]) > 1
            for name, format, way, parts in found for kind, part in sorted(parts[by].items())]


def recovered_rows(groups):
    return [{"cell": name, "format": format, **group["recovered"][format]}
            for format in ORDER for name, group in groups.items() if format in group["recovered"]]


def kept_rows(done, tuned):
    """Answers after minus before, of each way but closed book: paired by question, on the questions that
    count and were asked under every seed."""
    rows = []
    for way, format in [(way, format) for way in done.ways[1:]
                        for format in formats_of(way, [f for f in ORDER if f in done.study["ask"]])]:
        for name, cells in tuned.items():
            base = done.base_of[done.model_of[cells[0]]]
            values, common = answered([done.fresh(cell, way, format) for cell in (*cells, base)])
            found = paired(values[:-1], values[-1], [row["news"] for row in common], way != KL)
            rows.append({"cell": name, "format": format, "way": way, "difference": found["mean"],
                         **{key: found[key] for key in ("low", "high", "p", "n")}})
    return rows


def cost_rows(done, groups, tuned):
    """What each group cost, the mean of its cells: writing (its own replay; shared files count in each) and
    training, tokens and FLOPs a news item; seconds are those of all news, and of asking too. elements:
    conversations written a news item, and how many distinct ones these are."""
    format = next(f for f in ORDER if f in done.study["ask"])
    about, rows = {cell["name"]: cell for cell in done.index["cells"]}, []
    truth = cache(lambda file: done.source.truth(read_rows(done.out / file), done.items))

    @cache
    def elements(file):
        said = [(row["news"], *(m["content"] for m in row["messages"])) for row in read_rows(done.out / file)]
        return {"elements": len(said) / len(done.items), "distinct": len(set(said)) / len(done.items)}

    for name, cells in tuned.items():
        costs = [about[cell] for cell in cells]
        written = [read_manifest(done.out / file)["totals"] for cost in costs for file in cost["replay"]]
        wrote = [elements(file) for cost in costs for file in cost["replay"]]

        def mean(dicts, key, of=len(done.items)):
            return round(sum(d.get(key, 0) for d in dicts) / len(costs) / of, 1)

        true = [share for cost in costs for share in map(truth, cost["replay"]) if share is not None]
        last = [cost["course"][-1][1] for cost in costs if cost.get("course")]
        known = [loss for loss in last if loss is not None]
        rows.append({"cell": name, "protocol": costs[0]["protocol"], "format": format,
                     **{key: groups[name][CLOSED][format][key] for key in LIMITS},
                     "true": sum(true) / len(true) if true else None,
                     "loss": sum(known) / len(known) if known else None,
                     "elements": mean(wrote, "elements", 1), "distinct": mean(wrote, "distinct", 1),
                     "written_tokens": mean(written, "new_tokens"), "trained_tokens": mean(costs, "tokens"),
                     "writing_flops": mean(written, "flops"), "flops": mean(costs, "flops"),
                     "seconds": mean(costs, "seconds", 1)})
    return rows


def course_rows(done, tuned):
    """Loss and gradient norm over training of each group, means over its cells that have them."""
    about, rows = {cell["name"]: cell.get("course", ()) for cell in done.index["cells"]}, []
    for name, cells in tuned.items():
        for points in zip(*(about[cell] for cell in cells)):
            means = [[p[i] for p in points if p[i] is not None] for i in (1, 2)]
            loss, norm = (sum(some) / len(some) if some else None for some in means)
            rows.append({"cell": name, "step": points[0][0] + 1, "loss": loss, "grad_norm": norm})
    return rows


# ---- the page ----

def page(done, summary, groups, tuned, tables, data):
    contrasts, bases = summary.get("contrasts"), list(done.base_of.values())
    formats, seeds = [f for f in ORDER if f in done.study["ask"]], max(map(len, tuned.values()))
    shade = shades([r["protocol"] for r in tables["costs"]])
    colours = dict.fromkeys(bases, fig.colour(0)) | {r["cell"]: fig.colour(shade[r["protocol"]])
                                                     for r in tables["costs"]}
    base_of = {name: done.base_of[done.model_of[group["cells"][0]]] for name, group in groups.items()}
    best = max(tables["costs"], key=lambda r: r["mean"] or 0)["cell"]
    pooled = f" Means over {seeds} seeds; intervals are for other news and other seeds." * (seeds > 1)
    bars = [sections.accuracy([r for r in tables["accuracy"] if r["cell"] in groups and r["format"] == f],
                              base_of, summary["chance"] if f in ("text", "letter") else None, colours,
                              pooled)
            for f in formats]
    gap = sections.forest("recovered", tables["recovered"], "mean", [(0, "zero"), (1, "dashed")],
                          "(tuned - base) / (base in context - base): 0 is the base, 1 (dashed) is as good "
                          f"as reading. Fieller's 95% intervals, clustered by news.{pooled}", colours)
    kept = [f"<h3>{escape(TITLES[way][:1].upper() + TITLES[way][1:])}</h3>" * (len(done.ways) > 2)
            + sections.forest("kept", [r for r in tables["kept"] if r["way"] == way], "difference",
                              [(0, "zero")], f"{sections.KEPT[way]}, after minus before, paired by question; "
                              f"95% intervals clustered by news.{pooled}", colours)
            for way in done.ways[1:]]
    cost = sections.costs(tables["costs"], tables.get("fits", ()), {name: groups[name] for name in bases},
                          colours, " Means over seeds." * (seeds > 1))
    along = sections.along([r for r in tables["accuracy"] if r["cell"] in groups and r["domain"] == "all"],
                           bases, formats[0])
    made = [sections.section("claims", "Claims" if contrasts else "At a glance",
                             sections.claims(contrasts) if contrasts else sections.headline(groups, formats)),
            sections.section("accuracy", "Closed book", *bars),
            "kinds" in tables and sections.section("kinds", "By kind of question",
                                                   sections.kinds(tables["kinds"])),
            sections.section("recovered", "Gap recovered", gap, notes(summary)),
            stream.section(tables["stream"]) if "stream" in tables else None,
            along and sections.section("along", "Against what was varied", *along),
            sections.section("numbers", "Every number", sections.every_number(tables["accuracy"], groups)),
            sections.section("costs", "What it cost", cost),
            sections.section("kept", "What was kept" if len(kept) == 1 else "What else changed", *kept),
            "training" in tables and sections.section("training", "While training",
                                                      sections.training(tables["training"], colours)),
            sections.walk(data, len(done.items), tuned[best][0], seeds),
            probed.probes(done.out / "probes", [item.id for item in done.items]),
            sections.section("made", "How this was made", how(done, summary))]
    made = [part for part in made if part]
    links = "".join(f'<a href="#{id}">{escape(title)}</a>' for id, title, _ in made)
    title = f"{done.out.resolve().name}: from news to weights"
    about = " · ".join((", ".join(done.base_of), f"{len(tuned)} ways to train", f"{summary['news']} news, "
                        f"{summary['overlap']['questions']} questions", ", ".join(TITLES[f] for f in formats),
                        ", ".join(TITLES[way] for way in done.ways)))
    body = (f"<header><div><h1>{escape(title)}</h1><p>{escape(about)}</p></div>"
            f'<button type="button" id="theme">◐ Light / dark</button></header><nav>{links}</nav>'
            f"<main>{''.join(html for *_, html in made)}</main>"
            f'<script type="application/json" id="walk-data">{embedded(data)}</script>')
    return shell(MAKER, title, body, *((HERE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js")))


def notes(summary):
    """What was left out, and of whom."""
    lines = [f"{overlapping(summary)}; they are left out of every figure and table here.", *left_out(summary)]
    return "".join(f'<p class="small">{escape(line)}</p>' for line in lines)


def how(done, summary):
    made = {key: done.index.get(key) for key in ("machine", "threads", "torch", "python")}
    said = ", ".join(f"{key} {value}" for key, value in made.items() if value is not None)
    settings = yaml.safe_dump(done.study, sort_keys=False, default_flow_style=None, width=100,
                              allow_unicode=True)
    place, commit = done.out.resolve(), str(done.index.get("git"))
    run = escape(f"runs/{place.name}" if place.parent.name == "runs" else place.name)
    at = ", ".join(done.index.get("computed_at", [commit]))
    picture = '<p>The main figure as a picture: <a href="accuracy.png">accuracy.png</a>.</p>'
    return (f"<p>Computed at commit {escape(at)}, put together at {escape(commit)}; {escape(said)}; "
            f'<span class="seconds">{summary["seconds"]:,.0f} s</span> in all. These settings as study.yaml, '
            f"then</p><pre>python -m newnews run study.yaml --out {run}</pre><pre>{escape(settings)}</pre>"
            f"<p>The same page again, from the raw answers:</p><pre>python -m newnews report {run}</pre>"
            f"<p>{escape(COVERAGE)}</p>"
            + picture * (done.out / "accuracy.png").is_file())
