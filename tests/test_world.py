"""The pocket world: what its news say is true, and what its tests ask was never practised.

Splits      no name, no combination of known parts, no operands in two splits; the seed decides
Held out    test questions use held wordings and operands only; 8 of 16 cannot have been rehearsed
Truth       rules and worked steps against own versions; background against itself; right options worked out
            again from the text of the statement
Options     four, one right, every place as often; what heuristics that see only options or statement get
"""

import re
from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from newnews.news import read_news, write_news
from newnews.world.background import (COUNTRIES, FACTS, LABS, MONTHS, PROPERTIES, SEASON, SKILLS, SYSTEMS,
                                      months_between)
from newnews.world.oracle import keys, pattern
from newnews.world.phrases import KINDS
from newnews.world.statements import STATEMENTS
from newnews.world.things import (CITIES, DOMAINS, FORMULAS, FUNCTIONS, MOST, SPLITS, capitalise,
                                  combination_split, draw_facts, draw_name, draw_thing, make_news,
                                  operands_split, split_of, steps_of)

PAIRS = list(product(range(10), repeat=2))
LISTS = list(map(list, permutations(range(10), 3)))


@pytest.fixture(scope="module")
def news():
    """2,000 test questions: 25 news a domain, 16 questions each."""
    return make_news("test", 25, 5)


# ---- splits ----

def test_splits_share_no_name_and_no_combination():
    names, combinations = {}, {}
    for split in SPLITS:
        rng = np.random.default_rng([1, 2])
        for domain in DOMAINS:
            for _ in range(20 if split != 'pretrain' else 200):
                facts = draw_facts(rng, domain, split)
                for name in filter(None, (facts["name"].lower(), facts.get("person", "").lower())):
                    assert names.setdefault(name, split) == split
                parts = tuple(facts[k] for k in ("city", "month", "property", "lab", "bench", "beaten")
                              if k in facts)
                assert not parts or combinations.setdefault((domain, *parts), split) == split
    assert len(names) > 1000 and len(combinations) > 500


def test_festivals_of_each_split_are_spread_evenly():
    for split in ("known", "dev", "test"):
        mine = [(c, m) for c, m in product(CITIES, MONTHS)
                if combination_split("events", {"city": c, "month": m}) == split]
        assert set(Counter(c for c, _ in mine).values()) == {1}
        assert set(Counter(m for _, m in mine).values()) == {2}


def test_no_name_is_a_known_word():
    rng = np.random.default_rng(0)
    known = {w.lower() for w in (*CITIES, *MONTHS, *LABS, *SKILLS, *SYSTEMS)}
    assert not known & {draw_name(rng, "pretrain") for _ in range(3000)}
    assert split_of("name", draw_name(rng, "dev")) == "dev"


def test_operands_belong_to_lessons_dev_or_test():
    pairs, lists = ({split: [o for o in every if operands_split(o) == split]
                     for split in ("lessons", "dev", "test")} for every in (PAIRS, [[s] for s in LISTS]))
    assert all(operands_split((x, y)) == operands_split((y, x)) for x, y in PAIRS)
    for split in ("dev", "test"):
        assert len(pairs[split]) == 20 and 70 < len(lists[split]) < 150
        for place in (0, 1):
            assert set(Counter(pair[place] for pair in pairs[split]).values()) == {2}
    orders = [{operands_split([list(order)]) for order in permutations(s)}
              for s in ([0, 1, 2], [3, 5, 8], [2, 4, 9])]
    assert max(map(len, orders)) > 1            # a list is held as a sequence


def test_the_seed_decides_the_news(news):
    assert make_news("dev", 2, 3) == make_news("dev", 2, 3) != make_news("dev", 2, 4)
    assert make_news("dev", 2, 3)[0] == make_news("dev", 1, 3)[0]
    ids = [id for item in news for id in (item.id, *(q.id for q in item.questions))]
    assert len(ids) == len(set(ids)) and Counter(item.domain for item in news) == dict.fromkeys(DOMAINS, 25)


def test_news_read_back_the_same(tmp_path):
    made = make_news("dev", 3, 8)
    write_news(tmp_path / "news.yaml", made)
    assert [replace(item, source="") for item in read_news(tmp_path / "news.yaml")] == made


# ---- held out ----

def test_sixteen_different_questions_of_which_eight_cannot_have_been_rehearsed(news):
    for item in news:
        asked = [key for q in item.questions for key in keys(q.text)]
        assert len(asked) == len(set(asked)) == len(item.questions) == 16, item.id
        safe = 0
        for q in item.questions:
            kind = q.why.partition(":")[0]
            held = [pattern(w) for w in KINDS[item.domain][kind].held]
            known = [pattern(w) for w in KINDS[item.domain][kind].wordings]
            assert any(regex.fullmatch(q.text) for regex in held), q.text
            assert not any(regex.fullmatch(q.text) for regex in known), q.text
            safe += not KINDS[item.domain][kind].rehearsed or kind in ("compute", "call")
        assert safe >= 8, item.id
        assert {"computation", "reversal"} & {q.needs for q in item.questions}


def test_test_operands_are_held(news):
    asked = Counter()
    for item in news:
        for q in item.questions:
            (*_, slots), = keys(q.text)
            slots = dict(slots)
            if "x" in slots:
                assert operands_split((int(slots["x"]), int(slots["y"]))) == "test"
                asked["pair"] += 1
            if "s" in slots:
                assert operands_split([eval(slots["s"])]) == "test"
                asked["list"] += 1
    assert min(asked["pair"], asked["list"]) > 200


def test_wordings_and_kinds():
    for domain, kinds in KINDS.items():
        rehearsed = sum(spec.rehearsed for spec in kinds.values())
        assert 0.25 <= rehearsed / len(kinds) <= 0.5, domain
        for kind, spec in kinds.items():
            assert 6 <= len(spec.wordings) <= 9 and 3 <= len(spec.held) <= 4, (domain, kind)
            assert not set(spec.wordings) & set(spec.held) and bool(spec.says) == spec.rehearsed
    assert all(len(set(ways)) == len(ways) >= 20 for ways in STATEMENTS.values())


# ---- truth ----

def by_symbols(symbols, x, y):
    return eval(re.sub(r"\|(.*?)\|", r"abs(\1)", re.sub(r"(\d)([xy])", r"\1*\2", symbols)), {"x": x, "y": y})


@pytest.mark.parametrize("words", FORMULAS)
def test_formulas_and_their_steps(words):
    symbols, function, _ = FORMULAS[words]
    for x, y in PAIRS:
        assert function(x, y) == by_symbols(symbols, x, y)
        *_, last = steps = steps_of(words, x, y).split(", ")
        assert last.endswith(f" is {function(x, y)}")
        for step in steps:
            said = re.fullmatch(r"(?:(\d+) plus (\d+)|twice (\d+)|from (\d+) to (\d+)|the (larger|smaller) "
                                r"of (\d+) and (\d+)) is (\d+)", step)
            a, b, twice, first, second, which, c, d, value = said.groups()
            right = (int(a) + int(b) if a else 2 * int(twice) if twice else
                     abs(int(first) - int(second)) if first else
                     (max if which == "larger" else min)(int(c), int(d)))
            assert right == int(value), step


@pytest.mark.parametrize("words", FUNCTIONS)
def test_functions_are_their_code(words):
    code, function = FUNCTIONS[words]
    assert all(function(list(s)) == eval(code, {"s": list(s)}) for s in LISTS)


def test_the_background():
    assert sum(map(len, FACTS.values())) >= 200
    assert Counter(continent for _, _, continent, *_ in COUNTRIES.values()).most_common()[0][1] == 3
    year = "winter winter spring spring spring summer summer summer autumn autumn autumn winter"
    assert list(SEASON.values()) == year.split()
    assert months_between("May", "June") == 1 and months_between("June", "May") == 11
    assert months_between("December", "February") == 2 and months_between("May", "May") == 12
    columns = list(zip(*PROPERTIES.values()))
    assert all(len(set(column)) == len(PROPERTIES) for column in columns)


def worked_out(item, kind, slots):
    """The answer, from the text of the statement and the background, without a Thing."""
    found = lambda value: re.search(rf"(?<!\w){re.escape(value)}(?!\w)", item.statement)
    said = lambda values: max(filter(found, values), key=len, default=None)
    if item.domain in ("math", "coding"):
        rules = FORMULAS if item.domain == "math" else FUNCTIONS
        words = said(rules) or next(w for w, (s, *_) in rules.items()
                                    if s == said(symbols for symbols, *_ in rules.values()))
        if kind.startswith("name"):
            return item.subject
        if kind in ("words", "symbols", "code"):
            return words if kind == "words" else rules[words][0]
        operands = [int(slots[o]) for o in "xy"] if "x" in slots else [eval(slots["s"])]
        value = rules[words][1](*operands)
        return str(rules[words][1](value) if kind == "twice" else value + 1 if kind == "after" else value)
    city, month, lab, bench = said(CITIES), said(MONTHS), said(LABS), said(SKILLS)
    country = LABS.get(lab) or next((c for c, facts in COUNTRIES.items() if city in facts[3:]), None)
    if kind in ("country", "language", "currency", "continent"):
        return country if kind == "country" else COUNTRIES[country][
            ("language", "currency", "continent").index(kind)]
    numbers = sorted(map(int, re.findall(r"\d+", item.statement)))
    property = said(PROPERTIES)
    after = lambda n: MONTHS[(MONTHS.index(month) + n) % 12]
    if kind.startswith("name"):
        return item.subject
    if kind == "months":
        return str((MONTHS.index(month) - [m.lower() for m in MONTHS].index(slots["m"])) % 12)
    known = " ".join([*STATEMENTS[item.domain], *CITIES, *MONTHS, *PROPERTIES, item.subject])
    person = next((w for w in re.findall(r"\w+", item.statement) if w not in re.findall(r"\w+", known)), None)
    return {"city": city, "month": month, "lab": lab, "leader": lab, "bench": bench, "property": property,
            "person": person, "beaten": said(SYSTEMS), "second": said(SYSTEMS),
            "skill": bench and SKILLS[bench], "season": month and SEASON[month], "next": month and after(1),
            "previous": month and after(-1),
            **dict(zip(("rival", "points"), map(str, numbers))),
            "margin": numbers and str(numbers[-1] - numbers[0]),
            **dict(zip(("use", "user", "opposite"), PROPERTIES.get(property, ())))}[kind]


def test_right_options_follow_from_the_statement(news):
    kinds = set()
    for item in news:
        for q in item.questions:
            (_, kind, slots), = keys(q.text)
            assert q.right == worked_out(item, kind, dict(slots)), (item.statement, q)
            assert q.accept == [q.right] and kind == q.why.partition(":")[0]
            assert q.needs == KINDS[item.domain][kind].needs
            kinds.add((item.domain, kind))
    assert kinds == {(d, k) for d in KINDS for k, spec in KINDS[d].items() if spec.tested}


def test_every_statement_gives_all_facts():
    for domain, templates in STATEMENTS.items():
        thing = draw_thing(np.random.default_rng(0), domain, "dev")
        rules = {"words", "symbols", "code"}
        for template in templates:
            used = set(re.findall(r"\{(\w+)\}", template))
            assert len(used & rules) == (domain in ("math", "coding"))
            assert used - rules == set(thing.said) - rules


# ---- options ----

def points(news, score):
    """Share of questions whose right option scores highest, ties shared: .25 for blind guessing."""
    out = {}
    for item in news:
        for q in item.questions:
            scores = [score(item, q, option) for option in q.options]
            best = [s == max(scores) for s in scores]
            for group in (item.domain, "all"):
                out.setdefault(group, []).append(best[q.answer] / sum(best))
    return {group: float(np.mean(values)) for group, values in out.items()}


def test_four_options_one_right_every_place_as_often(news):
    questions = [q for item in news for q in item.questions]
    assert len(questions) == 2000 and all(len(set(q.options)) == len(q.options) == 4 for q in questions)
    places = np.bincount([q.answer for q in questions], minlength=4)
    assert ((places - 500) ** 2 / 500).sum() < 16.3         # chi squared, p = .001


def test_being_right_for_other_news_gives_nothing(news):
    news = news + make_news("test", 25, 6) + make_news("test", 25, 7)
    right = Counter((item.domain, q.why.partition(":")[0], item.id, q.right)
                    for item in news for q in item.questions)
    total = Counter()
    for (domain, kind, _, answer), n in right.items():
        total[domain, kind, answer] += n

    def elsewhere(item, q, option):
        kind = q.why.partition(":")[0]
        return total[item.domain, kind, option] - right[item.domain, kind, item.id, option]
    assert points(news, elsewhere)["all"] <= 0.28, points(news, elsewhere)


def test_what_is_mentioned(news):
    """Measured, not met: .28 was wanted. A recalled city is mentioned and no other city is; this needs the
    news in sight, so it says how much of reading in context is seeing what is there."""
    got = points(news, lambda item, q, option: option.lower() in item.statement.lower())
    assert got["all"] <= 0.43, got
    derived = [replace(item, questions=[q for q in item.questions if q.needs in ("computation", "background")
                                        and not q.right.lower() in item.statement.lower()]) for item in news]
    derived = [item for item in derived if item.questions]
    assert points(derived, lambda item, q, o: o.lower() in item.statement.lower())["all"] <= 0.25


def test_a_capital_begins_every_question(news):
    assert all(q.text == capitalise(q.text) for item in news for q in item.questions)


@pytest.mark.parametrize("per_domain, questions", [(0, 4), (MOST + 1, 4), (10 ** 6, 4), (2, 0)])
def test_more_news_than_names_are_refused(per_domain, questions):
    with pytest.raises(ValueError, match=f"1 to {MOST} news a"):
        make_news("dev", per_domain, 0, questions)
