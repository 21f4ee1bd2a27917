"""data/new_news as a whole: 75 news and 25 for development, and the rules that hold for every one of them.

Answers are recomputed by the modules of the domains (tests/test_core_*.py); here are

Files      counts, ids, fields; the check finds nothing; the card's hash is that of the files
Questions  five in the order of needs; four options, none to be taken for another; no hint of the right one
Names      shared by no two news, the older set in data/new_news_hard included
"""

import hashlib
import re
from collections import Counter

import pytest
from core_rules import DOMAINS, FOLDER, HARD, NEEDS, rows, says, statements

from newnews.check import check
from newnews.news import read_locality, read_news
from newnews.tasks.judge import normalise

CORE = {domain: rows(domain) for domain in DOMAINS}
DEV = {domain: rows(f"dev/{domain}") for domain in DOMAINS}
LOCALITY = {domain: rows(f"locality/{domain}") for domain in DOMAINS}
NEWS = {item["id"]: item for group in (CORE, DEV) for items in group.values() for item in items}
QUESTIONS = {q["id"]: q for item in NEWS.values() for q in item["questions"]}
FIELDS = {"id", "domain", "headline", "subject", "statement", "worlds", "restatements", "questions", "cloze",
          "reversed", "spoils", "silent"}
QUESTION_FIELDS = {"id", "text", "options", "answer", "forms", "steps", "needs", "why", "ask"}

each_news = pytest.mark.parametrize("item", NEWS.values(), ids=list(NEWS))
each_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))


# ---- files ----

def test_counts():
    for group, size in (CORE, 15), (DEV, 5), (LOCALITY, 5):
        assert [len(items) for items in group.values()] == [size] * 5
    assert len(NEWS) == 100 and len(QUESTIONS) == 500, "an id is there twice"
    assert len(read_news(FOLDER)) == 75 and len(read_news(FOLDER / "dev")) == 25
    assert len(read_locality(FOLDER)) == 25


def test_the_check_finds_nothing():
    text, fine = check([FOLDER, FOLDER / "dev", HARD])
    assert fine and text.count("\n0 problems") == 3 and "\n0 names of one in another" in text, text


def digest(folder):
    """sha256 over the five files of a folder."""
    return hashlib.sha256(b"".join((folder / f"{d}.yaml").read_bytes() for d in DOMAINS)).hexdigest()


def test_the_hashes_on_the_cards_are_those_of_the_files():
    assert digest(FOLDER) in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert digest(FOLDER / "dev") in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert digest(HARD) in (HARD / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("group", [CORE, DEV], ids=["core", "dev"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_at_most_a_third_of_the_keys_hold_digits(group, domain):
    keys = [q["options"][0] for item in group[domain] for q in item["questions"]]
    assert 3 * sum(any(c.isdigit() for c in key) for key in keys) <= len(keys)


# ---- news ----

@each_news
def test_a_news_item_has_its_fields(item):
    assert set(item) == FIELDS and item["headline"]
    assert re.fullmatch(rf"{item['domain']}-[a-z0-9-]+", item["id"])
    counts = [len(item[field]) for field in ("worlds", "restatements", "questions", "cloze", "spoils")]
    assert counts == [3, 3, 5, 2, 2]
    assert all(set(row) == {"ask", "accept"} and row["accept"] for row in [item["reversed"], *item["spoils"]])
    assert all(set(row) == {"text", "accept"} and row["accept"] for row in item["cloze"])
    assert all(row["text"].count("___") == 1 for row in item["cloze"])
    assert set(item["silent"]) == {"ask"}
    assert item["subject"] in item["reversed"]["accept"]
    assert not says(item["reversed"]["ask"], item["subject"])


@each_news
def test_statements_are_short_and_name_the_subject(item):
    texts = [*statements(item), *item["restatements"]]
    assert len({normalise(text) for text in texts}) == 7
    assert all(len(text.split()) <= 45 and says(text, item["subject"]) for text in texts)


@each_news
def test_the_worlds_share_half_of_their_words_with_the_actual_one(item):
    actual, *others = [Counter(text.lower().split()) for text in statements(item)]
    for other in others:
        assert (actual & other).total() >= max(actual.total(), other.total()) / 2


@each_news
def test_five_questions_in_the_order_of_needs(item):
    assert [q["needs"] for q in item["questions"]] == NEEDS
    assert [q["steps"] for q in item["questions"]] == [1, 1, 1, 1, 2]
    assert [q["id"] for q in item["questions"]] == [f"{item['id']}-{n}" for n in range(1, 6)]
    for q in item["questions"]:
        assert set(q) == QUESTION_FIELDS and q["answer"] == 0 and q["why"].endswith((".", "?"))
        for text in (q["text"], q["ask"]):
            assert says(text, item["subject"]) or says(text, item["subject"].split()[0])


# ---- questions ----

@each_question
def test_no_option_can_be_taken_for_another(question):
    options, forms = question["options"], question["forms"]
    assert len(options) == len(forms) == 4 and all(1 <= len(option.split()) <= 6 for option in options)
    ways = [[option, *said] for option, said in zip(options, forms)]
    assert max(Counter(said.casefold() for group in ways for said in group).values()) == 1
    for group in ways:
        others = [said for other in ways if other is not group for said in other]
        assert [(short, long) for short in group for long in others if says(long, short)] == []


@each_question
def test_options_and_texts_do_not_tell_which_world_is_actual(question):
    item = NEWS[question["id"].rpartition("-")[0]]
    # an option in the actual statement: every other world's statement has its own option
    if any(says(item["statement"], option) for option in question["options"]):
        assert all(says(*pair) for pair in zip(statements(item), question["options"]))
    # a text names all four options or none; numbers that are given do not count
    for text in (question["text"], question["ask"]):
        named = [option for option in question["options"] if says(text, option)]
        assert len(named) in (0, 4) or all(option.lstrip("-").isdigit() for option in named), named


# ---- names ----

def test_no_two_news_share_a_name():
    names = [item["subject"].casefold() for item in NEWS.values()]
    names += [item["subject"].casefold() for domain in DOMAINS for item in rows(domain, HARD)]
    assert max(Counter(names).values()) == 1
    hard = spoken("\n".join(path.read_text(encoding="utf-8") for path in sorted(HARD.rglob("*.yaml"))))
    texts = {id: spoken(str([statements(item), item["questions"]])) for id, item in NEWS.items()}
    common = {"Mount", "Lake", "Radio"}     # of subjects whose invented word comes second
    for id, item in NEWS.items():
        name = next(word for word in item["subject"].split() if word not in common).strip("-").casefold()
        assert name in texts[id] and name not in hard, name
        assert [other for other in texts if other != id and name in texts[other]] == []


def spoken(text):
    """The words of a text, in lower case."""
    return set(re.findall(r"\w+", text.casefold()))


# ---- locality ----

@pytest.mark.parametrize("domain", DOMAINS)
def test_locality_questions_have_one_right_option_and_name_no_news(domain):
    for number, question in enumerate(LOCALITY[domain], 1):
        assert question["id"] in (f"locality-{domain}-{number}", f"core-locality-{domain}-{number}")
        assert {"id", "text", "options", "answer", "ask", "accept"} <= set(question) <= \
            {"id", "text", "options", "answer", "ask", "accept", "needs", "why"}
        options = question["options"]
        assert len(set(options)) == 4
        assert [option for option in options if option in question["accept"]] == [options[question["answer"]]]
        assert not any(says(question["text"] + question["ask"], item["subject"]) for item in NEWS.values())
