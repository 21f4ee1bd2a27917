"""News that arrive one after another: the chain of adapters against one trained by hand, and the forgetting
matrix on planted answers.

grid     the key, its mistakes
a study  each arrival goes on from the one before, on its own rows and a share of earlier ones; shared stages;
         the plan; page, CSV and picture
matrix   by hand; what is left out
"""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file
from test_study import DEMO, tiny       # noqa: F401 (a fixture)

from model.chat import Chat
from model.checkpoint import load_adapter, load_model
from model.lora import lora_tensors
from newnews.batches import Shuffled
from newnews.examples import Example
from newnews.neutral import mixed
from newnews.outputs import read_rows
from newnews.protocols.base import conversation
from newnews.randomness import stream as noise
from newnews.studies import stages, stream
from newnews.studies.grid import cells, read_study
from newnews.studies.page import write_report
from newnews.studies.plan import Plan
from newnews.studies.sources import source
from newnews.studies.summary import Finished
from newnews.tasks.news import NewsTask
from newnews.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")
AXES = "axes={protocol: [naive], stream.replay_share: [0, 0.5]}"


def test_a_stream_is_a_line_in_a_study():
    found = cells(read_study(DEMO, [AXES]))
    assert [(c.name, c.stream, c.together) for c in found] == [("naive stream.replay_share=0", 0.0, True),
                                                               ("naive stream.replay_share=0.5", 0.5, True)]
    assert all(c.stream is None for c in cells(read_study(DEMO)))
    for change in ("stream={replay_share: 1}", "stream={share: 0.1}", "stream={replay_share: true}",
                   "stream=true"):
        with pytest.raises(ValueError, match="stream"):
            read_study(DEMO, [change])


def test_each_arrival_goes_on_from_the_one_before(tiny, monkeypatch):        # noqa: F811
    calls, train_bank = [], stages.train_bank
    monkeypatch.setattr(stages, "train_bank", lambda out, model, lists, *rest: (
        calls.append((out, lists, rest[-1])), train_bank(out, model, lists, *rest))[1])
    summary = tiny.run(AXES, "ask=[text]")
    news, pocket = tiny.items, tiny.file.parent / "pocket"
    order, chat = stream.arrivals(news, 0), Chat(pocket)
    mine = [Example(*chat.conversation(conversation(stages.prompts_for(pocket).naive, item.statement)))
            for item in order]
    plain, replayed = calls[:3], calls[-3:]
    # 1. Without replay: each item's own row, from the folder before.
    assert [lists for _, lists, _ in plain] == [[[example]] for example in mine]
    assert [start for *_, start in plain] == [None, [plain[0][0] / "together"], [plain[1][0] / "together"]]
    names = [json.loads((out / "manifest.json").read_text())["run"]["names"] for out, *_ in plain]
    assert names == [[item.id for item in order[:i]] for i in (1, 2, 3)]
    # 2. The second adapter is the first one, trained on by hand.
    model = load_adapter(plain[0][0] / "together", load_model(pocket))
    train(model, Shuffled([[mine[1]]], 2, [noise("adapter", 0, "together")]),
          Recipe(steps=3, rate=0.01, batch=2))
    by_hand, found = lora_tensors(model), load_file(plain[1][0] / "together" / "adapter_model.safetensors")
    first = load_file(plain[0][0] / "together" / "adapter_model.safetensors")
    far = lambda a, b: max(float((a[n] - b[n]).abs().max()) for n in a)
    found, first = ({n.removeprefix("base_model.model."): t for n, t in some.items()}
                    for some in (found, first))
    assert far(found, by_hand) < 1e-5 < 1e-3 < far(found, first)
    # 3. With replay: the start of the chain is shared; then half of the uses are of earlier rows.
    assert replayed[0][0] == plain[0][0] and replayed[1][0] != plain[1][0]
    drawn = [replayed[2][1][0][0](np.random.default_rng(i)) for i in range(300)]
    assert all(e in mine for e in drawn) and 110 < drawn.count(mine[2]) < 190
    assert min(drawn.count(mine[0]), drawn.count(mine[1])) > 40
    # 4. Asked after each arrival about what has arrived; the last is the cell's own closed-book file.
    index = json.loads((tiny.out / "study.json").read_text())
    for cell in index["cells"]:
        assert [a["news"] for a in cell["arrivals"]] == names
        files = [a["answers"] for a in cell["arrivals"]]
        assert [len(read_rows(tiny.out / file)) for file in files] == [1, 2, 3] \
            and files[-1] == cell["answers"]["closed_book"]
    assert len(list(tiny.out.glob("updates/*/manifest.json"))) == 5
    # 5. Nothing is made twice; the plan finds all of it.
    before, done = tiny.stamps(), Plan(tiny.out, "auto", "auto")
    assert tiny.run(AXES, "ask=[text]") == summary and tiny.stamps() == before
    study = read_study(DEMO, [*tiny.changes, AXES, "ask=[text]"])
    for cell in cells(study):
        _, banks, update = done.trained(cell, source(study["news"], "x").load())
        assert len(banks) == 3 and all(work.seconds is not None for work in banks)
        real = [json.loads((work.key / "manifest.json").read_text()) for work in banks]
        assert [work.flops for work in banks] == [r["flops"] for r in real] or cell.stream
        task = NewsTask(done.reader(cell.model).prompts, False, study["seed"], study["ask"])
        files = [done.answers_file(cell.model, task, news, "closed_book", "naive", after)[0]
                 for after in update.arrivals]
        assert all(path.is_file() for path in files) and len(set(files)) == 3
    # 6. The page.
    write_report(Finished(tiny.out), summary)
    rows = list(csv.DictReader((tiny.out / "figures" / "stream.csv").open()))
    assert len(rows) == 2 * 6 and {r["news"] for r in rows if r["after"] == "1"} == {order[0].id}
    text = (tiny.out / "report.html").read_text()
    assert 'id="stream"' in text and text.count("<rect x=") == 12 and "after 3, on news 1:" in text
    assert (tiny.out / "stream.png").read_bytes().startswith(b"\x89PNG")


# ---- the matrix ----

PLANTED = {     # cell: (order, right answers of a, b and c after each arrival, of two questions each)
    "naive seed=0": ("abc", ["2", "12", "012"]), "naive seed=1": ("bac", ["2", "22", "112"])}


def finished(monkeypatch, planted=PLANTED, seen=()):
    answers = {}
    for cell, (order, rights) in planted.items():
        for after, right in enumerate(rights, 1):
            answers[f"{cell} {after}"] = [
                (None, {"news": news, "question": f"{news}{q}", "format": "free", "right": q < int(count)})
                for news, count in zip(order, right) for q in range(2)]
    monkeypatch.setattr(stream, "judged", lambda file, task, items: answers[file.name])
    return SimpleNamespace(
        out=stages.Path("x"), items=[], seen=seen, tasks={("m", "closed_book"): None}, index={"cells": [
            {"name": cell, "model": "m", "arrivals": [{"news": list(order[:i]), "answers": f"{cell} {i}"}
                                                      for i in range(1, len(order) + 1)]}
            for cell, (order, _) in planted.items()] + [{"name": "other", "model": "m"}]})


def test_the_forgetting_matrix_by_hand(monkeypatch):
    rows = stream.matrix(finished(monkeypatch))
    assert len(rows) == 2 * 6 and rows[1] == {
        "cell": "naive seed=0", "format": "free", "after": 2, "news": "a",
        "arrived": 1, "right": 0.5, "n": 2}
    nan = np.nan
    assert np.array_equal(stream.squares(rows, ["naive seed=0"], "free"),
                          [[1, nan, nan], [0.5, 1, nan], [0, 0.5, 1]], equal_nan=True)
    assert np.array_equal(stream.squares(rows, ["naive seed=0", "naive seed=1"], "free"),
                          [[1, nan, nan], [0.75, 1, nan], [0.25, 0.5, 1]], equal_nan=True)
    found, = stream.forgotten(rows)             # a and b; c came last. a: 2 to 0, 2 to 1; b: 2 to 1, 2 to 1
    assert (found["cell"], found["n"], found["arrival"], found["end"], found["mean"]) == (
        "naive", 2, 1, 0.375, 0.625)
    assert found["low"] < 0.625 < found["high"]


def test_news_that_are_forgotten_alike_leave_no_doubt():
    """Means over a news item's answers are no single answers: nothing is added to what they scatter by."""
    rows = [{"cell": "naive", "format": "free", "news": f"n{i}", "arrived": i, "after": after, "n": 9,
             "right": 1.0 if after == i else 0.7}
            for i in range(1, 16) for after in ({i, 15})]
    found, = stream.forgotten(rows)
    assert found["n"] == 14 and [found[key] for key in ("mean", "low", "high")] == pytest.approx([0.3] * 3)


def test_rehearsed_questions_and_news_that_came_last_under_some_seed_are_left_out(monkeypatch):
    rows = stream.matrix(finished(monkeypatch, seen={"a0", "a1", "b1"}))
    assert {r["news"] for r in rows} == {"b", "c"} and {r["n"] for r in rows if r["news"] == "b"} == {1}
    found, = stream.forgotten(rows)
    assert (found["n"], found["mean"], found["low"]) == (1, 0.0, None)          # b0 is right to the end
    turned = {**PLANTED, "naive seed=1": ("cab", ["2", "22", "112"])}
    found, = stream.forgotten(stream.matrix(finished(monkeypatch, turned)))
    assert (found["n"], found["mean"]) == (1, (1 + 0.5) / 2)                    # of a alone
    assert stream.matrix(finished(monkeypatch, {})) == []


def test_an_earlier_row_keeps_its_own_second_view():
    view = lambda i: Example([i], [1.0], Example([9, i], [0.0, 1.0]))
    use, = mixed([view(3)], 0.5, stream.drawing([view(1), lambda rng: view(2)]))
    drawn = [use(np.random.default_rng(i)) for i in range(60)]
    assert {e.ids[0] for e in drawn} == {1, 2, 3} and all(e.other.ids == [9, e.ids[0]] for e in drawn)


def test_the_order_is_that_of_the_seed():
    news = list(range(30))
    orders = [stream.arrivals(news, seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == news


def test_ages_are_means_over_news_that_arrived_as_long_ago():
    gap = np.nan
    found = stream.ages(np.array([[1.0, gap, gap], [0.5, 0.8, gap], [0.2, gap, 0.6]]))
    assert found == [(0, pytest.approx(0.8)), (1, pytest.approx(0.5)), (2, pytest.approx(0.2))]
