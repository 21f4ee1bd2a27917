"""The arithmetic of a study's summary, its table and its picture.

Summary      on made-up verdicts: means, gap recovered and overlap worked out by hand; rehearsed questions are
             left out for all
Table, draw  one row a cell, 120 columns; a PNG
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from newnews.world.things import DOMAINS
from newnews.news import News, Question
from newnews.outputs import write_picture
from newnews.studies import summary
from newnews.studies.contrasts import contrasted, groups, read_contrasts
from newnews.studies.report import draw, interval, shades, table
from newnews.studies.stats import ratio, share
from newnews.tasks.news import WAYS
from test_study import CLOSED, CONTEXT, WORLD

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- summary ----

def rows(free, text, names="aabbcc"):
    """Verdicts of one cell: news a and b (math), c (events), two questions each; 0 and 1 for wrong and
    right."""
    out = []
    for i, news in enumerate(names):
        row = {"news": news, "domain": "events" if news == "c" else "math", "question": f"{news}{i % 2}",
               "needs": "reversal" if i % 2 else "recall", "steps": 1 + (news == "c")}
        out.append({**row, "format": "free", "right": free[i] == "1", "exact": free[i] == "1"})
        out.append({**row, "format": "text", "right": text[i] == "1"})
    return out


ROWS = {("base", CLOSED): rows("000001", "100000"), ("base", CONTEXT): rows("111111", "111101"),
        ("naive", CLOSED): rows("000101", "100100"), ("naive", CONTEXT): rows("111011", "111111"),
        ("self_qa", CLOSED): rows("110111", "111101"), ("self_qa", CONTEXT): rows("111111", "000000")}
FORMATS = ["free", "text"]


def summary_of(rehearsed=(), verdicts=ROWS, formats=FORMATS, contrasts=()):
    names = list(dict.fromkeys(name for name, _ in verdicts))
    domains = dict.fromkeys(r["domain"] for r in verdicts["base", CLOSED])
    asked = {r["question"]: r["domain"] for r in verdicts["base", CLOSED]}
    about = {name: {"seconds": 300.0, "flops": 1, "tokens": 1, "diverged": {}, "empty": []}
             for name in names[1:]}

    def every(name, way, format):
        return [r for r in verdicts[name, way] if r["format"] == format]

    def fresh(*which):
        return [r for r in every(*which) if r["question"] not in rehearsed]

    single = {name: ([name], "base") for name in names}
    pooled = {group: (cells, "base") for group, cells in groups(names).items()}
    read = read_contrasts(contrasts, names, formats, "study.yaml")
    return {"study": {"ask": formats, "news": {"split": "test"}}, "news": 3, "seconds": 321.0, "about": about,
            "cells": summary.block(fresh, single, formats),
            "all_questions": summary.block(every, single, formats),
            "groups": summary.grouped(summary.block(fresh, pooled, formats),
                                      summary.block(every, pooled, formats), pooled, about),
            "contrasts": contrasted(read, names, fresh), "chance": 1 / 3,
            "overlap": {"questions": len(asked), "rehearsed": len(rehearsed), "by_domain": {
                d: sum(asked[q] == d for q in rehearsed) for d in domains}}}


def test_means_and_gap_recovered_by_hand():
    found = summary_of()
    named = found["cells"]
    assert named == found["all_questions"] and list(named) == ["base", "naive", "self_qa"]
    means = {name: [p[way][f]["mean"] for way in WAYS for f in FORMATS] for name, p in named.items()}
    sixths = {"base": [1, 1, 6, 5], "naive": [2, 2, 5, 6], "self_qa": [5, 5, 6, 0]}
    assert means == {name: pytest.approx([n / 6 for n in counts]) for name, counts in sixths.items()}
    cell = dict(named["self_qa"][CLOSED]["text"])
    by, needs, steps = (cell.pop(f"by_{key}") for key in ("domain", "needs", "steps"))
    assert cell.pop("seeds") == 1 and cell == share([1, 1, 1, 1, 0, 1], "aabbcc") and cell["n"] == 6
    assert {d: (s["mean"], s["n"]) for d, s in by.items()} == {"math": (1.0, 4), "events": (0.5, 2)}
    assert {k: (s["mean"], s["n"]) for k, s in needs.items()} == {"recall": (2 / 3, 3), "reversal": (1.0, 3)}
    assert {k: (s["mean"], s["n"]) for k, s in steps.items()} == {"1": (1.0, 4), "2": (0.5, 2)}
    # free form: the context gives the base model 5 more; naive has 1 of them, self_qa 4. Text: 4; 1 and 4
    recovered = {name: p["recovered"] for name, p in named.items()}
    for name, parts in (("base", [None, None]), ("naive", [1 / 5, 1 / 4]), ("self_qa", [4 / 5, 1])):
        assert [recovered[name][f]["mean"] for f in FORMATS] == pytest.approx(parts)
    assert recovered["self_qa"]["free"] == {**ratio([1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0], "aabbcc"), "n": 6}


def test_rehearsed_questions_are_left_out_for_every_cell_alike():
    found, plain = summary_of({"a1", "c0"}), summary_of()
    assert found["all_questions"] == plain["cells"]
    wanted = {"base": (1 / 4, 1.0), "naive": (2 / 4, 3 / 4), "self_qa": (3 / 4, 1.0)}
    for name, means in wanted.items():
        p = found["cells"][name]
        assert (p[CLOSED]["free"]["mean"], p[CONTEXT]["free"]["mean"]) == means
        assert {p[way][f]["n"] for way in WAYS for f in FORMATS} == {4}
        assert {d: s["n"] for d, s in p[CLOSED]["free"]["by_domain"].items()} == {"math": 3, "events": 1}
    assert found["cells"]["self_qa"]["recovered"]["free"]["mean"] == pytest.approx(2 / 3)


def test_a_summary_without_a_fresh_question_is_still_a_summary():
    found = summary_of({r["question"] for r in ROWS["base", CLOSED]})
    assert found["cells"]["naive"][CLOSED]["free"]["mean"] is None
    assert found["all_questions"] == summary_of()["cells"] and "6 of 6 test questions" in table(found)


def test_news_that_a_cell_leaves_out_are_left_out_of_its_ratio_only():
    """An adapter that diverged was not asked: its news item has no rows in that cell."""
    some = {**ROWS, ("naive", CLOSED): rows("0001", "1001", "aabb"),
            ("naive", CONTEXT): rows("1111", "1111", "aabb")}
    found = summary_of(verdicts=some)["cells"]
    assert found["naive"][CLOSED]["free"]["n"] == 4 and found["self_qa"] == summary_of()["cells"]["self_qa"]
    assert found["naive"]["recovered"]["free"] == {**ratio([0, 0, 0, 1], [1, 1, 1, 1], "aabb"), "n": 4}


def test_the_same_question_is_found_in_other_words_and_as_a_statement():
    keys = WORLD.keys
    test = keys("What is 3 zogel 4?")
    assert all(test & keys(other) for other in ("what is  3 Zogel 4", "Work out the zogel of 3 and 4.",
                                                "So 3 zogel 4 is 9."))
    assert not any(test & keys(other) for other in ("Find the zogel of 4 and 3.", "What is new?", "Who?"))


def test_rehearsed_looks_at_every_row_of_the_same_news_item_only(monkeypatch):
    def questions(name):
        return [Question(f"{name}-1", f"What is 3 {name} 4?", list("7569"), 0),
                Question(f"{name}-2", f"Is {name} wet?", list("yno?"), 0)]

    news = [News(name, "math", "S.", questions(name)) for name in ("zogel", "rimak")]
    keys = WORLD.keys

    def said(*texts):
        lines = [{"news": name, "messages": [{"role": "user", "content": asked},
                                             {"role": "assistant", "content": answered}]}
                 for name, asked, answered in texts]
        monkeypatch.setattr(summary, "read_rows", lambda path: lines)
        return summary.rehearsed(["r.jsonl"], news, keys)

    assert said(("zogel", "What is the zogel of 3 and 4?", "7"), ("zogel", "Is rimak wet?", "y"),
                ("rimak", "is  Rimak WET", "y"),
                ("rimak", "Compute the zogel of 3 and 4.", "7")) == {"zogel-1", "rimak-2"}
    news[1] = replace(news[1], questions=[replace(news[1].questions[0], ask="Work it out: 3 rimak 4")])
    assert said(("rimak", "Work it out: 3 rimak 4", "7")) == {"rimak-1"}        # asked without options
    assert said(("zogel", "What follows?", "So 3 zogel 4 is 7.")) == {"zogel-1"}
    assert said(("zogel", "Hm?", "Who knows.")) == set()


# ---- table and picture ----

def blocks_of(found):
    return [block.split("\n") for block in table(found).split("\n\n")]


def test_the_table_has_a_row_a_cell_and_fits_120_columns():
    names = ["base", "naive", "implication_shadowed", "self_qa"]
    made = [{"news": f"{domain}{news}", "domain": domain, "question": f"{domain}{news}{right}", "format": f,
             "needs": "recall", "steps": 0, "right": right, "exact": right}
            for domain in DOMAINS for news in (1, 2) for right in (False, True) for f in FORMATS]
    *blocks, notes = blocks_of(summary_of(verdicts={(name, way): made for name in names for way in WAYS}))
    assert len(blocks) == 5
    assert all([line.split()[0] for line in block[1:]] == [*names, "n"] for block in blocks)
    longest = max((line for block in (*blocks, notes) for line in block), key=len)
    assert len(longest) <= 120, longest


def test_a_study_without_free_form_has_its_table_and_says_nothing_of_formats_that_it_lacks():
    for format, said in (("text", True), ("letter", False)):
        made = {key: [{**r, "format": format} for r in some if r["format"] == "text"]
                for key, some in ROWS.items()}
        *blocks, notes = blocks_of(summary_of(verdicts=made, formats=[format]))
        kinds = [block for block in blocks if "   recall reversal " in block[0]]
        assert len(blocks) == 7 and [block[-2].split()[1:3] for block in kinds] == [
            ["0.67", "1.00"], ["0.00", "0.00"]]
        assert ("by option text" in " ".join(notes)) == said


def test_a_mean_that_nothing_bounds_is_shown_as_open():
    assert interval({"mean": 2 / 3, "low": None, "high": None}) == "0.67 [open]"
    assert interval({"mean": None, "low": None, "high": None}) == "-"
    assert interval({"mean": 0.5, "low": 0.0, "high": 1.0}) == "0.50 [0.00, 1.00]"
    two = {key: [row for row in rows if row["news"] in "ab"] for key, rows in ROWS.items()}
    found = table(summary_of(verdicts=two))
    assert "0.33 [open]" in found and "[open]: nothing bounds it" in found


def test_the_numbers_of_the_table():
    found = summary_of({"a1"})
    found["groups"]["self_qa"]["recovered"]["free"] = {"mean": 0.75, "low": 0.5, "high": 1.25}
    *blocks, notes = blocks_of(found)
    head, base, naive, qa, n = blocks[0]
    assert head.startswith("free form, closed book ") and " events " in head
    assert qa.split()[:4] == ["self_qa", "0.67", "1.00", "0.80"]
    assert qa.endswith(" 300 s") and " 0.75 [0.50, 1.25] " in qa and "[0.50" not in base + naive
    assert n.split() == ["n", "3", "2", "5"]
    assert all(words in " ".join(notes) for words in ("1 of 6 test questions", "math 1, events 0", "321 s"))


def test_a_domain_that_was_rehearsed_whole_is_still_in_the_block_of_all_questions():
    *blocks, notes = blocks_of(summary_of({"c0", "c1"}))
    assert "events" in blocks[-1][0] and blocks[-1][-1].split() == ["n", "4", "2", "6"]


@pytest.mark.parametrize("rehearsed", ["", "a1", "c0 c1", "a0 a1 b0 b1 c0 c1"], ids=len)
def test_draw_writes_a_png(rehearsed, tmp_path):
    pytest.importorskip("matplotlib")
    draw(summary_of(rehearsed.split()), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n") and len(data) > 5000


@pytest.mark.filterwarnings("error")
def test_a_picture_of_one_format_has_a_legend_without_chance(tmp_path):
    pytest.importorskip("matplotlib")
    found = summary_of([])
    draw({**found, "study": {**found["study"], "ask": ["free"]}}, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_half_a_picture_is_none(tmp_path):
    def savefig(path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device: '.*a.png'"):
        write_picture(tmp_path / "a.png", SimpleNamespace(savefig=savefig))
    assert not list(tmp_path.iterdir())


def test_five_protocols_have_the_same_colour_in_every_figure():
    first, second = shades(["self_qa", "spa", "naive"]), shades(["naive", "a", "b", "c", "d", "e", "f"])
    assert first["self_qa"] == second["self_qa"] and first["naive"] == second["naive"]
    assert len({second[p] for p in "abcdef"} | {second["naive"]}) == 7          # and none is the base's, 0
    assert 0 not in second.values() and first["spa"] not in (first["self_qa"], first["naive"])
