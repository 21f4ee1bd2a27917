"""Contextual shadowing: the same training conversations with the news put before them."""

from newnews.protocols.base import Protocol


class Shadowed(Protocol):
    """Wraps a protocol: its rows, each with the news before the first user turn as it stands before a
    question asked in context. The loss stays where it was, on the assistant's turn."""

    def __init__(self, inner):
        super().__init__(inner.prompts)
        self.inner, self.name, self.sources = inner, f"{inner.name}_shadowed", inner.sources

    def choose(self, rows_of, items):
        return self.inner.choose(rows_of, items)

    def messages(self, row, item):
        first, *rest = self.inner.messages(row, item)
        return [{**first, "content": self.prompts.with_news(item.statement, first["content"])}, *rest]
