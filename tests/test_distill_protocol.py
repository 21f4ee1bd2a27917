"""Context distillation as protocols: what the teacher reads, the loss and noise of each name, and show. The
loss itself: test_distill.py."""

import numpy as np
import pytest
from test_news import POCKET
from test_protocols import ITEM, make_pocket, shown

from newnews.protocols import protocols
from newnews.protocols.base import conversation
from newnews.selfplay import Writer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pocket")
    return *make_pocket(folder), folder


def test_the_teacher_reads_what_the_writer_was_asked(pocket):
    _, chat, _ = pocket
    prompts = POCKET.__class__(**{**vars(POCKET), "answer": "{question} Be short."})
    row = {"messages": conversation("Zog?", "It is ünï.")}
    known = protocols(prompts)
    example, = known["distill"].examples([row], ITEM, chat)
    assert known["distill"].sources == (known["self_qa"],)
    (wanted,) = known["self_qa"].examples([row], ITEM, chat)
    assert (example.ids, example.weights) == (wanted.ids, wanted.weights)
    asked = chat.prompt([{"role": "user", "content": prompts.with_news(ITEM.statement, "Zog? Be short.")}])
    assert example.other.ids[:len(asked)] == asked and not any(example.other.weights[:len(asked)])
    there, here = ([i for i, w in zip(e.ids, e.weights) if w] for e in (example.other, example))
    assert there == here == [*chat.answer("It is ünï."), chat.im_end]
    assert prompts.answer in known["distill"].wording()


def test_each_name_has_its_loss_and_fresh_noise(pocket):
    _, chat, _ = pocket
    row = {"messages": conversation("Zog?", "Yes.")}
    found = {}
    for name, protocol in protocols(POCKET).items():
        if name.startswith("distill"):
            loss = protocol.loss
            found[name.removeprefix("distill")] = loss.reverse, loss.top, loss.own
            (example,) = protocol.examples([row], ITEM, chat)
            assert callable(example) == loss.own
            if loss.own:
                rng = np.random.default_rng(0)
                assert len({example(rng).noise for _ in range(9)}) == 9
    assert found == {"": (False, None, False), "_reverse": (True, None, False), "_top20": (False, 20, False),
                     "_student": (False, None, True), "_student_reverse": (True, None, True)}


@pytest.mark.parametrize("name", ["distill", "distill_student"])
def test_show(name, pocket, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Writer, "answer", lambda self, asks, *_: {
        job: [f"{ask.stage} {name}" for name in ask.names] for job, ask in asks.items()})
    _, lines = shown(pocket, name, tmp_path, monkeypatch, capsys)
    tokens, teacher = [line for line in lines if line.startswith(("tokens", "teacher"))]
    marked = tokens[tokens.index("["):tokens.rindex("]")]
    assert "<|im_end|>" in marked and marked in teacher and len(teacher) > len(tokens)
