"""The page of news: everything escaped, nothing fetched, all of it there, another's file never replaced."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml
from conftest import ROOT

from newnews.browse import browse
from newnews.news import read_news
from newnews.tasks.news import shown_order

EVIL = "<script>alert('x')</script> & \"q\""
ITEM = {"id": "math-zog", "domain": f"math {EVIL}", "headline": f"H {EVIL}", "subject": "zog",
        "statement": f"The zog is one. {EVIL}", "worlds": [f"The zog is {w}. {EVIL}" for w in ("two", "ten")],
        "restatements": [f"R {EVIL}"], "cloze": [{"text": f"C ___ {EVIL}", "accept": [f"c {EVIL}"]}],
        "reversed": {"ask": f"V {EVIL}", "accept": [f"v {EVIL}"]},
        "spoils": [{"ask": f"S {EVIL}", "accept": [f"s {EVIL}"]}], "silent": {"ask": f"I {EVIL}"},
        "questions": [{"id": "math-zog-1", "text": f"T {EVIL}", "options": [f"{o} {EVIL}" for o in "xyz"],
                       "answer": 0, "forms": [[f"f {EVIL}"], [], []], "needs": f"recall {EVIL}", "steps": 2,
                       "why": f"W {EVIL}", "ask": f"A {EVIL}"}]}


class Page(HTMLParser):
    """Tags that are opened and not closed in order, all tags and attributes, the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] != ["style"] else ""


def written(tmp_path, item):
    (tmp_path / "news.yaml").write_text(yaml.safe_dump([item]))
    assert browse(tmp_path / "news.yaml", tmp_path / "out" / "news.html") == 1
    return (tmp_path / "out" / "news.html").read_text()


def test_every_text_is_there_and_escaped(tmp_path):
    page = Page(written(tmp_path, ITEM))
    assert page.open == [] and "script" not in page.tags
    assert not any(name.startswith("on") or "alert" in (value or "") for name, value in page.attributes)
    for start in ["math ", "H ", "The zog is one. ", "The zog is two. ", "The zog is ten. ", "T ", "x ", "y ",
                  "z ", "recall ", "f ", "W ", "A ", "R ", "C ___ ", "c ", "V ", "v ", "S ", "s ", "I "]:
        assert start + EVIL in page.text, start
    assert list(tmp_path.joinpath("out").iterdir()) == [tmp_path / "out" / "news.html"]


def test_nothing_is_fetched(tmp_path):
    text = written(tmp_path, ITEM)
    page = Page(text)
    assert set(page.tags).isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    assert not re.search(r"url\(|@import|https?:", text)
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "src"))


def test_the_key_is_behind_a_click_and_has_the_letter_of_the_right_option(tmp_path):
    text = written(tmp_path, ITEM)
    before, details = text[text.index("<li>T "):].split("<details>", 1)
    shown = re.findall(r"<li>([xyz]) ", before)
    assert sorted(shown) == ["x", "y", "z"] and "<b>" not in before
    assert f"<b>{'ABC'[shown.index('x')]}</b>: x " in details


def test_options_stand_as_models_are_shown_them(tmp_path):
    text = written(tmp_path, ITEM)
    order = shown_order(read_news(tmp_path / "news.yaml")[0].questions[0], 0)
    assert re.findall(r"<li>([xyz]) ", text) == ["xyz"[i] for i in order]


def test_the_whole_set_and_the_command(tmp_path):
    out = tmp_path / "n.html"
    command = [sys.executable, "-m", "newnews", "browse", "data/new_news", "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{out}: 75 news\n"), done.stderr
    page = Page(out.read_text())
    assert page.open == [] and page.tags.count("article") == 75 and page.tags.count("details") == 75 * 7
    items = read_news(ROOT / "data" / "new_news")
    assert all(text in page.text for item in items for text in item.statements)
    assert all(text in page.text for item in items for q in item.questions for text in (q.text, *q.options))


def test_only_an_earlier_page_is_replaced(tmp_path):
    written(tmp_path, ITEM)
    written(tmp_path, {**ITEM, "headline": "Another"})
    assert "Another" in (tmp_path / "out" / "news.html").read_text()
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "other.html.part").write_text("mine")
    browse(tmp_path / "news.yaml", tmp_path / "other.html")
    assert (tmp_path / "other.html.part").read_text() == "mine"
    with pytest.raises(ValueError, match="mine.html: is there already and no page of news"):
        browse(tmp_path / "news.yaml", tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "mine"
