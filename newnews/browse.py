"""One self-contained page to read news in: `python -m newnews browse data/new_news --out news.html`.

News by domain; for each its statement, the other worlds, and its questions with the options, the answers
behind a click. Nothing is fetched and no script runs: one file of HTML and CSS, light or dark as the reader's
system is. Every text of the news is escaped.
"""

import hashlib
from html import escape
from pathlib import Path

import numpy as np

from newnews.news import read_news
from newnews.outputs import check_out, write_text

MARK = '<meta name="generator" content="newnews browse">'      # a page of ours may be replaced
STYLE = """
:root { color-scheme: light dark; --page: #fbfaf7; --card: #fff; --ink: #1d1d1b; --soft: #6a675f;
        --line: #e2dfd6; --accent: #1c5d78; --right: #e3f1e4; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16171a; --card: #1f2125; --ink: #e8e6e1; --soft: #a09d95; --line: #34363c;
          --accent: #7cc0dd; --right: #22382a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1.25rem 1rem 4rem; background: var(--page);
       color: var(--ink); font: 1rem/1.5 Georgia, "Times New Roman", serif; overflow-wrap: anywhere; }
header p, nav, .tags, .small, summary, h4 { font-family: system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.3rem; }
h3 { margin: 0; font-size: 1.1rem; line-height: 1.3; }
h4 { margin: 1rem 0 .25rem; font-size: .8rem; color: var(--soft); font-weight: 600; }
header p, .small { margin: .25rem 0; color: var(--soft); font-size: .85rem; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .9rem; }
a { color: var(--accent); }
article { margin: 1rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
          border-radius: 8px; }
.statement { margin: .6rem 0; padding-left: .8rem; border-left: 3px solid var(--accent); }
ol { margin: .25rem 0; padding-left: 1.5rem; } ol.questions > li { margin: .9rem 0; }
ol.options { list-style: upper-alpha; } ul { margin: .25rem 0; padding-left: 1.25rem; }
.tag { display: inline-block; padding: 0 .45em; border: 1px solid var(--line); border-radius: 1em;
       color: var(--soft); font: .75rem/1.6 system-ui, sans-serif; white-space: nowrap; }
details p { margin: .3rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: .85rem; padding: .2rem 0; }
.key { padding: .3rem .6rem; background: var(--right); border-radius: 6px; }
"""


def shown_order(id, count):
    """The order in which a question's options are shown to people, drawn from the hash of its id: the place
    of the key tells nothing, and nobody needs a seed."""
    seed = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).permutation(count).tolist()


def tag(text):
    return f'<span class="tag">{escape(str(text))}</span>'


def entries(texts):
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def hidden(title, *parts):
    """What a click shows."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def question(q):
    order = shown_order(q.id, len(q.options))
    tags = [q.needs.replace("_", " ")] + [f"{q.steps} step" + "s" * (q.steps > 1)] * bool(q.steps)
    parts = [f'<p class="key"><b>{"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[order.index(q.answer)]}</b>: '
             f"{escape(q.right)}. {escape(q.why)}</p>"]
    if len(q.accept) > 1:
        parts.append(f'<p class="small">Also accepted: {escape(", ".join(q.accept[1:]))}</p>')
    if q.ask != q.text:
        parts.append(f'<p class="small">Without options: {escape(q.ask)}</p>')
    return (f"<li>{escape(q.text)} {' '.join(tag(t) for t in tags if t)}"
            f'<ol class="options">{entries(q.options[i] for i in order)}</ol>{hidden("Answer", *parts)}</li>')


def worlds(item):
    """The other worlds, each with its answers."""
    numbers = [w for w in range(len(item.statements)) if w != item.world]
    parts = [f"<h4>World {w}</h4><p>{escape(item.statements[w])}</p><p class='small'>Answers: "
             f"{escape('; '.join(q.options[w] for q in item.questions))}</p>" for w in numbers]
    return hidden(f"{len(numbers)} other worlds and their answers", *parts)


def more(item):
    """Restatements and the questions of other formats, with their answers."""
    gaps = [(c.text, c.accept) for c in item.cloze]
    asked = [(a.ask, a.accept) for a in [item.reversed, *item.spoils] if a]
    lines = [f"{text} ({', '.join(accept)})" for text, accept in gaps + asked]
    if item.silent:
        lines.append(f"{item.silent.ask} (the news does not say)")
    parts = [f"<h4>{title}</h4><ul>{entries(texts)}</ul>" for title, texts in
             (("In other words", item.restatements), ("Further questions", lines)) if texts]
    return hidden("Restatements and further questions", *parts) if parts else ""


def article(item):
    questions = "".join(question(q) for q in item.questions)
    title = f"<h3>{escape(item.headline or item.id)}</h3>" + f'<p class="small">{escape(item.id)}</p>'
    return (f'<article id="{escape(item.id)}">{title}<p class="statement">{escape(item.statement)}</p>'
            + (worlds(item) if item.worlds else "")
            + (f'<ol class="questions">{questions}</ol>' if questions else "") + more(item) + "</article>")


def page(news, title):
    domains = list(dict.fromkeys(item.domain for item in news))
    count = sum(len(item.questions) for item in news)
    links = [f'<a href="#domain-{i}">{escape(d)} ({sum(item.domain == d for item in news)})</a>'
             for i, d in enumerate(domains)]
    parts = [f'<h2 id="domain-{i}">{escape(d)}</h2>' + "".join(article(n) for n in news if n.domain == d)
             for i, d in enumerate(domains)]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"{MARK}"
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
            f"<body><header><h1>{escape(title)}</h1>"
            f"<p>{len(news)} hypothetical news, {count} questions. Invented: none of it is true.</p></header>"
            f"<nav>{''.join(links)}</nav>{''.join(parts)}</body></html>\n")


def browse(path, out):
    """Write the page of a file or folder of news to the file `out`, whole or not at all. Returns the number
    of news. A file that is there is replaced only if it is such a page."""
    out, news = check_out(out, "file"), read_news(path)
    if out.exists() and MARK not in out.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{out}: is there already and no page of news; remove it, or write elsewhere")
    write_text(out, page(news, f"News of {Path(path).name}"))
    return len(news)
