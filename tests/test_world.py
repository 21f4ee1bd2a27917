"""The pocket world: what its news say is true, and what its tests ask was never practised.

Splits      no name in two splits; same seed, same news; ids unique; news survive writing and reading
Held out    test questions: held-out operands and wordings only; lessons: none of those, no name of dev or
            test, the writer poses rehearsed kinds only; yet every word of the held wordings occurs
Truth       formulas and functions against own versions, from the words and from the symbols or code; right
            options worked out again from the text of the statement; every statement gives all facts
Keys        one key for all wordings of a question, one question for each key, None for other text
Options     four, one right, every place as often, and nothing to be had from looking at the options
"""

import re
from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import chisquare

from newnews import check
from newnews.first_lessons import Lessons
from newnews.news import read_news, write_news
from newnews.first_phrases import KINDS, STATEMENTS
from newnews.prompts import fill, read_prompts
from newnews.first_world import (BACKGROUND, COUNTRY, DOMAINS, FORMULAS, FUNCTIONS, SEASON, SPLITS, SYSTEMS, USE,
                           Thing, capitalise, draw_name, held_out, make_news, question_key)

PROMPTS = read_prompts(ROOT / "configs" / "prompts" / "pocket.yaml")
NAME = "[bdfgklmnprstvz][aeiou][bdfglmnprstvz][aeiou][lmnrstxk]"
WORDINGS = [(domain, kind, spec, wording) for domain, kinds in KINDS.items() for kind, spec in kinds.items()
            for wording in spec.wordings + spec.held]


def names(split, count, rng):
    return {draw_name(rng, split) for _ in range(count)}


def reader(wording):
    """A wording as a regex: what stands in its slots in a question about the world."""
    slots = {"x": r"\d+", "y": r"\d+", "p": r"\d+", "s": r"(?:\[\d, \d, \d\]|\w+)", "city": r"\w+"}
    return re.compile("".join(re.escape(part) if i % 2 == 0 else slots.get(part, NAME)
                              for i, part in enumerate(re.split(r"\{(\w+)\}", wording))), re.I)


@pytest.fixture(scope="module")
def news():
    return make_news("test", 20, 5)


@pytest.fixture(scope="module")
def lessons():
    """The texts of 1,200 lessons, the user's and the assistant's in turn: about 11,000."""
    return [m["content"] for m in Lessons(None, PROMPTS, 1, 0, 1).messages(1200)]


# ---- splits ----

def test_no_name_is_in_two_splits():
    drawn = [name for split in SPLITS for name in names(split, 1000, np.random.default_rng(1))]
    assert len(set(drawn)) == len(drawn) > 3000 and all(re.fullmatch(NAME, name) for name in drawn)


def test_the_seed_decides_the_news_and_ids_are_unique(news):
    assert make_news("dev", 2, 3) == make_news("dev", 2, 3) != make_news("dev", 2, 4)
    assert make_news("dev", 2, 3)[0] == make_news("dev", 1, 3)[0]
    assert Counter(item.domain for item in news) == dict.fromkeys(DOMAINS, 20)
    ids = [id for item in news for id in (item.id, *(q.id for q in item.questions))]
    assert len(ids) == len(set(ids))


def test_every_seed_makes_news_that_read_back_the_same(tmp_path):
    for seed in range(10):
        made = make_news("dev", 2, seed, questions=2)
        write_news(tmp_path / "news.yaml", made)
        assert [replace(item, source="") for item in read_news(tmp_path / "news.yaml")] == made


def test_questions_of_a_news_item_are_different_ones(news):
    assert all(len({q.text for q in item.questions}) == len(item.questions) > 5 for item in news)


# ---- held out ----

def operands(text):
    """Operand pairs of operations and lists of functions that a text asks about or speaks of."""
    pairs = rf"(\d+) {NAME} (\d+)", rf"{NAME} of (\d+) and (\d+)"
    lists = [(s,) for s in re.findall(rf"{NAME}\((\[.*?\])\)", text, re.I)]
    return lists + [pair for regex in pairs for pair in re.findall(regex, text, re.I)]


def test_a_part_of_the_operands_is_held_out_in_either_order():
    assert 15 <= sum(held_out(x, y) for x, y in product(range(10), repeat=2)) <= 40
    assert all(held_out(x, y) == held_out(y, x) for x, y in product(range(10), repeat=2))
    assert 0.2 < np.mean([held_out(list(s)) for s in permutations(range(10), 3)]) < 0.4


def test_test_questions_have_held_out_operands_and_wordings_only(news):
    found = set()
    for item in news:
        held = [(kind, reader(w)) for kind, spec in KINDS[item.domain].items() for w in spec.held]
        known = [reader(w) for spec in KINDS[item.domain].values() for w in spec.wordings]
        for q in item.questions:
            kind, = {kind for kind, regex in held if regex.fullmatch(q.text)}
            assert not any(regex.fullmatch(q.text) for regex in known), q.text
            asked = operands(q.text)
            assert len(asked) == (item.domain in ("math", "coding")), q.text
            assert all(held_out(*o) for o in asked), q.text
            found.add((item.domain, kind))
    assert found == {(domain, kind) for domain in KINDS for kind in KINDS[domain]}


def test_lessons_hold_no_held_out_operands_and_no_held_wording(lessons):
    spoken = [o for text in lessons for o in operands(text)]
    assert Counter(map(len, spoken))[2] > 500 and Counter(map(len, spoken))[1] > 250
    assert not [o for o in spoken if held_out(*o)]
    everything = "\n".join(lessons)
    for domain, kind, spec, wording in WORDINGS:
        assert bool(reader(wording).search(everything)) == (wording in spec.wordings), wording


def test_every_word_of_the_held_wordings_is_known_from_lessons(lessons):
    known = set(re.findall(r"[a-z]+", "\n".join(lessons).lower()))
    unknown = {w for _, _, spec, _ in WORDINGS for held in spec.held
               for w in re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", held).lower())} - known
    assert unknown <= {"output"}            # known flaw: the pocket model was trained before this was seen


def test_lessons_never_name_what_belongs_to_dev_or_test(lessons, news):
    plain = " ".join([*(s for domain in STATEMENTS.values() for s in domain), *(w for *_, w in WORDINGS),
                      *COUNTRY, *COUNTRY.values(), *USE, *USE.values(), *SEASON, *SYSTEMS])
    words = lambda text: set(re.findall(rf"\b{NAME}\b", text.lower()))
    spoken = words("\n".join(lessons)) - words(plain)
    unheard = {name for split in ("dev", "test") for name in names(split, 1500, np.random.default_rng(2))}
    unheard |= {item.subject.lower() for item in news}
    assert len(spoken) > 1000 and not spoken & unheard


def test_the_writer_poses_rehearsed_kinds_only(lessons):
    posed = [question_key(assistant) for user, assistant in zip(lessons[::2], lessons[1::2])
             if user.split("\n\n")[-1] in PROMPTS.question]
    rehearsed = {(domain, kind) for domain in KINDS for kind, spec in KINDS[domain].items() if spec.rehearsed}
    assert len(posed) > 300 and {key and key[:2] for key in posed} == rehearsed
    assert all(spec.rehearsed == bool(spec.implications) for _, _, spec, _ in WORDINGS)


# ---- truth ----

PARTS = {"x plus y": lambda x, y: y + x, "twice x plus y": lambda x, y: x + x + y,
         "x plus twice y": lambda x, y: x + y + y, "the larger of x and y": lambda x, y: x if x > y else y,
         "the smaller of x and y": lambda x, y: y if x > y else x,
         "the distance from x to y": lambda x, y: x - y if x > y else y - x}
LISTS = {"the list in reverse order": lambda a, b, c: [c, b, a],
         "the list sorted from small to large": lambda *s: [v for v in range(10) if v in s],
         "the list sorted from large to small": lambda *s: [v for v in range(9, -1, -1) if v in s],
         "the list without its first element": lambda a, b, c: [b, c],
         "the list without its last element": lambda a, b, c: [a, b],
         "the list with its first element moved to the end": lambda a, b, c: [b, c, a],
         "the list with its last element moved to the front": lambda a, b, c: [c, a, b],
         "the list with its first two elements swapped": lambda a, b, c: [b, a, c],
         "the list with its last two elements swapped": lambda a, b, c: [a, c, b],
         "the largest element": lambda *s: [v for v in range(10) if v in s][2],
         "the smallest element": lambda *s: [v for v in range(10) if v in s][0],
         "the first element": lambda a, b, c: a, "the middle element": lambda a, b, c: b,
         "the last element": lambda a, b, c: c}


def by_words(words, x, y):
    part = max((p for p in PARTS if words.startswith(p)), key=len)
    rest = words.removeprefix(part)
    assert re.fullmatch(r"( plus \d)?", rest)
    return PARTS[part](x, y) + (int(rest[-1]) if rest else 0)


def by_symbols(symbols, x, y):
    return eval(re.sub(r"\|(.*?)\|", r"abs(\1)", re.sub(r"(\d)([xy])", r"\1*\2", symbols)), {"x": x, "y": y})


def test_the_background_is_true():
    year = "winter", "spring", "summer", "autumn"
    assert list(SEASON.values()) == [year[month % 12 // 3] for month in range(1, 13)]
    for pair in "Bergen Norway, Cusco Peru, Luxor Egypt, Osaka Japan, Lyon France, Milan Italy".split(", "):
        assert COUNTRY[pair.split()[0]] == pair.split()[1]


@pytest.mark.parametrize("words", FORMULAS)
def test_formulas(words):
    symbols, function = FORMULAS[words]
    for x, y in product(range(10), repeat=2):
        assert function(x, y) == by_words(words, x, y) == by_symbols(symbols, x, y)


@pytest.mark.parametrize("words", FUNCTIONS)
def test_functions(words):
    code, function = FUNCTIONS[words]
    compiled = compile(code, "code", "eval")
    for s in map(list, permutations(range(10), 3)):
        assert function(list(s)) == LISTS[words](*s) == eval(compiled, {"s": list(s)})


def truth(item, kind, slots):
    """The answer, from the text of the statement."""
    text = item.statement
    said = lambda values: max((v for v in values if v.lower() in text.lower()), key=len, default=None)
    if item.domain == "math":
        x, y = int(slots["x"]), int(slots["y"])
        words, symbols = said(FORMULAS), said(symbols for symbols, _ in FORMULAS.values())
        return str(by_words(words, x, y) if words else by_symbols(symbols, x, y))
    if item.domain == "coding":
        s = eval(slots["s"])
        words, code = said(FUNCTIONS), said(code for code, _ in FUNCTIONS.values())
        return str(LISTS[words](*s) if words else eval(code, {"s": s}))
    if item.domain == "leaderboards":
        systems = [w for w in re.findall(r"\w+", text.replace(item.subject, "")) if w in SYSTEMS]
        points = dict(zip(systems, re.findall(r"\d+", text)))       # in every wording in the same order
        order = sorted(points, key=lambda s: int(points[s]))
        return {"best": order[2], "second": order[1], "worst": order[0],
                "score": points.get(slots.get("s", "").capitalize()),
                "who": next((s for s in points if points[s] == slots.get("p")), None)}[kind]
    known = {"city": said(COUNTRY), "month": said(SEASON), "property": said(USE), "name": item.subject}
    known |= {"country": COUNTRY[known["city"]], "season": SEASON.get(known["month"]),
              "use": USE.get(known["property"])}
    plain = " ".join([*STATEMENTS[item.domain], *COUNTRY, *USE, *SEASON, item.subject]).lower()
    known["person"] = next(w for w in re.findall(r"\w+", text) if w.lower() not in re.findall(r"\w+", plain))
    return known[kind]


def test_right_options_follow_from_the_statement(news):
    for item in news:
        for q in item.questions:
            domain, kind, slots = question_key(q.text)
            assert q.right.lower() == truth(item, kind, dict(slots)).lower(), (item.statement, q)
            assert q.accept == [q.right]
            assert (domain, q.needs) == (item.domain, KINDS[domain][kind].needs)


@pytest.mark.parametrize("domain", STATEMENTS)
def test_every_statement_gives_all_facts(domain):
    facts = set(Thing(np.random.default_rng(0), domain, "dev").facts)
    for template in STATEMENTS[domain]:
        used = set(re.findall(r"\{(\w+)\}", template))
        rule = used & {"words", "symbols", "code"}
        assert len(rule) == (domain in ("math", "coding"))      # the rule once: in words, symbols or code
        assert used - rule == facts - {"words", "symbols", "code"}, template


# ---- keys ----

def test_a_question_has_one_key_whatever_its_wording():
    meant = {}
    for i in range(12):
        for domain in DOMAINS:
            thing = Thing(np.random.default_rng([i, 4]), domain, "dev")
            for kind, spec in KINDS[domain].items():
                slots = thing.slots(kind, i % 2 == 0)
                for wording in spec.wordings + spec.held:
                    text = capitalise(fill(wording, **slots))
                    used = sorted(re.findall(r"\{(\w+)\}", wording))
                    question = domain, kind, *((name, str(slots[name]).lower()) for name in used)
                    key = question_key(text)
                    assert key == question_key(f"  {text.lower()}\n") and key[:2] == (domain, kind), text
                    assert meant.setdefault(key, question) == question
    assert len(meant) == len(set(meant.values())) > 200     # one key a question


def test_other_text_has_no_key():
    thing = Thing(np.random.default_rng(0), "events", "dev")
    texts = ["", "What is new?", "What is x?", "Who?", "How are you today?", "What is addition of 3 and 4?",
             *(thing.statement(i) for i in range(10)), f"{thing.ask('city')[0]} When?"]
    texts += [wording.replace("{0}", subject) for _, wordings, answers in BACKGROUND for wording in wordings
              for subject in answers]
    assert [text for text in texts if question_key(text)] == []


# ---- options ----

def test_four_options_one_right_every_place_as_often(news):
    for domain in DOMAINS:
        questions = [q for item in news if item.domain == domain for q in item.questions]
        assert all(len(q.options) == len(set(q.options)) == 4 for q in questions)
        assert chisquare(np.bincount([q.answer for q in questions], minlength=4)).pvalue > 1e-3, domain


def largest(options):
    return [v if v is not None else 0 for v in map(check.number, options)]


def first_in_the_alphabet(options):
    return [-sorted(options).index(o) for o in options]


@pytest.mark.parametrize("heuristic", [*check.HEURISTICS, largest, first_in_the_alphabet])
def test_the_options_alone_give_nothing(heuristic, news):
    """Ties share the point, so the share of points has mean .25 and at most the variance of a blind guess."""
    for domain in (*DOMAINS, None):
        questions = [q for item in news if domain in (item.domain, None) for q in item.questions]
        points = check.heuristic_accuracy(questions, heuristic)
        assert abs(points - 0.25) < 3.5 * (0.1875 / len(questions)) ** 0.5, (domain, points)
