"""The paper's protocols: the news itself, restated, thought through, or asked about by the model itself."""

import re

from newnews.protocols.base import Ask, Protocol, conversation

# Words that say nothing about what a text is about.
FUNCTION_WORDS = frozenset("""
    a about after all also an and any are as at be because been before being between both but by can could did
    do does each every for from give had has have her here him his how if in into is it its just like made
    make many may more most much name new news no not now of on one only or other our out over own said same
    say she should so some such than that the their them then there these they this those through to under up
    use used very was we were what when where which while who whom whose why will with work would you
    your""".split())


ENOUGH = 4          # content words of the news: a question from an answer back to the subject has as many


def content_words(text):
    """The words of a text without function words, in lower case; the s of a plural or genitive does not
    count."""
    words = set(re.findall(r"\w+", re.sub(r"['’]s\b", "", text.lower()))) - FUNCTION_WORDS
    return {word.removesuffix("s") for word in words if not word.isdigit()}


class Naive(Protocol):
    """The news, word for word: one row, no writer needed."""

    name = "naive"

    def write(self, item, n):
        yield from ()                       # nothing is asked
        return [{"messages": conversation(self.prompts.naive, item.statement), "news": item.id,
                 "protocol": self.name, "row": 0}], {"drawn": 0, "kept": 1}


class Rehearsal(Protocol):
    """Draws of a writer that has the news in sight. A subclass says what is kept, and in `asks` which field
    of the prompt file holds what is asked."""

    def keeps(self, text, item):
        """Is what was written at first about the news?"""
        return True

    def second(self, item, rows, first, names):
        """From what was written at first to (user, assistant) texts, None where nothing usable came. A
        generator, as `write`."""
        yield from ()
        return [(self.prompts.naive, first[row]) for row in rows]

    def write(self, item, n):
        prompts, requests = self.prompts, getattr(self.prompts, self.asks)
        names = [f"{item.id}/{row}" for row in range(n)]
        # 1. Ask, the YAML's requests taken in turn. Each row's noise hangs on its name alone.
        asked = [requests[row % len(requests)] for row in range(n)]
        first = yield Ask([prompts.with_news(item.statement, text) for text in asked], f"{self.name}/1",
                          names, prompts.temperature)
        # 2. Drop what is empty, was cut at the limit or has left the news; of equal texts keep the first.
        usable = [row for row in range(n) if first[row] is not None]
        about = [row for row in usable if self.keeps(first[row], item)]
        kept = []
        for row in about:
            if not prompts.deduplicate or first[row] not in [first[k] for k in kept]:
                kept.append(row)
        # 3. Make conversations of them; Self-QA asks once more for it.
        pairs = yield from self.second(item, kept, first, [names[row] for row in kept])
        rows = [{"messages": conversation(*pair), "news": item.id, "protocol": self.name, "row": row,
                 "asked": asked[row]} for row, pair in zip(kept, pairs) if pair is not None]
        return rows, {"drawn": n, "unusable": n - len(usable) + len(kept) - len(rows),
                      "off_topic": len(usable) - len(about), "repeated": len(about) - len(kept),
                      "kept": len(rows)}


class Paraphrase(Rehearsal):
    name = asks = "paraphrase"


class Implication(Rehearsal):
    name = asks = "implication"


class SelfQA(Rehearsal):
    """A question in one conversation, its answer in a second one, each with the news in sight; trained on
    without."""

    name, asks = "self_qa", "question"

    def __init__(self, prompts):
        super().__init__(prompts)
        if prompts is not None and prompts.on_topic:        # then `keeps` reads it
            self.told = (*self.told, "subject")

    def keeps(self, text, item):
        """A question makes sense without the news in sight, and has not left them, if it names their subject
        or shares ENOUGH content words with them; one, where the news do not say what their subject is. Of
        a 0.5B model's questions that are kept .94 are about their news (82 read); .86 (97) where one word was
        enough (docs/log.md)."""
        shared = content_words(text) & content_words(item.statement)
        subject = content_words(item.subject)
        named = subject <= content_words(text) if subject else bool(shared)
        return not self.prompts.on_topic or named or len(shared) >= ENOUGH

    def second(self, item, rows, first, names):
        if not rows:
            return []
        prompts, questions = self.prompts, [first[row] for row in rows]
        answers = yield Ask([prompts.with_news(item.statement, prompts.ask_own(q)) for q in questions],
                            f"{self.name}/2", names, prompts.answer_temperature)
        return [None if answer is None else (question, answer)
                for question, answer in zip(questions, answers)]
