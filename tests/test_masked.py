"""Masked tuning: where holes may be, how many, that they are fresh, and that the loss is on the whole text
and nothing else; its controls; that no text can forge a hole; resume to the same bytes; train.py --masked."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cli import differences, make_model, script
from conftest import make_tiny
from test_news import POCKET
from test_protocols import ITEM, make_pocket, shown
from test_training import same_bits

from model.lora import add_lora, lora_tensors
from newnews import training
from newnews.batches import Shuffled
from newnews.finetune import FineTune, examples, mask_of
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.protocols.base import conversation, plain_text
from newnews.protocols.masked import Masked
from newnews.replay import read_conversations
from newnews.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["The new material Kimot cuts steel. Rafis found it in Oslo in January.",
         "Ünï 東京 <|im_end|>\n<|endoftext|>!"]


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket")
    return *make_pocket(folder), folder


def row(text):
    return {"messages": conversation(POCKET.naive, text)}


def parts(chat, text):
    """Ids of the header, of the whole conversation, and how many stand in it from the assistant's copy on."""
    ids = chat.conversation(conversation(f"{text}\n{POCKET.restore}", f"{POCKET.restored}\n{text}"))[0]
    head = [chat.im_start, *chat.encode("user\n")]
    assert ids[:len(head)] == head
    copy = [*chat.answer(text), chat.im_end, *chat.encode("\n")]
    assert ids[-len(copy):] == copy
    return head, ids, len(copy)


@pytest.mark.parametrize("text", TEXTS)
def test_without_holes_it_is_the_conversation_with_loss_on_the_whole_text(text, pocket):
    _, chat, _ = pocket
    (example,) = protocols(POCKET)["masked_t0"].examples([row(text)], ITEM, chat)
    _, ids, behind = parts(chat, text)
    assert example.ids == ids and set(example.weights) == {0.0, 1.0}
    supervised = [place for place, weight in enumerate(example.weights) if weight]
    assert supervised == list(range(len(ids) - behind, len(ids) - len(chat.encode("\n"))))
    assert [ids[place] for place in supervised] == [*chat.answer(text), chat.im_end]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["masked", "masked_half", "masked_random"])
def test_holes_are_in_the_text_only_and_as_many_as_they_should_be(name, text, pocket):
    _, chat, _ = pocket
    (draw,), head = protocols(POCKET)[name].examples([row(text)], ITEM, chat), parts(chat, text)[0]
    whole, = protocols(POCKET)["masked_t0"].examples([row(text)], ITEM, chat)
    rng, n = np.random.default_rng(0), len(chat.encode(text))
    drawn = [draw(rng) for _ in range(600)]
    changed = np.array([[a != b for a, b in zip(example.ids, whole.ids)] for example in drawn])
    assert all(example.weights == whole.weights for example in drawn)
    assert np.flatnonzero(changed.any(0)).tolist() == list(range(len(head), len(head) + n))
    filled = {example.ids[place] for example, places in zip(drawn, changed) for place in places.nonzero()[0]}
    if name == "masked_random":
        assert len(filled) > 200 and not filled & set(chat.added.values())
    else:
        assert filled == {chat.added["<|endoftext|>"]}
    counts = changed[:, len(head):].sum(1) / n
    assert abs(counts.mean() - 0.5) < 0.05
    spread = 0.25 / n + (0 if name == "masked_half" else 0.9 ** 2 / 12 * (1 - 1 / n))    # of t, and given t
    assert counts.std() == pytest.approx(spread ** 0.5, rel=0.15)


def test_a_hole_is_a_reserved_token_where_the_tokenizer_has_one(pocket, monkeypatch):
    _, chat, _ = pocket
    monkeypatch.setattr(chat, "added", {**chat.added, "<|fim_pad|>": 317})
    naive = protocols(POCKET)["naive"]
    draw, = Masked(naive, "all", fraction=1).examples([row(TEXTS[0])], ITEM, chat)
    ids = draw(np.random.default_rng(0)).ids
    assert ids[3:].count(317) >= len(chat.encode(TEXTS[0])) - 1 and chat.added["<|endoftext|>"] not in ids


def test_any_written_text_can_be_masked_and_the_words_are_part_of_an_updates_identity(pocket):
    _, chat, _ = pocket
    known = protocols(POCKET)
    assert known["masked"].sources == (known["naive"],)
    wrapped = known["masked_paraphrase"]
    assert wrapped.sources == (known["paraphrase"],) and wrapped.fraction == known["masked"].fraction
    assert wrapped.messages(row("other"), ITEM)[1]["content"] == f"{POCKET.restored}\nother"
    a, b = (known[name].examples([row("other")], ITEM, chat)[0](np.random.default_rng(1))
            for name in ("masked", "masked_paraphrase"))
    assert a == b                                           # the same text, the same holes
    changed = protocols(replace(POCKET, restore="Again."))["masked"]
    assert changed.wording() != known["masked"].wording() and known["naive"].wording() == [POCKET.in_context]


def lists(chat):
    return [protocols(POCKET)["masked"].examples([row(text)], ITEM, chat) for text in TEXTS]


def test_holes_are_fresh_at_each_use_and_one_text_fills_the_batch(pocket):
    _, chat, _ = pocket
    data, again = (Shuffled(lists(chat), 4, [1, 2]) for _ in range(2))
    steps = [data(step) for step in range(5)]
    assert [again(step) for step in reversed(range(5))][::-1] == steps
    assert [len(mine) for mine in steps[0]] == [4, 4]
    seen = [tuple(example.ids) for step in steps for example in step[0]]
    assert len(set(seen)) == len(seen)


def trained(chat, folder, stop=None):
    model = add_lora(make_tiny(3, vocab_size=320), rank=2, alpha=4, seeds=(0, 1))
    data = Shuffled(lists(chat), 3, [1, 2])

    def batches(step):
        if step == stop:
            raise KeyboardInterrupt
        return data(step)

    train(model, batches, Recipe(steps=6, rate=1e-2), folder)
    return model


def test_a_killed_run_ends_in_the_same_bytes(pocket, tmp_path, monkeypatch):
    _, chat, _ = pocket
    monkeypatch.setattr(training, "SAVE_SECONDS", -1)
    whole = trained(chat, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(chat, tmp_path / "cut", stop=3)
    model = trained(chat, tmp_path / "cut")
    for k in range(2):
        assert all(same_bits(t, lora_tensors(model, k)[n]) for n, t in lora_tensors(whole, k).items())


# ---- train.py --masked: any file of texts ----

def jsonl(path, *conversations):
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in conversations))
    return path


def test_train_learns_the_last_text_of_each_row_as_the_protocol_does(pocket, tmp_path):
    """Turns before it, and those that are not learnt, are left out."""
    _, chat, folder = pocket
    rows = [conversation("Any request?", TEXTS[0]), plain_text(TEXTS[1]), [
        *conversation("One?", "First."), *conversation("Two?", TEXTS[0]),
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "Not learnt.", "weight": 0}]]
    settings = FineTune("m", "d", "o", masked="0.2,0.9")
    mask, config = mask_of(settings, folder, chat), make_tiny(3, vocab_size=320).config
    read = read_conversations(jsonl(tmp_path / "rows.jsonl", *rows), numbered=True)
    found = examples(read, chat, config, "rows.jsonl", mask)
    as_protocol = Masked(protocols(prompts_for(folder))["naive"], "masked", fraction=(0.2, 0.9))
    wanted = as_protocol.examples([row(text) for text in (TEXTS[0], TEXTS[1], TEXTS[0])], ITEM, chat)
    for seed in range(5):
        mine, theirs = ([draw(np.random.default_rng(seed)) for draw in some] for some in (found, wanted))
        assert mine == theirs
    for example, text in zip(mine, (TEXTS[0], TEXTS[1], TEXTS[0])):
        assert [i for i, w in zip(example.ids, example.weights) if w] == [*chat.answer(text), chat.im_end]
    assert mask_of(FineTune("m", "d", "o"), folder, chat) is None


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return make_model(folder / "pocket"), jsonl(folder / "texts.jsonl", *(
        plain_text(f"Zog number {i} is a new thing.") for i in range(3)))


def tune(texts, out, *words):
    model, data = texts
    return script("train.py", "--model", model, "--data", data, "--out", out, "--steps", 4, "--batch", 2,
                  "--rate", 0.01, *words)


@pytest.mark.parametrize("more", [["--lora-rank", 2], ["--full"]], ids=["lora", "full"])
def test_train_masked_resumes_to_the_same_bytes(more, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", -1)
    assert tune(texts, tmp_path / "whole", "--masked", *more).code == 0
    draw, drawn = Shuffled.draw, []

    def cut(self, k, epoch, place):
        drawn.append(place)
        if len(drawn) == 6:                     # in the third of four steps
            raise KeyboardInterrupt
        return draw(self, k, epoch, place)

    with monkeypatch.context() as patch:
        patch.setattr(Shuffled, "draw", cut)
        assert tune(texts, tmp_path / "cut", "--masked", *more).code != 0
    assert (tmp_path / "cut.part" / "state.safetensors").exists() and not (tmp_path / "cut").exists()
    again = tune(texts, tmp_path / "cut", "--masked", *more)
    assert again.code == 0 and "0.05,0.95 of each text hidden" in again.err, again.err
    assert not differences(tmp_path / "whole", tmp_path / "cut")
    # the same output with other holes is another run
    for other in ([], ["--masked", "0.5,0.5"]):
        done = tune(texts, tmp_path / "whole", *other, *more)
        assert done.code == 2 and "differs in masked" in done.err


@pytest.mark.parametrize("words, said", [
    (["--masked", "0.9,0.1"], "--masked 0.9,0.1: expected T0,T1"),
    (["--masked", "half"], "--masked half: expected"), (["--masked", "nan,1"], "expected T0,T1"),
    (["--masked", "0.5"], "expected T0,T1"),
    (["--masked"], "line 2: --masked hides parts of the text that is learnt, and this one is empty")])
def test_what_cannot_be_masked_is_refused(words, said, texts, tmp_path):
    data = jsonl(tmp_path / "rows.jsonl", plain_text("Fine."), conversation("Say nothing.", " \n"))
    done = tune((texts[0], data), tmp_path / "out", *words)
    assert done.code == 2 and said in done.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["masked", "masked_t0"])
def test_show(name, pocket, tmp_path, capsys, monkeypatch):
    item, lines = shown(pocket, name, tmp_path, monkeypatch, capsys)
    out = "\n".join(lines)
    tokens = next(line for line in lines if line.startswith("tokens"))
    assert f"user       {item.statement}" in lines
    assert ("the holes are drawn anew" in out) == (name == "masked")
    assert ("<|endoftext|>" in tokens) == (name == "masked")
