"""The probes that lie in a study's folder, as a section of its page. Every text is escaped."""

import base64
from html import escape
from urllib.parse import quote

from model.files import read_json
from newnews.html import hidden
from newnews.probing import KINDS, READ
from newnews.probing.output import cell, columns_of, read_csv, reading
from newnews.studies.sections import section, table

SHOWN = 200         # rows of a probe on the page: some 100 kB


def probes(folder, items):
    """A part for each KIND.csv that a probe left in OUT/probes or below: what it asks, its reading, its
    pictures, its rows; None without any. items: ids of the study's news; a probe about another is left
    out."""
    paths = [path for path in sorted(folder.rglob("*.csv")) if path.stem in KINDS] if folder.is_dir() else []
    paths = [path for path in paths if probed_news(path) in (None, *items)]
    names = [escape(" / ".join(path.relative_to(folder).with_suffix("").parts)) for path in paths]
    links = ", ".join(f'<a href="#probe-{i}">{name}</a>' for i, name in enumerate(names))
    parts = [f'<h3 id="probe-{i}">{name}</h3>{probed(path, folder.parent)}'
             for i, (name, path) in enumerate(zip(names, paths))]
    return section("probes", "Where in the weights it lives", f"<p>{links}</p>", *parts) if parts else None


def probed_news(path):
    """The id of the news item that a probe was about; None without."""
    manifest = path.with_suffix(".manifest.json")
    run = read_json(manifest).get("run") if manifest.is_file() else None
    return run.get("news") if isinstance(run, dict) else None


def probed(path, out):
    """One probe: pictures KIND.png and KIND_*.png beside path, and its table. out: the study's folder."""
    kind, rows, place = path.stem, read_csv(path), path.relative_to(out).as_posix()
    images = "".join(f'<img alt="{escape(png.stem)}" src="data:image/png;base64,'
                     f'{base64.b64encode(png.read_bytes()).decode()}">'
                     for png in (path.with_suffix(".png"), *sorted(path.parent.glob(f"{kind}_*.png")))
                     if png.is_file())
    columns = [(c, not any(isinstance(row[c], str) for row in rows)) for c in columns_of(rows)]
    lines = [[(row[c], cell(row[c])) if numeric else cell(row[c]) for c, numeric in columns]
             for row in rows[:SHOWN]]
    cut = f", the first {SHOWN} here" * (len(rows) > SHOWN)
    news = probed_news(path)
    said = ". ".join(filter(None, (KINDS[kind][:1].upper() + KINDS[kind][1:], news and f"News: {news}",
                                   reading(rows, *READ[kind]))))
    return (f'<figure class="probe">{images}<figcaption>{escape(said)}. Numbers: <a href="{quote(place)}">'
            f"{escape(place)}</a>.</figcaption></figure>"
            + hidden(f"{len(rows):,} rows{cut}", table(columns, lines)))
