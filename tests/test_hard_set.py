"""The 75 news of data/new_news_hard together: 15 x 5 x 5, no problems; in math and coding the right options
are those of tests/reference_hard_*.py."""

import importlib
from collections import Counter

import pytest
from core_rules import DOMAINS, HARD

from newnews.check import report
from newnews.news import read_locality, read_news


def test_new_news_is_whole_and_gives_nothing_away():
    items = read_news(HARD)
    assert Counter(item.domain for item in items) == dict.fromkeys(DOMAINS, 15)
    assert all(len(item.questions) == 5 and item.subject and item.headline for item in items)
    assert all(sum(q.needs == "recall" for q in item.questions) <= 1 for item in items)
    text, fine = report(items)
    assert fine, text
    ids = [q.id for item in items for q in item.questions] + [q.id for q in read_locality(HARD)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("domain", ["math", "coding"])
def test_new_news_answers_are_those_of_the_reference(domain):
    answers = importlib.import_module(f"reference_hard_{domain}").ANSWERS
    questions = {q.id: q for item in read_news(HARD / f"{domain}.yaml") for q in item.questions}
    assert len(answers) >= 70 and {id: questions[id].right for id in answers} == answers
