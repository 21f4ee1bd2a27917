"""The news of discoveries and leaderboards in data/new_news and data/new_news/dev: every option in all four
worlds is made from the slots of tests/reference_core_discoveries.py and tests/reference_core_leaderboards.py,
and the four statements are one frame with other slots. The rules for all news are in tests/test_core_set.py.
"""

import re

import pytest
from core_rules import rows, says, statements

import reference_core_discoveries
import reference_core_leaderboards

REFERENCE = {"discoveries": reference_core_discoveries.NEWS, "leaderboards": reference_core_leaderboards.NEWS}
ALL = [(domain, item) for folder in ("", "dev/") for domain in REFERENCE for item in rows(folder + domain)]
each = pytest.mark.parametrize("domain, item", ALL, ids=[item["id"] for _, item in ALL])


def frame(statement, world):
    """The statement with the slots of its world blanked out, and the articles before them."""
    values = sorted(vars(world).items(), key=lambda slot: -len(slot[1]))
    for slot, value in values:
        pattern = re.compile(rf"(?<!\w)(an? )?{re.escape(value)}(?!\w)", re.IGNORECASE)
        statement = pattern.sub(f"<{slot}>", statement)
    return statement


@pytest.mark.parametrize("domain", REFERENCE)
def test_the_files_hold_the_news_of_the_reference(domain):
    assert [item["id"] for other, item in ALL if other == domain] == list(REFERENCE[domain])


@each
def test_every_option_is_derived_from_its_world(domain, item):
    worlds, answers = REFERENCE[domain][item["id"]]
    for question, answer in zip(item["questions"], answers, strict=True):
        assert question["options"] == [answer(world) for world in worlds], question["id"]
        assert question["answer"] == 0


@each
def test_worlds_are_minimal_pairs_that_state_their_slots(domain, item):
    worlds, _ = REFERENCE[domain][item["id"]]
    frames = [frame(text, world) for text, world in zip(statements(item), worlds, strict=True)]
    assert len(set(statements(item))) == 4 and len(set(frames)) == 1, frames
    for slot in vars(worlds[0]):
        assert frames[0].count(f"<{slot}>") == 1, (slot, frames[0])


@each
def test_restatements_keep_every_fact(domain, item):
    worlds, _ = REFERENCE[domain][item["id"]]
    for text in statements(item):
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiouA]", text), text
    for text in item["restatements"]:
        for value in vars(worlds[0]).values():
            assert says(text, value), (value, text)


@each
def test_a_statement_mentions_only_options_of_its_own_world(domain, item):
    for question in item["questions"]:
        for world, text in enumerate(statements(item)):
            for number, option in enumerate(question["options"]):
                assert number == world or not says(text, option), (question["id"], option, text)


@each
def test_cloze_reversed_spoils_and_silent(domain, item):
    worlds, _ = REFERENCE[domain][item["id"]]
    slots = set(vars(worlds[0]).values())
    assert {cloze["accept"][0] for cloze in item["cloze"]} == slots
    for cloze in item["cloze"]:
        assert says(cloze["text"], item["subject"])
        assert not any(says(cloze["text"], value) for value in slots)
    assert item["reversed"]["accept"][0] == item["subject"]
    assert not any(says(item["reversed"]["ask"], name) for name in item["reversed"]["accept"])
    # the true answer of a spoil is what the news does not say
    said = {value for world in worlds for value in vars(world).values()}
    for question in item["questions"]:
        said |= {question["options"][0], *question["forms"][0]}
    for spoil in item["spoils"]:
        assert spoil["accept"] and not said & set(spoil["accept"]) and not says(spoil["ask"], item["subject"])
    assert says(item["silent"]["ask"], item["subject"])
