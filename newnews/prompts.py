"""Prompts are data: one YAML holds every word that a model is asked. Replay files and answers depend on the
words, not on the file: a comment in it changes neither."""

import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from newnews.reading import number, read_yaml, record, whole
from newnews.words import fill, letters

DEFAULT = Path(__file__).parent.parent / "configs" / "prompts" / "qwen.yaml"


# Tasks built from a text without a model (newnews/protocols/tasks_from_text.py), in words for any model.
TASKS = {
    "title": "Write a title:\n{text}",
    "keywords": "Name the key information in this:\n{text}",
    "follows": "{text}\n\nDoes this follow? {claim}",
    "yes": "Yes",
    "no": "No",
    "tell": "Tell me about {title}.",
    "describe": "Describe {title} with these keywords: {keywords}",
    "recall": "Name the key information about {title}.",
    "cloze": "Fill in the gap. {gap}",
    "options": "Fill in the gap with one of these: {options}. {gap}",
    "complete": "Complete the sentence. {start}",
}
SLOTS = {"in_context": ("{news}", "{text}"), "choice": ("{question}", "{options}"),
         "option": ("{letter}", "{option}"), "free": ("{question}",), "answer": ("{question}",),
         "rote": ("{title}", "{fact}")}
OPTIONAL = {"reason": ("{question}",), "relation": ("{entities}",), "strategy": ("{strategy}",)}


def check_slots(name, text, slots):
    missing = [slot for slot in slots if slot not in text]
    if missing:
        raise ValueError(f"{name}: lacks {', '.join(missing)}")


@dataclass(frozen=True)
class Prompts:
    """configs/prompts/*.yaml, whose comments explain each field."""
    in_context: str
    choice: str
    option: str
    free: str
    answer_marker: str
    naive: str
    paraphrase: list[str]
    implication: list[str]
    question: list[str]
    temperature: float
    answer_temperature: float
    max_new_tokens: int
    deduplicate: bool
    answer: str = "{question}"      # how the writer is asked its own question
    restore: str = "Restore the hidden parts of the text above."    # masked tuning: the request, and
    restored: str = "The whole text:"                               # the line before the assistant's text
    reason: str = ""                # free form after thought; "": this model is not asked so
    top_p: float = 1.0              # of what is written
    on_topic: bool = False          # drop questions that do not show what news they are about
    # The words of rivals. A file need not have them; one that lacks them cannot be asked to write so.
    document_tokens: int = 512      # new tokens of a plain text, longer than a reply
    rewrite_lines: list[str] = field(default_factory=list)
    implication_lines: list[str] = field(default_factory=list)
    spa: list[str] = field(default_factory=list)
    entities: str = ""              # name the entities of the news
    relation: str = ""              # how {entities} bear on each other
    strategies: str = ""            # propose ways to study the news
    strategy: str = ""              # apply {strategy}
    tasks: dict[str, str] = field(default_factory=lambda: dict(TASKS))      # built without a model
    rote: str = "{title} [X] {fact}"        # a key phrase without meaning between a thing and a fact
    digest: str = ""                # sha256 of the file, part of what a pretraining run is

    def __post_init__(self):
        for name, slots in [*SLOTS.items(), *OPTIONAL.items()]:
            if name in SLOTS or getattr(self, name):
                check_slots(name, getattr(self, name), slots)
        if set(self.tasks) != set(TASKS):
            raise ValueError(f"tasks: expected the keys {', '.join(TASKS)}")
        for name, text in TASKS.items():
            check_slots(f"tasks: {name}", self.tasks[name], re.findall(r"\{\w+\}", text))
        for name in ("paraphrase", "implication", "question"):
            if not all(getattr(self, name) or [""]):
                raise ValueError(f"{name}: expected at least one request, and none empty")
        for name in ("rewrite_lines", "implication_lines", "spa"):
            if not all(getattr(self, name)):
                raise ValueError(f"{name}: expected no empty request")
        for name in ("temperature", "answer_temperature"):
            number(name, getattr(self, name), 0)
        whole("max_new_tokens", self.max_new_tokens, 1)
        whole("document_tokens", self.document_tokens, 1)
        number("top_p", self.top_p, 1e-6, 1)

    def with_news(self, statement, text):
        return fill(self.in_context, news=statement, text=text)

    def ask_choice(self, question, options):
        lines = (fill(self.option, letter=letter, option=option)
                 for letter, option in zip(letters(len(options)), options))
        return fill(self.choice, question=question, options="\n".join(lines))

    def ask_free(self, question):
        return fill(self.free, question=question)

    def ask_own(self, question):
        return fill(self.answer, question=question)

    def ask_reason(self, question):
        if not self.reason:
            raise ValueError("reason: the prompt file of this model does not say how to ask for thought")
        return fill(self.reason, question=question)

    def relate(self, entities):
        *some, last = entities
        return fill(self.said("relation"), entities=f"{', '.join(some)} and {last}")

    def apply(self, strategy):
        return fill(self.said("strategy"), strategy=strategy)

    def said(self, name):
        """A field that a prompt file may lack, for a protocol that needs it."""
        if not getattr(self, name):
            raise ValueError(f"{name}: the prompt file of this model has no words for it; "
                             f"configs/prompts/{DEFAULT.name} has, for instruction-tuned models")
        return getattr(self, name)

    def writing(self, more=()):
        """What the writing of replay elements depends on: part of the identity of a replay file. more: the
        fields that a protocol uses beside the usual ones (its `words`), so that the others' files are what
        they were before it came."""
        return {name: getattr(self, name) for name in (
            "in_context", "naive", "paraphrase", "implication", "question", "answer", "temperature",
            "answer_temperature", "top_p", "max_new_tokens", "on_topic", "deduplicate", *more)}


def read_prompts(path):
    row = read_yaml(path, "prompt file")
    digest = sha256(Path(path).read_text(encoding="utf-8").encode()).hexdigest()    # \r\n counts as \n
    return record(Prompts, row, path, digest=digest)


def source_of(folder):
    """The prompt file of a model folder: its own (a pocket model knows no other words), else that for
    instruction-tuned models."""
    own = Path(folder) / "prompts.yaml"
    return own if own.is_file() else DEFAULT


def prompts_for(folder, path=None):
    """The prompts of a file or, without one, of a model folder."""
    return read_prompts(source_of(folder) if path is None else path)
