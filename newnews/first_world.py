"""The pocket world: endless news in five domains whose truth is known, and a background that lives
in weights only.

Everything follows from seeds; there are no files. A `Thing` is one new operation, function, discovery,
benchmark or event: its facts, the ways to say it, what can be asked about it and the right answers. Splits
never share a name: a name belongs to the split that its hash says. What pretraining never asks, so that
self-play cannot have practised it:

- the operand pairs and lists of `held_out` (math, coding): 30% of each, for every thing alike;
- the wordings in `Kind.held`;
- in the writer's role, the kinds with rehearsed=False (pretraining answers them in context,
  but never poses them).

Test questions use only held-out operands and wordings. `question_key` reads a question back, whatever its
wording, so that a test question that self-play asked anyway can be found.
"""

import re
from itertools import count, islice

import numpy as np

from newnews.news import News, Question
from newnews.first_phrases import KINDS, STATEMENTS
from newnews.prompts import fill
from newnews.randomness import stream as digest

DOMAINS = ("math", "coding", "discoveries", "leaderboards", "events")
SPLITS = {"pretrain": 80, "known": 4, "dev": 8, "test": 8}      # shares of all names, percent


# ------------------------------------------------------------------------------------------------------------
# Background: facts that no news states. Asked closed book in pretraining, needed to draw consequences
# from news.

COUNTRY = dict(zip(
    "Oslo Bergen Lima Cusco Cairo Luxor Kyoto Osaka Paris Lyon Rome Milan Berlin Munich Madrid Seville "
    "Toronto Quebec Sydney Perth Delhi Mumbai Nairobi Mombasa".split(),
    [c for c in "Norway Peru Egypt Japan France Italy Germany Spain Canada Australia India Kenya".split()
     for _ in "12"]))
USE = {"glows in the dark": "road signs", "floats on water": "boats", "conducts electricity": "cables",
       "repels insects": "tents", "melts ice": "clearing roads", "absorbs sound": "concert halls",
       "bends light": "lenses", "stores heat": "winter coats", "smells sweet": "perfume",
       "kills germs": "hospitals", "sticks to glass": "windows", "cuts steel": "drills",
       "stretches far": "ropes", "cleans water": "filters", "changes colour": "paint",
       "attracts iron": "compasses"}
SEASON = dict(zip(
    "January February March April May June July August September October November December".split(),
    "winter winter spring spring spring summer summer summer autumn autumn autumn winter".split()))
SYSTEMS = (         # what benchmarks rank; known to every reader
    "Otter Heron Falcon Badger Lynx Raven Stork Beaver Marten Osprey Weasel Condor Puffin Gecko Bison Tapir "
    "Panda Zebra Camel Koala Lemur Moose Dingo Hyena").split()
BACKGROUND = [      # (key, wordings, answers): what is asked about the world as such
    ("country", ["In which country is {0}?", "{0} lies in which country?", "Which country is {0} in?"],
     COUNTRY),
    ("use", ["What is something that {0} good for?", "Where is a thing that {0} used?",
             "What do people make from something that {0}?"], USE),
    ("season", ["In which season is {0}?", "{0} falls in which season?", "Which season is {0} in?"], SEASON),
]

# ------------------------------------------------------------------------------------------------------------
# Names, numbers, lists


SYLLABLES = [list(part) for part in ("bdfgklmnprstvz", "aeiou", "bdfglmnprstvz", "aeiou", "lmnrstxk")]
UPPER = dict(zip(SPLITS, np.cumsum(list(SPLITS.values())).tolist()))


def draw_name(rng, split):
    """A pronounceable name that belongs to `split`: its hash says so, so no two splits can share one."""
    while True:
        name = "".join(
            part[i] for part, i in zip(SYLLABLES, rng.integers(0, list(map(len, SYLLABLES))).tolist()))
        if UPPER[split] - SPLITS[split] <= digest("name", name) % 100 < UPPER[split]:
            return name


def held_out(*operands):
    """Operands that pretraining never asks about; test questions ask about nothing else. The order of a pair
    does not matter: were (3, 4) held out and (4, 3) not, every symmetric operation would leak the answer. A
    list is one operand: other orders of its elements may have been asked."""
    return digest("operands", *sorted(map(str, operands))) % 100 < 30


def draw_operands(rng, draw, held):
    while True:
        operands = draw()
        if held_out(*operands) == held:
            return operands


FORMULAS = {        # words: (symbols, function); each also with 1, 2 or 3 added
    "x plus y": ("x + y", lambda x, y: x + y), "twice x plus y": ("2x + y", lambda x, y: 2 * x + y),
    "x plus twice y": ("x + 2y", lambda x, y: x + 2 * y), "the larger of x and y": ("max(x, y)", max),
    "the smaller of x and y": ("min(x, y)", min),
    "the distance from x to y": ("|x - y|", lambda x, y: abs(x - y)),
}
FORMULAS |= {f"{words} plus {c}": (f"{symbols} + {c}", lambda x, y, f=f, c=c: f(x, y) + c)
             for words, (symbols, f) in list(FORMULAS.items()) for c in (1, 2, 3)}

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

class Thing:
    """One news item of the world. facts: {slot: text}, ready to be filled into statements and wordings."""

    def __init__(self, rng, domain, split):
        self.domain, self.rng = domain, rng
        name = draw_name(rng, split)
        pick = lambda values: values[rng.integers(len(values))]
        proper = lambda: draw_name(rng, split).capitalize()
        self.facts = {"name": name}
        if domain == "math":
            words = pick(list(FORMULAS))
            self.facts |= {"words": words, "symbols": FORMULAS[words][0]}
            self.function = FORMULAS[words][1]
        elif domain == "coding":
            words = pick(list(FUNCTIONS))
            self.facts |= {"words": words, "code": FUNCTIONS[words][0]}
            self.function = FUNCTIONS[words][1]
        elif domain == "discoveries":
            self.facts |= {"city": pick(list(COUNTRY)), "property": pick(list(USE)), "person": proper()}
        elif domain == "leaderboards":
            tens = rng.permutation(np.arange(1, 10))[:3]    # different tens: who leads is seen at a glance
            systems = [SYSTEMS[i] for i in rng.permutation(len(SYSTEMS))[:3]]
            self.facts |= {"name": name.capitalize(), **{f"s{i}": systems[i] for i in range(3)},
                           **{f"p{i}": str(10 * tens[i] + rng.integers(10)) for i in range(3)}}
        else:
            self.facts |= {"name": name.capitalize(), "city": pick(list(COUNTRY)),
                           "month": pick(list(SEASON)), "person": proper()}

    def statement(self, i):
        return capitalise(fill(STATEMENTS[self.domain][i % len(STATEMENTS[self.domain])], **self.facts))

    def slots(self, kind, held):
        """What fills a wording of this kind: operands, or which system is meant.
        held: operands of tests, or of pretraining."""
        rng, f = self.rng, self.facts
        if kind == "compute":
            x, y = draw_operands(rng, lambda: rng.integers(0, 10, 2).tolist(), held)
            return {**f, "x": x, "y": y}
        if kind == "call":
            return {**f, "s": draw_operands(rng, lambda: [rng.permutation(10)[:3].tolist()], held)[0]}
        if self.domain == "leaderboards":
            i = rng.integers(3)
            return {**f, "s": f[f"s{i}"], "p": f[f"p{i}"]}
        return f

    def answer(self, kind, slots):
        """The truth, from this thing's facts."""
        f = self.facts
        if kind == "compute":
            return str(self.function(slots["x"], slots["y"]))
        if kind == "call":
            return str(self.function(slots["s"]))
        if self.domain == "leaderboards":
            systems = sorted((f[f"s{i}"] for i in range(3)), key=lambda s: -int(self.points(s)))
            return {"score": lambda: self.points(slots["s"]), "who": lambda: slots["s"],
                    "best": lambda: systems[0], "second": lambda: systems[1],
                    "worst": lambda: systems[2]}[kind]()
        derived = {"country": COUNTRY.get(f.get("city")), "season": SEASON.get(f.get("month")),
                   "use": USE.get(f.get("property"))}
        return derived.get(kind) or f[kind]

    def points(self, system):
        return next(self.facts[f"p{i}"] for i in range(3) if self.facts[f"s{i}"] == system)

    def options(self, kind, slots, split):
        """The right answer and three wrong ones, shuffled. The wrong ones are right for other news, so that
        the options alone give nothing; a benchmark's own systems and scores come first, so that seeing which
        is mentioned does not do."""
        right = self.answer(kind, slots)
        own = ([self.facts[f"{'p' if kind == 'score' else 's'}{i}"] for i in range(3)]
               if self.domain == "leaderboards" else [])
        options = [right, *(o for o in own if o != right)]
        while len(options) < 4:
            other = Thing(self.rng, self.domain, split)
            wrong = other.answer(
                kind, slots if self.domain in ("math", "coding") else other.slots(kind, False))
            if wrong not in options:
                options.append(wrong)
        return [options[i] for i in self.rng.permutation(4)]

    def ask(self, kind, held=False):
        """(question, slots) in a wording of pretraining or, held, of the tests."""
        spec, slots = KINDS[self.domain][kind], self.slots(kind, held)
        wordings = spec.held if held else spec.wordings
        return capitalise(fill(wordings[self.rng.integers(len(wordings))], **slots)), slots

    def implication(self):
        """A consequence that the writer may state: of a rehearsed kind, about operands of pretraining."""
        kinds = [k for k, spec in KINDS[self.domain].items() if spec.rehearsed]
        kind = kinds[self.rng.integers(len(kinds))]
        slots, texts = self.slots(kind, False), KINDS[self.domain][kind].implications
        return fill(texts[self.rng.integers(len(texts))], **slots, v=self.answer(kind, slots))


def capitalise(text):
    return text[0].upper() + text[1:]


def make_news(split, per_domain, seed, questions=10):
    """per_domain news of each domain, domain by domain, each with `questions` different test questions."""
    news, names = [], set()
    for domain in DOMAINS:
        attempts = (Thing(np.random.default_rng([seed, digest(split, domain) % 2 ** 32, i]), domain, split)
                    for i in count())
        fresh = (thing for thing in attempts if thing.facts["name"].lower() not in names)
        for thing in islice(fresh, per_domain):
            name = thing.facts["name"].lower()
            names.add(name)
            statement, subject = thing.statement(int(thing.rng.integers(100))), thing.facts["name"]
            subject = subject if subject in statement else capitalise(subject)     # begins it
            news.append(News(f"{domain}-{name}", domain, statement, test_questions(thing, split, questions),
                             subject=subject))
    return news


def test_questions(thing, split, most):
    """Different questions, every kind in turn; as many as there are if fewer than `most`."""
    kinds, out, seen = list(KINDS[thing.domain]), [], set()
    for attempt in range(50 * most):
        kind = kinds[attempt % len(kinds)]
        text, slots = thing.ask(kind, held=True)
        if text in seen or len(out) == most:
            continue
        seen.add(text)
        options = thing.options(kind, slots, split)
        right = thing.answer(kind, slots)
        out.append(Question(f"{thing.domain}-{thing.facts['name'].lower()}-{len(out) + 1}", text, options,
                            options.index(right), text, [right], KINDS[thing.domain][kind].needs,
                            f"{kind}: {right}"))
    return out


# ------------------------------------------------------------------------------------------------------------
# Reading a question back


def pattern(wording):
    slots = {"x": r"(\d+)", "y": r"(\d+)", "s": r"(\[[\d, ]*\]|\w+)", "p": r"(\d+)", "v": r"(.+?)"}
    parts = re.split(r"\{(\w+)\}", wording)
    return re.compile("".join(re.escape(part) if i % 2 == 0 else slots.get(part, r"(\w+)")
                              for i, part in enumerate(parts)), re.I)


PATTERNS = [(domain, kind, re.findall(r"\{(\w+)\}", wording), pattern(wording))
            for domain, kinds in KINDS.items() for kind, spec in kinds.items()
            for wording in (*spec.wordings, *spec.held, *spec.implications)]


def question_key(text):
    """What a question asks, or the question that a statement answers, whatever the wording: (domain, kind,
    slots), or None if it is none of the world's."""
    for domain, kind, names, regex in PATTERNS:
        match = regex.fullmatch(text.strip())
        if match:
            slots = zip(names, (group.lower() for group in match.groups()))
            return domain, kind, tuple(sorted((name, value) for name, value in slots if name != "v"))
    return None
