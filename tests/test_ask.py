"""Asking: every format measures what it says, whatever is asked together.

Scores     letter and text log-probabilities equal a plain pass over prompt and answer, <|im_end|> included
Free       replies are greedy, stored as they came, and judged by what is accepted
Order      depends on seed and question alone, balanced; the pick is the option that stood behind the letter
Ways       the news is in the prompt in context, and not closed book
Oracles    a model that knows is always right, in every format; one that picks what is wrong never is
Files      chunks of items, resumed; each item is asked with its own adapter
"""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from test_protocols import POCKET, QWEN, make_pocket

from model.sampling import Completion
from newnews import ask as asking
from newnews.ask import answer_all, ask
from newnews.world.things import make_news
from newnews.news import News, Question
from newnews.outputs import Rows
from newnews.tasks.base import Request
from newnews.tasks.news import NewsTask, shown_order

pytestmark = pytest.mark.usefixtures("one_thread")
ITEM = News("zog", "math", "A zog is new.", [
    Question("zog-1", "What is 3 zog 4?", ["6", "64", "[4, 1]", "seven"], 2, "Work out 3 zog 4.", ["1,234"]),
    Question("zog-2", "Who?", ["Lima", "Oslo", "a zog", "b"], 0, "Who?", ["Lima"]),
    Question("zog-3", "When?", ["x", "yy", "zzz", "wwww"], 3, "When?", ["wwww"])])


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    return make_pocket(tmp_path_factory.mktemp("pocket"))


def asked(model, chat, task, items, adapters=None):
    """{request id: (response, verdict)} of all that the task asks about the items."""
    requests = [(item.id, request) for item in items for request in task.requests(item)]
    by_id = {item.id: item for item in items}
    return {request.id: (response, task.judge(by_id[name], request, response))
            for (name, request), response in zip(requests, ask(model, chat, requests, adapters), strict=True)}


def test_a_format_asked_twice_is_refused():
    with pytest.raises(ValueError, match="once each"):
        NewsTask(POCKET, False, 0, ("free", "text", "free"))


def test_a_warm_reply_does_not_depend_on_what_is_asked_beside_it(pocket):
    model, chat = pocket
    wanted, other = [(ITEM.id, Request(name, [{"role": "user", "content": "Who?"}], max_new_tokens=12,
                                       temperature=1.0)) for name in ("wanted", "other")]
    alone, = ask(model, chat, [wanted])
    first, second = ask(model, chat, [other, wanted])
    assert second == alone and first["text"] != alone["text"]


# ---- scores ----

@torch.no_grad()
def plain(model, prompt, continuation):
    """Log-probabilities of a continuation by one forward pass over everything."""
    logprobs = model(torch.tensor([prompt + continuation]))[0].double().log_softmax(-1)
    return [float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(continuation)]


@pytest.mark.parametrize("in_context", [False, True])
def test_scores_equal_a_plain_forward_pass(in_context, pocket):
    model, chat = pocket
    found = asked(model, chat, NewsTask(POCKET, in_context, 11, ("letter", "text")), [ITEM])
    before = f"{ITEM.statement}\n\n" if in_context else ""
    for q in ITEM.questions:
        response, verdict = found[f"{q.id}/letter"]
        assert (response["item"], verdict["domain"], verdict["question"]) == ("zog", "math", q.id)
        order = shown_order(q, 11)
        shown = "\n".join(f"{letter}. {q.options[i]}" for letter, i in zip("ABCD", order))
        prompt = chat.prompt([{"role": "user",
                               "content": f"{before}{q.text}\n{shown}\nAnswer with one letter."}])
        wanted = [plain(model, prompt, [chat.plain.token_to_id(letter)])[0] for letter in "ABCD"]
        assert response["logprobs"] == pytest.approx(wanted, abs=1e-4) and response["tokens"] == [1] * 4
        assert verdict["pick"] == order[int(np.argmax(wanted))]
        assert verdict["right"] == (verdict["pick"] == q.answer)

        response, verdict = found[f"{q.id}/text"]
        prompt = chat.prompt([{"role": "user", "content": before + q.ask}])
        answers = [[*chat.answer(o), chat.im_end] for o in q.options]
        wanted = [sum(plain(model, prompt, ids)) for ids in answers]
        assert response["logprobs"] == pytest.approx(wanted, abs=1e-4)
        assert response["tokens"] == [len(ids) for ids in answers]
        assert verdict["pick"] == int(np.argmax(wanted))
        per_byte = int(np.argmax(np.array(wanted) / [len(o) for o in q.options]))
        assert verdict["per_byte"] == (per_byte == q.answer)


def test_free_answers_are_greedy_and_compared_with_what_is_accepted(pocket, monkeypatch):
    model, chat = pocket
    replies = [Completion(chat.encode("1234."), True), Completion(chat.encode(" the Lima\nor so"), True),
               Completion(chat.encode("wwww"), False)]
    seen = []

    def generate(model, prompts, stop_ids, sampling, streams, adapters=None, groups=None):
        seen.extend([chat.tokenizer.decode(p, skip_special_tokens=False) for p in prompts])
        assert sampling.temperature == 0 and stop_ids is chat.stop_ids
        return replies

    monkeypatch.setattr(asking, "generate", generate)
    found = asked(model, chat, NewsTask(POCKET, False, 0, ("free",)), [ITEM])
    assert [verdict["right"] for _, verdict in found.values()] == [True, True, False]
    assert found["zog-3/free"][0] == {"item": "zog", "id": "zog-3/free", "text": "wwww", "stopped": False,
                                      "tokens": len(chat.encode("wwww"))}
    assert "Work out 3 zog 4.\nAnswer in a few words." in seen[0]           # `ask`, not `text`


def test_letters_that_are_not_one_token_are_refused(pocket, monkeypatch):
    model, chat = pocket
    monkeypatch.setattr(chat, "answer", lambda text: [1, 2])
    with pytest.raises(ValueError, match="A, B, C, D as one token"):
        asked(model, chat, NewsTask(POCKET, False, 0, ("letter",)), [ITEM])


# ---- order ----

def test_the_order_depends_on_seed_and_question_id_only():
    first, second, _ = ITEM.questions
    assert shown_order(first, 3) == shown_order(replace(second, id="zog-1"), 3)
    orders = {seed: [shown_order(replace(first, id=f"q{i}"), seed) for i in range(50)] for seed in (3, 4)}
    assert shown_order(replace(first, id="coding-snorl-1"), 0) == [2, 0, 3, 1]     # answers are stored in it
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
        monkeypatch.setattr(asking, "score", self.score)
        monkeypatch.setattr(asking, "generate", self.generate)

    def read(self, prompt):
        text = self.chat.tokenizer.decode(prompt, skip_special_tokens=False)
        self.prompts.append(text)
        return text, self.questions[max((t for t in self.questions if t in text), key=len)]

    def score(self, model, prompts, continuations, adapters=None, groups=None):
        out = []
        for prompt, ids in zip(prompts, continuations):
            text, q = self.read(prompt)
            said = self.chat.decode(ids)
            if ids[-1] != self.chat.im_end:                 # a letter: which option stands behind it?
                said = next(line[3:] for line in text.split("\n") if line.startswith(f"{said}. "))
            likely = (said == q.right) == self.knows
            out.append([-0.1 if likely else -50.0] * len(ids))
        return out

    def generate(self, model, prompts, stop_ids, sampling, streams, adapters=None, groups=None):
        asked = [self.read(prompt)[1] for prompt in prompts]
        replies = [q.right if self.knows else q.options[q.answer - 1] for q in asked]
        return [Completion(self.chat.encode(f"{self.marker}{reply}."), True) for reply in replies]


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("prompts", [POCKET, QWEN], ids=["pocket", "qwen"])
def test_who_knows_is_right_in_every_format_and_who_errs_never(prompts, knows, pocket, monkeypatch):
    model, chat = pocket
    news = make_news("dev", 2, 1, 8)
    Told(monkeypatch, chat, news, knows, prompts.answer_marker)
    picked = set()
    for way in (False, True):
        found = asked(model, chat, NewsTask(prompts, way, 4), news)
        assert len(found) > 180 and {verdict["right"] for _, verdict in found.values()} == {knows}
        assert {v["per_byte"] for _, v in found.values() if v["format"] == "text"} == {knows}
        picked |= {shown_order(q, 4).index(found[f"{q.id}/letter"][1]["pick"])
                   for item in news for q in item.questions}
    assert picked == {0, 1, 2, 3} or not knows              # who knows has picked every letter


def test_the_news_is_in_sight_in_context_only(pocket, monkeypatch):
    model, chat = pocket
    told = Told(monkeypatch, chat, [ITEM], True)
    for way in (False, True):
        told.prompts.clear()
        asked(model, chat, NewsTask(POCKET, way, 4), [ITEM])
        assert len(told.prompts) == 3 * (4 + 4 + 1)
        for text in told.prompts:
            assert (f"<|im_start|>user\n{ITEM.statement}\n\n" in text) == (ITEM.statement in text) == way


def test_unknown_formats_are_refused():
    with pytest.raises(ValueError, match="some of letter, text, free, reason"):
        NewsTask(POCKET, False, 0, ("letter", "rumour"))


# ---- files ----

def test_answers_go_on_where_they_stopped_each_item_with_its_own_adapter(pocket, tmp_path, monkeypatch):
    model, chat = pocket
    news, task = [replace(ITEM, id=f"zog-{i}") for i in range(3)], NewsTask(POCKET, True, 9)
    on, events = [], []

    @contextmanager
    def adapters_of(items):
        on.extend(item.id for item in items)
        yield range(len(items))
        on.clear()

    def answer(model, chat, requests, adapters):
        events.append([sorted({(name, on[k]) for (name, _), k in zip(requests, adapters)}), len(requests)])
        if len(events) == 2:
            raise KeyboardInterrupt
        return [{"item": name, "id": request.id} for name, request in requests]

    monkeypatch.setattr(asking, "ask", answer)
    tokens = sum(len(chat.prompt(r.messages)) * max(1, len(r.continuations or ()))
                 for r in task.requests(ITEM))
    monkeypatch.setattr(asking, "CHUNK_TOKENS", 2 * tokens)         # two items a chunk
    with pytest.raises(KeyboardInterrupt):
        answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, task, news, adapters_of)
    on.clear()
    output = answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, task, news, adapters_of)
    assert [who for who, _ in events] == [[("zog-0", "zog-0"), ("zog-1", "zog-1")], [("zog-2", "zog-2")],
                                          [("zog-2", "zog-2")]]
    assert [count for _, count in events] == [18, 9, 9]
    assert [row["item"] for row in output.read()] == [f"zog-{i}" for i in range(3) for _ in range(9)]
    answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, task, news, adapters_of)
    assert output.whole and len(events) == 3                # whole: nothing is asked again


@pytest.mark.parametrize("format", ["free", "text", "letter"])
def test_what_does_not_fit_the_context_is_found_before_any_asking(format, pocket, tmp_path, monkeypatch):
    """It would be met in the last chunk, and the output begun would be of other data once they are mended."""
    model, chat = pocket
    news = [*(replace(ITEM, id=f"zog-{i}") for i in range(3)), replace(ITEM, statement="It is new. " * 300)]
    task = NewsTask(POCKET, True, 9, (format,))
    monkeypatch.setattr(asking, "CHUNK_TOKENS", 1)
    monkeypatch.setattr(asking, "ask", None)
    with pytest.raises(ValueError, match=r"^zog: a prompt of \d{4} tokens and \d+ new .* context of 512$"):
        answer_all(Rows(tmp_path / "a.jsonl", {}), model, chat, task, news)
    assert not [path for path in tmp_path.iterdir() if path.name != "a.jsonl.lock"]


def test_a_long_continuation_counts_too(pocket, tmp_path):
    model, chat = pocket
    question = replace(ITEM.questions[0], options=["6", "64", "[4, 1]", "seven " * 600])
    for format, new in (("text", r"\d{3,4}"), ("free", None)):
        task = NewsTask(POCKET, False, 9, (format,))
        output = Rows(tmp_path / format, {})
        if new is None:                                     # it is not shown there
            assert answer_all(output, model, chat, task, [replace(ITEM, questions=[question])]).whole
            continue
        with pytest.raises(ValueError, match=rf"^zog: a prompt of \d+ tokens and {new} new ones do not fit"):
            answer_all(output, model, chat, task, [replace(ITEM, questions=[question])])


def test_what_is_asked_together_changes_nothing(pocket):
    model, chat = pocket
    task = NewsTask(POCKET, True, 9)
    items = [ITEM, replace(ITEM, id="zag", statement="A zag is old and long.")]
    both = [(item.id, request) for item in items for request in task.requests(item)]
    together, alone = ask(model, chat, both), [ask(model, chat, [one])[0] for one in both]
    for a, b in zip(together, alone, strict=True):
        if "logprobs" in a:
            assert a["logprobs"] == pytest.approx(b["logprobs"], abs=1e-4)
        else:
            assert a == b
