"""What a pocket model is pretrained on:
conversations about things of the pocket world, endless, from (seed, step).

A lesson is one conversation of several turns:

    reading     a news item nobody has heard of, then requests about it: answer (free or by letter), restate,
                conclude, ask
    telling     "What is new?", the news item as the answer, then requests about it
    known       closed-book questions about 24 things a domain that every pretrained model has heard of,
                and of the background

The assistant's tokens carry loss 1, the user's .1: enough to learn what news and questions look like, and so
to read them; next-token loss on everything alike left in-context accuracy at chance (docs/log.md).
"""

import numpy as np

from newnews.first_phrases import KINDS, STATEMENTS
from newnews.prompts import LETTERS
from newnews.first_world import BACKGROUND, DOMAINS, FORMULAS, Thing, capitalise, held_out

WEIGHTS = {"user": 0.1, "assistant": 1.0}
SHARES = {          # the hard ones more
    "math": 0.3, "coding": 0.16, "discoveries": 0.16, "leaderboards": 0.22, "events": 0.16}


class Lessons:
    """lessons(step) -> [list of (ids, weights)]: the batches that newnews.training.train asks for."""

    def __init__(self, chat, prompts, batch, seed, steps):
        self.chat, self.prompts, self.batch, self.seed, self.steps = chat, prompts, batch, seed, steps
        self.known = [Thing(np.random.default_rng([seed, 7, i]), domain, "known")
                      for domain in DOMAINS for i in range(24)]

    def __call__(self, step):
        rng = np.random.default_rng([self.seed, 1, step])
        # Letters are learnt late: they need the answer first. So they are rare until a quarter of the way.
        choice = 0.15 if step < self.steps / 4 else 0.45
        return [[self.chat.conversation(self.lesson(rng, choice), WEIGHTS) for _ in range(self.batch)]]

    def messages(self, count):
        """The messages of `count` lessons, for training a tokenizer."""
        rng = np.random.default_rng([self.seed, 2])
        for _ in range(count):
            yield from self.lesson(rng, 0.3)

    def lesson(self, rng, choice):
        kind = rng.random()
        if kind < 0.7:
            thing = Thing(rng, DOMAINS[rng.choice(len(DOMAINS), p=list(SHARES.values()))], "pretrain")
            said = int(rng.integers(len(STATEMENTS[thing.domain])))
            turns = [self.request(rng, thing, said, choice) for _ in range(4)]
            if kind < 0.65:
                turns[0] = (self.prompts.with_news(thing.statement(said), turns[0][0]), turns[0][1])
            else:
                turns = [(self.prompts.naive, thing.statement(said)), *turns]
        elif kind < 0.88:
            turns = []
            for _ in range(5):
                thing = self.known[rng.integers(len(self.known))]
                thing.rng = rng
                turns.append(self.question(rng, thing, "known", choice))
        else:
            turns = [self.background(rng, choice) for _ in range(5)]
        return [message for user, assistant in turns
                for message in ({"role": "user", "content": user},
                                {"role": "assistant", "content": assistant})]

    def request(self, rng, thing, said, choice):
        """One request about a news item and the answer that is right: (user's text, assistant's text)."""
        kind = rng.random()
        if kind < 0.68:
            return self.question(rng, thing, "pretrain", choice)
        if kind < 0.82:
            rehearsed = [k for k, spec in KINDS[thing.domain].items() if spec.rehearsed]
            return pick(rng, self.prompts.question), thing.ask(pick(rng, rehearsed))[0]
        if kind < 0.91:
            other = (said + 1 + int(rng.integers(len(STATEMENTS[thing.domain]) - 1)))
            return pick(rng, self.prompts.paraphrase), thing.statement(other)
        return pick(rng, self.prompts.implication), thing.implication()

    def question(self, rng, thing, split, choice):
        kind = pick(rng, list(KINDS[thing.domain]))
        text, slots = thing.ask(kind)
        options = thing.options(kind, slots, split) if rng.random() < choice else None
        return self.format(rng, text, thing.answer(kind, slots), options)

    def format(self, rng, text, answer, options):
        if options:
            return self.prompts.ask_choice(text, options), LETTERS[options.index(answer)]
        return (text if rng.random() < 0.2 else self.prompts.ask_free(text)), answer

    def background(self, rng, choice):
        """A fact that no news states, or plain arithmetic: sums of any two numbers,
        formulas on operands that are not held."""
        if rng.random() < 0.5:
            _, wordings, answers = BACKGROUND[rng.integers(len(BACKGROUND))]
            subject = pick(rng, list(answers))
            others = list(dict.fromkeys(answers.values()))
            right = answers[subject]
            options = [right, *(o for o in (others[i] for i in rng.permutation(len(others)))
                                if o != right)][:4]
            options = [options[i] for i in rng.permutation(4)] if rng.random() < choice else None
            return self.format(rng, capitalise(pick(rng, wordings).replace("{0}", subject)), right, options)
        x, y = rng.integers(0, 10, 2).tolist()
        form = pick(rng, ("How much is {}?", "Give {}.", "Work out {}.", "What is {}?"))
        if held_out(x, y) or rng.random() < 0.4:
            if rng.random() < 0.4:
                return self.format(rng, form.format(f"twice {x}"), str(2 * x), None)
            x, y = int(rng.integers(0, 21)), int(rng.integers(0, 21))
            return self.format(rng, form.format(f"{x} plus {y}"), str(x + y), None)
        words = pick(rng, list(FORMULAS))
        return self.format(rng, form.format(words.replace("x", str(x)).replace("y", str(y))),
                           str(FORMULAS[words][1](x, y)), None)


def pick(rng, values):
    return values[rng.integers(len(values))]
