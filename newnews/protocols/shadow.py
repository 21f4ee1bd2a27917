"""Contextual shadowing, the same training conversations with the news put before them, and its controls: does
it take the news, or would any text do? The loss stays where it was, on the assistant's turn.

    X_shadowed              the news before the question, as it stands before a question asked in context
    X_shadowed_other        another news item there, of the same domain
    X_shadowed_shuffled     the news with its words in another order, the same in each row
    X_shadowed_unrelated    as many words of news from other domains
    X_shadowed_after        the news behind the question, still before the answer. (Behind the answer it would
                            change nothing: no token sees what comes after it.)

An item without such a text (alone in its domain, or no other domain there) has no rows.
"""

from random import Random

from newnews.protocols.base import Protocol
from newnews.protocols.mixed import next_in_domain
from newnews.randomness import stream


class Shadowed(Protocol):
    """Rows as they are, each with the news before the first user turn."""

    def messages(self, row, item):
        return put_before(row["messages"], item.statement, self.prompts)


def put_before(messages, text, prompts):
    return reworded(messages, lambda words: prompts.with_news(text, words))


def reworded(messages, change):
    """The conversation with change(content) in its first user turn, before which a system turn stays; in its
    first turn if nobody asks."""
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), 0)
    turn = {**messages[first], "content": change(messages[first]["content"])}
    return [*messages[:first], turn, *messages[first + 1:]]


NEEDED = {"other": "two news or more of one domain", "unrelated": "news of two domains or more"}


class Control(Protocol):
    """Its rows have the text in them when they are chosen, since that needs the other news."""

    def __init__(self, inner, kind):
        super().__init__(inner.prompts, f"{inner.name}_shadowed_{kind}", inner.sources)
        self.kind = kind

    def choose(self, rows_of, items):
        if self.kind != "after" and not any(getattr(self, self.kind)(item, items) for item in items):
            raise ValueError(f"{self.name}: needs {NEEDED[self.kind]}; found {len(items)} of "
                             f"{len({item.domain for item in items})} domains")
        return {item.id: [{**row, "messages": messages} for row in rows_of[item.id]
                          if (messages := self.shadow(row["messages"], item, items))] for item in items}

    def shadow(self, messages, item, items):
        """The conversation with its text; None where there is none."""
        if self.kind == "after":
            return reworded(messages, lambda words: self.prompts.with_news(words, item.statement))
        text = getattr(self, self.kind)(item, items)
        return text and put_before(messages, text, self.prompts)

    def other(self, item, items):
        other = next_in_domain(items)[item.id]
        return other and other.statement

    def shuffled(self, item, items):
        words = item.statement.split()
        return " ".join(Random(stream("shuffled", item.id)).sample(words, len(words)))

    def unrelated(self, item, items):
        words = " ".join(other.statement for other in items if other.domain != item.domain).split()
        if not words:
            return None
        start = stream("unrelated", item.id) % len(words)           # not the same text for each item
        return " ".join(words[(start + i) % len(words)] for i in range(len(item.statement.split())))
