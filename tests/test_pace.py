"""The one bar of a study: what is left, by hand; the work that it counts is the work that is done."""

import sys
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
from test_study import tiny       # noqa: F401 (a fixture)

from newnews import console
from newnews.news import News, Question
from newnews.studies import pace
from newnews.studies.pace import Pace, asking, paced, work_of

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS = [{"step": (10, 8.0), "item": (2, 5.0)}, {"news": (2, 50), "step": (20, 8.0), "item": (2, 5.0)}]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])     # console's too: it is one module
    monkeypatch.setattr(console.Lines, "said", None)
    return now


def test_each_kind_costs_what_it_has_cost(clock):
    study = Pace(CELLS)
    assert study.left() is None
    bar = study.part(10, 0, "train", "step")
    clock[0] = 16.0
    bar.update(4)                   # 32 conversations in 16 s; nothing else was met: .5 s a piece of work
    assert study.left() == pytest.approx(.5 * (6 * 8 + 2 * 5 + 2 * 50 + 20 * 8 + 2 * 5))
    clock[0] = 20.0                 # a stage's start, as the loading of a model, is nobody's pace
    bar = study.part(2, 0, "ask", "item")
    clock[0] = 40.0
    bar.update(2)                   # 10 questions in 20 s; a draw costs the mean, 36 s of 42
    mean = 36 / 42
    assert study.left() == pytest.approx(.5 * 48 + mean * 100 + .5 * 160 + 2 * 10)
    study.start(1)                  # what was left of the first cell was there already, or shared
    assert study.left() == pytest.approx(mean * 100 + .5 * 160 + 2 * 10)
    study.start(1)
    study.part(2, 0, "write naive", "news").update(2)       # costs nothing, and is not counted
    assert set(study.spent) == {"step", "item"}
    study.part(99, 0, "ask", "item").update(99)             # more than was foreseen
    study.start(1)
    assert study.left() == pytest.approx(100 * mean_of(study) + 160 * .5)
    assert Pace(CELLS, sharing=2).left() is None


def mean_of(study):
    return sum(s for s, _ in study.spent.values()) / sum(w for _, w in study.spent.values())


def test_processes_share_what_is_left(clock):
    alone, shared = Pace(CELLS), Pace(CELLS, sharing=4)
    for study in (alone, shared):
        bar = study.part(10, 0, "train", "step")
        clock[0] += 8.0
        bar.update()
    assert shared.left() == pytest.approx(alone.left() / 4)


def test_a_log_file_says_what_is_left_of_stage_and_study(clock, capsys, monkeypatch):
    study = Pace(CELLS)
    monkeypatch.setattr(console, "OVER", [study])
    bar = console.progress(10, 0, "1/2 train naive", "step")
    for clock[0] in (50.0, 100.0):              # 6.25 s a conversation, 344 pieces of work left
        bar.update()
    assert capsys.readouterr().err == \
        "  1/2 train naive: 2 of 10 step, 7 min left; the study: 36 min left\n"
    monkeypatch.setenv("RANK", "1")
    console.progress(10, 0, "2/2 train naive", "step").update()
    assert study.ticked == {"step": 2} and capsys.readouterr().err == ""


def test_a_terminal_has_one_bar(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    study = Pace(CELLS[:1])
    monkeypatch.setattr(console, "OVER", [study])
    bar = console.progress(10, 0, "1/1 train naive", "step")
    bar.set_postfix_str("loss 1")
    for i in range(10):
        clock[0] += 8.0
        bar.update()
    only = study.bar
    bar.close()
    bar = console.progress(2, 0, "1/1 ask naive", "item")
    assert study.bar is only and 80 / 90 - .01 < only.n < 80 / 90 + .01
    clock[0] += 10.0
    bar.update(2)
    bar.close()
    said = capsys.readouterr().err.split("\r")
    assert any("1/1 train naive 5/10:  44%" in line and "50 s left, loss 1" in line for line in said)
    assert "1/1 ask naive 2/2: 100%" in said[-1] and only.n == 1.0


def test_a_bar_ends_no_run(clock):
    """Nothing to do, nothing done, or work that weighs nothing: no guess, and no error."""
    assert Pace([{"item": (0, 1.0)}]).left() is None
    study = Pace([{"item": (2, 0.0), "step": (4, 8.0)}])
    study.part(4, 0, "train", "step").update(0)
    study.part(2, 0, "ask", "item").update(1)
    assert study.left() is None
    clock[0] = 8.0
    study.part(4, 0, "train", "step").update(1)
    assert study.left() == 0.0                              # no time has passed within a stage


ASKED = {way: [News(str(i), "math", "It is.", [Question(f"{i}-{q}", "?", ["a", "b"], 0) for q in range(4)])
               for i in range(7)] for way in ("closed_book", "in_context", "counterfactual", "insists")}


def a_cell(**fields):
    return SimpleNamespace(**{"protocol": "self_qa", "model": "a", "draws": 5, "bank": 3, "full": False,
                              "together": False, "stream": None,
                              "recipe": SimpleNamespace(steps=10, batch=4), **fields})


@pytest.mark.parametrize("fields, step", [
    ({}, (30, 4 * 7 / 3)), ({"bank": 7}, (10, 28.0)), ({"together": True}, (30, 4.0)),
    ({"full": True}, (70, 4.0)), ({"full": True, "together": True}, (30, 4.0)), ({"stream": 0.5}, (70, 4.0))])
def test_what_a_cell_weighs(fields, step):
    """Seven news, of four questions in two formats; adapters of three news side by side."""
    study = {"ask": ["free", "text"]}
    assert asking(study, ASKED) == (21, 8.0)                # "insists" is the same asking as another one
    found = work_of(a_cell(**fields), study, ASKED, 7)
    assert found == {"news": (7, 5), "item": (21 + 21 * ("stream" in fields), 8.0),
                     "step": pytest.approx(step)}
    assert work_of(a_cell(protocol="mixed"), study, ASKED, 7)["news"] == (21, 5)
    assert work_of(a_cell(protocol="naive"), study, ASKED, 7)["news"] == (0, 5)


def test_base_models_are_asked_in_the_first_cell_of_theirs():
    cells = [a_cell(), a_cell(model="b"), a_cell(draws=6)]
    with paced({"ask": ["free"]}, cells, ASKED, 7) as study:
        assert [work["item"] for work in study.cells] == [(42, 4.0), (42, 4.0), (21, 4.0)]


@pytest.mark.parametrize("changes", [
    ["axes.protocol=[naive]"], ["axes.protocol=[self_qa]", "draws=2"], ["axes.protocol=[mixed]"],
    ["axes.protocol=[naive]", "together=true"], ["axes.protocol=[naive]", "tuning=full"],
    ["axes={protocol: [naive], stream.replay_share: [0.5]}"], ["axes.protocol=[naive]", "also=[others]"],
    ["axes.protocol=[naive_shadowed]", "bank=1"]])
def test_the_work_that_is_counted_is_what_is_done(tiny, changes, monkeypatch):        # noqa: F811
    """Ticks of every kind and cell. A tiny writer may write nothing that is usable about a news item, which
    then is neither trained on nor asked."""
    seen, known = defaultdict(Counter), []

    class Watched(Pace):
        def __init__(self, *args):
            super().__init__(*args)
            known.append(self)

        def tick(self, unit, n):
            seen[self.at][unit] += n
            super().tick(unit, n)

    monkeypatch.setattr(pace, "Pace", Watched)
    tiny.run(*changes, "ask=[text]")
    (study,) = known
    assert console.OVER == []
    for at, cell in enumerate(study.cells):
        for unit, (ticks, _) in cell.items():
            if unit == "news" or "naive" in changes[0]:
                assert seen[at][unit] == ticks, unit
            else:
                assert 0 <= seen[at][unit] <= ticks, unit
