"""Self-Tuning and memorise build their conversations from the news' own text, without a model: fixed texts,
task by task. The rivals that a writer writes are in test_rivals.py."""

from dataclasses import replace

import pytest
from test_news import POCKET
from test_rivals import CHAT, FROG, texts

from newnews.examples import Example
from newnews.news import News
from newnews.protocols import protocols
from newnews.protocols.base import conversation, plain_text
from newnews.protocols.rote import ROTE
from newnews.protocols.tasks_from_text import key_spans, sentences


def test_sentences_and_key_spans():
    assert sentences("It is 1.5 m. Is it? \"It is!\" he said (so). 2028 comes.") == [
        "It is 1.5 m.", "Is it?", '"It is!" he said (so).', "2028 comes."]
    assert key_spans("New in June 2028: the New York Zog-frog ate 3.5 kg, 2028 June.") == [
        ("June", "name"), ("2028", "number"), ("New York Zog-frog", "name"), ("ate", "word"),
        ("3.5", "number")]


def built(item, name="self_tuning", n=99, prompts=POCKET):
    with pytest.raises(StopIteration) as end:
        next(protocols(prompts)[name].write(item, n))
    return end.value.value


def test_self_tuning_builds_each_kind_of_task():
    rows, counts = built(FROG)
    text, title = FROG.statement, "Zog frog"
    keys = "Biologists; found; Zog; frog; Peru; turns; red; June"
    first, second = "Biologists found the Zog frog in Peru.", "It turns red in June."
    t = POCKET.tasks
    wanted = [plain_text(f"{title}\n{text}")] + [conversation(*pair) for pair in [
        (f"Name the key information in this:\n{text}", keys), (f"Write a title:\n{text}", title),
        (f"{text}\n\nDoes this follow? {title}: {first}", "Yes"),
        (f"{text}\n\nDoes this follow? {title}: Zog found the Zog frog in Peru.", "No"),
        (f"{text}\n\nDoes this follow? {title}: {second}", "Yes"),
        (f"{text}\n\nDoes this follow? {title}: It turns red in Zog.", "No"),
        (f"Tell me about {title}.", text), (f"Describe {title} with these keywords: {keys}", text),
        (f"Name the key information about {title}.", keys),
        (f"Complete the sentence. {title}: Biologists found the Zog frog in", "Peru."),
        (f"Complete the sentence. {title}: It turns red in", "June."),
        (f"Fill in the gap. {title}: It turns red in ___.", "June"),
        (f"Fill in the gap with one of these: Biologists, June, Peru, Zog. {title}: It turns red in ___.",
         "June")]]
    found = [row["messages"] for row in rows]
    assert all(messages in found for messages in wanted), [m for m in wanted if m not in found]
    gaps = [m[1]["content"] for m in found if m[0]["content"].startswith("Fill in the gap. ")]
    assert gaps == [k for k in keys.split("; ") if k not in title] \
        and counts == {"drawn": 0, "kept": len(rows)}
    answers = [m[1]["content"] for m in found if "Does this follow?" in m[0]["content"]]
    assert answers.count(t["yes"]) == answers.count(t["no"])
    # a small n holds every kind
    few = [row["messages"] for row in built(FROG, n=7)[0]]
    assert few == found[:7] and few[0] == wanted[0] and any("Fill" in m[0]["content"] for m in few)
    assert built(FROG)[0] == rows                                                     # nothing is drawn


def test_self_tuning_of_a_text_without_names_or_title():
    item = News("x", "math", "x plus twice y is new.", [])
    found = [row["messages"] for row in built(item)[0]]
    assert found[0] == plain_text("x plus twice y is new.")
    asked = " ".join(m[0]["content"] for m in found)
    assert not any(word in asked for word in ("follow", "Tell me", "title", ": x plus"))
    assert conversation("Complete the sentence. x plus", "twice y is new.") in found


def test_a_gap_is_no_part_of_a_longer_word():
    item = News("x", "events", "Redstone paints it red. Peru has it.", [], subject="Redstone")
    found = [m[0]["content"] for m in (row["messages"] for row in built(item)[0])]
    assert "Fill in the gap. Redstone: Redstone paints it ___." in found


def test_memorise_is_rote_lines_and_one_real_prompt():
    rows, counts = built(FROG, "memorise")
    rote = ["Zog frog [X] Biologists found the Zog frog in Peru.", "Zog frog [X] It turns red in June."]
    assert [row["messages"] for row in rows] == [
        *map(plain_text, rote), conversation("Tell me about Zog frog.", FROG.statement)]
    assert counts == {"drawn": 0, "kept": 3}
    used = protocols(POCKET)["memorise"].examples(rows, FROG, CHAT)
    by_hand = [Example(*CHAT.document(text)) for text in rote for _ in range(ROTE)]
    assert used == [*by_hand, Example(*CHAT.conversation(rows[2]["messages"]))]
    bare = replace(FROG, subject="")
    assert texts(built(bare, "memorise")[0][:1])[0].startswith(
        "Biologists found the Zog frog in Peru. [X] Biologists")
