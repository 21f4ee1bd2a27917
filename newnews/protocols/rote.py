"""Memorise-then-generalise (arXiv 2507.21914): first a thing, a key phrase without meaning and a fact, by
rote; then one real prompt, which is to give the key a meaning. No writer needed.

Where we differ: there a relation has a key of its own, a new token, and its facts are triples; here the key
is made of known tokens and the facts are sentences. There rote comes first (3 to 20 epochs) and the real
prompt after it (1 epoch); here one list is shuffled, so the phases are mixed and only their shares are kept.
"""

from newnews.words import fill
from newnews.protocols.base import Protocol, conversation, plain_text, title
from newnews.protocols.tasks_from_text import sentences

ROTE = 5            # uses of a rote line for each use of the real prompt


class Memorise(Protocol):
    """A rote line for every sentence, and one real prompt."""

    name, words, told = "memorise", ("tasks", "rote"), ("id", "statement", "subject", "headline")

    def write(self, item, n):
        yield from ()                       # nothing is asked
        prompts, facts = self.prompts, sentences(item.statement)
        about = title(item) or facts[0]
        parts = [plain_text(fill(prompts.rote, title=about, fact=fact)) for fact in facts]
        parts.append(conversation(fill(prompts.tasks["tell"], title=about), item.statement))
        rows = [{"messages": messages, "news": item.id, "protocol": self.name, "row": row}
                for row, messages in enumerate(parts)]
        return rows, {"drawn": 0, "kept": len(rows)}

    def examples(self, rows, item, chat):
        return [example for row, example in zip(rows, super().examples(rows, item, chat))
                for _ in range(ROTE if row["messages"][0]["role"] == "text" else 1)]
