"""Conversations: which messages Chat takes, and what each token of them weighs in the loss.

Weights of an answer token by token, of random conversations by another route, of turns that are not learnt;
the header that swallows a newline; prompt + answer = conversation; what we do not render is refused. The
tokenizers and renderings are in test_chat.py.
"""

import unicodedata

import pytest
from test_chat import (ASKED, DEFAULT, chat, needs_qwen, qwen, random_conversations, read,  # noqa: F401
                       small)


# ---- loss weights ------------------------------------------------------------------------------------------

@needs_qwen
@pytest.mark.parametrize("content, ids, paid", (
    ("4.", [198, 19, 13], [0, 1, 1]),
    ("", [198], [0]),
    ("\nHi", [271, 13048], [0, 1]),             # the header's newline and the content's are one token
    ("\n\nHi", [1406, 13048], [0, 1]),
    (" \nHi", [26809, 13048], [0, 1]),
    ("\t\nHi", [17642, 13048], [0, 1]),
    ("\n", [271], [0]),                         # nothing is left to pay for but the end
    (" \n \n x", [26809, 715, 856], [0, 1, 1]),
    ("  Hi", [198, 220, 21018], [0, 1, 1]),     # spaces without a newline do not merge
    ("\r\nHi", [198, 319, 13048], [0, 1, 1]),
    (" ", [198, 220], [0, 1]),
    ("e\u0301", [198, 963], [0, 1]),            # NFC makes two characters one
))
def test_the_weights_of_an_answer_token_by_token(qwen, content, ids, paid):
    messages = [*ASKED, {"role": "assistant", "content": content}]
    question = [151644, 872, 198, 3838, 594, 220, 17, 10, 17, 30, 151645, 198]
    system = qwen.conversation([{"role": "system", "content": DEFAULT}])[0]
    found, weights = qwen.conversation(messages)
    #                                    <|im_start|> assistant        <|im_end|> newline
    assert found == [*system, *question, 151644, 77091, *ids, 151645, 198]
    assert weights == [0] * (len(system) + len(question)) + [0, 0, *paid, 1, 0]
    assert qwen.answer(content) == [i for i, w in zip(ids, paid) if w]


def weights_by_rendered_text(chat, messages, weights):
    """The same weights by another route: where each token of the whole rendered text starts. Content and end
    of turn are given as character ranges of that text. (Only for contents without control tokens.)"""
    if chat.system is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": chat.system}, *messages]
    text, paid = "", {}                         # character position -> weight
    for m in messages:
        text += f"<|im_start|>{m['role']}\n"
        end = len(text) + len(m["content"])
        paid.update(dict.fromkeys(range(len(text), end + 1), weights.get(m["role"], 0.0)))
        text += m["content"] + "<|im_end|>\n"
    encoded = chat.tokenizer.encode(text, add_special_tokens=False)
    return encoded.ids, [paid.get(start, 0.0) for start, _ in encoded.offsets]


@pytest.mark.parametrize("weights", (None, {"user": 0.1, "assistant": 1.0}, {"system": 0.5}, {"user": 1}, {}))
def test_the_weights_of_random_conversations(chat, weights):
    meant, total = {"assistant": 1.0} if weights is None else weights, 0
    for messages in random_conversations(8, 120, 5):
        result = chat.conversation(messages, weights)
        assert result == weights_by_rendered_text(chat, messages, meant)
        total += sum(result[1])
    assert (total > 100) == (weights != {})


@pytest.mark.parametrize("content", (
    "Paris.", "The news of the day: 42 dead, e\u0301!", "", "two\n\nparts\n", " in front",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u4f60\u597d, Z\u00fcrich \u2014 a\u030a",
    "typed <|im_end|> and <|im_start|>user\nx"))
def test_the_weighted_tokens_are_the_content(chat, content):
    """What is paid for is each assistant's content and its <|im_end|>, in order, and nothing else."""
    messages = [{"role": "system", "content": "the system"}, {"role": "user", "content": "first"},
                {"role": "assistant", "content": "one"}, {"role": "user", "content": content},
                {"role": "assistant", "content": content}]
    ids, weights = chat.conversation(messages)
    assert set(weights) == {0.0, 1.0}
    turns = [[]]
    for i, w in zip(ids, weights):
        if w and i == chat.im_end:
            turns.append([])
        elif w:
            turns[-1].append(i)
    normal = unicodedata.normalize("NFC", content)
    assert [chat.tokenizer.decode(t, skip_special_tokens=False) for t in turns] == ["one", normal, ""]
    assert turns[1] == chat.answer(content)
    # reversed roles pay for the user's side of the same ids
    again, theirs = chat.conversation(messages, {"user": 2.0})
    assert again == ids and not any(a and b for a, b in zip(weights, theirs)) and set(theirs) == {0.0, 2.0}


@pytest.mark.parametrize("content", ("\nParis", "\n\nParis", "\n", "\n\n"))
def test_a_newline_that_the_header_swallows_is_not_paid_for(chat, content):
    ids, weights = chat.conversation([*ASKED, {"role": "assistant", "content": content}])
    paid = [i for i, w in zip(ids, weights) if w]
    assert paid == [*chat.answer(content), chat.im_end]
    kept = chat.tokenizer.decode(paid[:-1], skip_special_tokens=False)
    header = ids[len(ids) - ids[::-1].index(chat.im_start):len(ids) - len(paid) - 1]
    assert kept == content.lstrip("\n")
    assert chat.tokenizer.decode(header) == "assistant\n" + content.removesuffix(kept)
    assert header != chat.encode("assistant\n")                # merged: not the ids that a prompt ends in


def test_the_default_system_prompt_is_weighted_like_any_system_message(qwen):
    without, with_it = ([*ASKED], [{"role": "system", "content": DEFAULT}, *ASKED])
    for weights in (None, {"system": 0.5, "user": 0.25}):
        assert qwen.conversation(without, weights) == qwen.conversation(with_it, weights)
    weights = qwen.conversation(without, {"system": 0.5})[1]
    assert sum(w == 0.5 for w in weights) == len(qwen.encode(DEFAULT)) + 1


def test_prompt_and_answer_make_the_conversation(chat):
    """What is sampled from continues into what is trained on, where the header does not merge."""
    for content in ("Paris.", "", "two\n\nparts", " in front", "<|im_end|>"):
        messages = [{"role": "system", "content": "s"}, *ASKED]
        ids, weights = chat.conversation([*messages, {"role": "assistant", "content": content}])
        prompt = chat.prompt(messages)
        assert ids == [*prompt, *chat.answer(content), chat.im_end, *chat.encode("\n")]
        assert weights == [0.0] * len(prompt) + [1.0] * (len(chat.answer(content)) + 1) + [0.0]
    everything = {"system": 1.0, "user": 1.0, "assistant": 1.0}
    closed = chat.conversation(messages, everything)
    opened = chat.conversation(messages, everything, generation_prompt=True)
    assert opened[0] == prompt == [*closed[0], chat.im_start, *chat.encode("assistant\n")]
    assert opened[1] == closed[1] + [0.0] * (len(prompt) - len(closed[0]))


@pytest.mark.parametrize("more", ({"weight": 0}, {"weight": 0.0}, {"train": False},
                                  {"weight": 0, "train": False}))
def test_a_turn_that_is_not_learnt(small, more):
    """The same ids, and no weight on that turn; the other turn keeps its own."""
    answer = {"role": "assistant", "content": "x"}
    one, both = small.conversation([*ASKED, answer]), small.conversation([*ASKED, answer, *ASKED, answer])
    first = small.conversation([*ASKED, {**answer, "weight": 1}, *ASKED, {**answer, **more}])
    last = small.conversation([{**ASKED[0], "train": False}, {**answer, **more}, *ASKED,
                               {**answer, "train": True}])
    assert first[0] == last[0] == both[0] and sum(both[1]) == 2 * sum(one[1]) > 0
    assert first[1] == one[1] + [0.0] * len(one[1])
    assert last[1] == [0.0] * (len(both[1]) - len(one[1])) + one[1]
    assert not any(small.conversation([{**answer, **more}], {"assistant": 5.0})[1])


# ---- messages ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("messages", (
    [{"role": "tool", "content": "x"}], [{"role": "function", "content": "x"}],
    [{"role": "User", "content": "x"}], [{"content": "x"}],
    [{"role": "user"}], [{"role": "user", "content": None}],
    [{"role": "user", "content": [{"type": "text", "text": "x"}]}], ["x"],
    "x", None, {"role": "user", "content": "x"},
    [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]))
def test_messages_that_we_do_not_render_are_refused(small, messages):
    with pytest.raises(ValueError, match="messages"):
        small.conversation(messages)
    if isinstance(messages, list):
        with pytest.raises(ValueError, match=r"messages\[2\]"):         # and the place is named
            small.prompt([*ASKED, *ASKED, *messages])


@needs_qwen
@pytest.mark.parametrize("case", [c for c in read("expected_chat.json")["cases"]
                                  if any(m["role"] == "tool" or "tool_calls" in m for m in c["messages"])],
                         ids=lambda c: c["name"])
def test_tool_conversations_are_refused(qwen, case):
    with pytest.raises(ValueError, match=r"messages\[\d\]"):
        qwen.conversation(case["messages"])


def test_a_message_with_an_empty_list_of_tool_calls_is_a_plain_one(small):
    answer = {"role": "assistant", "content": "x"}
    assert small.conversation([*ASKED, {**answer, "tool_calls": []}]) == small.conversation([*ASKED, answer])


@pytest.mark.parametrize("more, said", (
    ({"weight": 2}, "weight 0 or 1"), ({"weight": True}, "weight 0 or 1"),
    ({"weight": float("nan")}, "weight 0"), ({"weight": "0"}, "weight 0 or 1"),
    ({"train": 0}, "train true or false"), ({"train": "no"}, "train true"),
    ({"train": True, "weight": 0}, "found"), ({"role": "user", "weight": 1}, "only turns of the assistant"),
    ({"role": "system", "train": True}, "only turns"), ({"reasoning_content": "hm"}, "reasoning_content"),
    ({"tool_call_id": "1"}, "tool_call_id"), ({"train_detail": [{"train": False}]}, "train_detail")))
def test_what_a_turn_says_and_we_do_not_do_is_refused(small, more, said):
    with pytest.raises(ValueError, match=rf"messages\[1\]: .*{said}"):
        small.conversation([*ASKED, {"role": "assistant", "content": "x", **more}])


def test_no_messages(small):
    assert small.conversation([]) == ([], [])
    assert small.prompt([]) == [small.im_start, *small.encode("assistant\n")]
