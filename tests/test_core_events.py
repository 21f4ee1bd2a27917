"""The news of events in data/new_news and data/new_news/dev: every option in all four worlds is recomputed by
tests/reference_core_events.py, and the four statements are one pattern with other slots. The rules for all
news are in tests/test_core_set.py.
"""

import datetime
import re

import pytest
import reference_core_events as reference
from core_rules import rows, statements

NEWS = rows("events") + rows("dev/events")

per_news = pytest.mark.parametrize("item", NEWS, ids=lambda item: item["id"])


def words(text):
    """Lower case, articles and punctuation away, a space at both ends: "a in b" then means whole words."""
    found = re.findall(r"\w+(?:[:.']\w+)*", text.lower())
    return f" {' '.join(w for w in found if w not in ('a', 'an', 'the'))} "


def test_the_files_hold_the_news_of_the_reference():
    assert [item["id"] for item in NEWS] == list(reference.WORLDS) == list(reference.QUESTIONS)


@per_news
def test_every_option_is_the_answer_of_its_world(item):
    assert [q["options"] for q in item["questions"]] == reference.options(item["id"])


@per_news
def test_the_worlds_are_minimal_pairs_in_the_slots(item):
    """With the slots' values cut out, the four statements are one; no two worlds share a slot's value."""
    patterns = set()
    for text, slots in zip(statements(item), reference.WORLDS[item["id"]], strict=True):
        for name, value in slots.items():
            assert len(re.findall(rf"\b{value}", text)) == 1, (value, text)
            text = re.sub(rf"\b{value}", f"<{name}>", text)
        patterns.add(text)
    assert len(patterns) == 1
    for name in reference.WORLDS[item["id"]][0]:
        assert len({slots[name] for slots in reference.WORLDS[item["id"]]}) == 4


@per_news
def test_the_texts_of_a_news_item(item):
    assert not any(str(year) in text for text in statements(item) for year in range(1900, 2027))
    slots = reference.WORLDS[item["id"]][0].values()
    for text in item["restatements"]:
        assert all(part in text for part in [item["subject"], *slots])
        assert set(re.findall(r"\d{4}", item["statement"])) <= set(re.findall(r"\d{4}", text))
    assert all(item["subject"] in gap["text"] for gap in item["cloze"])
    assert {gap["accept"][0] for gap in item["cloze"]} == set(slots)
    assert not any(item["subject"] in spoil["ask"] for spoil in item["spoils"])
    assert item["subject"] in item["silent"]["ask"]
    for q in item["questions"]:
        assert words(q["options"][0]).strip() in words(q["why"]), (q["options"][0], q["why"])


@per_news
def test_spoils_ask_for_what_the_news_would_answer_wrongly(item):
    """A true answer that is also one of the news' own right options would not show that a rule spread."""
    right = {words(q["options"][0]) for q in item["questions"]}
    assert all(words(a) not in right for spoil in item["spoils"] for a in spoil["accept"])


@per_news
def test_a_statement_mentions_no_option_of_another_world(item):
    for q in item["questions"]:
        assert not [o for o in q["options"][1:] if words(o) in words(item["statement"])], q["id"]


def test_no_question_names_the_right_option_of_a_sibling_alone():
    """The slots' values in a question's text: all four worlds' or none."""
    for item in NEWS:
        for name in reference.WORLDS[item["id"]][0]:
            values = [slots[name] for slots in reference.WORLDS[item["id"]]]
            for q in item["questions"]:
                assert sum(words(value) in words(q["text"]) for value in values) in (0, 4), q["id"]


def test_the_first_of_july_2029_is_a_sunday():
    """events-callun-strike-5 says so, and counts from there."""
    assert datetime.date(2029, 7, 1).strftime("%A") == "Sunday"
