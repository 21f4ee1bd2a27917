"""One self-contained page to read news in: `python -m newnews browse data/new_news --out news.html`.

News by domain; for each its statement, the other worlds, and its questions with the options, the answers
behind a click. Nothing is fetched and no script runs: one file of HTML and CSS, light or dark as the reader's
system is. Every text of the news is escaped.
"""

from html import escape
from pathlib import Path

from newnews.html import entries, hidden, shell, tag, write_page
from newnews.news import read_news
from newnews.tasks.news import shown_order
from newnews.words import letters

MAKER, WHAT = "browse", "page of news"      # a page of ours may be replaced


def question(q):
    order = shown_order(q, 0)       # as evaluate.py --seed 0 shows them to models
    tags = [q.needs.replace("_", " ")] + [f"{q.steps} step" + "s" * (q.steps > 1)] * bool(q.steps)
    parts = [f'<p class="key"><b>{letters(26)[order.index(q.answer)]}</b>: '
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
    return shell(MAKER, title, f"<header><h1>{escape(title)}</h1><p>{len(news)} hypothetical news, {count} "
                 f"questions. Invented: none of it is true.</p></header><nav>{''.join(links)}</nav>"
                 f"{''.join(parts)}")


def browse(path, out):
    """Write the page of a file or folder of news to the file `out`, whole or not at all. Returns the number
    of news. A file that is there is replaced only if it is such a page."""
    news = read_news(path)
    write_page(out, MAKER, WHAT, page(news, f"News of {Path(path).name}"))
    return len(news)
