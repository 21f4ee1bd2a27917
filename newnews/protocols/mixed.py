"""Protocols that train on the rows of others: all of them together, and two negative controls.

    mixed           naive, paraphrase, implication and self_qa in one list
    self_qa_other   Self-QA about another news item of the same domain: does practice at answering help alone?
    self_qa_wrong   the item's own questions and answers, put together wrongly: the same words are seen as
                    often, only which answer belongs to which question is lost
"""

from newnews.protocols.base import Protocol, conversation
from newnews.randomness import stream


class Mixed(Protocol):
    """The rows of several protocols."""

    def __init__(self, parts):
        super().__init__(parts[0].prompts)
        self.name, self.sources = "mixed", tuple(parts)


class OtherNews(Protocol):
    """A protocol's rows about the next news item of the same domain, the last one's about the first. An item
    that is alone in its domain has none."""

    def __init__(self, inner):
        super().__init__(inner.prompts)
        self.name, self.sources = f"{inner.name}_other", inner.sources

    def choose(self, rows_of, items):
        return {id: rows_of[other.id] if other else [] for id, other in next_in_domain(items).items()}


def next_in_domain(items):
    """{news id: the next item of the same domain, the last one's the first; None for one alone in its
    domain}."""
    domains, out = {}, {}
    for item in items:
        domains.setdefault(item.domain, []).append(item)
    for some in domains.values():
        for item, other in zip(some, some[1:] + some[:1]):
            out[item.id] = other if other is not item else None
    return out


class WrongAnswers(Protocol):
    """A protocol's rows, each with the answer of another row about the same news, of another text."""

    def __init__(self, inner):
        super().__init__(inner.prompts)
        self.name, self.sources = f"{inner.name}_wrong", inner.sources

    def choose(self, rows_of, items):
        return {item.id: list(self.exchanged(rows_of[item.id])) for item in items}

    def exchanged(self, rows):
        answers = [row["messages"][1]["content"] for row in rows]
        for row, answer in zip(rows, answers):
            others = [a for a in answers if a != answer]
            if others:          # where all answers are one text, no wrong one is known
                drawn = others[stream("wrong", row["news"], row["row"]) % len(others)]
                yield {**row, "messages": conversation(row["messages"][0]["content"], drawn)}
