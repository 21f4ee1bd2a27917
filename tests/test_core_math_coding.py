"""The news of math and coding in data/new_news and data/new_news/dev; the locality questions of both domains.

Answers    recomputed in all four worlds by tests/reference_core_math.py and tests/reference_core_coding.py
Statements short, with the subject, and minimal pairs: four worlds that differ in one piece each
Questions  five, in the order of needs; four options, none to be taken for another; no hint of the right one
Names      shared by no two news, the older set in data/new_news_hard included
"""

import importlib
import re
from collections import Counter

import pytest
import yaml
from conftest import ROOT

FOLDER = ROOT / "data" / "new_news"
SIZES = {"math": 15, "coding": 15, "dev/math": 5, "dev/coding": 5}
NEEDS = ["recall", "application", "reversal", "background", "two_steps"]
FIELDS = {"id", "domain", "headline", "subject", "statement", "worlds", "restatements", "questions", "cloze",
          "reversed", "spoils", "silent"}
QUESTION_FIELDS = {"id", "text", "options", "answer", "forms", "steps", "needs", "why", "ask"}
LOCALITY_FIELDS = {"id", "text", "options", "answer", "needs", "why", "ask", "accept"}
WORLDS, OPTIONS = {}, {}
for name in ("math", "coding"):
    reference = importlib.import_module(f"reference_core_{name}")
    WORLDS.update(reference.WORLDS)
    OPTIONS.update(reference.OPTIONS)


def rows(name, folder=FOLDER):
    return yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))


NEWS = {item["id"]: item for name in SIZES for item in rows(name)}
QUESTIONS = {question["id"]: question for item in NEWS.values() for question in item["questions"]}


def mentions(text, phrase):
    """Whether the phrase stands in the text as whole words, in upper or lower case."""
    return re.search(rf"(?<!\w){re.escape(phrase.casefold())}(?!\w)", text.casefold()) is not None


def statements(item):
    return [item["statement"], *item["worlds"]]


# ---- files ----

def test_the_files_hold_the_news_of_the_reference():
    assert {name: len(rows(name)) for name in SIZES} == SIZES
    assert len(NEWS) == sum(SIZES.values()), "an id is there twice"
    assert set(NEWS) == set(WORLDS) and set(QUESTIONS) == set(OPTIONS)


@pytest.mark.parametrize("name", SIZES)
def test_every_item_has_its_fields(name):
    domain = name.split("/")[-1]
    for item in rows(name):
        assert set(item) == FIELDS and item["domain"] == domain, item["id"]
        assert re.fullmatch(rf"{domain}-[a-z0-9-]+", item["id"])
        counts = [len(item[field]) for field in ("worlds", "restatements", "questions", "cloze", "spoils")]
        assert counts == [3, 3, 5, 2, 2], item["id"]
        asked = [item["reversed"], *item["spoils"]]
        assert all(set(row) == {"ask", "accept"} and row["accept"] for row in asked), item["id"]
        assert all(set(row) == {"text", "accept"} for row in item["cloze"]), item["id"]
        assert all(row["text"].count("___") == 1 and row["accept"] for row in item["cloze"]), item["id"]
        assert set(item["silent"]) == {"ask"} and item["headline"]
        assert item["subject"] in item["reversed"]["accept"], item["id"]
        assert not mentions(item["reversed"]["ask"], item["subject"]), item["id"]


@pytest.mark.parametrize("name", SIZES)
def test_at_most_a_third_of_the_keys_hold_digits(name):
    keys = [question["options"][0] for item in rows(name) for question in item["questions"]]
    assert sum(any(c.isdigit() for c in key) for key in keys) <= len(keys) / 3


def test_no_two_news_share_a_name():
    names = [item["subject"].casefold() for item in NEWS.values()]
    for path in sorted((ROOT / "data" / "new_news_hard").glob("*.yaml")):
        names += [item["subject"].casefold() for item in yaml.safe_load(path.read_text(encoding="utf-8"))]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    texts = {id: str([statements(item), item["questions"]]) for id, item in NEWS.items()}
    for id, item in NEWS.items():
        assert [other for other in texts if other != id and mentions(texts[other], item["subject"])] == []


# ---- statements ----

@pytest.mark.parametrize("id", NEWS)
def test_statements_are_short_and_minimal_pairs(id):
    item, frames = NEWS[id], set()
    for statement, world in zip(statements(item), WORLDS[id]):
        assert len(statement.split()) <= 45 and item["subject"] in statement
        before, found, after = statement.rpartition(world.words)
        assert found, f"world {world.words!r} is not in {statement!r}"
        frames.add((before, after))
    assert len(frames) == 1, "the four statements differ in more than the words of their worlds"
    assert len(set(statements(item))) == 4
    for text in item["restatements"]:
        assert len(text.split()) <= 45 and item["subject"] in text
        assert text not in statements(item)
    assert len(set(item["restatements"])) == 3


# ---- questions ----

@pytest.mark.parametrize("id", NEWS)
def test_five_questions_in_the_order_of_needs(id):
    item = NEWS[id]
    assert [q["needs"] for q in item["questions"]] == NEEDS
    assert [q["id"] for q in item["questions"]] == [f"{id}-{n}" for n in range(1, 6)]
    assert [q["steps"] for q in item["questions"]] == [1, 1, 1, 1, 2]
    for question in item["questions"]:
        assert set(question) == QUESTION_FIELDS and question["answer"] == 0 and question["why"]
        assert mentions(question["text"], item["subject"]) and mentions(question["ask"], item["subject"])


@pytest.mark.parametrize("id", QUESTIONS)
def test_the_options_are_the_answers_in_the_four_worlds(id):
    assert QUESTIONS[id]["options"] == OPTIONS[id]


@pytest.mark.parametrize("id", QUESTIONS)
def test_no_option_can_be_taken_for_another(id):
    options, forms = QUESTIONS[id]["options"], QUESTIONS[id]["forms"]
    assert len(options) == len(forms) == 4 and all(1 <= len(option.split()) <= 6 for option in options)
    accepted = [[option, *said] for option, said in zip(options, forms)]
    assert max(Counter(said.casefold() for group in accepted for said in group).values()) == 1
    for group in accepted:
        others = [said for other in accepted if other is not group for said in other]
        assert [(short, long) for short in group for long in others if mentions(long, short)] == []


@pytest.mark.parametrize("id", QUESTIONS)
def test_options_and_texts_do_not_tell_which_world_is_actual(id):
    question = QUESTIONS[id]
    item = NEWS[id.rpartition("-")[0]]
    # an option may be in the actual statement only if every other world's statement has its own option
    if any(mentions(item["statement"], option) for option in question["options"]):
        assert all(mentions(*pair) for pair in zip(statements(item), question["options"]))
    # a text names all four options or none; numbers that are given do not count
    named = [option for option in question["options"] if mentions(question["text"], option)]
    assert len(named) in (0, 4) or all(option.lstrip("-").isdigit() for option in named), named


# ---- locality ----

@pytest.mark.parametrize("domain", ["math", "coding"])
def test_locality_has_five_questions_of_its_own(domain):
    questions = rows(f"locality/{domain}")
    assert [q["id"] for q in questions] == [f"core-locality-{domain}-{n}" for n in range(1, 6)]
    for question in questions:
        assert set(question) == LOCALITY_FIELDS and len(set(question["options"])) == 4
        assert question["options"][question["answer"]] in question["accept"]
        assert not any(mentions(question["text"], item["subject"]) for item in NEWS.values())
