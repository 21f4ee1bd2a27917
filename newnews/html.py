"""What our self-contained pages share: the shell with its styles, small parts, and a file that appears whole.

Nothing is fetched, and the page itself forbids it (its Content-Security-Policy): one file, whose only script,
where it has one, is ours by its hash. Whoever puts a text into a page escapes it.
"""

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path

from newnews.outputs import check_out, write_text

STYLE = Path(__file__).with_suffix(".css")


def tag(text):
    return f'<span class="tag">{escape(str(text))}</span>'


def entries(texts):
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def hidden(title, *parts):
    """What a click shows."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def mark(maker):
    return f'<meta name="generator" content="newnews {maker}">'


def shell(maker, title, body, style="", script=""):
    """A whole page. maker: the command that writes it; style and script: CSS and JavaScript of its own."""
    ours = f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {ours}"
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">{mark(maker)}'
            f"<title>{escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}{style}</style></head>"
            f"<body>{body}{f'<script>{script}</script>' if script else ''}</body></html>\n")


def check_page(out, maker, what):
    """The path of a page; a file that is there already must be one of the same maker. what: it, in words."""
    out = check_out(out, "file")
    if out.exists() and mark(maker) not in out.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{out}: is there already and no {what}; remove it, or write elsewhere")
    return out


def write_page(out, maker, what, text):
    """Write a page, whole or not at all."""
    out = check_page(out, maker, what)
    write_text(out, text)
