"""The rival protocols: what each asks and keeps, with a scripted writer; its loss positions; resume; show.

Plain texts  ids, weights, files, the loss on every token
Written      SEAL's lines, SPA, EntiGraph, Active Reading: requests, stages, what is dropped and counted
All          refused where the prompt file has no words; other protocols' replay files are what they were

What Self-Tuning and memorise build: test_rivals_built.py. Neutral examples, adapters in some blocks,
grafting: test_what_is_trained.py.
"""

import json
import re
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from cli import script
from conftest import ROOT, make_tiny
from test_news import POCKET, QWEN
from test_protocols import make_pocket
from test_writing import elements, scripted      # noqa: F401 (a fixture)

from model.chat import Chat
from newnews.batches import micro_batches
from newnews.examples import Example
from newnews.finetune import examples
from newnews.news import News, write_news
from newnews.outputs import Rows, digest
from newnews.prompts import read_prompts
from newnews.protocols import NAMES, RIVALS, WRITTEN, protocols
from newnews.protocols.base import conversation, plain_text
from newnews.protocols.entities import entities
from newnews.protocols.rewrites import lines
from newnews.replay import read_conversations
from newnews.selfplay import Writer, write_replay
from newnews.show import show
from newnews.training import next_token
from newnews.world.oracle import grade_rows

pytestmark = pytest.mark.usefixtures("one_thread")
RIVAL_NAMES = ("rewrite_lines", "implication_lines", "entigraph", "active_reading", "spa", "self_tuning",
               "memorise")
TEXTS = RIVAL_NAMES[:5]
FROG = News("frog", "discoveries", "Biologists found the Zog frog in Peru. It turns red in June.", [],
            subject="Zog frog")
WITH = lambda text: f"{FROG.statement}\n\n{text}"
CHAT = Chat(ROOT / "data" / "pocket")


def texts(rows):
    assert all([m["role"] for m in row["messages"]] == ["text"] for row in rows)
    return [row["messages"][0]["content"] for row in rows]


# ---- plain texts ----

def test_a_plain_text_has_loss_on_every_token_and_no_template():
    ids, weights = CHAT.document("Kimot cuts steel.")
    end = CHAT.added["<|endoftext|>"]
    assert ids == [end, *CHAT.encode("Kimot cuts steel."), end] and weights == [0.0] + [1.0] * (len(ids) - 1)
    assert CHAT.conversation(plain_text("Kimot cuts steel.")) == (ids, weights)
    assert end not in CHAT.document("a <|endoftext|> b")[0][1:-1]        # no text can forge the end


def test_the_loss_of_a_plain_text_is_the_cross_entropy_of_all_its_tokens():
    model = make_tiny(1, vocab_size=1024)
    ids, weights = CHAT.document("Kimot cuts steel. It is new.")
    batch, = micro_batches([[Example(ids, weights)]], 10 ** 6, bank=False)
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0]
        wanted = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
        assert next_token(model, batch).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_plain_text_stands_alone_and_is_read_from_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"messages\[1\]"):
        CHAT.conversation([*conversation("a", "b")[:1], *plain_text("x")])
    (tmp_path / "r.jsonl").write_text(json.dumps({"messages": plain_text("Kimot.")}) + "\n")
    rows = read_conversations(tmp_path / "r.jsonl", numbered=True)
    example, = examples(rows, CHAT, make_tiny(0).config, "r.jsonl")      # as train.py reads it
    assert (example.ids, example.weights) == CHAT.document("Kimot.")


# ---- written by a writer ----

def test_a_list_becomes_its_lines():
    written = ("Here are five:\n\n1. One.\n 2) Two\n- **Three**: so.\n* four\n(5) 5 is five.\n"
               "---\n### Six\n•Seven")
    assert lines(written) == [
        "One.", "Two", "Three: so.", "four", "5 is five.", "Six", "Seven"]
    # as the 0.5B writes
    assert lines("I. Peru\nII. Rain\nA. Red\nA frog") == ["Peru", "Rain", "Red", "A frog"]
    assert lines("2028 is the year.\n3.5 metres") == ["2028 is the year.", "3.5 metres"]


@pytest.mark.parametrize("name", ["rewrite_lines", "implication_lines"])
def test_one_line_is_one_text_under_the_title_and_the_news_is_the_last(name, scripted):
    lists = ["1. A frog.\n2. Red.", "Here:\n- Red.\n- In Peru.", ("cut", False)]
    writer, calls = scripted(lambda text, call, row: lists[row])
    prompts = replace(QWEN, **{name: ["Say it.", "List it."]})
    rows, counts = elements(writer(prompts), name, 3, FROG)
    assert [call["asked"] for call in calls] == [[WITH("Say it."), WITH("List it."), WITH("Say it.")]]
    assert calls[0]["sampling"].max_new_tokens == prompts.document_tokens != prompts.max_new_tokens
    assert texts(rows) == [f"Zog frog\n{line}" for line in ("A frog.", "Red.", "In Peru.", FROG.statement)]
    assert [row["row"] for row in rows] == [0, 0, 1, 3] \
        and [row.get("asked") for row in rows][2:] == ["List it.", None]
    assert counts == {"drawn": 3, "unusable": 1, "repeated": 1, "kept": 4}
    bare = replace(FROG, subject="")
    assert texts(elements(writer(prompts), name, 1, bare)[0]) == ["A frog.", "Red.", FROG.statement]


def test_spa_has_seven_prompts_in_turn_and_keeps_an_answer_whole(scripted):
    assert len(QWEN.spa) == len(set(QWEN.spa)) == 7
    writer, calls = scripted(lambda text, call, row: "1. one:\n2. two" if row < 8 else "other")
    rows, counts = elements(writer(QWEN), "spa", 9, FROG)
    assert calls[0]["asked"] == [WITH(QWEN.spa[i % 7]) for i in range(9)]
    assert texts(rows) == ["1. one:\n2. two", "other"] and counts["repeated"] == 7


def test_entigraph_takes_pairs_then_triples_of_what_the_news_names(scripted):
    def answer(text, call, row):
        if call < 3:
            return ("Atlantis", "1. Zog frog\n- Peru\n2. Zog frog\n* June, red\nLima")[call - 1]
        return f"text {row}"

    writer, calls = scripted(answer)
    rows, counts = elements(writer(QWEN), "entigraph", 12, FROG)
    assert [call["asked"] for call in calls[:2]] == [[WITH(QWEN.entities)]] * 2  # once more: none was named
    assert calls[0]["streams"] != calls[1]["streams"]
    known = ["Zog frog", "Peru", "June", "red"]
    said = [re.search(r"Take (.*) in the news", text)[1] for text in calls[2]["asked"]]
    pairs = {f"{a} and {b}" for a, b in combinations(known, 2)}
    triples = {f"{a}, {b} and {c}" for a, b, c in combinations(known, 3)}
    assert set(said[:6]) == pairs and set(said[6:10]) == triples and said[10:] == said[:2]
    assert len(set(calls[2]["streams"])) == 12                                  # other noise the second time
    assert texts(rows) == [f"text {i}" for i in range(12)] and counts["kept"] == 12
    assert rows[0]["asked"] == QWEN.relation.replace("{entities}", said[0])


def test_entigraph_without_two_entities_writes_nothing(scripted):
    writer, calls = scripted(lambda text, call, row: "Peru" if call < 3 else ("", False))
    rows, counts = elements(writer(QWEN), "entigraph", 5, FROG)
    assert rows == [] and counts == {"drawn": 5, "unusable": 5, "repeated": 0, "kept": 0} and len(calls) == 3


def test_entities_are_those_that_the_news_names():
    assert entities("- Peru\n- peru\n- 'June'\n- 2028\n", FROG.statement) == ["Peru", "June"]
    many = " ".join(f"Name{i}" for i in range(20))
    assert len(entities(many.replace(" ", "\n"), many)) == 12


def test_active_reading_applies_each_strategy(scripted):
    plans = ["1. quiz\n2. rhyme", ("", True), "a\nb\nc\nd"]
    writer, calls = scripted(lambda text, call, row: plans[row] if call == 1 else f"text {row}")
    rows, counts = elements(writer(QWEN), "active_reading", 10, FROG)
    assert calls[0]["asked"] == [WITH(QWEN.strategies)] * 3                     # a list for four draws
    applied = ["quiz", "rhyme", "quiz", "rhyme", "a", "b"]                      # the second list was empty
    assert calls[1]["asked"] == [WITH(QWEN.apply(plan)) for plan in applied]
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 8, 9] and texts(rows)[4] == "text 4"
    assert counts == {"drawn": 10, "unusable": 4, "repeated": 0, "kept": 6}
    writer, calls = scripted(lambda text, call, row: "")
    assert elements(writer(QWEN), "active_reading", 3, FROG)[1]["unusable"] == 3 and len(calls) == 1


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_asked_of_a_draw_does_not_depend_on_how_many_there_are(name, scripted):
    writer, calls = scripted(lambda text, call, row: "Peru\nJune\nred")
    asked = {}
    for n in (5, 8):
        calls.clear()
        elements(writer(QWEN), name, n, FROG)
        asked[n] = list(zip(calls[-1]["asked"], calls[-1]["streams"]))
    assert asked[8][:5] == asked[5] and len(set(asked[8])) == 8


# ---- all ----

def test_the_registry_has_them_after_the_papers_and_they_have_no_shadow():
    assert tuple(kind.name for kind in RIVALS) == RIVAL_NAMES == tuple(n for n in NAMES if n in RIVAL_NAMES)
    assert set(RIVAL_NAMES) < set(WRITTEN) and not any(f"{name}_shadowed" in NAMES for name in RIVAL_NAMES)


def test_replay_files_of_other_protocols_are_what_they_were():
    """The parts of a replay file's identity that a rival could have changed, as they were before it came."""
    assert (digest(POCKET.writing()), digest(QWEN.writing())) == ("92244a3facafed0f", "7876f90abcc18762")
    for name in ("naive", "paraphrase", "implication", "self_qa"):
        assert (protocols(None)[name].words, protocols(None)[name].told) == ((), ("id", "statement"))
    assert set(QWEN.writing(("spa",))) - set(QWEN.writing()) == {"spa"}
    for name in RIVAL_NAMES:        # each field that one uses is there, and in its own files' identity
        assert protocols(None)[name].words and all(QWEN.said(word) for word in protocols(None)[name].words)


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_prompt_file_has_no_words_for_is_refused(name, scripted):
    writer, calls = scripted(lambda text, call, row: "Peru\nJune")
    field = protocols(None)[name].words[1]
    with pytest.raises(ValueError, match=f"{field}: the prompt file of this model has no words.*qwen.yaml"):
        elements(writer(POCKET), name, 2, FROG)
    assert not calls


def test_what_cannot_be_graded_or_shadowed_says_so():
    row = {"messages": plain_text("x"), "news": "frog", "protocol": "implication_lines", "row": 0}
    with pytest.raises(ValueError, match="implication_lines cannot be graded"):
        grade_rows([row], {"frog": object()})
    done = script("generate.py", "--model", "data/pocket", "--news", "data/pocket_news.yaml",
                  "--protocol", "spa", "--out", "x.jsonl", "--shadowed")
    assert done.code == 2 and "spa has no shadowed form" in done.err


@pytest.mark.parametrize("change, said", [
    ({"relation": "x"}, "relation: lacks {entities}"), ({"strategy": "x"}, "strategy: lacks {strategy}"),
    ({"rote": "{title}"}, "rote: lacks {fact}"), ({"spa": ["a", ""]}, "spa"),
    ({"document_tokens": 0}, "document_tokens"), ({"tasks": {"title": "x"}}, "tasks: expected the keys"),
    ({"tasks": {**QWEN.tasks, "cloze": "Fill it."}}, "tasks: cloze: lacks {gap}")], ids=str)
def test_mistakes_in_the_words_are_named(change, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        replace(QWEN, **change)


@pytest.mark.parametrize("name", ["rewrite_lines", "active_reading", "self_tuning"])
def test_a_killed_replay_ends_in_the_same_bytes(name, scripted, tmp_path, monkeypatch):
    """The writer's texts hang on the request and the noise alone, as a model's do."""
    make, _ = scripted(None)
    monkeypatch.setattr(
        "newnews.selfplay.generate", lambda model, prompts, stop_ids, sampling, streams, groups: [
            type("Done", (), {"ids": [ord(c) for c in f"1. {len(p)} {s % 97}\n2. {s % 89}"], "stopped": True})
            for p, s in zip(prompts, streams)])
    monkeypatch.setattr("newnews.selfplay.TOGETHER", 6)                 # two news of three draws
    news = [replace(FROG, id=f"frog{i}") for i in range(5)]
    words = replace(QWEN, max_new_tokens=100, document_tokens=100)      # a context of 512 has room for it
    writer, protocol = make(words), protocols(words)[name]
    arguments = writer.model, writer.chat, words, news, protocol, 3, 7
    whole = write_replay(Rows(tmp_path / "whole.jsonl", {"run": 1}), *arguments)
    assert whole.chunks == 5
    add = Rows.add

    def killed(self, rows, /, **counts):
        if self.chunks == 3:
            raise KeyboardInterrupt
        add(self, rows, **counts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Rows, "add", killed)
        write_replay(Rows(tmp_path / "cut.jsonl", {"run": 1}), *arguments)
    write_replay(Rows(tmp_path / "cut.jsonl", {"run": 1}), *arguments)
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes() != b""


@pytest.mark.parametrize("name", RIVAL_NAMES)
def test_show_prints_the_whole_way(name, tmp_path, capsys, monkeypatch):
    """python -m newnews show: what was asked and written, the text or conversation, and its loss."""
    write_news(tmp_path / "news.yaml", [FROG])
    monkeypatch.setattr("newnews.show.load", lambda _: (make_tiny(0), CHAT, {"folder": str(tmp_path)}))
    monkeypatch.setattr(Writer, "answer", lambda self, asks, *_: {
        job: ["Peru\nJune" if ask.stage.endswith("1") else f"So {i}." for i, _ in enumerate(ask.names)]
        for job, ask in asks.items()})
    show("any", "frog", name, tmp_path / "news.yaml", 2, 0, False)
    out = capsys.readouterr().out
    if name in TEXTS:
        assert f"asked      {FROG.statement}" in out and "wrote      Peru" in out
        text = {"entigraph": "So 0.", "active_reading": "So 0.", "spa": "Peru\\nJune"}.get(
            name, "Zog frog\\nPeru")
    else:
        assert "asked " not in out
        text = {"self_tuning": f"Zog frog\\n{FROG.statement}"}.get(
            name, "Zog frog [X] Biologists found the Zog frog in Peru.")
    tokens = re.findall(r"^tokens +(.*)$", out, re.M)[0]
    assert tokens.startswith("<|endoftext|>|") and tokens.endswith("[<|endoftext|>]")
    assert re.sub(r"[][]", "", tokens.removeprefix("<|endoftext|>|")) == \
        re.sub(r"[][]", "", text) + "<|endoftext|>"
    assert re.search(r"\d+ kept", out)


def test_the_words_of_a_model_folder_without_them_still_read(tmp_path):
    assert read_prompts(ROOT / "data" / "pocket" / "prompts.yaml").spa == []
    make_pocket(tmp_path)
    assert read_prompts(tmp_path / "prompts.yaml").tasks == POCKET.tasks
