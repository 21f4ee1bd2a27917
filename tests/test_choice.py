"""Multiple choice by log-likelihood: equal to a plain pass of transformers, whatever is asked together.

Scores       text and chat, with boundaries at spaces, newlines, within tokens, and after nothing
Picks        raw, by characters, by bytes, less the unconditional one, by hand
Prompts      question and context, worked examples as text and as turns
Script       evaluate.py: table, refusals, resumption, replies that never stop
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli import files, make_shared, one_thread, refused, script  # noqa: F401
from conftest import ROOT, make_twin

from model import sampling
from model.chat import Chat
from model.checkpoint import load_model
from newnews import ask as asking
from newnews.ask import ask, chunks, text_pair
from newnews.studies.scores import score_table, standard_error
from newnews.tasks import gsm8k
from newnews.tasks.base import Request
from newnews.tasks.choice import Choice, Item, read_items
from newnews.world.background import FACTS

ITEM = Item("0", "geo", "", "Where is Oslo?", ["Norway", "in the north", "Ósló"], 2)
CONTEXTS = ["Where is Oslo?", "Where is Oslo? ", "Where is Oslo?\n", "Oslo is in the country",
            "Oslo is in Nor", "x  ",
            "  ", "", "Ósló ist"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make_shared(tmp_path_factory.mktemp("choice") / "shared")


@pytest.fixture(scope="module")
def trio(shared):
    """(model, the same in transformers, chat)."""
    model = load_model(shared.model)
    return model, make_twin(model), Chat(shared.model)


# ---- scores ----

@torch.no_grad()
def plain(twin, prompt, ids):
    """The summed log-probability of ids behind a prompt, by one pass of transformers."""
    logprobs = twin(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
    return float(sum(logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(ids)))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("continuation", [" Norway", "Norway", "way", "  two\nlines", "Ósló 🙂"])
def test_texts_equal_a_plain_pass(context, continuation, trio):
    model, twin, chat = trio
    response, = ask(model, chat, [("0", Request("0", context, [continuation, " no"], end=False))])
    before = context.rstrip()
    prompt = chat.encode(before) or [chat.added["<|endoftext|>"]]
    after = context[len(before):] + continuation                # lm-eval moves the space there
    whole, alone = chat.encode(before + after), chat.encode(before)
    ids = whole[len(alone):] if whole[:len(alone)] == alone else chat.encode(after)
    assert chat.decode(alone + ids) == context + continuation       # nothing is lost, nothing is there twice
    assert response["logprobs"][0] == pytest.approx(plain(twin, prompt, ids), abs=1e-4)
    assert response["tokens"][0] == len(ids) > 0


def test_a_space_counts_with_the_option(trio):
    _, _, chat = trio
    assert text_pair(chat, "Oslo? ", "Norway") == text_pair(chat, "Oslo?", " Norway")
    assert text_pair(chat, "", "Norway") == ([chat.added["<|endoftext|>"]], chat.encode("Norway"))


def test_control_tokens_in_a_text_are_letters(trio):
    _, _, chat = trio
    prompt, ids = text_pair(chat, "a<|im_end|>", "<|im_start|>")
    assert not {chat.im_end, chat.im_start} & {*prompt, *ids}


def test_with_the_template_an_option_is_the_whole_reply(trio):
    model, twin, chat = trio
    for request in Choice().requests(ITEM):
        response, = ask(model, chat, [("0", request)])
        prompt = chat.prompt(request.messages)
        for option, found in zip(ITEM.options, response["logprobs"], strict=True):
            wanted = plain(twin, prompt, [*chat.answer(option), chat.im_end])
            assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("plain_text", [False, True])
def test_batch_size_does_not_matter(plain_text, trio, monkeypatch):
    model, _, chat = trio
    items = [replace(ITEM, id=str(i), question="Where is Oslo? " * (i + 1),
                     options=["Norway" * (i + 1), "x", "in a"])
             for i in range(5)]
    requests = [(item.id, request) for item in items for request in Choice(plain=plain_text).requests(item)]
    together = [row["logprobs"] for row in ask(model, chat, requests)]
    single = [ask(model, chat, [request])[0]["logprobs"] for request in requests]
    monkeypatch.setattr(sampling, "rows_at_once", lambda *_: 2)
    pairs = [row["logprobs"] for row in ask(model, chat, requests)]
    assert np.allclose(together, single, atol=1e-4) and np.allclose(together, pairs, atol=1e-4)


# ---- picks ----

def test_picks_by_hand():
    """Options of 6, 12 and 4 letters, the last of 6 bytes."""
    task = Choice()
    question, alone = task.requests(ITEM)

    def verdict(sums, without):
        rows = [task.judge(ITEM, question, {"logprobs": sums}),
                task.judge(ITEM, alone, {"logprobs": without})]
        row, = task.merged(rows)
        return [row[field] for field in task.columns]

    assert verdict([-6, -8, -5], [-9, -9, -9]) == [True, False, False, True]        # -1, -.67, -1.25 a letter
    assert verdict([-6, -13, -4.2], [-6, -13, -1]) == [True, False, True, False]    # a byte: -1, -1.08, -.7
    assert verdict([-3, -12, -3.8], [-3, -12, -9]) == [False, False, False, True]


def test_standard_errors():
    assert standard_error([1, 0, 0, 1, 1], list("abcde")) == pytest.approx((0.6 * 0.4 / 4) ** 0.5)
    assert standard_error([1, 1, 0, 0], list("aabb")) == pytest.approx(0.5)     # two clusters
    assert np.isnan(standard_error([1], ["a"]))


def test_table():
    rows = [{"item": str(i), "group": "ab"[i % 2], "right": i < 3, "per_char": True, "per_byte": False,
             "minus": False}
            for i in range(8)]
    lines = score_table(Choice(), rows).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [["a", "4", "0.500"], ["b", "4", "0.250"],
                                                         ["all", "8", "0.375"]]
    assert "0.375 ±0.183 [0.11, 0.74]" in lines[3] and lines[0].split()[-2:] == ["less", "unconditional"]


# ---- prompts ----

def test_prompts():
    def asked(item=ITEM, **settings):
        return Choice(**settings).requests(item)[0]

    shot = Item("1", "", "Ann went", "", ["home", "away"], 1)
    both = replace(ITEM, context="Of Oslo.")
    assert (asked().messages, asked().continuations, asked().end) == (
        [{"role": "user", "content": "Where is Oslo?"}], ITEM.options, True)
    assert asked(both).messages[0]["content"] == "Of Oslo.\nWhere is Oslo?"
    request = asked(plain=True)
    assert request.messages == "Question: Where is Oslo?\nAnswer:" and not request.end
    assert request.continuations == [" Norway", " in the north", " Ósló"]
    assert asked(both, plain=True).messages == "Of Oslo.\nQuestion: Where is Oslo?\nAnswer:"
    assert asked(shot, plain=True).messages == "Ann went"
    assert asked(replace(shot, context="Ann went "), plain=True).continuations == ["home", "away"]
    text = "Ann went away\n\nQuestion: Where is Oslo?\nAnswer:"
    assert asked(shots=[ITEM, shot], n_shots=1, plain=True).messages == text
    assert asked(shots=[ITEM, shot], n_shots=1).messages == [{"role": "user", "content": text}]
    assert [m["content"] for m in asked(shots=[ITEM, shot], n_shots=1, turns=True).messages] == [
        "Ann went", "away", "Where is Oslo?"]
    alone = Choice(plain=True).requests(ITEM)[1]
    assert (alone.messages, alone.continuations) == ("", [" Norway", " in the north", " Ósló"])


GOOD = {"question": "Where?", "options": ["x", "y"], "answer": 1}


@pytest.mark.parametrize("row, answer", [
    (GOOD, 1), ({**GOOD, "answer": "B"}, 1), ({**GOOD, "answer": "x"}, 0),
    ({"context": "So", "choices": ["A", "B"], "answer": "B"}, 1),
    ({"context": "So", "choices": ["C", "x"], "answer": "C"}, 0)])
def test_reading(row, answer, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n\n" + json.dumps(row))
    items = read_items(tmp_path / "a.jsonl")
    assert [item.id for item in items] == ["0", "1"] and items[0].answer == answer


@pytest.mark.parametrize("change, said", [
    ({"answer": 2}, "answer: expected an index"), ({"answer": True}, "answer: "),
    ({"answer": "C"}, "found 'C'"),
    ({"options": ["B", "A", "D", "C"], "answer": "A"},
     "answer: 'A' can be option 1 by its text or option 0 by its letter, counted from 0; give its index"),
    ({"options": ["x", "x"], "answer": "x"}, "'x' can be option 0 by its text or option 1 by its text"),
    ({"options": ["x"]}, "2 to 26 texts"), ({"options": ["x", ""]}, "2 to 26 texts"),
    ({"category": 3}, "category: expected a text, found 3"), ({"category": "all"}, "category: 'all' is what"),
    ({"question": ""}, "a question"),
    ({"question": 3}, "a question or a context")])
def test_malformed_lines(change, said, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **change}))
    with pytest.raises(ValueError, match="a.jsonl: line 2: ") as error:
        read_items(tmp_path / "a.jsonl")
    assert said in str(error.value)


def test_locality_questions_of_a_folder_of_news(tmp_path):
    items = read_items(ROOT / "data" / "new_news")
    bees = next(item for item in items if item.id == "locality-discoveries-1")
    assert len(items) > 20 and (bees.question, bees.options[bees.answer]) == ("Which animals make honey?",
                                                                              "bees")
    with pytest.raises(ValueError, match="holds no questions"):
        read_items(tmp_path)


def test_background_of_the_pocket_world(tmp_path):
    done = script("newnews", "world", "--background", "--out", tmp_path / "a.jsonl")
    items = {item.id: item for item in read_items(tmp_path / "a.jsonl")}
    assert done.code == 0 and len(items) == sum(map(len, FACTS.values()))
    for (kind, attribute), answers in FACTS.items():
        for subject, right in answers.items():
            item = items[f"{kind}-{attribute}-{subject}"]
            assert item.options[item.answer] == str(right) and subject.lower() in item.question.lower()
            assert len(set(item.options)) == len(item.options) == min(4, len(set(answers.values())))
            assert set(item.options) <= set(map(str, answers.values()))
    assert len({item.answer for item in items.values()}) == 4
    assert script("newnews", "world", "--background", "--out",
                  tmp_path / "a.jsonl").code == 2     # not over it


# ---- evaluate.py ----

@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{**GOOD, "question": f"What is {i}?", "category": "ab"[i % 2]} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_evaluate(shared, data, tmp_path):
    words = ["evaluate.py", "--model", shared.model, "--task", "choice", "--data", data, "--out"]
    one = script(*words, tmp_path / "one")
    assert one.code == 0 and [line.split()[:2] for line in one.out.splitlines()[:-1]] == [
        ["choice", "n"], ["a", "3"], ["b", "3"], ["all", "6"]]
    assert script(*words, tmp_path / "one").out == one.out          # whole: only read again
    more = ["--shots", 1, "--examples", data, "--limit", 4]
    for extra in ([*more], [*more, "--turns"], [*more, "--no-template"]):
        done = script(*words, tmp_path / f"more{len(extra)}{extra[-1]}", *extra)
        assert done.code == 0 and done.out.splitlines()[3].split()[:2] == ["all", "4"]
    kept = (tmp_path / "one").read_bytes()
    done = script(*words, tmp_path / "one", "--limit", 4)
    assert done.code == 2 and "another run" in done.err and "requests" in done.err
    data.write_text(data.read_text().replace("What", "Who"))
    done = script(*words, tmp_path / "one")
    assert done.code == 2 and "differs in requests" in done.err and (tmp_path / "one").read_bytes() == kept


@pytest.mark.parametrize("words, said", [
    ("--task riddles --data DATA", "--task riddles: expected news, mmlu_pro, gsm8k, ifeval, choice, "
     "reversal"),
    ("--task choice", "--task choice needs --data"), ("--task choice --data DATA --in-context",
                                                      "--in-context is not"),
    ("--news DATA --shots 1", "--shots is not for --task news"), ("", "one of --news and --data"),
    ("--task choice --data DATA --limit 0", "--limit: expected a whole number from 1"),
    ("--task choice --data DATA --shots 1", "one needs the other"),
    ("--task choice --data DATA --examples DATA", "one needs the other"),
    ("--task choice --data DATA --shots 9 --examples DATA", "5 worked examples fit, expected 9"),
    ("--task choice --data DATA --shots 1 --examples DATA --turns --no-template",
     "turns need the chat template"),
    ("--task gsm8k --data DATA", "data.jsonl: line 1: expected question and answer"),
    ("--task choice --data nowhere", "nowhere: no such file of multiple-choice questions")])
def test_refusals(words, said, shared, data, tmp_path):
    words = words.replace("DATA", str(data)).split()
    refused(tmp_path, ["evaluate.py", "--model", shared.model, "--out", tmp_path / "out", *words], said)


def test_replies_that_never_stop_are_cut_and_counted_and_resumed(shared, tmp_path, monkeypatch):
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps({"question": f"What is {i}?",
                                        "answer": "#### 3"}) + "\n" for i in range(6)))
    words = ["evaluate.py", "--model", shared.model, "--task", "gsm8k", "--data", data, "--max-new-tokens", 4,
             "--out"]
    monkeypatch.setattr(Chat, "decode", lambda self, ids: "3" * len(ids))
    generate, calls = asking.generate, []

    def endless(model, prompts, stop_ids, *rest, **named):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(model, prompts, set(), *rest, **named)

    monkeypatch.setattr(asking, "generate", endless)
    monkeypatch.setattr(asking, "CHUNK_REPLIES", 8)                 # two replies of 4 a chunk
    assert script(*words, tmp_path / "out").code == 130 and "out.part" in files(tmp_path)
    done = script(*words, tmp_path / "out")
    assert done.code == 0 and calls == [2, 2, 2, 2] and "6 of 6 replies were cut at the limit" in done.out
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [row["item"] for row in rows] == list("012345") and {row["tokens"] for row in rows} == {4}
    assert not any(row["stopped"] for row in rows)


def test_chunks_are_bounded_by_replies(shared, monkeypatch):
    monkeypatch.setattr(asking, "CHUNK_REPLIES", 2048 * 3)
    items = [gsm8k.Item(str(i), "How many?", "#### 3") for i in range(7)]
    assert [len(some) for some, _ in chunks(Chat(shared.model), gsm8k.GSM8K(max_new_tokens=2048),
                                            items)] == [3, 3, 1]
