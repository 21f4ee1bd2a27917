"""From a news item to training conversations: what the writer is asked, what is kept, what a file holds.

Protocols   the conversation of each; a shadow is the news where it stands before a question asked in context
Writing     with a scripted writer: requests in turn, duplicates dropped, unusable answers counted, both
            stages of Self-QA with the news in sight; with a real tiny model: a row depends neither on n nor
            on the other rows, the cost is that of the tokens, a file has a chunk an item and is resumed
Replay      each broken line is named
Show        prints what was asked and marks the supervised tokens

(Prompts, which are YAML that people write, are in test_news.py.)
"""

import json
import re
from dataclasses import replace
from itertools import combinations
from os.path import commonprefix

import pytest
from conftest import make_tiny
from test_news import FILES, POCKET, QWEN

from model import cache
from model.chat import Chat
from model.checkpoint import save_model
from model.flops import forward_flops
from model.drawing import Sampling
from model.sampling import Completion, generate_naive
from newnews import selfplay
from newnews.world.lessons import Lessons
from newnews.news import News, Question, write_news
from newnews.outputs import Rows
from newnews.pretraining import train_tokenizer
from newnews.replay import read_conversations
from newnews.protocols import NAMES, WRITTEN, protocols
from newnews.protocols.base import Ask, Protocol, conversation
from newnews.protocols.rehearse import content_words
from newnews.randomness import stream
from newnews.selfplay import Writer, write_replay
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
    save_model(folder, model.config, model.state_dict(), source=folder)
    return model, Chat(folder)


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
        assert exchanged["messages"][1]["content"] in {"one", "two", "three"} - {row["messages"][1]["content"]}
    assert chosen == wrong.choose({"zog": rows}, [ITEM])["zog"] and rows == rows_about("one", "two", "two", "three")
    assert wrong.choose({"zog": rows_about("one", "one")}, [ITEM]) == {"zog": []}       # no wrong one is known


def test_self_qa_as_multiple_choice_shows_the_answer_among_others_and_names_its_letter():
    protocol, rows = protocols(QWEN)["self_qa_choice"], rows_about("one", "two", "three", "two", "four", "five")
    chosen = protocol.choose({"zog": rows}, [ITEM])["zog"]
    for row, made in zip(rows, chosen, strict=True):
        question, right = (message["content"] for message in row["messages"])
        asked, letter = (message["content"] for message in made["messages"])
        options = dict(line.split(". ") for line in asked.splitlines() if line[1:3] == ". ")
        assert question in asked and options[letter] == right and list(options) == list("ABCD")
        assert len(set(options.values())) == 4 and set(options.values()) <= {"one", "two", "three", "four", "five"}
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
        return (lambda prompts: Writer(make_tiny(0), Letters(), prompts, 7)), calls
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
    assert [turns(row["messages"]) for row in rows] == [[f"question {i} zog", f"answer {i}"] for i in range(4)]
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
                statement="Biologists found a brown frog, the pellicar frog, in Peru. It turns red when it rains.")
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
        flops += forward_flops(model.config, steps - 1, len(prompt), heads=steps - 1)    # the last is not read
    first, second = asked[:2]                               # equal prompts are read once, and so is
    shared = len(commonprefix([first, second]))             # what the different ones have in common
    flops += forward_flops(model.config, shared, heads=0)
    flops += sum(forward_flops(model.config, len(p) - shared, shared, heads=1) for p in (first, second))
    assert 0 < shared < min(len(first), len(second)) and again == written
    assert cost == {"prompt_tokens": len(first) + len(second) - shared, "new_tokens": new, "flops": flops}


def test_jobs_go_on_together_and_end_apart(scripted):
    """Three news items in one call a stage; one of them has nothing to ask a second time."""
    writer, calls = scripted(lambda text, call, row: "" if text.startswith("B") else f"zog {call} {len(text)}")
    items = [replace(ITEM, id=id, statement=f"{id} zog.") for id in "ABC"]
    found = writer(POCKET).write([protocols(POCKET)["self_qa"].write(item, 2) for item in items])
    assert [len(call["asked"]) for call in calls] == [6, 2]             # equal questions are asked once
    assert [counts["kept"] for _, counts in found] == [1, 0, 1]
    assert [row["news"] for rows, _ in found for row in rows] == ["A", "C"]


class Entities(Protocol):
    """EntiGraph as a toy: the writer names the entities of a news item, then says how each two of them relate."""

    name = "entities"

    def write(self, item, n):
        named, = yield Ask([f"{item.statement}\n\nName its entities."], "entities/1", [item.id], 0.0)
        pairs = list(combinations(named.split(", "), 2))[:n]
        said = yield Ask([f"{item.statement}\n\nHow do {a} and {b} relate?" for a, b in pairs], "entities/2",
                         [f"{item.id}/{a}/{b}" for a, b in pairs], 1.0)
        rows = [{"messages": conversation(f"{a} and {b}?", text), "news": item.id, "protocol": self.name, "row": i}
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
                patch.setattr(Writer, "write", lambda self, jobs: groups.append(len(jobs)) or write(self, jobs))
                output = write_replay(Rows(path, {"run": 1}), *arguments)
            assert groups == [2, 2, 1][cut // 2:]           # a group that was cut through is written whole
            assert path.read_bytes() == whole.read_bytes() and output.whole and output.chunks == 5
            assert {**totals, "seconds": 0} == {**output.totals, "seconds": 0} and totals["drawn"] == 25
        asked = {turns(row["messages"])[0] for row in read_conversations(whole)}
        assert asked == {f"{ITEM.statement}\n\n{POCKET.naive}" if shadowed else POCKET.naive}
        assert len(read_conversations(whole)) == totals["kept"]


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
    with pytest.raises(ValueError, match="self_qa_other: nothing to show: .* needs rows about other news"):
        show("pocket", make_news("dev", 1, 0, 2)[4].id, "self_qa_other", tmp_path / "news.yaml", 2, 0, False)
