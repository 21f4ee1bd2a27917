"""The page of a study, OUT/report.html: the claims, the figures, every number in a table that sorts, and a walk
through single news items. One file that fetches nothing; no torch, no model.

    OUT/report.html             replaced only if it is such a page
    OUT/figures/NAME.csv        the numbers of each figure; made.json there says which files are ours
"""

from html import escape
from pathlib import Path

import yaml

from model.files import read_json
from newnews.html import check_page, hidden, shell, write_page
from newnews.outputs import read_manifest, write_json
from newnews.probing.output import write_csv
from newnews.studies import figures as fig
from newnews.studies import sections
from newnews.studies.report import ORDER, TITLES
from newnews.studies.stats import paired
from newnews.studies.summary import Finished, rehearsed
from newnews.studies.walk import embedded, walk_data
from newnews.tasks.news import WAYS

MAKER, WHAT = "report", "report of a study"
CLOSED, CONTEXT = WAYS
HERE = Path(__file__).parent


def check_report(out):
    """Before hours of work: may the page and its tables be written there?"""
    check_page(Path(out) / "report.html", MAKER, WHAT)
    check_tables(Path(out) / "figures", ())


def write_report(out, summary):
    """Write the page of the study in the folder OUT, and its tables. summary: what summarise(OUT) says."""
    done = Finished(out)
    judged = {(cell, way): done.judged(cell, way) for cell in done.answers for way in WAYS}
    files = dict.fromkeys(done.out / file for cell in done.index["cells"] for file in cell["replay"])
    seen = rehearsed(files, done.items, done.source.keys)
    cells, bases = summary.get("groups") or summary["cells"], set(done.base_of.values())
    contrasts, formats = summary.get("contrasts"), [f for f in ORDER if f in done.study["ask"]]
    tables = {"accuracy": accuracy_rows({**summary["cells"], **cells}),
              "recovered": recovered_rows(cells, bases),
              "kept": kept_rows(done, judged, seen), "costs": cost_rows(done, summary)}
    if contrasts:
        tables["claims"] = contrasts
    text = page(done, summary, cells, tables, walk_data(done, judged, seen), formats, chance(done, seen))
    write_tables(done.out / "figures", tables)
    write_page(done.out / "report.html", MAKER, WHAT, text)


def check_tables(folder, names):
    """The names in the folder of tables that are ours; a file of somebody else's under one of `names` is an
    error."""
    made = folder / "made.json"
    ours = read_json(made).get("tables", []) if made.is_file() else []
    for name in names:
        if (folder / name).exists() and name not in ours:
            raise ValueError(f"{folder / name}: is there already and not ours; move it away")
    return ours


def write_tables(folder, tables):
    """{name: rows} as FOLDER/NAME.csv. What is ours is noted first, so that a kill leaves it replaceable."""
    names = [f"{name}.csv" for name in tables]
    ours = check_tables(folder, names)
    folder.mkdir(exist_ok=True)
    write_json(folder / "made.json", {"made by": f"newnews {MAKER}", "tables": sorted({*ours, *names})})
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", rows)
    for name in set(ours) - set(names):                     # of an earlier report
        (folder / name).unlink(missing_ok=True)
    write_json(folder / "made.json", {"made by": f"newnews {MAKER}", "tables": sorted(names)})


# ---- the numbers ----

def accuracy_rows(cells):
    """{name: cell} of a summary as flat rows."""
    return [{"cell": name, "format": format, "way": way, "domain": domain,
             **{key: part[key] for key in ("mean", "low", "high", "n")}}
            for name, cell in cells.items() for format in ORDER if format in cell[CLOSED] for way in WAYS
            for domain, part in {"all": cell[way][format], **cell[way][format]["by_domain"]}.items()]


def recovered_rows(cells, bases):
    return [{"cell": name, "format": format, **{key: found[key] for key in ("mean", "low", "high")}}
            for format in ORDER for name, cell in cells.items()
            if name not in bases and (found := cell["recovered"].get(format))]


def kept_rows(done, judged, seen):
    """In-context answers after minus before, paired by question, over the questions that are counted."""
    def values(cell, format):
        return {v["question"]: v for _, v in judged[cell, CONTEXT]
                if v["format"] == format and v["question"] not in seen}

    rows = []
    for format in [f for f in ORDER if f in done.study["ask"]]:
        for cell in [c["name"] for c in done.index["cells"]]:
            before, after = values(done.base_of[done.model_of[cell]], format), values(cell, format)
            shared = [q for q in after if q in before]
            found = paired([after[q]["right"] for q in shared], [before[q]["right"] for q in shared],
                           [after[q]["news"] for q in shared])
            rows.append({"cell": cell, "format": format, "difference": found["mean"],
                         **{key: found[key] for key in ("low", "high", "p", "n")}})
    return rows


def cost_rows(done, summary):
    """What each cell cost: writing (its own replay; shared files count in each) and training."""
    format = next(f for f in ORDER if f in done.study["ask"])
    rows = []
    for cell in done.index["cells"]:
        written = [read_manifest(done.out / file)["totals"] for file in cell["replay"]]
        closed = summary["cells"][cell["name"]][CLOSED][format]
        rows.append({"cell": cell["name"], "format": format, **{k: closed[k] for k in ("mean", "low", "high")},
                     "written_tokens": sum(t.get("new_tokens", 0) for t in written),
                     "trained_tokens": cell["tokens"], "writing_flops": sum(t.get("flops", 0) for t in written),
                     "flops": cell["flops"], "seconds": cell["seconds"]})
    return rows


def chance(done, seen):
    """The mean of 1 / options over the questions that are counted; None without any."""
    shares = [1 / len(q.options) for item in done.items for q in item.questions if q.id not in seen]
    return sum(shares) / len(shares) if shares else None



# ---- the page ----

def page(done, summary, cells, tables, data, formats, luck):
    study, contrasts, bases = done.study, summary.get("contrasts"), list(done.base_of.values())
    names = dict.fromkeys([*bases, *cells, *summary["cells"]])
    others = [name for name in names if name not in bases]
    colours = {**{name: fig.colour(0) for name in bases}, **{name: fig.colour(1 + i) for i, name in enumerate(others)}}
    shown = [r for r in tables["accuracy"] if r["cell"] in cells]

    def base_of(cell):          # a group's name need not be a cell's
        return done.base_of.get(done.model_of.get(cell), bases[0])

    made = [sections.section("claims", "Claims" if contrasts else "The numbers at a glance",
                             sections.claims(contrasts) if contrasts else sections.headline(cells, formats)),
            sections.section("accuracy", "What it knows without the news in sight", *(
                sections.accuracy(shown, f, base_of, luck if f in ("text", "letter") else None, colours)
                for f in formats)),
            sections.section("recovered", "How much of the gap is recovered", sections.forest(
                "recovered", tables["recovered"], "mean", [(0, "zero"), (1, "dashed")],
                "(tuned - base) / (base in context - base): 0 is the base, 1 (dashed) is as good as reading. "
                "Fieller's 95% intervals, clustered by news.", colours), notes(summary)),
            sections.section("numbers", "Every number", sections.every_number(tables["accuracy"])),
            sections.section("costs", "What it cost", sections.costs(
                tables["costs"], summary["cells"][bases[0]], colours)),
            sections.section("kept", "What was kept", sections.forest(
                "kept", tables["kept"], "difference", [(0, "zero")],
                "Does the tuned model still read? Accuracy with the news in context, after minus before, paired by "
                "question; 95% intervals clustered by news.", colours)),
            sections.walk(data, len(done.items)), sections.probes(done.out / "probes"),
            sections.section("made", "How this was made", how(done, summary))]
    made = [part for part in made if part]
    links = "".join(f'<a href="#{id}">{escape(title)}</a>' for id, title, _ in made)
    asked = " and ".join(TITLES[f] for f in formats)
    head = (f'<header><div><h1>{escape(done.out.resolve().name)}: news moved into weights</h1><p>'
            f'{escape(", ".join(done.base_of))} · {len(others)} ways of training · {summary["news"]} news, '
            f'{summary["overlap"]["questions"]} questions · {asked}, closed book and in context</p></div>'
            f'<button type="button" id="theme">Light / dark</button></header>')
    body = (f"{head}<nav>{links}</nav><main>{''.join(html for *_, html in made)}</main>"
            f'<script type="application/json" id="walk-data">{embedded(data)}</script>')
    return shell(MAKER, f"{done.out.resolve().name}: news moved into weights", body,
                 (HERE / "page.css").read_text(encoding="utf-8"), (HERE / "page.js").read_text(encoding="utf-8"))


def notes(summary):
    """What was left out, and of whom."""
    lines = [f"{summary['overlap']['rehearsed']} of {summary['overlap']['questions']} test questions were asked or "
             f"answered in self-play too; they are left out of every figure and table here."]
    for name, about in summary["about"].items():
        for words, left in (("diverged", about["diverged"]), ("had nothing usable written", about["empty"])):
            if left:
                lines.append(f"{name}: {len(left)} of {summary['news']} news {words} and are left out: "
                             f"{', '.join(left)}.")
    return "".join(f'<p class="small">{escape(line)}</p>' for line in lines)


def how(done, summary):
    made = {key: done.index.get(key) for key in ("machine", "threads", "torch", "python")}
    said = ", ".join(f"{key} {value}" for key, value in made.items() if value is not None)
    settings = yaml.safe_dump(done.study, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    picture = done.out / "accuracy.png"
    return (f"<p>Commit {escape(str(done.index.get('git')))}; {escape(said)}; "
            f'<span class="seconds">{summary["seconds"]:,.0f} s</span> in all. These settings as study.yaml, then</p>'
            f"<pre>python -m newnews run study.yaml --out runs/{escape(done.out.resolve().name)}</pre>"
            f"<pre>{escape(settings)}</pre><p>The same page again, from the raw answers:</p>"
            f"<pre>python -m newnews report runs/{escape(done.out.resolve().name)}</pre>"
            + '<p>The main figure as a picture: <a href="accuracy.png">accuracy.png</a>.</p>' * picture.is_file())
