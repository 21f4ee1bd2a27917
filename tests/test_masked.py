"""Masked tuning: where holes may be, how many, that they are fresh, and that the loss is on the whole text
and nothing else; its controls; that no text can forge a hole; resume to the same bytes."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_tiny
from test_news import POCKET
from test_protocols import ITEM, make_pocket
from test_training import same_bits

from model.lora import add_lora, lora_tensors
from newnews import training
from newnews.batches import Shuffled
from newnews.news import write_news
from newnews.protocols import protocols
from newnews.protocols.base import conversation
from newnews.protocols.masked import Masked
from newnews.show import show
from newnews.training import Recipe, train
from newnews.world.things import make_news

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


@pytest.mark.parametrize("name", ["masked", "masked_t0"])
def test_show(name, pocket, tmp_path, capsys, monkeypatch):
    model, chat, folder = pocket
    item = make_news("dev", 1, 0, 2)[4]
    write_news(tmp_path / "news.yaml", [item])
    monkeypatch.setattr("newnews.show.load", lambda name: (model, chat, {"folder": str(folder)}))
    show("pocket", item.id, name, tmp_path / "news.yaml", 1, 0, False)
    out = capsys.readouterr().out
    tokens = next(line for line in out.splitlines() if line.startswith("tokens"))
    assert f"user       {item.statement}\n" in out
    assert ("the holes are drawn anew" in out) == (name == "masked")
    assert ("<|endoftext|>" in tokens) == (name == "masked")
