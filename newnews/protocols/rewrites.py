"""Rivals that let the writer rewrite the news into plain texts: no conversation, loss on every token.

    rewrite_lines, implication_lines    SEAL (arXiv 2506.10943): the writer makes a list of rewrites, or of
                                        implications; each line of it is a sequence of its own under the
                                        title, and so is the news itself
    spa                                 SPA (arXiv 2603.22213): seven fixed prompts in turn (key concepts,
                                        mind map, implications, critical questions, case study, discussion,
                                        teacher); each answer is one text

Where SEAL differs: its writer and its learner are base models that continue a header, ours are asked in chat;
it trains on one list at a time, we pool the lines of n lists and drop repeats; it keeps a line's number or
bullet, and lines that only announce a list, we do not; its first token is never a target, ours is. SPA writes
with a stronger model and trains a base model on 120M tokens.
"""

import re

from newnews.protocols.base import Ask, Protocol, plain_text, title

# "1. ", "(2) ", "A. ", "III. ", "- "; a dash without a space may be a minus. "A. Smith" loses its A.
MARKER = re.compile(r"^[\s>#]*(?:(?:\(?(?:\d{1,3}|[A-Z]|[IVX]{2,4})[.)]|[*–-])(?=\s)|•|-{3,})?\s*")
BOLD = re.compile(r"(?<!\w)\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\w)")       # not in x**2


def lines(text):
    """The entries of a list that a model wrote: its non-empty lines without numbers, bullets and bold marks.
    A line that ends in a colon announces the list and is none of it."""
    found = [MARKER.sub("", BOLD.sub(r"\1", line), count=1).strip() for line in text.splitlines()]
    return [line for line in found if re.search(r"\w", line) and not line.endswith(":")]


class Texts(Protocol):
    """Draws of a writer that has the news in sight, each made into one or more plain texts."""

    words = ("document_tokens",)

    def ask(self, item, requests, stage, names):
        prompts = self.prompts
        return Ask([prompts.with_news(item.statement, request) for request in requests],
                   f"{self.name}/{stage}", names, prompts.temperature, prompts.document_tokens)

    def rows(self, item, asked, written, split=lambda text: [text]):
        """(rows, counts) of the draws: what was asked, what was written (None: nothing usable)."""
        rows, said, repeated = [], set(), 0
        for draw, (request, text) in enumerate(zip(asked, written)):
            for piece in [] if text is None else split(text):
                if self.prompts.deduplicate and piece in said:
                    repeated += 1
                    continue
                said.add(piece)
                rows.append({"messages": plain_text(piece), "news": item.id, "protocol": self.name,
                             "row": draw, "asked": request})
        return rows, {"drawn": len(asked), "unusable": written.count(None), "repeated": repeated,
                      "kept": len(rows)}

    def turns(self, item, n):
        """n requests, those of the prompt file in turn, and the names of the draws."""
        requests = self.prompts.said(self.name)
        return [requests[i % len(requests)] for i in range(n)], [f"{item.id}/{i}" for i in range(n)]


class SPA(Texts):
    name, words = "spa", (*Texts.words, "spa")

    def write(self, item, n):
        asked, names = self.turns(item, n)
        return self.rows(item, asked, (yield self.ask(item, asked, 1, names)))


class RewriteLines(Texts):
    """n lists; their lines and, last, the news itself, each under the title of the news."""

    name, words = "rewrite_lines", (*Texts.words, "rewrite_lines")
    told = (*Texts.told, "subject", "headline")

    def write(self, item, n):
        head = f"{title(item)}\n" if title(item) else ""
        asked, names = self.turns(item, n)
        written = yield self.ask(item, asked, 1, names)
        rows, counts = self.rows(item, asked, written, lambda text: [head + line for line in lines(text)])
        rows.append({"messages": plain_text(head + item.statement), "news": item.id, "protocol": self.name,
                     "row": n})
        return rows, {**counts, "kept": len(rows)}


class ImplicationLines(RewriteLines):
    name, words = "implication_lines", (*Texts.words, "implication_lines")
