"""Self-Tuning (arXiv 2406.06326): tasks that rules cut out of the text, no writer needed.

    memorise      the text under its title, as a plain text
    comprehend    with the text in sight: name the key information, write a title, does this follow?
    reflect       without it: tell me about, describe with these keywords, recall the key information, a
                  cloze, a cloze with options, complete the sentence

Where we differ: Self-Tuning finds entities and noun chunks with spaCy; we take runs of capitalised words
(also the first word of a sentence, whatever it is), numbers and content words. It learns the tasks on other
documents and their questions first, then reads the test documents (three stages, all weights); here each
news item is alone, with its own tasks.
"""

import re
from itertools import zip_longest

from newnews.protocols.base import Protocol, conversation, plain_text, title
from newnews.protocols.rehearse import FUNCTION_WORDS
from newnews.words import fill, whole

WORD = re.compile(r"[\w'’]+(?:[-.]\w+)*")
OPTIONS = 4         # of a cloze with options


def sentences(text):
    return re.split(r"(?<=[.!?])\s+(?=[\w\"'(])", text.strip())


def key_spans(sentence):
    """[(span, kind)] in order: what a sentence tells. kind: "name" (a run of capitalised words), "number", or
    "word" (another word with content). Function words are left out, but for the New of New York."""
    found, start, end = [], 0, -1
    for match in WORD.finditer(sentence):
        word = match[0]
        kind = "number" if word[0].isdigit() else "name" if word[0].isupper() else "word"
        common = word.lower() in FUNCTION_WORDS and (kind == "word" or match.start() == 0)
        if common or kind == "word" and len(word) < 3:
            continue
        if kind == "name" and found and found[-1][1] == "name" and sentence[end:match.start()] == " ":
            found[-1] = sentence[start:match.end()], kind
        else:
            start = match.start()
            found.append((word, kind))
        end = match.end()
    return list(dict.fromkeys(found))


def replaced(sentence, span, other):
    return whole(span).sub(lambda _: other, sentence)


def alike(span, kind, spans):
    """The spans of the text that could stand in the place of this one: of its kind, it left out."""
    return [other for other, its in spans if its == kind and other != span]


class SelfTuning(Protocol):
    """At most n tasks, of all kinds alike."""

    name, words, told = "self_tuning", ("tasks",), ("id", "statement", "subject", "headline")

    def write(self, item, n):
        yield from ()                       # nothing is asked
        kinds = [self.memorise, self.comprehend, self.follows, self.reflect, self.cloze, self.options,
                 self.complete]
        said = sentences(item.statement)
        spans = list(dict.fromkeys(span for sentence in said for span in key_spans(sentence)))
        built = [kind(item, title(item), said, spans) for kind in kinds]
        tasks = [task for some in zip_longest(*built) for task in some if task]
        rows = [{"messages": messages, "news": item.id, "protocol": self.name, "row": row}
                for row, messages in enumerate(tasks[:n])]
        return rows, {"drawn": 0, "kept": len(rows)}

    def task(self, kind, answer, **slots):
        return conversation(fill(self.prompts.tasks[kind], **slots), answer)

    # Each: (item, what it is about, its sentences, its key spans) -> conversations.

    def memorise(self, item, about, said, spans):
        return [plain_text(f"{about}\n{item.statement}" if about else item.statement)]

    def comprehend(self, item, about, said, spans):
        """With the text in sight."""
        tasks = [self.task("keywords", listed(spans), text=item.statement)] * bool(spans)
        return tasks + [self.task("title", about, text=item.statement)] * bool(about)

    def follows(self, item, about, said, spans):
        """With the text in sight: a sentence of it follows; with one key span in another's place it does not.
        A sentence that allows no such change gives no task, so that both answers are right as often."""
        tasks = []
        for sentence in said:
            for span, kind in key_spans(sentence):
                others = alike(span, kind, spans) if kind != "word" else []
                if others:
                    false = replaced(sentence, span, others[len(tasks) // 2 % len(others)])
                    tasks += [self.task("follows", self.prompts.tasks[answer], text=item.statement,
                                        claim=titled(about, claim))
                              for answer, claim in (("yes", sentence), ("no", false))]
                    break
        return tasks

    def reflect(self, item, about, said, spans):
        """Without the text in sight."""
        if not about:
            return []
        named = [self.task("describe", item.statement, title=about, keywords=listed(spans)),
                 self.task("recall", listed(spans), title=about)]
        return [self.task("tell", item.statement, title=about)] + (named if spans else [])

    def gaps(self, about, said):
        """(sentence with a gap under its title, span, kind) of every span that the title does not say."""
        for sentence in said:
            for span, kind in key_spans(sentence):
                if not whole(span).search(about):
                    yield titled(about, replaced(sentence, span, "___")), span, kind

    def cloze(self, item, about, said, spans):
        return [self.task("cloze", span, gap=gap) for gap, span, _ in self.gaps(about, said)]

    def options(self, item, about, said, spans):
        """The options stand in the order of the alphabet, which does not tell the right one."""
        tasks = []
        for gap, span, kind in self.gaps(about, said):
            shown = sorted([span, *alike(span, kind, spans)[:OPTIONS - 1]])
            if len(shown) > 1:
                tasks.append(self.task("options", span, gap=gap, options=", ".join(shown)))
        return tasks

    def complete(self, item, about, said, spans):
        """Each sentence is cut before its last key span."""
        tasks = []
        for sentence in said:
            last = max([found.start() for span, _ in key_spans(sentence)
                        for found in whole(span).finditer(sentence)], default=0)
            if last > 0:
                start = titled(about, sentence[:last].strip())
                tasks.append(self.task("complete", sentence[last:], start=start))
        return tasks


def listed(spans):
    return "; ".join(span for span, _ in spans)


def titled(about, text):
    return f"{about}: {text}" if about else text
