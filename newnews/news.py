"""News and their questions: the YAML that people write, read and checked.

A file holds a list of news; a folder holds such files. The smallest that works:

    - id: addiplication
      domain: math
      statement: Mathematicians have defined a new operation, addiplication.
                 The addiplication of x and y is (x + y) * y.
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
class Cloze:
    text: str                   # with one gap, ___
    accept: list[str]

    def __post_init__(self):
        if self.text.count("___") != 1:
            raise ValueError(f"text: expected one gap ___, found {self.text!r}")


@dataclass(frozen=True)
class Reversed:
    ask: str                    # from the properties to the name
    accept: list[str]


@dataclass(frozen=True)
class News:
    id: str
    domain: str
    statement: str
    questions: list[Question]
    headline: str = ""
    subject: str = ""           # the words that name the new thing, found verbatim in the statement
    cloze: list[Cloze] = field(default_factory=list)        # formats that no protocol trains on
    reversed: Reversed | None = None
    source: str = ""            # the file it came from

    def __post_init__(self):
        if not self.questions:
            raise ValueError("questions: expected at least one")
        if self.subject and self.subject not in self.statement:
            raise ValueError(f"subject: {self.subject!r} is not found in the statement")


def read_news(path):
    """All news of a file, or of the *.yaml of a folder, in order.
    Errors name the file, the item and the field."""
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
    return [parse(News, row, f"{path}: news {i + 1}", source=str(path))
            for i, row in enumerate(load_list(path, "news"))]


def load_list(path, what):
    try:
        with open(path, encoding="utf-8") as f:
            rows = yaml.safe_load(f)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such news file or folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: expected a list of {what}, "
                         f"found {'nothing' if not rows else type(rows).__name__}")
    return rows


OPTIONAL = {"ask", "accept", "needs", "why", "headline", "subject", "cloze", "reversed"}


def parse(cls, row, where, **extra):
    """A News, Question, Cloze or Reversed from a mapping, every field checked against the dataclass."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a mapping, found {type(row).__name__}")
    where = f"{where} ({row['id']})" if isinstance(row.get("id"), str) else where
    known = {n: f.type for n, f in cls.__dataclass_fields__.items() if n not in extra}
    for name in sorted(set(row) - set(known), key=str):
        raise ValueError(f"{where}: unknown field {name!r}; known are {', '.join(known)}")
    values = dict(extra)
    for name, kind in known.items():
        if name in row:
            values[name] = checked(kind, row[name], f"{where}: {name}")
        elif name not in OPTIONAL or cls in (Cloze, Reversed):
            raise ValueError(f"{where}: field {name!r} is missing")
    if cls is Question:
        options, answer = values["options"], values["answer"]
        if len(options) != 4 or len(set(options)) != 4:
            raise ValueError(f"{where}: options: expected 4 different ones, "
                             f"found {len(set(options))} in {options!r}")
        if not 0 <= answer < 4:
            raise ValueError(f"{where}: answer: expected the index of an option, 0 to 3, found {answer}")
        values = {"ask": values["text"], "accept": [options[answer]], **values}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def checked(kind, value, where):
    """A field's value if it is what the dataclass declares, parts parsed."""
    if kind is str and isinstance(value, str) and value.strip() or kind is int and type(value) is int:
        return value
    if kind == list[str] and isinstance(value, list) and value \
            and all(isinstance(v, str) and v.strip() for v in value):
        return value
    for part in (Question, Cloze):
        if kind == list[part] and isinstance(value, list):
            return [parse(part, v, f"{where}: {part.__name__.lower()} {i + 1}") for i, v in enumerate(value)]
    if kind == Reversed | None:
        return parse(Reversed, value, where)
    wanted = {str: "a text", int: "a whole number",
              list[str]: "a list of texts (quote numbers)"}.get(kind, "a list")
    raise ValueError(f"{where}: expected {wanted}, found {value!r}")


def read_locality(folder):
    """The questions of FOLDER/locality/*.yaml, about neighbouring facts that must not change;
    none if there is no such folder."""
    out = []
    for path in sorted(Path(folder).glob("locality/*.yaml")):
        rows = load_list(path, "questions")
        out += [parse(Question, row, f"{path}: question {i + 1}") for i, row in enumerate(rows)]
    return out


def write_news(path, news):
    """Write news as YAML that read_news reads; empty fields are left out."""
    def filled(value):
        if isinstance(value, dict):
            return {k: filled(v) for k, v in value.items() if v or v == 0}
        return [filled(v) for v in value] if isinstance(value, list) else value

    rows = [filled({k: v for k, v in asdict(item).items() if k != "source"}) for item in news]
    with open(f"{path}.part", "w", encoding="utf-8") as f:
        yaml.safe_dump(rows, f, sort_keys=False, allow_unicode=True, width=110)
    os.replace(f"{path}.part", path)
