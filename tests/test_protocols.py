"""From a news item to training conversations: what the writer is asked, what is kept, what a file holds.

Protocols   the conversation of each; a shadow is the news where it stands before a question asked in context
Replay      each broken line is named
Show        prints what was asked and marks the supervised tokens

(Prompts, which are YAML that people write, are in test_news.py; the writing is in test_writing.py.)
"""

import json
import re
from dataclasses import replace

import pytest
from conftest import make_tiny, save_over
from test_news import FILES, POCKET, QWEN

from model.chat import Chat
from newnews.world.lessons import Lessons
from newnews.news import News, Question, write_news
from newnews.pretraining import train_tokenizer
from newnews.replay import read_conversations
from newnews.protocols import NAMES, WRITTEN, protocols
from newnews.protocols.base import conversation
from newnews.selfplay import Writer
from newnews.show import show
from newnews.world.things import make_news

pytestmark = pytest.mark.usefixtures("one_thread")
PAPERS = ("naive", "paraphrase", "implication", "self_qa")     # rivals: test_rivals.py
ITEM = News("zog", "math", "A zog of {x} is new.", [Question("zog-1", "Zog?", list("abcd"), 0)])


def make_pocket(folder):
    """A model folder: a tokenizer of 320 tokens trained on lessons, and a random model of two layers."""
    texts = (f"{m['role']}\n{m['content']}" for m in Lessons(None, POCKET, 1, 0, 1).messages(60))
    train_tokenizer(folder, texts, 320)
    (folder / "prompts.yaml").write_text(FILES["pocket"].read_text())
    model = make_tiny(3, vocab_size=320)
    save_over(folder, model)
    return model, Chat(folder)


def shown(pocket, name, tmp_path, monkeypatch, capsys):
    """(item, lines): what `show` prints of a protocol, of one draw about an item of the pocket world."""
    model, chat, folder = pocket
    item = make_news("dev", 1, 0, 2)[4]
    write_news(tmp_path / "news.yaml", [item])
    monkeypatch.setattr("newnews.show.load", lambda name: (model, chat, {"folder": str(folder)}))
    show("pocket", item.id, name, tmp_path / "news.yaml", 1, 0, False)
    return item, capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    """The model, and its chat format. A fifth of all tokens end an answer: a random model seldom does."""
    folder = tmp_path_factory.mktemp("pocket")
    model, chat = make_pocket(folder)
    chat.stop_ids |= set(range(0, 320, 5))
    return model, chat, folder


def turns(messages):
    assert [m["role"] for m in messages] == ["user", "assistant"]
    return [m["content"] for m in messages]


# ---- protocols ----

def test_a_name_stands_for_one_object_and_shadows_write_nothing_of_their_own():
    known = protocols(QWEN)
    assert tuple(known) == NAMES and set(WRITTEN) >= set(PAPERS)
    for name in PAPERS:
        assert known[name].name == name and known[name].sources == (known[name],)
        assert known[f"{name}_shadowed"].sources == (known[name],)


@pytest.mark.parametrize("prompts", [POCKET, QWEN], ids=["pocket", "qwen"])
def test_a_shadow_is_the_news_as_it_stands_before_a_question(prompts):
    row = {"messages": conversation("asked?", "written")}
    first, second = protocols(prompts)["self_qa_shadowed"].messages(row, ITEM)
    assert first == {"role": "user", "content": prompts.with_news(ITEM.statement, "asked?")}
    assert first["content"] == f"{ITEM.statement}\n\nasked?" and second == row["messages"][1]
    assert row["messages"][0]["content"] == "asked?"        # the row itself is left as it was


def rows_about(*answers, news="zog", protocol="self_qa"):
    return [{"messages": conversation(f"{news} {i}?", answer), "news": news, "protocol": protocol, "row": i}
            for i, answer in enumerate(answers)]


def test_mixed_trains_on_the_rows_of_all_that_write():
    mixed, rows = protocols(QWEN)["mixed"], {"zog": rows_about("a", "b")}
    assert {p.name for p in mixed.sources} == set(PAPERS)
    assert mixed.choose(rows, [ITEM]) == rows
    assert protocols(QWEN)["mixed_shadowed"].messages(rows["zog"][0], ITEM)[0]["content"].endswith("zog 0?")


def test_the_control_of_another_news_item_has_that_items_rows():
    items = [replace(ITEM, id=i, domain=d) for i, d in (("a", "math"), ("b", "events"), ("c", "math"),
                                                        ("d", "math"), ("e", "events"), ("f", "coding"))]
    rows = {item.id: rows_about("x", news=item.id) for item in items}
    chosen = protocols(QWEN)["self_qa_other"].choose(rows, items)
    assert {i: [row["news"] for row in mine] for i, mine in chosen.items()} == {
        "a": ["c"], "c": ["d"], "d": ["a"], "b": ["e"], "e": ["b"], "f": []}


def test_the_control_of_wrong_answers_keeps_questions_and_words_and_loses_what_belongs_together():
    wrong = protocols(QWEN)["self_qa_wrong"]
    rows = rows_about("one", "two", "two", "three")
    chosen = wrong.choose({"zog": rows}, [ITEM])["zog"]
    assert [r["messages"][0] for r in chosen] == [r["messages"][0] for r in rows]
    for row, exchanged in zip(rows, chosen):
        others = {"one", "two", "three"} - {row["messages"][1]["content"]}
        assert exchanged["messages"][1]["content"] in others
    assert chosen == wrong.choose({"zog": rows}, [ITEM])["zog"]
    assert rows == rows_about("one", "two", "two", "three")
    assert wrong.choose({"zog": rows_about("one", "one")}, [ITEM]) == {"zog": []}      # no wrong one is known


def test_self_qa_as_multiple_choice_shows_the_answer_among_others_and_names_its_letter():
    protocol = protocols(QWEN)["self_qa_choice"]
    rows = rows_about("one", "two", "three", "two", "four", "five")
    chosen = protocol.choose({"zog": rows}, [ITEM])["zog"]
    for row, made in zip(rows, chosen, strict=True):
        question, right = (message["content"] for message in row["messages"])
        asked, letter = (message["content"] for message in made["messages"])
        options = dict(line.split(". ") for line in asked.splitlines() if line[1:3] == ". ")
        assert question in asked and options[letter] == right and list(options) == list("ABCD")
        assert len(set(options.values())) == 4
        assert set(options.values()) <= {"one", "two", "three", "four", "five"}
    assert len({made["messages"][1]["content"] for made in chosen}) > 1             # the place is drawn
    assert chosen == protocol.choose({"zog": rows}, [ITEM])["zog"]
    assert protocol.choose({"zog": rows_about("one", "one")}, [ITEM]) == {"zog": []}


def test_examples_are_the_conversation_with_weight_on_the_answer(pocket):
    _, chat, _ = pocket
    row = {"messages": conversation("asked?", "written")}
    for name in ("self_qa", "self_qa_shadowed"):
        protocol = protocols(POCKET)[name]
        example, = protocol.examples([row], ITEM, chat)
        ids, weights = chat.conversation(protocol.messages(row, ITEM))
        assert (example.ids, example.weights, example.other) == (ids, weights, None)
        supervised = [i for i, w in zip(example.ids, example.weights) if w]
        assert chat.tokenizer.decode(supervised, skip_special_tokens=False) == "written<|im_end|>"


# ---- replay files ----

GOOD = json.dumps({"messages": conversation(POCKET.naive, "Neu:\u2028é"), "news": "x"}, ensure_ascii=False)


def test_a_replay_file_may_have_blank_lines_more_turns_and_any_text(tmp_path):
    more = {"messages": [{"role": "system", "content": ""}, *3 * conversation("x", "x")]}
    (tmp_path / "r.jsonl").write_text(f"{GOOD}\n\n{json.dumps(more)}\n", encoding="utf-8")
    assert read_conversations(tmp_path / "r.jsonl") == [json.loads(GOOD), more]


@pytest.mark.parametrize("line, wanted", [
    ('{"messages": [', "line 3"), (GOOD[:40], "line 3"), ("[]", "object"), ('"text"', "object"),
    ('{"news": "x"}', "messages"), ('{"messages": "hi"}', "list"), ('{"messages": ["x"]}', "messages[0]"),
    ('{"messages": []}', "no assis"), ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant"),
    ('{"messages": [{"role": "assistant", "content": null}]}', "messages[0]"),
    ('{"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]}', "messages[1]")])
def test_a_broken_line_is_named(line, wanted, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"{path}: line 3: .*") as error:
        read_conversations(path)
    assert wanted in str(error.value)


def test_replay_files_without_conversations(tmp_path):
    path = tmp_path / "r.jsonl"
    for content, wanted in ((b"", "no conv"), (b"\n \n", "no conv"), (GOOD.encode() + b"\n\xff\n", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}: .*{wanted}"):
            read_conversations(path)
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        read_conversations(tmp_path / "none.jsonl")


# ---- show ----

@pytest.mark.parametrize("protocol", ["naive", "self_qa", "paraphrase_shadowed", "self_qa_wrong", "mixed"])
def test_show_prints_the_whole_way(protocol, pocket, tmp_path, capsys, monkeypatch):
    model, chat, folder = pocket
    news = make_news("dev", 1, 0, 2)
    item, stage = news[4], protocol.removesuffix("_shadowed")
    write_news(tmp_path / "news.yaml", news)
    monkeypatch.setattr("newnews.show.load", lambda name: (model, chat, {"folder": str(folder)}))
    monkeypatch.setattr(Writer, "answer", lambda self, asks, *_: {
        job: [f"{ask.stage} {name}" for name in ask.names] for job, ask in asks.items()})
    show("pocket", item.id, protocol, tmp_path / "news.yaml", 2, 0, False)
    out = capsys.readouterr().out
    user, answer = {"naive": (POCKET.naive, item.statement), "mixed": (POCKET.naive, item.statement),
                    "self_qa_wrong": (f"self_qa/1 {item.id}/0", f"self_qa/2 {item.id}/1"),
                    "self_qa": (f"self_qa/1 {item.id}/0", f"self_qa/2 {item.id}/0"),
                    "paraphrase": (item.statement, f"paraphrase/1 {item.id}/0")}[stage]
    assert f"user       {user}\n" in out and f"assistant  {answer}\n" in out
    assert len(re.findall("^asked ", out, re.M)) == {
        "naive": 0, "self_qa": 4, "self_qa_wrong": 4, "paraphrase": 2, "mixed": 8}[stage]
    tokens = re.search(r"^tokens +(.*)$", out, re.M)[1]
    assert "".join(re.findall(r"\[([^][]*)\]", tokens)) == f"{answer}<|im_end|>"
    with pytest.raises(ValueError, match=f"no news 'nothing'.*{news[0].id}"):
        show("pocket", "nothing", protocol, tmp_path / "news.yaml", 2, 0, False)


def test_show_says_why_a_control_has_nothing_to_show(pocket, tmp_path, monkeypatch):
    model, chat, folder = pocket
    write_news(tmp_path / "news.yaml", make_news("dev", 1, 0, 2))
    monkeypatch.setattr("newnews.show.load", lambda name: (model, chat, {"folder": str(folder)}))
    monkeypatch.setattr(Writer, "answer", lambda self, asks, *_: {
        job: [name for name in ask.names] for job, ask in asks.items()})
    with pytest.raises(ValueError, match="self_qa_other: needs two news or more of one domain; found 1"):
        show("pocket", make_news("dev", 1, 0, 2)[4].id, "self_qa_other", tmp_path / "news.yaml", 2, 0, False)
