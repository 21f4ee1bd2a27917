"""The figures of the page by themselves: scales, marks and labels, curves over what was varied, and the line
through accuracy over cost. The page that shows them: test_page.py."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from newnews.studies import figures, sections
from newnews.studies.figures import SHARES
from newnews.studies.fits import fit_rows
from newnews.studies.sections import along, readable
from newnews.tasks.news import WAYS

CLOSED, _ = WAYS


def test_the_gain_for_twice_the_flops_is_the_slope_of_a_line():
    """Three cells of one protocol under two seeds, one of another: the mean of the questions' slopes is that
    of the means, and a protocol of fewer than three cells has none."""
    rng, flops = np.random.default_rng(0), {"a draws=1": 1e9, "a draws=4": 3e9, "a draws=16": 2e10, "b": 5e9}
    tuned = {name: [f"{name} seed={s}" for s in (0, 1)] for name in flops}
    right = {cell: rng.random(24) < 0.2 + 0.25 * k for k, name in enumerate(flops) for cell in tuned[name]}
    fresh = lambda cell, way, format: [{"news": "abcdefgh"[i // 3], "question": f"q{i}", "right": bool(x)}
                                       for i, x in enumerate(right[cell][:23])]
    costs = [{"cell": name, "protocol": name.split()[0], "flops": x} for name, x in flops.items()]
    row, = fit_rows(SimpleNamespace(study={"ask": ["free"]}, fresh=fresh), tuned, costs)
    means = [np.mean([right[cell][:23] for cell in tuned[name]]) for name in list(flops)[:3]]
    assert row["value"] == pytest.approx(np.polyfit(np.log2([1e9, 3e9, 2e10]), means, 1)[0])
    assert row["low"] < row["value"] < row["high"] \
        and [row[k] for k in ("protocol", "what", "cells", "n")] == ["a", "twice the FLOPs, one line", 3, 23]


def test_one_curve_or_several_is_told_by_how_far_they_lie_apart_at_equal_flops():
    """Two models of three lengths of training; answers as sure as numbers, so the fit is that of numpy."""
    rng, cells = np.random.default_rng(1), [(m, s) for m in "uv" for s in (5, 20, 90)]
    names = [f"a model={m} recipe.steps={s}" for m, s in cells]
    flops = [s * (1e9 if m == "u" else 3e9) for m, s in cells]
    right = {name: rng.random(40) for name in names}
    fresh = lambda cell, way, format: [{"news": "abcdefgh"[i // 5], "question": f"q{i}", "right": x}
                                       for i, x in enumerate(right[cell])]
    costs = [{"cell": name, "protocol": "a", "flops": x} for name, x in zip(names, flops)]
    done = SimpleNamespace(study={"ask": ["free"]}, fresh=fresh)
    one, each, above = fit_rows(done, {name: [name] for name in names}, costs)
    x, y = np.log2(flops), [right[name].mean() for name in names]
    assert one["value"] == pytest.approx(np.polyfit(x, y, 1)[0])
    design = np.column_stack([x, [m == "u" for m, _ in cells], [m == "v" for m, _ in cells]])
    slope, low, high = np.linalg.lstsq(design.astype(float), y, rcond=None)[0]
    assert each["value"] == pytest.approx(slope) and above["value"] == pytest.approx(high - low)
    assert (each["what"], above["what"]) == ("twice the FLOPs, a line each", "a model=v above a model=u")
    assert above["low"] < above["value"] < above["high"] and above["n"] == 40
    # curves of one cell each have no slope of their own
    lone = [{**c, "cell": f"a draws={i}"} for i, c in enumerate(costs)]
    right.update({f"a draws={i}": rng.random(40) for i in range(6)})
    row, = fit_rows(done, {c["cell"]: [c["cell"]] for c in lone}, lone)
    assert row["what"] == "twice the FLOPs, one line"


def test_curves_over_each_number_that_was_varied():
    rows = [{"cell": f"{p} recipe.steps={n} seed={s}", "format": "free", "way": CLOSED, "mean": 0.5,
             "low": 0.4, "high": 0.6} for p in ("naive", "self_qa") for n in (1, 10, 100) for s in (0, 1)]
    rows += [{**rows[0], "cell": "base", "mean": 0.25}, {**rows[0], "mean": None}]
    text, = along(rows, ["base"], "free")
    points = re.findall(r'<circle cx="([0-9.]+)%" cy="150.0" r="5" fill="([^"]+)"', text)
    assert len(points) == 12 and len({fill for _, fill in points}) == 4 and len({x for x, _ in points}) == 3
    assert text.count(">steps<") == 1 and "self qa, seed 1" in text \
        and re.findall(r'text-anchor="middle">(\d+)<', text) == ["1", "10", "100"] \
        and 'class="dotted" x1="0" x2="100%" y1="225.0"' in text
    # no curve over two values, nor over one without a logarithm
    assert along([{**r, "cell": r["cell"].replace("100", "10")} for r in rows], ["base"], "free") == []
    assert along([{**r, "cell": r["cell"].replace("=100", "=0")} for r in rows], ["base"], "free") == []


def test_scales_and_marks():
    assert [SHARES.at(x) for x in (-1, 0.25, 2)] == ["0.00%", "25.00%", "100.00%"]
    scale = figures.scale_over([-0.3, None, 0.52, 40])
    assert scale.low < -0.3 and scale.high > 2 and 0 in scale.ticks and len(scale.ticks) <= 6
    assert figures.scale_over([None]).ticks == (0, 0.05, 0.1)
    assert figures.whisker(SHARES, 0.2, 0.4).count("<line") == 3
    for low, high in ((None, 0.4), (0.2, 1.5), (None, None)):       # open, or beyond the scale: no end stroke
        assert figures.whisker(SHARES, low, high).count("<line") == 1 + (low == 0.2) + (high == 0.4)
    assert [figures.power(x) for x in (1e9, 2e14, 5.0001e10, 200, 1e-3, 2e-5)] == [
        "10⁹", "2·10¹⁴", "5·10¹⁰", "200", "0.001", "2·10⁻⁵"]
    drawn = figures.scatter([("a", 1e10, (0.5, 0.4, 0.6), "red"), ("b", 1e12, (0.25, 0.1, 0.3), "blue")],
                            [("top", 0.75, "dashed")], [("red", "a")], "FLOPs", "accuracy")
    (xa, ya), (xb, yb) = (map(float, re.search(
        f'<circle cx="([0-9.]+)%" cy="([0-9.]+)" r="5" fill="{c}"/></g>', drawn).groups())
        for c in ("red", "blue"))
    assert (ya, yb) == (150, 225) and xa + xb == pytest.approx(100, abs=0.1) and xa < xb
    assert 'class="dashed" x1="0" x2="100%" y1="75.0" y2="75.0"' in drawn
    for name, label in (("self_qa recipe.rate=0.1 lora.rank=8", "self qa, rate 0.1, rank 8"),
                        ("naive model=runs/pocket_32 recipe.steps=15 draws=4",
                         "naive, model pocket 32, 15 steps, 4 draws"), ("base data/pocket", "base pocket")):
        assert readable(name) == label


def test_a_course_has_a_point_for_each_number_on_a_scale_of_logarithms():
    drawn = figures.curves([("a", [(0, 100.0), (5, None), (10, 1.0)], "red"),
                            ("b", [(10, 10.0)], "blue")], "loss")
    spots = dict(re.findall(r'cx="([0-9.]+%)" cy="([0-9.]+)" r="2.5" fill="red"', drawn))
    assert list(spots) == ["0.00%", "100.00%"] and float(spots["0.00%"]) + float(spots["100.00%"]) == 300
    assert re.search('cx="100.00%" cy="150.0" r="2.5" fill="blue"', drawn)
    assert figures.curves([("a", [(0, None)], "red")], "loss") == ""
    assert figures.curves([("a", [(0, 0.0), (9, 2.0)], "red")], "loss").count("<circle") == 1   # no log of 0


def test_curves_that_share_a_number_stand_apart():
    def shifts(points, joined=True):
        drawn = figures.scatter([("", x, (0.5, 0.4, 0.6), fill) for x, fill in points], [], [], "", "",
                                joined)
        return re.findall(r'<g stroke="(\w+)" stroke-width="2"(?: transform="translate\(([-0-9]+)\)")?>',
                          drawn)

    # a line a curve, then its points, all moved alike
    both = shifts([(1, "red"), (10, "red"), (1, "blue"), (10, "blue")])
    assert sorted(both) == sorted(3 * [("red", "-2"), ("blue", "2")])
    assert {move for _, move in shifts([(1, "red"), (10, "red"), (2, "blue")])} == {""}
    assert {move for _, move in shifts([(1, "red"), (1, "blue")], joined=False)} == {""}


def test_names_of_lines_that_are_near_stand_side_by_side():
    drawn = figures.scatter([("a", 1, (0.5, 0.4, 0.6), "red")], [(str(i), y, "dotted") for i, y in enumerate(
        (0.1, None, 0.8, 0.11, 0.09, 0.13, 0.5))], [], "", "")
    assert re.findall(r'<text( class="aside")? x="(\d+)%" y="[0-9.]+" text-anchor="end">(\d)<', drawn) == [
        ("", "100", "0"), ("", "100", "2"), (' class="aside"', "68", "3"), (' class="aside"', "36", "4"),
        (' class="aside"', "68", "5"), ("", "100", "6")]      # those have no room on a narrow screen


def test_over_their_costs_cells_that_differ_in_steps_are_one_curve():
    def drawn(*names, fits=()):
        rows = [{"cell": name, "protocol": "naive", "format": "free", "mean": 0.5, "low": 0.4, "high": 0.6,
                 "elements": 1, "distinct": 1, "true": None, "loss": None, "written_tokens": 1,
                 "trained_tokens": 1, "writing_flops": 0, "flops": 10 ** (9 + i), "seconds": 1.0}
                for i, name in enumerate(names)]
        return sections.costs(rows, fits, {}, dict.fromkeys(names, "plain"), "")

    text = drawn("naive draws=4 recipe.steps=10", "naive draws=4 recipe.steps=20",
                 "naive draws=8 recipe.steps=10",
                 fits=[{"protocol": "naive", "format": "free", "what": "twice", "value": 0.1, "low": 0.0,
                        "high": 0.2, "p": p, "n": 9, "cells": 3} for p in (2e-5, 0.25, None)])
    assert "naive, 4 draws</span>" in text and "naive, 8 draws</span>" in text and 'class="scatter">' in text
    assert text.count(f'<circle cx="14" cy="7" r="5" fill="{figures.colour(1)}"/>') == 1
    assert "&lt; 0.0001" in text and "0.2500" in text
    for names in (("naive draws=4", "naive draws=8"), ("naive recipe.steps=10", "naive recipe.steps=20")):
        text = drawn(*names)        # no curve has two cells, or all are on one: named points, two colours
        assert 'class="scatter named"' in text and all(f'fill="{figures.colour(i)}"' in text for i in (1, 2))


def test_names_that_would_cover_each_other_or_a_point_give_way_to_the_legend():
    def named(*points):
        drawn = figures.scatter([("a long name", x, (y, y - 0.05, y + 0.05), "red") for x, y in points], [],
                                [], "", "")
        return 'class="scatter named"' in drawn and 'class="name"' in drawn

    assert named((1, 0.5), (100, 0.5)) and named((10, 0.2), (10.5, 0.8))    # far apart: across, or up
    assert not named((10, 0.5), (10.2, 0.5))                                # a name on a name
    assert not named((10, 0.5), (10.2, 0.6))                                # a name on another's interval
    assert not named(*((10.0 ** i, 0.5) for i in range(13)))                # too many


def test_of_runs_that_differ_in_steps_the_longest_shows_its_course():
    rows = [{"cell": f"{p} recipe.steps={n}", "step": s, "loss": 1 / s, "grad_norm": 1.0}
            for p in ("naive", "self_qa") for n in (2, 4) for s in range(1, n + 1)]
    text = sections.training(rows, {r["cell"]: "plain" for r in rows})
    assert "naive, 4 steps" in text and "self qa, 4 steps" in text and "2 steps" not in text
    assert text.count('r="2.5"') == 2 * 2 * 4 and "the longest" in text
    assert f'fill="{figures.colour(1)}"' in text and f'fill="{figures.colour(2)}"' in text   # told apart
    one = sections.training([r for r in rows if "=4" in r["cell"]], {r["cell"]: r["cell"] for r in rows})
    assert "the longest" not in one and 'fill="naive recipe.steps=4"' in one        # each has its own colour


def test_curves_of_shares_reach_from_0_to_1():
    drawn = figures.curves([("a", [(0, 0.0), (4, None), (9, 1.0)], "red")], "accuracy", "since", shares=True)
    assert re.findall(r'cx="([0-9.]+)%" cy="([0-9.]+)" r="2.5"', drawn) == [("0.00", "300.0"),
                                                                            ("100.00", "0.0")]
    assert re.findall(r'text-anchor="(?:start|middle|end)">((?:since )?\d+)</text>', drawn)[-3:] == [
        "0", "4", "since 9"]


def test_a_ratio_that_nothing_bounds_has_no_mark():
    rows = [{"cell": c, "format": "free", "mean": m, "low": low, "high": high, "n": 9}
            for c, m, low, high in (("a", 0.4, 0.2, 0.6), ("b", -7.0, None, None))]
    text = sections.forest("recovered", rows, "mean", [(0, "zero")], "", dict.fromkeys("ab", "plain"))
    assert text.count("<circle") == 1 and text.count('class="whisker"') == 3 and "-7.00 [open]" in text
    assert ">-0.5<" not in text                             # nor does it widen the scale


@pytest.mark.parametrize("tuned, waits", [(sections.PANELS, False), (sections.PANELS + 1, True)])
def test_domains_of_many_cells_wait_for_a_click(tuned, waits):
    cells = ["base", *(f"c{i}" for i in range(tuned))]
    share = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    rows = [{"cell": c, "format": "free", "way": way, "domain": d, **share} for c in cells
            for way in WAYS for d in ("all", "math")]
    text = sections.accuracy(rows, dict.fromkeys(cells, "base"), None, dict.fromkeys(cells, "plain"), "")
    assert ("<details><summary>Each domain" in text) == waits and text.count("math (n = 9)") == 1
