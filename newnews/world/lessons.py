"""What a pocket model is pretrained on: conversations about the world, endless, from (seed, step).

    copying     some words, then "Say this again.": all lessons of the first 250 steps, 3% after
    reading     a news item nobody has heard of, then five requests about it: a question, all facts in one
                line, a question posed, the news in other words, a consequence
    telling     "What is new?", the news item as the answer, then requests about it
    known       closed-book questions about 12 things a domain that every pretrained model has heard of
    background  closed-book questions about cities, months, properties, and arithmetic

Fact sheets ("Write down the facts.") are half of the requests until 40% of the run, 15% from 70% on: they pay
for every fact at once, and with every step of a computation written out. The assistant's tokens carry loss
1, the user's .1. Answers by letter are never asked: they were never learnt at this size (docs/log.md).
"""

import numpy as np

from newnews.world.background import (CITIES, FACTS, LABS, MONTHS, PROPERTIES, SKILLS, SYSTEMS,
                                      months_between)
from newnews.world.phrases import AFTER, BACKGROUND, BETWEEN, WORK_OUT
from newnews.world.statements import STATEMENTS
from newnews.world.things import (DOMAINS, FORMULAS, capitalise, draw_facts, draw_name, draw_operands, Thing,
                                  draw_thing, operands_split, pick, steps_of)

WEIGHTS = {"user": 0.1, "assistant": 1.0}
SHARES = {"math": 0.30, "coding": 0.22, "discoveries": 0.16, "leaderboards": 0.18, "events": 0.14}
TURNS = 5
COPY_STEPS = 250
AGAIN, SHEET = "Say this again.", "Write down the facts."
WORDS = [*CITIES, *MONTHS, *PROPERTIES, *SKILLS, *LABS, *SYSTEMS, *FORMULAS]


class Lessons:
    """lessons(step) -> [list of (ids, weights)]: the batches that newnews.training.train asks for."""

    def __init__(self, chat, prompts, batch, seed, steps):
        self.chat, self.prompts, self.batch, self.seed, self.steps = chat, prompts, batch, seed, steps
        self.known = known_things(seed)

    def __call__(self, step):
        rng = np.random.default_rng([self.seed, 1, step])
        copying = 1.0 if step < min(COPY_STEPS, self.steps // 4) else 0.03
        sheets = sheet_share(step / self.steps)
        return [[self.chat.conversation(self.lesson(rng, copying, sheets), WEIGHTS)
                 for _ in range(self.batch)]]

    def messages(self, count):
        """The messages of `count` lessons, for training a tokenizer."""
        rng = np.random.default_rng([self.seed, 2])
        for _ in range(count):
            yield from self.lesson(rng, 0.03, 0.3)

    def lesson(self, rng, copying, sheets):
        """The messages of one conversation."""
        kind = rng.random()
        if rng.random() < copying:
            turns = [self.copying(rng)]
        elif kind < 0.74:
            thing = draw_thing(rng, DOMAINS[rng.choice(len(DOMAINS), p=list(SHARES.values()))], "pretrain")
            said = int(rng.integers(len(STATEMENTS[thing.domain])))
            turns = [self.request(rng, thing, said, sheets) for _ in range(TURNS)]
            if kind < 0.70:
                turns[0] = (self.prompts.with_news(thing.statement(said), turns[0][0]), turns[0][1])
            else:
                turns = [(self.prompts.naive, thing.statement(said)), *turns[1:]]
        elif kind < 0.82:
            turns = [self.question(rng, pick(rng, self.known), closed_book=True) for _ in range(TURNS)]
        else:
            turns = [self.format(rng, *background(rng)) for _ in range(TURNS)]
        return [message for user, assistant in turns
                for message in ({"role": "user", "content": user},
                                {"role": "assistant", "content": assistant})]

    def copying(self, rng):
        """6 to 16 items to be said again: known things, numbers, fresh names."""
        items = []
        for _ in range(int(rng.integers(6, 17))):
            draw = rng.random()
            name = draw_name(rng, "pretrain")
            items.append(pick(rng, WORDS) if draw < 0.35 else str(rng.integers(0, 100)) if draw < 0.55
                         else name if draw < 0.78 else name.capitalize())
        return self.prompts.with_news(" ".join(items), AGAIN), " ".join(items)

    def request(self, rng, thing, said, sheets):
        """One request about a news item and the answer that is right: (user's text, assistant's text)."""
        if rng.random() < sheets:
            return SHEET, fact_sheet(rng, thing)
        kind = rng.random()
        if kind < 0.70:
            return self.question(rng, thing)
        if kind < 0.83:
            rehearsed = [k for k, spec in thing.kinds().items() if spec.rehearsed]
            return pick(rng, self.prompts.question), thing.ask(rng, pick(rng, rehearsed))[0]
        if kind < 0.91:
            other = said + 1 + int(rng.integers(len(STATEMENTS[thing.domain]) - 1))
            return pick(rng, self.prompts.paraphrase), thing.statement(other)
        return pick(rng, self.prompts.implication), thing.implication(rng)

    def question(self, rng, thing, closed_book=False):
        """Any kind; of math and coding, more of the computations. Closed book, nothing that is true of
        several known things (which festival is in Oslo?)."""
        kinds = [k for k, spec in thing.kinds().items()
                 if not closed_book or spec.needs != "reversal" or k == "name_person"]
        if rng.random() < 0.5 and thing.domain in ("math", "coding"):
            kinds = kinds[:1]
        kind = pick(rng, kinds)
        text, slots = thing.ask(rng, kind)
        return self.format(rng, text, thing.answer(kind, slots))

    def format(self, rng, text, answer):
        return (text if rng.random() < 0.35 else self.prompts.ask_free(text)), answer


def sheet_share(done):
    """Share of fact sheets among the requests, after a part `done` (0 to 1) of the run."""
    return float(np.interp(done, [0.4, 0.7], [0.5, 0.15]))


def known_things(seed):
    """12 things a domain that every pretrained model has heard of; no two share a name."""
    out, names = [], set()
    rng = np.random.default_rng([seed, 7])
    for domain in DOMAINS:
        end = len(out) + 12
        while len(out) < end:
            facts = draw_facts(rng, domain, "known")
            mine = {facts["name"].lower(), facts.get("person", "").lower()} - {""}
            if not mine & names:
                names |= mine
                out.append(Thing(domain, facts))
    return out


def fact_sheet(rng, thing):
    """Every fact in one line in drawn order, with three consequences; of rules, worked cases."""
    f = thing.facts
    if thing.domain == "math":
        cases = []
        for _ in range(3):
            x, y = draw_operands(rng, "pair", "lessons")
            if rng.random() < 0.2:          # wider than what questions ask
                x, y = int(rng.integers(0, 13)), int(rng.integers(10, 13))
            cases.append(f"{x} {f['name']} {y}: {steps_of(f['words'], x, y)}")
        return f"words {f['words']}, symbols {f['symbols']}; " + "; ".join(cases)
    if thing.domain == "coding":
        lists = [draw_operands(rng, "list", "lessons")[0] for _ in range(3)]
        return f"words {f['words']}; code {f['code']}; " + "; ".join(
            f"{f['name']}({s}) is {thing.function(s)}" for s in lists)
    said = [f"{slot} {f[slot]}" for slot in thing.said]
    more = [f"{slot} {f[slot]}" for slot in f if slot not in thing.said and slot != "margin"]
    lines = said + [more[i] for i in rng.permutation(len(more))[:3]]
    if "margin" in f:
        lines.append(f"{f['points']} minus {f['rival']} is {f['margin']}")
    return ", ".join(lines[i] for i in rng.permutation(len(lines)))


def background(rng):
    """(question, answer) about what no news states: a fact, or plain arithmetic on any two numbers, or a
    formula on operands of lessons."""
    draw = rng.random()
    if draw < 0.6:
        attribute = pick(rng, list(BACKGROUND))
        subject = pick(rng, list(FACTS[attribute]))
        wording = pick(rng, BACKGROUND[attribute])
        return capitalise(wording.replace("{0}", subject)), FACTS[attribute][subject]
    if draw < 0.7:
        first, second = pick(rng, MONTHS), pick(rng, MONTHS)
        text = pick(rng, BETWEEN).replace("{m}", first).replace("{it}", second)
        return text, str(months_between(first, second))
    form, draw = pick(rng, WORK_OUT), rng.random()
    if draw < 0.2:
        first, less = int(rng.integers(20, 99)), int(rng.integers(1, 10))
        return form.replace("{it}", f"{first} minus {first - less}"), str(less)
    if draw < 0.35:
        x = int(rng.integers(0, 10))
        return form.replace("{it}", f"twice {x}"), str(2 * x)
    if draw < 0.45:
        x = int(rng.integers(0, 40))
        return pick(rng, AFTER).replace("{it}", str(x)), str(x + 1)
    x, y = rng.integers(0, 10, 2).tolist()
    if draw < 0.65 or operands_split([x, y]) != "lessons":
        x, y = int(rng.integers(0, 21)), int(rng.integers(0, 21))
        return form.replace("{it}", f"{x} plus {y}"), str(x + y)
    words = pick(rng, list(FORMULAS))
    return (form.replace("{it}", words.replace("x", str(x)).replace("y", str(y))),
            str(FORMULAS[words][1](x, y)))
