"""New News core  discoveries, leaderboards: 15 + 5 news each, 5 locality questions; options = references"""

import re
from pathlib import Path

import pytest
import yaml

import reference_core_discoveries
import reference_core_leaderboards

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "new_news"
HARD = ROOT / "data" / "new_news_hard"
REFERENCE = {"discoveries": reference_core_discoveries.NEWS, "leaderboards": reference_core_leaderboards.NEWS}
FIELDS = ("id domain headline subject statement worlds restatements questions cloze reversed spoils "
          "silent").split()
QUESTION_FIELDS = "id text options answer forms steps needs why ask".split()
NEEDS = "recall application reversal background two_steps".split()


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


CORE = {domain: read(DATA / f"{domain}.yaml") for domain in REFERENCE}
DEV = {domain: read(DATA / "dev" / f"{domain}.yaml") for domain in REFERENCE}
LOCALITY = {domain: read(DATA / "locality" / f"{domain}.yaml") for domain in REFERENCE}
ALL = [(domain, item) for rows in (CORE, DEV) for domain in rows for item in rows[domain]]
each = pytest.mark.parametrize("domain, item", ALL, ids=[item["id"] for _, item in ALL])
each_domain = pytest.mark.parametrize("domain", list(REFERENCE))


def statements(item):
    return [item["statement"], *item["worlds"]]


def says(text, words):
    """Whether `words` occur in `text` as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def frame(statement, world):
    """The statement with the slots of its world blanked out, and the articles before them."""
    values = sorted(vars(world).items(), key=lambda slot: -len(slot[1]))
    for slot, value in values:
        pattern = re.compile(rf"(?<!\w)(an? )?{re.escape(value)}(?!\w)", re.IGNORECASE)
        statement = pattern.sub(f"<{slot}>", statement)
    return statement


@each_domain
def test_counts_ids_and_fields(domain):
    assert len(CORE[domain]) == 15 and len(DEV[domain]) == 5 and len(LOCALITY[domain]) == 5
    items = CORE[domain] + DEV[domain]
    assert [item["id"] for item in items] == list(REFERENCE[domain])
    for item in items:
        assert list(item) == FIELDS
        assert re.fullmatch(rf"{domain}-[a-z0-9-]+", item["id"]) and item["domain"] == domain
        assert [list(question) for question in item["questions"]] == [QUESTION_FIELDS] * 5
        for number, question in enumerate(item["questions"], 1):
            assert question["id"] == f"{item['id']}-{number}"


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
def test_statements_are_short_and_name_the_subject(domain, item):
    for text in statements(item):
        assert len(text.split()) <= 45
        assert item["subject"] in text
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiouA]", text), text
    worlds, _ = REFERENCE[domain][item["id"]]
    assert len(set(item["restatements"])) == 3
    for text in item["restatements"]:
        assert says(text, item["subject"]) and text not in statements(item)
        for value in vars(worlds[0]).values():
            assert says(text, value), (value, text)


@each
def test_questions_name_the_subject_and_tell_nothing(domain, item):
    assert [question["needs"] for question in item["questions"]] == NEEDS
    for question in item["questions"]:
        assert question["steps"] in (1, 2) and question["why"]
        assert says(question["text"], item["subject"]) and says(question["ask"], item["subject"])
        # a text that names some option names all four
        for text in (question["text"], question["ask"]):
            assert sum(says(text, option) for option in question["options"]) in (0, 4), text
        # an option that a statement mentions is the right one of that statement's world
        for world, text in enumerate(statements(item)):
            for number, option in enumerate(question["options"]):
                assert number == world or not says(text, option), (question["id"], option, text)


@each
def test_options_and_forms_cannot_be_mixed_up(domain, item):
    for question in item["questions"]:
        options, forms = question["options"], question["forms"]
        assert len({option.casefold() for option in options}) == 4 and len(forms) == 4
        assert all(1 <= len(option.split()) <= 6 for option in options)
        said = [{form.casefold() for form in [option, *extra]} for option, extra in zip(options, forms)]
        for one in range(4):
            assert len(said[one]) == 1 + len(forms[one]), question["id"]
            for other in range(4):
                if one != other:
                    assert not says(options[other], options[one]), question["id"]
                    assert not said[one] & said[other], question["id"]


@each
def test_cloze_reversed_spoils_and_silent(domain, item):
    worlds, _ = REFERENCE[domain][item["id"]]
    slots = set(vars(worlds[0]).values())
    assert len(item["cloze"]) == 2 and len(item["spoils"]) == 2
    assert {cloze["accept"][0] for cloze in item["cloze"]} == slots
    for cloze in item["cloze"]:
        assert cloze["text"].count("___") == 1 and says(cloze["text"], item["subject"])
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


@each_domain
def test_at_most_a_third_of_the_keys_hold_digits(domain):
    for rows in (CORE, DEV):
        keys = [question["options"][0] for item in rows[domain] for question in item["questions"]]
        assert 3 * sum(bool(re.search(r"\d", key)) for key in keys) <= len(keys)


def test_no_name_is_used_twice_or_in_the_hard_set():
    hard = "\n".join(path.read_text(encoding="utf-8") for path in HARD.glob("*.yaml"))
    for _, item in ALL:
        names = [word for word in item["subject"].split() if word != "Mount"]
        distinctive = names[0]
        assert not says(hard, distinctive), distinctive
        for _, other in ALL:
            assert other is item or not says(str(other), distinctive), (distinctive, other["id"])


@each_domain
def test_locality_questions_are_well_formed(domain):
    for number, question in enumerate(LOCALITY[domain], 1):
        assert question["id"] == f"locality-{domain}-{number}"
        options, accept = question["options"], question["accept"]
        assert len(set(options)) == 4
        assert [option for option in options if option in accept] == [options[question["answer"]]]
        assert not any(says(question["text"] + question["ask"], item["subject"]) for _, item in ALL)
