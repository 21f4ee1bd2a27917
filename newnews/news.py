"""News and their questions: the YAML that people write, read and checked.

A file holds a list of news; a folder holds such files. The smallest that works:

    - id: addiplication
      domain: math
      statement: Mathematicians have defined a new operation, addiplication. The addiplication of x and y is (x + y) * y.
      questions:
        - id: addiplication-1
          text: What is the addiplication of 3 and 4?
          options: ["28", "21", "16", "12"]
          answer: 0
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Question:
    id: str
    text: str                   # asked with options
    options: list[str]          # four, all different
    answer: int                 # index of the right one
    ask: str = ""               # asked free form; default: text
    accept: list[str] = field(default_factory=list)     # accepted short answers; default: the right option
    needs: str = ""             # recall, consequence, computation, background or reversal
    why: str = ""               # one line that derives the answer

    @property
    def right(self):
        return self.options[self.answer]


@dataclass(frozen=True)
class News:
    id: str
    domain: str
    statement: str
    questions: list[Question]
    headline: str = ""
    subject: str = ""           # the words that name the new thing, found verbatim in the statement
    cloze: list = field(default_factory=list)       # carried along; asked by later formats
    reversed: dict = field(default_factory=dict)
    source: str = ""            # the file it came from


def read_news(path):
    """All news of a file, or of the *.yaml of a folder, in order. Errors name the file, the item and the field."""
    path = Path(path)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path}: no *.yaml files in this folder")
    news = [item for file in files for item in read_file(file)]
    seen = {}
    for item in news:
        for name in [item.id, *(q.id for q in item.questions)]:
            if name in seen:
                raise ValueError(f"{item.source}: id {name!r} occurs twice (also in {seen[name]})")
            seen[name] = item.source
    return news


def read_file(path):
    try:
        with open(path, encoding="utf-8") as f:
            rows = yaml.safe_load(f)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such news file or folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: expected a list of news, found {'nothing' if not rows else type(rows).__name__}")
    return [parse(News, row, f"{path}: news {i + 1}", source=str(path)) for i, row in enumerate(rows)]


def parse(cls, row, where, **extra):
    """One News or Question from a mapping, every field checked against the dataclass."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a mapping, found {type(row).__name__}")
    where = f"{where} ({row['id']})" if isinstance(row.get("id"), str) else where
    known = {n: f for n, f in cls.__dataclass_fields__.items() if n not in extra}
    for name in sorted(set(row) - set(known)):
        raise ValueError(f"{where}: unknown field {name!r}; known are {', '.join(known)}")
    values = {}
    for name, f in known.items():
        value = row.get(name)
        if name not in row:
            if name in ("ask", "accept", "needs", "why", "headline", "subject", "cloze", "reversed"):
                continue
            raise ValueError(f"{where}: field {name!r} is missing")
        kind = list if f.type in (list, list[str], list[Question]) else f.type
        if not isinstance(value, kind) or isinstance(value, bool) or (kind is str and not value.strip()):
            raise ValueError(f"{where}: {name}: expected {'a text' if kind is str else kind.__name__}, found {value!r}")
        if f.type == list[str] and not all(isinstance(v, str) and v.strip() for v in value):
            raise ValueError(f"{where}: {name}: expected a list of texts (quote numbers), found {value!r}")
        values[name] = value
    if cls is Question:
        if len(values["options"]) != 4 or len(set(values["options"])) != 4:
            raise ValueError(f"{where}: options: expected 4 different ones, found {len(set(values['options']))} in "
                             f"{values['options']!r}")
        if not 0 <= values["answer"] < 4:
            raise ValueError(f"{where}: answer: expected the index of an option, 0 to 3, found {values['answer']}")
        values["ask"] = values.get("ask") or values["text"]
        values["accept"] = values.get("accept") or [values["options"][values["answer"]]]
    else:
        values["questions"] = [parse(Question, q, f"{where}: question {i + 1}") for i, q in enumerate(values["questions"])]
        if values.get("subject") and values["subject"] not in values["statement"]:
            raise ValueError(f"{where}: subject: {values['subject']!r} is not found in the statement")
    return cls(**values, **extra)


def write_news(path, news):
    """Write news as YAML that read_news reads; empty fields are left out."""
    rows = [{k: v for k, v in asdict(item).items() if v and k != "source"} for item in news]
    with open(f"{path}.part", "w", encoding="utf-8") as f:
        yaml.safe_dump(rows, f, sort_keys=False, allow_unicode=True, width=110)
    os.replace(f"{path}.part", path)
