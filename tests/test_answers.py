"""Asking: that every format measures what it says (what counts as the same answer: test_judge.py).

Scores     letter and text log-probabilities equal a plain pass over prompt and answer, <|im_end|> included
Order      depends on seed and question alone, balanced; the pick is the option that stood behind the letter
Ways       the news is in the prompt in context, and not closed book
Oracles    a model that knows is always right, in every format; one that picks what is wrong never is
Files      one chunk an item, resumed; adapters are on while their item is asked; the table
"""

import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from test_protocols import POCKET, QWEN, make_pocket

from model.sampling import Completion
from newnews import answers
from newnews.answers import answer_all, ask, shown_order, table, verdicts
from newnews.news import News, Question
from newnews.outputs import Rows
from newnews.first_world import make_news

pytestmark = pytest.mark.usefixtures("one_thread")
ITEM = News("zog", "math", "A zog is new.", [
    Question("zog-1", "What is 3 zog 4?", ["6", "64", "[4, 1]", "seven"], 2, "Work out 3 zog 4.", ["1,234"]),
    Question("zog-2", "Who?", ["Lima", "Oslo", "a zog", "b"], 0, "Who?", ["Lima"]),
    Question("zog-3", "When?", ["x", "yy", "zzz", "wwww"], 3, "When?", ["wwww"])])


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    return make_pocket(tmp_path_factory.mktemp("pocket"))


# ---- scores ----

@torch.no_grad()
def plain(model, prompt, continuation):
    """Log-probabilities of a continuation by one forward pass over everything."""
    logprobs = model(torch.tensor([prompt + continuation]))[0].double().log_softmax(-1)
    return [float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(continuation)]


@pytest.mark.parametrize("in_context", [False, True])
def test_scores_equal_a_plain_forward_pass(in_context, pocket):
    model, chat = pocket
    rows = ask(model, chat, POCKET, ITEM, in_context, 11, ("letter", "text"))
    before = f"{ITEM.statement}\n\n" if in_context else ""
    for q, row in zip(ITEM.questions, rows):
        assert (row["news"], row["domain"], row["question"]) == ("zog", "math", q.id)
        assert (row["needs"], row["in_context"]) == (q.needs, in_context)
        order = row["letter"]["order"]
        shown = "\n".join(f"{letter}. {q.options[i]}" for letter, i in zip("ABCD", order))
        asked = f"{before}{q.text}\n{shown}\nAnswer with one letter."
        prompt = chat.prompt([{"role": "user", "content": asked}])
        wanted = [plain(model, prompt, [chat.plain.token_to_id(letter)])[0] for letter in "ABCD"]
        assert row["letter"]["logprobs"] == pytest.approx(wanted, abs=1e-4)
        assert row["letter"]["pick"] == order[int(np.argmax(wanted))]
        assert row["letter"]["right"] == (row["letter"]["pick"] == q.answer)

        prompt = chat.prompt([{"role": "user", "content": before + q.ask}])
        wanted = [sum(plain(model, prompt, [*chat.answer(o), chat.im_end])) for o in q.options]
        sizes = [len(o) for o in q.options]
        assert row["text"]["logprobs"] == pytest.approx(wanted, abs=1e-4) and row["text"]["bytes"] == sizes
        assert row["text"]["pick"] == int(np.argmax(wanted))
        assert row["text"]["pick_per_byte"] == int(np.argmax(np.array(wanted) / sizes))


def test_free_answers_are_greedy_and_compared_with_what_is_accepted(pocket, monkeypatch):
    model, chat = pocket
    replies = [Completion(chat.encode("1234."), True), Completion(chat.encode(" the Lima\nor so"), True),
               Completion(chat.encode("wwww"), False)]
    seen = []

    def generate(model, prompts, stop_ids, sampling):
        seen.extend([chat.tokenizer.decode(p, skip_special_tokens=False) for p in prompts])
        assert sampling.temperature == 0 and stop_ids is chat.stop_ids
        return replies

    monkeypatch.setattr(answers, "generate", generate)
    rows = ask(model, chat, POCKET, ITEM, False, 0, ("free",))
    assert [row["free"]["right"] for row in rows] == [True, True, False]
    assert [row["free"]["answer"] for row in rows] == ["1234.", "the Lima", None]
    assert rows[2]["free"]["text"] == "wwww"
    assert "Work out 3 zog 4.\nAnswer in a few words." in seen[0]           # `ask`, not `text`
    assert not {"letter", "text"} & set(rows[0])


def test_letters_that_are_not_one_token_are_refused(pocket, monkeypatch):
    model, chat = pocket
    monkeypatch.setattr(chat, "answer", lambda text: [1, 2])
    with pytest.raises(ValueError, match="one token each"):
        ask(model, chat, POCKET, ITEM, False, 0, ("letter",))


# ---- order ----

def test_the_order_depends_on_seed_and_question_id_only():
    first, second, _ = ITEM.questions
    assert shown_order(first, 3) == shown_order(replace(second, id="zog-1"), 3)
    orders = {seed: [shown_order(replace(first, id=f"q{i}"), seed) for i in range(50)] for seed in (3, 4)}
    assert orders[3] != orders[4] and all(sorted(order) == [0, 1, 2, 3] for order in orders[3])


def test_every_order_is_drawn_as_often():
    orders = [tuple(shown_order(replace(ITEM.questions[0], id=f"q{i}"), 0)) for i in range(2400)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24 and chisquare(counts).pvalue > 1e-3


# ---- ways and oracles ----

class Told:
    """A scripted model: finds the question in the prompt and gives its right answer, or a wrong one."""

    def __init__(self, monkeypatch, chat, news, knows, marker=""):
        self.chat, self.knows, self.prompts, self.marker = chat, knows, [], marker
        self.questions = {text: q for item in news for q in item.questions for text in (q.text, q.ask)}
        monkeypatch.setattr(answers, "score", self.score)
        monkeypatch.setattr(answers, "generate", self.generate)

    def read(self, prompt):
        text = self.chat.tokenizer.decode(prompt, skip_special_tokens=False)
        self.prompts.append(text)
        return text, self.questions[max((t for t in self.questions if t in text), key=len)]

    def score(self, model, prompts, continuations):
        out = []
        for prompt, ids in zip(prompts, continuations):
            text, q = self.read(prompt)
            said = self.chat.decode(ids)
            if ids[-1] != self.chat.im_end:                 # a letter: which option stands behind it?
                said = next(line[3:] for line in text.split("\n") if line.startswith(f"{said}. "))
            likely = (said == q.right) == self.knows
            out.append([-0.1 if likely else -50.0] * len(ids))
        return out

    def generate(self, model, prompts, stop_ids, sampling):
        asked = [self.read(prompt)[1] for prompt in prompts]
        replies = [q.right if self.knows else q.options[q.answer - 1] for q in asked]
        return [Completion(self.chat.encode(f"{self.marker}{reply}."), True) for reply in replies]


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("prompts", [POCKET, QWEN], ids=["pocket", "qwen"])
def test_who_knows_is_right_in_every_format_and_who_errs_never(prompts, knows, pocket, monkeypatch):
    model, chat = pocket
    news = make_news("dev", 2, 1, 8)
    Told(monkeypatch, chat, news, knows, prompts.answer_marker)
    rows = [row for item in news for way in (False, True) for row in ask(model, chat, prompts, item, way, 4)]
    assert len(rows) > 120
    for format in ("letter", "text", "text_per_byte", "free"):
        assert {right for _, right in verdicts(rows, format)} == {knows}, format
    picked = {row["letter"]["order"].index(row["letter"]["pick"]) for row in rows}
    assert picked == {0, 1, 2, 3} or not knows              # who knows has picked every letter


def test_the_news_is_in_sight_in_context_only(pocket, monkeypatch):
    model, chat = pocket
    told = Told(monkeypatch, chat, [ITEM], True)
    for way in (False, True):
        told.prompts.clear()
        ask(model, chat, POCKET, ITEM, way, 4)
        assert len(told.prompts) == 3 * (4 + 4 + 1)
        for text in told.prompts:
            assert (f"<|im_start|>user\n{ITEM.statement}\n\n" in text) == (ITEM.statement in text) == way


# ---- files ----

def test_answers_go_on_where_they_stopped_and_adapters_are_on_meanwhile(pocket, tmp_path, monkeypatch):
    model, chat = pocket
    news = [replace(ITEM, id=f"zog-{i}") for i in range(3)]
    on, events = [], []

    @contextmanager
    def adapter_of(item):
        on.append(item.id)
        yield
        on.remove(item.id)

    def asked(model, chat, prompts, item, in_context, seed):
        events.append((item.id, list(on), in_context, seed))
        if len(events) == 3:
            raise KeyboardInterrupt
        return [{"news": item.id}]

    monkeypatch.setattr(answers, "ask", asked)
    with pytest.raises(KeyboardInterrupt):
        answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, POCKET, news, True, 9, adapter_of)
    on.clear()
    output = answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, POCKET, news, True, 9, adapter_of)
    assert events == [(f"zog-{i}", [f"zog-{i}"], True, 9) for i in (0, 1, 2, 2)]
    assert output.read() == [{"news": item.id} for item in news] and output.whole
    answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, POCKET, news, True, 9, adapter_of)
    assert len(events) == 4                                 # whole: nothing is asked again


def test_the_table_has_a_row_a_domain_and_counts_replies_without_an_answer():
    def row(news, domain, letter, text, per_byte, free, answer="x"):
        return {"news": news, "domain": domain, "letter": {"right": letter},
                "text": {"right": text, "right_per_byte": per_byte},
                "free": {"right": free, "answer": answer}}

    rows = [row("a", "math", True, True, False, True), row("a", "math", True, False, False, False, None),
            row("b", "math", True, False, False, False), row("c", "events", False, False, True, True)]
    head, math, events, whole, failed = table(rows).split("\n")
    assert math.split()[:3] == ["math", "3", "0.333"] and events.split()[:3] == ["events", "1", "1.000"]
    columns = [0.5, 0.75, 0.25, 0.25]                       # free form, letter, option text, text per byte
    assert [float(cell) for cell in re.findall(r"(\S+) \[", whole)] == columns
    assert "no answer found in 1 of 4" in failed and max(map(len, (head, math, events, whole))) <= 110
