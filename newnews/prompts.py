"""Prompts are data: one YAML holds every word that a model is asked. Its hash is in every manifest."""

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from newnews.reading import number, read_yaml, record, whole

DEFAULT = Path(__file__).parent.parent / "configs" / "prompts" / "qwen.yaml"


def letters(count):
    """The letters of `count` options, at most 26: A, B, C, ..."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


def fill(template, **slots):
    """Put values in for {name}, in one pass: braces inside a value (code, say) stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: str(slots[m[1]]) if m[1] in slots else m[0], template)


SLOTS = {"in_context": ("{news}", "{text}"), "choice": ("{question}", "{options}"),
         "option": ("{letter}", "{option}"), "free": ("{question}",), "answer": ("{question}",)}


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
    on_topic: bool = False          # drop questions that share no content word with the news
    digest: str = ""                # sha256 of the file

    def __post_init__(self):
        for name, slots in {**SLOTS, **({"reason": ("{question}",)} if self.reason else {})}.items():
            missing = [slot for slot in slots if slot not in getattr(self, name)]
            if missing:
                raise ValueError(f"{name}: lacks {', '.join(missing)}")
        for name in ("paraphrase", "implication", "question"):
            if not all(getattr(self, name) or [""]):
                raise ValueError(f"{name}: expected at least one request, and none empty")
        for name in ("temperature", "answer_temperature"):
            number(name, getattr(self, name), 0)
        whole("max_new_tokens", self.max_new_tokens, 1)
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

    def writing(self):
        """What the writing of replay elements depends on: part of the identity of a replay file."""
        return {name: getattr(self, name) for name in (
            "in_context", "naive", "paraphrase", "implication", "question", "answer", "temperature",
            "answer_temperature", "top_p", "max_new_tokens", "on_topic", "deduplicate")}


def read_prompts(path):
    row = read_yaml(path, "prompt file")
    digest = sha256(Path(path).read_text(encoding="utf-8").encode()).hexdigest()    # \r\n counts as \n
    return record(Prompts, row, path, digest=digest)


def source_of(folder):
    """The prompt file of a model folder: its own (a pocket model knows no other words), else that for
    instruction-tuned models."""
    own = Path(folder) / "prompts.yaml"
    return own if own.is_file() else DEFAULT


def prompts_for(folder):
    return read_prompts(source_of(folder))
