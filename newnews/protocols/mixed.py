"""Protocols that train on the rows of another: as another format, and two negative controls.

    self_qa_choice  Self-QA as multiple choice: options shown, answered by the letter
    self_qa_other   Self-QA about another news item of the same domain: does practice at answering help alone?
    self_qa_wrong   the item's own questions and answers, put together wrongly: the same words are seen as
                    often, only which answer belongs to which question is lost
"""

from random import Random

from newnews.protocols.base import Protocol, conversation
from newnews.randomness import stream
from newnews.words import letters

OPTIONS = 4


class OtherNews(Protocol):
    """A protocol's rows about the next news item of the same domain, the last one's about the first. An item
    that is alone in its domain has none."""

    def choose(self, rows_of, items):
        others = next_in_domain(items)
        if not any(others.values()):
            raise ValueError(f"{self.name}: needs two news or more of one domain; found {len(items)} of "
                             f"{len({item.domain for item in items})} domains")
        return {id: rows_of[other.id] if other else [] for id, other in others.items()}


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

    def choose(self, rows_of, items):
        return {item.id: list(self.exchanged(rows_of[item.id])) for item in items}

    def exchanged(self, rows):
        answers = [row["messages"][1]["content"] for row in rows]
        for row, answer in zip(rows, answers):
            others = [a for a in answers if a != answer]
            if others:          # where all answers are one text, no wrong one is known
                drawn = others[stream("wrong", row["news"], row["row"]) % len(others)]
                yield {**row, "messages": conversation(row["messages"][0]["content"], drawn)}


class AsChoice(Protocol):
    """A protocol's rows with options, answered by the letter. No model writes options: they are answers to
    other questions about the same news, so words of the news give nothing away, though often the kind of
    answer does. A row without any other answer is left out."""

    def choose(self, rows_of, items):
        return {item.id: list(self.lettered(rows_of[item.id])) for item in items}

    def lettered(self, rows):
        answers = list(dict.fromkeys(row["messages"][1]["content"] for row in rows))
        for row in rows if answers[1:] else ():
            question, right = (message["content"] for message in row["messages"])
            rng = Random(stream("choice", row["news"], row["row"]))
            others = [a for a in answers if a != right]
            options = [right, *rng.sample(others, min(OPTIONS - 1, len(others)))]
            rng.shuffle(options)
            letter = letters(len(options))[options.index(right)]
            yield {**row, "messages": conversation(self.prompts.ask_choice(question, options), letter)}
