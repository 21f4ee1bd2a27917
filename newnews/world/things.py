"""Endless news in five domains whose truth is known.

Everything follows from seeds; there are no files. A `Thing` is one new operation, function, material, system
or festival: its facts, the ways to say it, what can be asked about it, and the right answers.

Splits (pretrain, known, dev, test) share nothing that is drawn:
- a name belongs to the split that its hash says, and so does a combination of known parts (the city, the
  property and the month of a discovery, say);
- operands are of lessons, of dev or of test: of the 100 pairs of digits 20 each are of dev and of test, and
  so are 15% each of the lists; every order of the elements is a list of its own.

Test questions use held operands and held wordings (phrases.py) only; and of the kinds, the writer never
learns to pose those that are not rehearsed.
"""

from collections import Counter
from itertools import count, cycle, islice

import numpy as np

from newnews.news import News, Question
from newnews.prompts import fill
from newnews.randomness import stream
from newnews.world.background import (CITIES, LABS, MONTHS, PROPERTIES, SKILLS, SYSTEMS, months_between,
                                      of_country, of_month, of_property)
from newnews.world.phrases import KINDS
from newnews.world.statements import STATEMENTS

DOMAINS = ("math", "coding", "discoveries", "leaderboards", "events")
SPLITS = {"pretrain": 80, "known": 4, "dev": 8, "test": 8}      # shares of names and combinations, percent
SYLLABLES = [list(part) for part in ("bdfgklmnprstvz", "aeiou", "bdfglmnprstvz", "aeiou", "lmnrstxk")]
MOST = 300          # news a domain: of some 36,000 names 8% are of dev and of test each
TAKEN = {word.lower() for word in (*CITIES, *MONTHS, *LABS, *SKILLS, *SYSTEMS)}


def split_of(*parts):
    """The split to which a name or a combination belongs."""
    place = stream(*parts) % 100
    for split, share in SPLITS.items():
        if place < share:
            return split
        place -= share


def combination_split(domain, parts):
    """The split of what a thing is made of. Of festivals there are only 24 x 12: one month of each city is of
    each split but pretrain, so that no city or month is more common there."""
    if domain != "events":
        return split_of(domain, *parts.values())
    ring = (CITIES.index(parts["city"]) + MONTHS.index(parts["month"])) % 12
    return ("known", "dev", "test")[ring] if ring < 3 else "pretrain"


def draw_name(rng, split):
    """A pronounceable name of that split."""
    while True:
        name = "".join(part[rng.integers(len(part))] for part in SYLLABLES)
        if split_of("name", name) == split and name not in TAKEN:
            return name


def pick(rng, values):
    return values[rng.integers(len(values))]


# ------------------------------------------------------------------------------------------------------------
# Operands


HELD_PAIRS = {      # two pairs of different digits for every digit, in dev and in test
    frozenset(map(int, pair)): split
    for split, pairs in (("dev", "01 25 39 48 67 04 19 28 36 57"), ("test", "07 13 24 59 68 02 16 38 45 79"))
    for pair in pairs.split()}


def operands_split(operands):
    """lessons, dev or test. operands: a pair of digits (in either order: were (3, 4) held and (4, 3) not,
    symmetric operations would leak the answer), or one list (its orders are different lists)."""
    if isinstance(operands[0], list):
        place = stream("list", *operands[0]) % 100
        return "lessons" if place < 70 else "dev" if place < 85 else "test"
    return HELD_PAIRS.get(frozenset(operands), "lessons")


def draw_operands(rng, kind, split):
    """Operands of lessons, dev or test: [x, y] or [list of three different digits]."""
    while True:
        operands = ([rng.permutation(10)[:3].tolist()] if kind == "list" else rng.integers(0, 10, 2).tolist())
        if operands_split(operands) == split:
            return operands


# ------------------------------------------------------------------------------------------------------------
# Rules

FORMULAS = {        # words: (symbols, function, the way there)
    "x plus y": ("x + y", lambda x, y: x + y, lambda x, y: f"{x} plus {y}"),
    "twice x plus y": ("2x + y", lambda x, y: 2 * x + y,
                       lambda x, y: f"twice {x} is {2 * x}, {2 * x} plus {y}"),
    "x plus twice y": ("x + 2y", lambda x, y: x + 2 * y,
                       lambda x, y: f"twice {y} is {2 * y}, {x} plus {2 * y}"),
    "the larger of x and y": ("max(x, y)", max, lambda x, y: f"the larger of {x} and {y}"),
    "the smaller of x and y": ("min(x, y)", min, lambda x, y: f"the smaller of {x} and {y}"),
    "the distance from x to y": ("|x - y|", lambda x, y: abs(x - y), lambda x, y: f"from {x} to {y}"),
}
FORMULAS |= {       # each also with 1, 2 or 3 added
    f"{words} plus {c}": (f"{symbols} + {c}", lambda x, y, f=f, c=c: f(x, y) + c,
                          lambda x, y, f=f, c=c, way=way: f"{way(x, y)} is {f(x, y)}, {f(x, y)} plus {c}")
    for words, (symbols, f, way) in list(FORMULAS.items()) for c in (1, 2, 3)}
FUNCTIONS = {       # words: (code, function) on a list s of three different digits
    "the list in reverse order": ("s[::-1]", lambda s: s[::-1]),
    "the list sorted from small to large": ("sorted(s)", sorted),
    "the list sorted from large to small": ("sorted(s)[::-1]", lambda s: sorted(s)[::-1]),
    "the list without its first element": ("s[1:]", lambda s: s[1:]),
    "the list without its last element": ("s[:-1]", lambda s: s[:-1]),
    "the list with its first element moved to the end": ("s[1:] + s[:1]", lambda s: s[1:] + s[:1]),
    "the list with its last element moved to the front": ("s[-1:] + s[:-1]", lambda s: s[-1:] + s[:-1]),
    "the list with its first two elements swapped": ("[s[1], s[0], s[2]]", lambda s: [s[1], s[0], s[2]]),
    "the list with its last two elements swapped": ("[s[0], s[2], s[1]]", lambda s: [s[0], s[2], s[1]]),
    "the largest element": ("max(s)", max), "the smallest element": ("min(s)", min),
    "the first element": ("s[0]", lambda s: s[0]), "the middle element": ("s[1]", lambda s: s[1]),
    "the last element": ("s[2]", lambda s: s[2]),
}
RULES = {"math": FORMULAS, "coding": FUNCTIONS}


def steps_of(words, x, y):
    """How a formula is worked out, step by step: "twice 4 is 8, 3 plus 8 is 11"."""
    _, function, way = FORMULAS[words]
    return f"{way(x, y)} is {function(x, y)}"


def worked(function, what, slots):
    """A rule's answer to a computation; None where it gives no list to call it on (twice), or a list that has
    no number after it."""
    value = function(*([slots["s"]] if "s" in slots else (int(slots["x"]), int(slots["y"]))))
    if what in ("twice", "after") and isinstance(value, list) != (what == "twice"):
        return None
    return str(function(value) if what == "twice" else value + 1 if what == "after" else value)


# ------------------------------------------------------------------------------------------------------------


def draw_facts(rng, domain, split):
    """{slot: text} of a new thing: what its statement says."""
    name = draw_name(rng, split)
    if domain == "math":
        words = pick(rng, list(FORMULAS))
        return {"name": name, "words": words, "symbols": FORMULAS[words][0]}
    if domain == "coding":
        words = pick(rng, list(FUNCTIONS))
        return {"name": name, "words": words, "code": FUNCTIONS[words][0]}
    if domain == "leaderboards":
        rival, margin = int(rng.integers(20, 90)), int(rng.integers(1, 10))
        parts = {"lab": pick(rng, list(LABS)), "bench": pick(rng, list(SKILLS)), "beaten": pick(rng, SYSTEMS)}
        facts = {"points": str(rival + margin), "rival": str(rival)}
    else:
        person = draw_name(rng, split).capitalize()
        parts = {"city": pick(rng, CITIES), "month": pick(rng, MONTHS)}
        facts = {"person": person}
        if domain == "discoveries":
            parts["property"] = pick(rng, list(PROPERTIES))
    if combination_split(domain, parts) != split or facts.get("person") == name.capitalize():
        return draw_facts(rng, domain, split)
    return {"name": name.capitalize(), **parts, **facts}


def consequences(facts):
    """What follows from the facts and the background, {slot: text}."""
    out = {}
    for slot, known in (("city", of_country), ("lab", of_country), ("month", of_month),
                        ("property", of_property)):
        if slot in facts:
            out |= known(facts[slot])
    if "bench" in facts:
        out["skill"] = SKILLS[facts["bench"]]
        out["margin"] = str(int(facts["points"]) - int(facts["rival"]))
    return out


class Thing:
    """One news item of the world. facts: {slot: text}, what is said and what follows from it."""

    def __init__(self, domain, facts):
        self.domain, self.said = domain, facts
        self.facts = {**facts, **consequences(facts)}
        self.function = RULES[domain][facts["words"]][1] if domain in RULES else None

    def statement(self, i):
        return fill(STATEMENTS[self.domain][i % len(STATEMENTS[self.domain])], **self.facts)

    def kinds(self):
        """The kinds of question that apply: not all functions give a list."""
        if self.domain != "coding":
            return KINDS[self.domain]
        without = "after" if isinstance(self.function([1, 2, 3]), list) else "twice"
        return {k: spec for k, spec in KINDS["coding"].items() if k != without}

    def slots(self, rng, kind, split="lessons"):
        """What fills a wording of this kind, with operands of lessons, dev or test."""
        f = self.facts
        if self.domain == "math" and kind in ("compute", "after"):
            x, y = draw_operands(rng, "pair", split)
            return {**f, "x": x, "y": y}
        if self.domain == "coding" and kind in ("call", "after", "twice"):
            return {**f, "s": draw_operands(rng, "list", split)[0]}
        if kind == "months":
            others = [m for m in MONTHS if m not in (f["month"], f["previous"])]
            return {**f, "m": pick(rng, others)}
        return f

    def answer(self, kind, slots):
        """The truth, from this thing's facts."""
        what = KINDS[self.domain][kind].answer
        if what == "months":
            return str(months_between(slots["m"], self.facts["month"]))
        if what in ("compute", "call", "after", "twice"):
            return worked(self.function, what, slots)
        return self.facts[what]

    def ask(self, rng, kind, split="lessons"):
        """(question, slots) in a wording of lessons, or of the tests for dev and test."""
        spec, slots = KINDS[self.domain][kind], self.slots(rng, kind, split)
        return capitalise(fill(pick(rng, spec.wordings if split == "lessons" else spec.held), **slots)), slots

    def options(self, rng, kind, slots, split):
        """The right answer and three wrong ones, shuffled. The wrong ones are right for other news, so that
        the options alone give nothing; of those, the ones that this news mentions come first, so that seeing
        what is mentioned does not do."""
        right, what = self.answer(kind, slots), KINDS[self.domain][kind].answer
        own = [self.facts[slot] for slot in MENTIONED.get(what, ()) if slot in self.said]
        pool = self.pool(rng, what, slots, split)
        if len(pool) < 4:       # functions of three numbers give only three: the fourth is a step short
            own = [pick(rng, [str(v) for v in slots["s"] if str(v) not in pool])]
        wrong = [*own, *(pool[i] for i in rng.permutation(len(pool)))]
        options = list(dict.fromkeys([right, *wrong]))[:4]
        return [options[i] for i in rng.permutation(4)]

    def pool(self, rng, what, slots, split):
        """Different answers that are right for some news of the split, all as often."""
        if what in ("words", "symbols", "code"):
            rules = RULES[self.domain]
            return list(rules) if what == "words" else [symbols for symbols, *_ in rules.values()]
        if what in ("compute", "call", "twice", "after"):
            return list(self.outcomes(what, slots))
        if what in ("points", "rival"):
            return [str(n) for n in range(25, 90)]
        if what in ("name", "person"):
            names = (draw_name(rng, split) for _ in range(4))
            return [name if self.domain in ("math", "coding") else name.capitalize() for name in names]
        return ANSWERS[what]

    def outcomes(self, what, slots):
        """{answer: how many rules give it} for these operands."""
        given = (worked(function, what, slots) for _, function, *_ in RULES[self.domain].values())
        return Counter(answer for answer in given if answer is not None)

    def implication(self, rng):
        """A consequence that the writer may state: of a rehearsed kind, about operands of lessons."""
        kind = pick(rng, [k for k, spec in self.kinds().items() if spec.rehearsed])
        slots = self.slots(rng, kind)
        said = fill(pick(rng, KINDS[self.domain][kind].says), **slots, v=self.answer(kind, slots))
        return f"{pick(rng, SO)} {said}."


SO = ("So", "This means that", "It follows that", "Therefore")
MENTIONED = {       # facts of the same type as the answer that the news mentions
    "person": ["name"], "name": ["person", "beaten"], "next": ["month"], "previous": ["month"],
    "points": ["rival"], "rival": ["points"], "beaten": ["name"], "opposite": ["property"],
}


ANSWERS = {         # all answers to a kind of question that is not about numbers or names
    "city": CITIES, "month": MONTHS, "next": MONTHS, "previous": MONTHS, "property": list(PROPERTIES),
    "lab": list(LABS), "bench": list(SKILLS), "skill": list(SKILLS.values()), "beaten": SYSTEMS,
    "months": [str(n) for n in range(2, 12)], "margin": [str(n) for n in range(1, 10)],
    **{what: sorted({facts[what] for facts in known}) for known in
       (list(map(of_country, CITIES)), list(map(of_month, MONTHS)), list(map(of_property, PROPERTIES)))
       for what in known[0] if what not in ("next", "previous")}}


def draw_thing(rng, domain, split):
    return Thing(domain, draw_facts(rng, domain, split))


def capitalise(text):
    return text[0].upper() + text[1:]


def make_news(split, per_domain, seed, questions=16):
    """per_domain news of each domain, domain by domain, each with `questions` different test questions."""
    if not 1 <= per_domain <= MOST or not 1 <= questions <= 1000 or not 0 <= seed < 2 ** 63:
        raise ValueError(f"per_domain = {per_domain}, questions = {questions}, seed = {seed}: expected 1 to "
                         f"{MOST} news a domain (the world has no more names), 1 to 1000 questions, a seed "
                         f"of 0 or more")
    news, names = [], set()
    held = "test" if split == "test" else "dev"
    for domain in DOMAINS:
        streams = (np.random.default_rng([seed, stream(split, domain) % 2 ** 32, i]) for i in count())
        drawn = ((rng, draw_thing(rng, domain, split)) for rng in streams)
        fresh = ((rng, thing) for rng, thing in drawn if thing.facts["name"].lower() not in names)
        for rng, thing in islice(fresh, per_domain):
            name = thing.facts["name"].lower()
            names.add(name)
            news.append(News(f"{domain}-{name}", domain, thing.statement(int(rng.integers(100))),
                             test_questions(rng, thing, split, held, questions), subject=thing.facts["name"]))
    return news


def test_questions(rng, thing, split, held, most):
    """Different questions, every kind in turn, then the kinds with operands again."""
    tested = [kind for kind, spec in thing.kinds().items() if spec.tested]
    kinds, out, seen = [tested[i] for i in rng.permutation(len(tested))], [], set()
    for kind in islice(cycle(kinds), 50 * most):
        if len(out) == most:
            break
        text, slots = thing.ask(rng, kind, held)
        spec = thing.kinds()[kind]
        key = (kind, *(str(slots[operand]) for operand in "xysm" if operand in slots))
        if key in seen:
            continue
        if "x" in slots or "s" in slots:        # an answer that many rules give is not to be right more often
            if rng.random() > 1 / thing.outcomes(spec.answer, slots)[thing.answer(kind, slots)]:
                continue
        seen.add(key)
        options, right = thing.options(rng, kind, slots, split), thing.answer(kind, slots)
        out.append(Question(f"{thing.domain}-{thing.facts['name'].lower()}-{len(out) + 1}", text, options,
                            options.index(right), text, [right], spec.needs,
                            f"{kind}: {right}", spec.steps))
    return out
