"""data/new_news/events.yaml, its dev and its locality.

Every option in all four worlds is recomputed by tests/reference_core_events.py. The rules of the schema:
fields, lengths, minimal pairs, options and forms that cannot be mistaken for each other, nothing given away.
"""

import datetime
import re
from collections import Counter

import pytest
import reference_core_events as reference
import yaml
from conftest import ROOT

FOLDER = ROOT / "data" / "new_news"
CORE, DEV, LOCALITY = (yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
                       for name in ("events.yaml", "dev/events.yaml", "locality/events.yaml"))
NEWS = CORE + DEV
QUESTIONS = [q for item in NEWS for q in item["questions"]]
KINDS = {"festival", "Treaty", "Council", "Cup", "School", "Prize", "Museum", "Union", "Club", "Zoo", "Radio",
         "Library", "Canal", "Day", "Lake"}     # common words of the subjects; the other word is invented
NEEDS = ["recall", "application", "reversal", "background", "two_steps"]

per_news = pytest.mark.parametrize("item", NEWS, ids=lambda item: item["id"])
per_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["id"])


def words(text):
    """Lower case, articles and punctuation away, a space at both ends: "a in b" then means whole words."""
    found = re.findall(r"\w+(?:[:.']\w+)*", text.lower())
    return f" {' '.join(w for w in found if w not in ('a', 'an', 'the'))} "


def statements(item):
    return [item["statement"], *item["worlds"]]


def test_the_files_hold_what_the_reference_holds():
    assert (len(CORE), len(DEV), len(LOCALITY)) == (15, 5, 5)
    assert [item["id"] for item in NEWS] == list(reference.WORLDS) == list(reference.QUESTIONS)
    assert all(item["domain"] == "events" and item["id"].startswith("events-") for item in NEWS)
    for names in ([item["subject"] for item in NEWS], [item["headline"] for item in NEWS],
                  [x["id"] for x in [*QUESTIONS, *LOCALITY]], [q["text"] for q in QUESTIONS]):
        assert Counter(names).most_common(1)[0][1] == 1


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
    assert set(item) == {"id", "domain", "headline", "subject", "statement", "worlds", "restatements",
                         "questions", "cloze", "reversed", "spoils", "silent"}
    assert all(len(text.split()) <= 45 and item["subject"] in text for text in statements(item))
    assert not any(str(year) in text for text in statements(item) for year in range(1900, 2027))
    slots = reference.WORLDS[item["id"]][0].values()
    assert len(item["restatements"]) == 3
    for text in item["restatements"]:
        assert all(part in text for part in [item["subject"], *slots]) and text not in statements(item)
        assert set(re.findall(r"\d{4}", item["statement"])) <= set(re.findall(r"\d{4}", text))
    assert len(item["cloze"]) == len(item["spoils"]) == 2
    assert all(gap["text"].count("___") == 1 and item["subject"] in gap["text"] for gap in item["cloze"])
    assert {gap["accept"][0] for gap in item["cloze"]} == set(slots)
    assert item["subject"] in item["reversed"]["accept"] and item["subject"] not in item["reversed"]["ask"]
    assert not any(item["subject"] in spoil["ask"] for spoil in item["spoils"])
    assert item["subject"] in item["silent"]["ask"] and set(item["silent"]) == {"ask"}


@per_news
def test_the_five_questions_of_a_news_item(item):
    name = item["subject"].split()[0]
    assert [q["needs"] for q in item["questions"]] == NEEDS
    assert [q["steps"] for q in item["questions"]] == [1, 1, 1, 1, 2]
    assert [q["id"] for q in item["questions"]] == [f"{item['id']}-{n}" for n in range(1, 6)]
    for q in item["questions"]:
        assert set(q) == {"id", "text", "options", "answer", "forms", "steps", "needs", "why", "ask"}
        assert q["answer"] == 0 and q["why"].endswith(".")
        assert name in q["text"] or "Ruta Hellan" in q["text"]
        assert name in q["ask"] or "Ruta Hellan" in q["ask"]
        assert words(q["options"][0]).strip() in words(q["why"]), (q["options"][0], q["why"])


@per_news
def test_spoils_ask_for_what_the_news_would_answer_wrongly(item):
    """A true answer that is also one of the news' own right options would not show that a rule spread."""
    right = {words(q["options"][0]) for q in item["questions"]}
    assert all(words(a) not in right for spoil in item["spoils"] for a in spoil["accept"])


@per_question
def test_options_cannot_be_mistaken_for_each_other(question):
    options = [words(o) for o in question["options"]]
    assert len(set(options)) == 4 and all(1 <= len(o.split()) <= 6 for o in question["options"])
    assert not any(a in b for a in options for b in options if a is not b)
    assert len(question["forms"]) == 4
    sayings = [{words(s) for s in [option, *forms]}
               for option, forms in zip(question["options"], question["forms"])]
    assert sum(map(len, sayings)) == len(set.union(*sayings))
    for own, forms in enumerate(sayings):       # nor may a form hold another option as whole words
        assert not any(options[w] in form for form in forms for w in range(4) if w != own)


@per_news
def test_a_statement_mentions_no_option_of_another_world(item):
    for q in item["questions"]:
        assert not [o for o in q["options"][1:] if words(o) in words(item["statement"])], q["id"]


@per_question
def test_a_question_names_all_its_options_or_none(question):
    """One that names some would tell; in a free-form question a choice is named as a whole."""
    for text in (question["text"], question["ask"]):
        assert sum(words(o) in words(text) for o in question["options"]) in (0, 4), text


def test_no_question_names_the_right_option_of_a_sibling_alone():
    """The slots' values in a question's text: all four worlds' or none."""
    for item in NEWS:
        for name in reference.WORLDS[item["id"]][0]:
            values = [slots[name] for slots in reference.WORLDS[item["id"]]]
            for q in item["questions"]:
                assert sum(words(value) in words(q["text"]) for value in values) in (0, 4), q["id"]


@pytest.mark.parametrize("news", [CORE, DEV], ids=["core", "dev"])
def test_few_right_options_hold_digits(news):
    keys = [q["options"][0] for item in news for q in item["questions"]]
    assert sum(any(c.isdigit() for c in key) for key in keys) <= len(keys) / 3


def test_names_are_not_those_of_the_hard_set():
    hard = " ".join(path.read_text(encoding="utf-8")
                    for path in sorted((ROOT / "data" / "new_news_hard").rglob("*.yaml")))
    names = [name for item in NEWS for name in item["subject"].split() if name not in KINDS]
    assert len(names) == len(set(names)) == 20
    assert not [name for name in names if re.search(rf"\b{name}\b", hard, re.IGNORECASE)]


def test_the_first_of_july_2029_is_a_sunday():
    """events-callun-strike-5 says so, and counts from there."""
    assert datetime.date(2029, 7, 1).strftime("%A") == "Sunday"



@pytest.mark.parametrize("question", LOCALITY, ids=lambda question: question["id"])
def test_locality_questions(question):
    assert set(question) == {"id", "text", "options", "answer", "ask", "accept"}
    assert len(set(question["options"])) == 4
    right = question["options"][question["answer"]]
    assert right in question["accept"]
    assert not any(words(o) == words(a) for o in question["options"] if o != right
                   for a in question["accept"])
