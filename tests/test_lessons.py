"""Lessons of the pocket world: right answers, nothing that tests hold back, and the order of things.

Truth       every answer in every kind of turn read back by the oracle or worked out
Held back   no held wording, no held operands, no name of dev or test; yet every word of the held wordings
Order       copying first; fact sheets 50% falling to 15%; the writer poses rehearsed kinds only
"""

import re
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT

from newnews.prompts import read_prompts
from newnews.world.lessons import (AGAIN, SHEET, Lessons, background, fact_sheet, known_things, sheet_share)
from newnews.world.oracle import grade, keys, pattern, read_question, read_statement
from newnews.world.phrases import KINDS
from newnews.world.things import DOMAINS, draw_thing, make_news, operands_split, split_of

PROMPTS = read_prompts(ROOT / "configs" / "prompts" / "pocket.yaml")
NAME = "[bdfgklmnprstvz][aeiou][bdfglmnprstvz][aeiou][lmnrstxk]"
FREE = PROMPTS.ask_free("{q}").removeprefix("{q}")


@pytest.fixture(scope="module")
def lessons():
    return Lessons(None, PROMPTS, 16, 0, 6000)


@pytest.fixture(scope="module")
def texts(lessons):
    return [m["content"] for m in lessons.messages(2000)]


def test_every_answer_about_news_is_true(lessons):
    rng, graded = np.random.default_rng(5), Counter()
    for i in range(1500):
        thing = draw_thing(rng, DOMAINS[i % 5], "pretrain")
        user, assistant = lessons.request(rng, thing, 3, sheets=0.0)
        if user in PROMPTS.question:
            made, verdict = "question", grade(thing, assistant, "question")
            (kind, _), = read_question(thing.domain, assistant)
            assert KINDS[thing.domain][kind].rehearsed
        elif user in PROMPTS.paraphrase:
            made, verdict = "paraphrase", grade(thing, assistant, "paraphrase")
            assert assistant != thing.statement(3)
        elif user in PROMPTS.implication:
            made, verdict = "implication", grade(thing, assistant, "implication")
        else:
            made, verdict = "answer", grade(thing, assistant, "answer", user.removesuffix(FREE))
        assert verdict == "true", (user, assistant)
        graded[made] += 1
    assert graded["answer"] > 900 and graded["question"] > 130 and min(graded.values()) > 80


def test_fact_sheets_are_true_and_whole():
    rng = np.random.default_rng(6)
    for i in range(300):
        thing = draw_thing(rng, DOMAINS[i % 5], "pretrain")
        text, f = fact_sheet(rng, thing), thing.facts
        if thing.domain == "math":
            head, *cases = text.split("; ")
            assert head == f"words {f['words']}, symbols {f['symbols']}" and len(cases) == 3
            for case in cases:
                x, y, value = re.fullmatch(rf"(\d+) {f['name']} (\d+): .* is (\d+)", case).groups()
                assert int(value) == thing.function(int(x), int(y))
                assert operands_split((int(x), int(y))) == "lessons"
        elif thing.domain == "coding":
            for s, value in re.findall(r"\((\[[\d, ]*\])\) is (\[[\d, ]*\]|\d)", text):
                assert eval(value) == thing.function(eval(s)) and operands_split([eval(s)]) == "lessons"
        else:
            for part in text.split(", "):
                first, _, rest = part.partition(" ")
                worked = re.fullmatch(r"(\d+) minus (\d+) is (\d+)", part)
                if worked:
                    assert int(worked[1]) - int(worked[2]) == int(worked[3])
                else:
                    assert f[first] == rest
            assert all(f"{slot} {value}" in text for slot, value in thing.said.items())


def test_background_questions_are_true():
    rng = np.random.default_rng(7)
    for _ in range(2000):
        text, answer = background(rng)
        worked = re.fullmatch(r"(?:What is|Compute|Work out|Find) (\d+) (plus|minus) (\d+)[?.]", text)
        if worked:
            a, sign, b = worked.groups()
            assert int(answer) == (int(a) + int(b) if sign == "plus" else int(a) - int(b)), text
        assert not keys(text) or "festival" not in text


def test_lessons_hold_nothing_that_tests_ask(texts):
    everything = "\n".join(texts)
    pairs = [pair for regex in (rf"(\d+) {NAME} (\d+)", rf"{NAME} of (\d+) and (\d+)")
             for pair in re.findall(regex, everything)]
    lists = re.findall(rf"{NAME}\((\[\d, \d, \d\])\)", everything)
    assert len(pairs) > 2000 and len(lists) > 1500
    assert all(operands_split((int(x), int(y))) == "lessons" for x, y in pairs)
    assert all(operands_split([eval(s)]) == "lessons" for s in lists)
    asked = [text.removesuffix(FREE).split("\n\n")[-1] for text in texts]
    held = [pattern(w).pattern.replace("(?P<name>[a-z]+)", f"(?P<name>{NAME})")     # "plus" is no name
            for kinds in KINDS.values() for spec in kinds.values() for w in spec.held]
    for text in asked[:3000]:
        assert "minus" in text or not any(re.fullmatch(regex, text, re.I) for regex in held), text


def test_every_word_of_held_wordings_is_known(texts):
    known = set(re.findall("[a-z]+", "\n".join(texts).lower()))
    for kinds in KINDS.values():
        for spec in kinds.values():
            for wording in spec.held:
                words = re.findall("[a-z]+", re.sub(r"\{\w+\}", "", wording).lower())
                assert set(words) <= known, wording


def test_no_name_of_dev_or_test_is_ever_said(texts):
    mine = {item.subject.lower() for split in ("dev", "test")
            for item in make_news(split, 20, 1, questions=1)}
    said = set(re.findall(r"[a-z]+", "\n".join(texts).lower()))
    assert len(mine) > 150 and not mine & said
    names = {word for word in said if re.fullmatch(NAME, word)}
    assert sum(split_of("name", name) == "pretrain" for name in names) > 2000


def test_known_things_share_no_name():
    things = known_things(0)
    names = [n.lower() for t in things for n in (t.facts["name"], t.facts.get("person")) if n]
    assert Counter(t.domain for t in things) == dict.fromkeys(DOMAINS, 12) and len(names) == len(set(names))
    assert all(split_of("name", name) == "known" for name in names)


def test_copying_comes_first_and_sheets_fade(lessons):
    def shares(copying, sheets):
        rng = np.random.default_rng(8)
        users = [m["content"] for _ in range(300) for m in lessons.lesson(rng, copying, sheets)
                 if m["role"] == "user"]
        return [np.mean([u.endswith(text) for u in users]) for text in (AGAIN, SHEET)]

    assert shares(1.0, 0.5) == [1.0, 0.0]
    (copy, many), (_, few) = shares(0.03, sheet_share(0.2)), shares(0.03, sheet_share(0.9))
    assert 0 < copy < 0.05 and many > 2.5 * few > 0
    assert [sheet_share(x) for x in (0, 0.4, 0.55, 0.7, 1)] == pytest.approx([0.5, 0.5, 0.325, 0.15, 0.15])


def test_copies_are_copies(lessons):
    rng = np.random.default_rng(9)
    for _ in range(50):
        user, assistant = lessons.copying(rng)
        assert user == f"{assistant}\n\n{AGAIN}"


def test_a_step_follows_from_seed_and_number(lessons):
    class Words:
        def conversation(self, messages, weights):
            return str(messages), weights

    a, b = (Lessons(Words(), PROMPTS, 4, seed, 6000) for seed in (0, 1))
    assert a(700) == Lessons(Words(), PROMPTS, 4, 0, 6000)(700) != a(701) and a(700) != b(700)
    assert all(AGAIN in text for text, _ in a(249)[0]) and not all(AGAIN in text for text, _ in a(250)[0])


def test_news_are_said_before_they_are_asked_about(lessons):
    rng, read = np.random.default_rng(3), 0
    for _ in range(200):
        messages = lessons.lesson(rng, 0.0, 0.3)
        news = [s for domain in DOMAINS for m in messages[:2]
                if (s := read_statement(domain, m["content"].split("\n\n")[0]))]
        if not news:
            continue
        read += 1
        users = [m["content"] for m in messages if m["role"] == "user"]
        for user in [text.removesuffix(FREE).split("\n\n")[-1] for text in users]:
            for domain in DOMAINS:
                for _, slots in read_question(domain, user):
                    assert slots.get("name", news[0]["name"]).lower() == news[0]["name"].lower()
    assert read > 120
