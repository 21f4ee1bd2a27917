"""The news of math and coding in data/new_news and data/new_news/dev: every option in all four worlds is
recomputed by tests/reference_core_math.py and tests/reference_core_coding.py, and the worlds are minimal
pairs that differ in one piece. The rules for all news are in tests/test_core_set.py.
"""

import importlib

import pytest
from core_rules import rows, statements

WORLDS, OPTIONS = {}, {}
for name in ("math", "coding"):
    reference = importlib.import_module(f"reference_core_{name}")
    WORLDS.update(reference.WORLDS)
    OPTIONS.update(reference.OPTIONS)
NEWS = {item["id"]: item for name in ("math", "coding", "dev/math", "dev/coding") for item in rows(name)}
QUESTIONS = {question["id"]: question for item in NEWS.values() for question in item["questions"]}


def test_the_files_hold_the_news_of_the_reference():
    assert set(NEWS) == set(WORLDS) and set(QUESTIONS) == set(OPTIONS)


@pytest.mark.parametrize("id", QUESTIONS)
def test_the_options_are_the_answers_in_the_four_worlds(id):
    assert QUESTIONS[id]["options"] == OPTIONS[id]


@pytest.mark.parametrize("id", NEWS)
def test_the_worlds_are_minimal_pairs(id):
    frames = set()
    for statement, world in zip(statements(NEWS[id]), WORLDS[id], strict=True):
        before, found, after = statement.rpartition(world.words)
        assert found, f"world {world.words!r} is not in {statement!r}"
        frames.add((before, after))
    assert len(frames) == 1, "the four statements differ in more than the words of their worlds"
