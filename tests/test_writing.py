"""Protocols write replay elements.

With a scripted writer: requests in turn, duplicates dropped, unusable answers counted, both stages of Self-QA
with the news in sight. With a real tiny model: a row depends neither on n nor on the other rows, the cost is
that of the tokens, a file has a chunk an item and is resumed. The rest of a protocol is in test_protocols.py.
"""

import json
from dataclasses import replace
from itertools import combinations
from os.path import commonprefix

import pytest
from conftest import make_tiny
from test_news import POCKET, QWEN
from test_protocols import ITEM, PAPERS, pocket, turns

from model import cache
from model.drawing import Sampling
from model.flops import forward_flops
from model.sampling import Completion, generate_naive
from newnews import selfplay
from newnews.news import News
from newnews.outputs import Rows
from newnews.replay import read_conversations
from newnews.protocols import protocols
from newnews.protocols.base import Ask, Protocol, conversation
from newnews.protocols.rehearse import content_words
from newnews.randomness import stream
from newnews.selfplay import Writer, write_replay
pytestmark = pytest.mark.usefixtures("one_thread")


# ---- writing, with a scripted writer ----

def elements(writer, protocol, n, item=ITEM):
    (rows, counts), = writer.write([protocols(writer.prompts)[protocol].write(item, n)])
    for key in ("prompt_tokens", "new_tokens", "flops"):
        counts.pop(key)
    return rows, counts


@pytest.fixture
def scripted(monkeypatch):
    """scripted(answer) -> maker of a Writer, calls; answer(request, call, row) -> text or (text, stopped)."""
    class Letters:
        stop_ids = {0}

        def prompt(self, messages):
            assert [m["role"] for m in messages] == ["user"]
            return [ord(c) for c in messages[0]["content"]]

        def decode(self, ids):
            return "".join(map(chr, ids))

    def make(answer):
        calls = []

        def generate(model, prompts, stop_ids, sampling, streams, groups):
            asked = ["".join(map(chr, p)) for p in prompts]
            calls.append({"asked": asked, "sampling": sampling, "streams": streams})
            replies = [answer(text, len(calls), row) for row, text in enumerate(asked)]
            replies = [r if isinstance(r, tuple) else (r, True) for r in replies]
            return [Completion([ord(c) for c in text], stopped) for text, stopped in replies]

        monkeypatch.setattr(selfplay, "generate", generate)
        model = make_tiny(0, max_position_embeddings=8192)
        return (lambda prompts: Writer(model, Letters(), prompts, 7)), calls
    return make


@pytest.mark.parametrize("protocol", ["paraphrase", "implication"])
def test_written_protocols(protocol, scripted):
    writer, calls = scripted(lambda text, call, row: f" text {row} \n")
    rows, counts = elements(writer(QWEN), protocol, 6)
    requests = getattr(QWEN, protocol)
    wanted = [requests[i % len(requests)] for i in range(6)]
    assert [call["asked"] for call in calls] == [[f"{ITEM.statement}\n\n{text}" for text in wanted]]
    assert calls[0]["sampling"] == Sampling(QWEN.max_new_tokens, QWEN.temperature, top_p=QWEN.top_p, seed=7)
    assert [turns(row["messages"]) for row in rows] == [[QWEN.naive, f"text {i}"] for i in range(6)]
    assert rows[4] == {"messages": rows[4]["messages"], "news": "zog", "protocol": protocol, "row": 4,
                       "asked": wanted[4]}
    assert counts == {"drawn": 6, "unusable": 0, "off_topic": 0, "repeated": 0, "kept": 6}


def test_self_qa_asks_and_answers_with_the_news_in_sight(scripted):
    writer, calls = scripted(lambda text, call, row: f"question {row} zog" if call == 1 else f"answer {row}")
    rows, counts = elements(writer(QWEN), "self_qa", 4)
    asked, answered = calls
    assert asked["asked"] == [f"{ITEM.statement}\n\n{QWEN.question[i % 3]}" for i in range(4)]
    assert answered["asked"] == [f"{ITEM.statement}\n\n{QWEN.ask_own(f'question {i} zog')}" for i in range(4)]
    temperatures = asked["sampling"].temperature, answered["sampling"].temperature
    assert temperatures == (QWEN.temperature, QWEN.answer_temperature)
    assert len(set(asked["streams"] + answered["streams"])) == 8         # no noise twice
    wanted = [[f"question {i} zog", f"answer {i}"] for i in range(4)]
    assert [turns(row["messages"]) for row in rows] == wanted
    assert counts["kept"] == 4


def test_duplicates_and_unusable_answers_are_dropped_and_counted(scripted):
    first = ["same", "", "other", "same ", ("cut", False), "  \n", "third"]
    second = {"same": "1", "other": ("cut", False), "third": "3"}
    answer = lambda text, call, row: first[row] if call == 1 else second[text.split("\n\n")[1]]
    writer, calls = scripted(answer)
    rows, counts = elements(writer(POCKET), "self_qa", 7)
    assert counts == {"drawn": 7, "unusable": 4, "off_topic": 0, "repeated": 1, "kept": 2}
    assert [(row["row"], *turns(row["messages"])) for row in rows] == [(0, "same", "1"), (6, "third", "3")]
    assert len(calls[1]["asked"]) == 3                      # one answer a question
    calls.clear()
    rows, counts = elements(writer(replace(POCKET, deduplicate=False)), "paraphrase", 7)
    assert [row["row"] for row in rows] == [0, 2, 3, 6]
    assert counts == {"drawn": 7, "unusable": 3, "off_topic": 0, "repeated": 0, "kept": 4}


def test_a_question_that_leaves_no_room_for_its_answer_is_a_draw_that_is_not_usable(scripted):
    """Found an hour into a run, it ended it. The longest that fits is asked."""
    limit, ask = POCKET.max_new_tokens, lambda q: f"{ITEM.statement}\n\n{POCKET.ask_own(q)}"
    first = ["short zog", "zog " + "x" * 200, "zog " + "x" * 201, "other zog"]
    writer, calls = scripted(lambda text, call, row: first[row] if call == 1 else f"answer {row}")
    tight = writer(POCKET)
    tight.model.config = replace(tight.model.config, max_position_embeddings=len(ask(first[1])) + limit)
    rows, counts = elements(tight, "self_qa", 4)
    assert calls[1]["asked"] == [ask(first[i]) for i in (0, 1, 3)]
    assert [(row["row"], turns(row["messages"])[1]) for row in rows] == [(0, "answer 0"), (1, "answer 1"),
                                                                         (3, "answer 2")]
    assert counts == {"drawn": 4, "unusable": 1, "off_topic": 0, "repeated": 0, "kept": 3}
    calls.clear()
    first[:] = [first[2]] * 4                               # none fits: nothing is asked
    rows, counts = elements(tight, "self_qa", 4)
    assert (rows, len(calls), counts["unusable"], counts["repeated"]) == ([], 1, 1, 3)


def test_questions_that_have_left_the_news_are_dropped_and_counted(scripted):
    first = ["What is a zog?", "Mary picked up her dog?", "What is 3 and 4 of?", "Two ZOGS?", "Is it new?"]
    writer, calls = scripted(lambda text, call, row: first[row] if call == 1 else "yes")
    rows, counts = elements(writer(replace(POCKET, on_topic=True)), "self_qa", 5)
    assert [row["row"] for row in rows] == [0, 3]
    assert counts == {"drawn": 5, "unusable": 0, "off_topic": 3, "repeated": 0, "kept": 2}
    assert elements(writer(POCKET), "self_qa", 5)[1]["off_topic"] == 0         # switchable
    assert elements(writer(replace(POCKET, on_topic=True)), "implication", 5)[1]["off_topic"] == 0


def test_a_question_names_the_subject_or_shares_four_words_with_the_news():
    item = News(id="frog", domain="discoveries", subject="pellicar frog",
                statement="Biologists found a brown frog, the pellicar frog, in Peru. "
                          "It turns red when it rains.")
    asks = protocols(replace(POCKET, on_topic=True))["self_qa"]
    kept = {"What do Pellicar frogs do when it rains?": True,
            "What are the frogs in Peru's eyes?": False,                # two words; the half of a name
            "Who turns red in Peru?": False,                            # three
            "Which brown frog of Peru turns red when it rains?": True,  # back to the subject
            "What is it?": False}
    assert {text: asks.keeps(text, item) for text in kept} == kept
    assert asks.keeps("What are the frogs in Peru's eyes?", replace(item, subject=""))
    assert not asks.keeps("What is it?", replace(item, subject=""))
    assert "subject" in asks.told and "subject" not in protocols(POCKET)["self_qa"].told


def test_a_genitive_is_no_word_of_its_own():
    assert content_words("What's Norway's tallest tree?") == {"norway", "tallest", "tree"}
    assert content_words("Tom’s Law") == content_words("Tom Law")


def test_when_nothing_is_usable_nothing_is_asked_again(scripted):
    writer, calls = scripted(lambda text, call, row: "")
    nothing = [], {"drawn": 3, "unusable": 3, "off_topic": 0, "repeated": 0, "kept": 0}
    assert elements(writer(POCKET), "self_qa", 3) == nothing and len(calls) == 1


def test_naive_needs_no_writer(scripted):
    writer, calls = scripted(None)
    (row,), counts = elements(writer(POCKET), "naive", 9)
    assert turns(row.pop("messages")) == [POCKET.naive, ITEM.statement]
    assert row == {"news": "zog", "protocol": "naive", "row": 0}
    assert counts == {"drawn": 0, "kept": 1} and not calls


# ---- writing, with a real model ----
# fp32: the logits of a row move by about 1e-6 with the shape of its batch. That tips one draw in some 1e5,
# and here are a few hundred, always the same ones.

@pytest.mark.parametrize("protocol", PAPERS[1:])
def test_a_row_depends_neither_on_n_nor_on_the_other_rows(protocol, pocket, monkeypatch):
    model, chat, _ = pocket
    requests = {"question" if protocol == "self_qa" else protocol: ["Say it.", "Say this in other words."]}
    prompts = replace(POCKET, deduplicate=False, max_new_tokens=12, answer_temperature=1.0, **requests)
    texts = lambda rows: [turns(row["messages"]) for row in rows]

    def rows(n, seed=5, id="zog"):
        return elements(Writer(model, chat, prompts, seed), protocol, n, replace(ITEM, id=id))[0]

    n = 150 if protocol == "self_qa" else 24        # few of a random model's answers are text, fewer twice
    many = rows(n)
    assert len(many) >= 3 and [row for row in many if row["row"] < n - 8] == rows(n - 8) != []
    assert texts(rows(n, seed=6)) != texts(many) != texts(rows(n, id="zag"))
    monkeypatch.setattr(cache, "CACHE_BYTES", 1)            # one row at a time
    assert rows(n) == many


def test_the_cost_is_that_of_the_tokens_read_and_written(pocket):
    model, chat, _ = pocket
    writer = Writer(model, chat, replace(POCKET, max_new_tokens=6), 5)
    texts, names = ["one", "two words", "one", "one"], ["a", "b", "c", "d"]

    def job():
        return (yield Ask(texts, "stage", names, 1.0)), {}

    (written, cost), (again, _) = writer.write([job(), job()])
    flops = new = 0
    asked = [chat.prompt([{"role": "user", "content": text}]) for text in texts]
    for prompt, name, text in zip(asked, names, written):
        done = generate_naive(model, prompt, chat.stop_ids, Sampling(6, seed=5), stream("stage", name))
        said = chat.decode(done.ids).strip()
        assert text == (said if said and done.stopped and "\ufffd" not in said else None)
        steps = len(done.ids) + done.stopped                # the token that ends an answer is written too
        new += steps
        flops += forward_flops(model.config, steps - 1, len(prompt), heads=steps - 1)   # the last is not read
    first, second = asked[:2]                               # equal prompts are read once, and so is
    shared = len(commonprefix([first, second]))             # what the different ones have in common
    flops += forward_flops(model.config, shared, heads=0)
    flops += sum(forward_flops(model.config, len(p) - shared, shared, heads=1) for p in (first, second))
    assert 0 < shared < min(len(first), len(second)) and again == written
    assert cost == {"prompt_tokens": len(first) + len(second) - shared, "new_tokens": new, "flops": flops}


def test_jobs_go_on_together_and_end_apart(scripted):
    """Three news items in one call a stage; one of them has nothing to ask a second time."""
    writer, calls = scripted(
        lambda text, call, row: "" if text.startswith("B") else f"zog {call} {len(text)}")
    items = [replace(ITEM, id=id, statement=f"{id} zog.") for id in "ABC"]
    found = writer(POCKET).write([protocols(POCKET)["self_qa"].write(item, 2) for item in items])
    assert [len(call["asked"]) for call in calls] == [6, 2]             # equal questions are asked once
    assert [counts["kept"] for _, counts in found] == [1, 0, 1]
    assert [row["news"] for rows, _ in found for row in rows] == ["A", "C"]


class Entities(Protocol):
    """EntiGraph as a toy: the writer names the entities of a news item, then how each two of them relate."""

    name = "entities"

    def write(self, item, n):
        named, = yield Ask([f"{item.statement}\n\nName its entities."], "entities/1", [item.id], 0.0)
        pairs = list(combinations(named.split(", "), 2))[:n]
        said = yield Ask([f"{item.statement}\n\nHow do {a} and {b} relate?" for a, b in pairs], "entities/2",
                         [f"{item.id}/{a}/{b}" for a, b in pairs], 1.0)
        rows = [{"messages": conversation(f"{a} and {b}?", text), "news": item.id,
                 "protocol": self.name, "row": i}
                for i, ((a, b), text) in enumerate(zip(pairs, said)) if text]
        return rows, {"drawn": len(pairs), "kept": len(rows)}


def test_a_protocol_of_another_kind_comes_in_by_write(scripted):
    """Two stages whose number hangs on what was written in the first."""
    writer, calls = scripted(lambda text, call, row: "Zog, Lima, Ann" if call == 1 else f"so {row}")
    (rows, counts), = writer(POCKET).write([Entities(POCKET).write(ITEM, 8)])
    assert [turns(row["messages"]) for row in rows] == [["Zog and Lima?", "so 0"], ["Zog and Ann?", "so 1"],
                                                        ["Lima and Ann?", "so 2"]]
    assert [len(call["asked"]) for call in calls] == [1, 3] and counts["kept"] == 3


def test_a_replay_file_has_a_chunk_an_item_and_goes_on_where_it_stopped(pocket, tmp_path, monkeypatch):
    model, chat, _ = pocket
    monkeypatch.setattr(selfplay, "TOGETHER", 10)           # two items of five draws
    news = [replace(ITEM, id=f"zog-{i}") for i in range(5)]
    prompts, add = replace(POCKET, max_new_tokens=6), Rows.add
    for shadowed in (False, True):
        known = protocols(prompts)
        shadow = known["paraphrase_shadowed"] if shadowed else None
        whole = tmp_path / f"whole{shadowed}.jsonl"
        arguments = model, chat, prompts, news, known["paraphrase"], 5, 2, shadow
        write_replay(Rows(whole, {"run": 1}), *arguments)
        totals = json.loads(whole.with_name(f"{whole.name}.manifest.json").read_text())["totals"]
        for cut in (1, 2, 3):                               # within a group, between two, within the next

            def killed(self, rows, /, **counts):
                if self.chunks == cut:
                    raise KeyboardInterrupt
                add(self, rows, **counts)

            path = tmp_path / f"cut{cut}{shadowed}.jsonl"
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Rows, "add", killed)
                write_replay(Rows(path, {"run": 1}), *arguments)
            groups, write = [], Writer.write
            with monkeypatch.context() as patch:
                patch.setattr(Writer, "write",
                              lambda self, jobs: groups.append(len(jobs)) or write(self, jobs))
                output = write_replay(Rows(path, {"run": 1}), *arguments)
            assert groups == [2, 2, 1][cut // 2:]           # a group that was cut through is written whole
            assert path.read_bytes() == whole.read_bytes() and output.whole and output.chunks == 5
            assert {**totals, "seconds": 0} == {**output.totals, "seconds": 0} and totals["drawn"] == 25
        asked = {turns(row["messages"])[0] for row in read_conversations(whole)}
        assert asked == {f"{ITEM.statement}\n\n{POCKET.naive}" if shadowed else POCKET.naive}
        assert len(read_conversations(whole)) == totals["kept"]


def test_news_too_long_for_the_writer_are_found_before_any_is_written(pocket, tmp_path, monkeypatch):
    model, chat, _ = pocket
    monkeypatch.setattr(selfplay, "TOGETHER", 2)            # an item at a time
    monkeypatch.setattr(selfplay, "generate", None)
    news = [ITEM, replace(ITEM, id="zag", statement="A zag is new. " * 200)]
    for name in ("paraphrase", "self_qa"):
        with pytest.raises(ValueError, match=r"^news zag: a prompt of \d{4} tokens and \d+ new .* of 512$"):
            write_replay(Rows(tmp_path / name, {}), model, chat, POCKET, news, protocols(POCKET)[name], 2, 0)
        assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    naive = Rows(tmp_path / "naive", {})                    # nothing is asked
    assert write_replay(naive, model, chat, POCKET, news, protocols(POCKET)["naive"], 2, 0).whole
