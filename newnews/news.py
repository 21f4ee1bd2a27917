"""News and their questions: the YAML that people write, read and checked.

A news item may come with counter-statements ("worlds"): the same text with another rule, city or winner. Then
option w of each of its questions is the answer in world w, and any world can be read as the actual one.

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

import unicodedata
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml

from newnews.outputs import write_text
from newnews.reading import checked, named, read_list, record, shown

ENDINGS = (".yaml", ".yml")
TAKEN = ("manifest.json", "metrics.jsonl")      # what else lies in the folder of a bank of adapters
WINDOWS = {"CON", "PRN", "AUX", "NUL", *(f"{name}{i}" for name in ("COM", "LPT") for i in range(1, 10))}


def check_id(name):
    """An id becomes the name of a folder, on any system."""
    if not name or len(name.encode()) > 100 or name[0] in ". " or name[-1] in ". " \
            or any(c in '<>:"/\\|?*' or not c.isprintable() for c in name) \
            or name.partition(".")[0].upper() in WINDOWS or name in TAKEN:
        raise ValueError(f"id: {shown(name)} cannot be the name of a folder; expected at most 100 letters, "
                         f"digits, hyphens, underscores, spaces and dots, no dot or space at either end, "
                         f"and none of {', '.join(TAKEN)}")


def check_texts(**texts):
    """No text, and no entry of a list of texts, is empty."""
    for name, value in texts.items():
        for text in value if isinstance(value, list) else [value]:
            if not text.strip():
                raise ValueError(f"{name}: expected a text, found {text!r}")


@dataclass(frozen=True)
class Question:
    id: str
    text: str                   # asked with options
    options: list[str]          # 2 to 26, all different
    answer: int                 # index of the right one
    ask: str = ""               # asked free form; default: text
    # How each option may be said in a short answer besides in its own words. In Python a flat list is that of
    # the right one, where no others are known; in a file that is `accept`.
    forms: list[list[str]] = field(default_factory=list)
    needs: str = ""             # a word: recall, application, reversal, background, two_steps; or your own
    why: str = ""               # one line that derives the answer
    steps: int = 0              # of thought; 0: not said

    def __post_init__(self):
        check_id(self.id)
        count = len(self.options)
        if not 2 <= count <= 26 or len(set(self.options)) != count:
            raise ValueError(f"options: expected 2 to 26 different ones, found {len(set(self.options))} "
                             f"in {shown(self.options)}")
        if not 0 <= self.answer < count:
            raise ValueError(f"answer: expected the index of an option, 0 to {count - 1}, "
                             f"found {self.answer}")
        forms = self.forms or [[] for _ in self.options]
        if all(isinstance(form, str) for form in forms):
            forms = [self.forms if k == self.answer else [] for k in range(count)]
        if len(forms) != count:
            raise ValueError(f"forms: expected {count} lists, one an option, found {len(forms)}")
        # the option itself is accepted anyway: it is left out, so that what reads the same is the same
        forms = [[form for form in mine if form != option] for mine, option in zip(forms, self.options)]
        object.__setattr__(self, "forms", forms)
        object.__setattr__(self, "ask", self.ask or self.text)
        check_texts(text=self.text, ask=self.ask, options=self.options, forms=sum(forms, []))
        if not 0 <= self.steps <= 100:
            raise ValueError(f"steps: expected 0 to 100, found {self.steps}")

    @property
    def right(self):
        return self.options[self.answer]

    def ways(self, option):
        """The short answers that stand for option number `option`."""
        return [self.options[option], *self.forms[option]]

    @property
    def accept(self):
        """The short answers that are right."""
        return self.ways(self.answer)


@dataclass(frozen=True)
class Cloze:
    text: str                   # with one gap, ___
    accept: list[str]

    def __post_init__(self):
        if self.text.count("___") != 1:
            raise ValueError(f"text: expected one gap ___, found {self.text!r}")
        check_accept(self.accept)


@dataclass(frozen=True)
class Asked:
    """A free-form question with its right short answers."""
    ask: str
    accept: list[str]

    def __post_init__(self):
        check_texts(ask=self.ask)
        check_accept(self.accept)


@dataclass(frozen=True)
class Silent:
    ask: str                    # a sensible question that the news does not answer

    def __post_init__(self):
        check_texts(ask=self.ask)


def check_accept(accept):
    if not accept:
        raise ValueError("accept: expected at least one text")
    check_texts(accept=accept)


@dataclass(frozen=True)
class News:
    id: str
    domain: str
    statement: str              # of the actual world
    questions: list[Question] = field(default_factory=list)     # none: it can be rehearsed, not asked about
    headline: str = ""
    subject: str = ""           # the words that name the new thing, found verbatim in the statement
    worlds: list[str] = field(default_factory=list)         # the statements of the other worlds, in order
    restatements: list[str] = field(default_factory=list)   # of the actual world, by hand
    cloze: list[Cloze] = field(default_factory=list)        # formats that no protocol trains on
    reversed: Asked | None = None                           # from the properties to the name
    spoils: list[Asked] = field(default_factory=list)       # answers that the news does not change
    silent: Silent | None = None
    world: int = 0              # the number of the actual world; in a file always 0
    source: str = ""            # the file it came from

    def __post_init__(self):
        check_id(self.id)
        check_texts(domain=self.domain, statement=self.statement, worlds=self.worlds,
                    restatements=self.restatements)
        if self.domain == "all":
            raise ValueError("domain: 'all' is what tables call their totals; give it another name")
        if self.subject and self.subject not in self.statement:
            raise ValueError(f"subject: {self.subject!r} is not found in the statement")
        if not 0 <= self.world <= len(self.worlds):
            raise ValueError(f"world: {self.world} is not there; this news item has {len(self.worlds) + 1}, "
                             f"counted from 0")
        for q in self.questions if self.worlds else ():
            if len(q.options) != len(self.worlds) + 1:
                raise ValueError(f"{q.id}: options: expected {len(self.worlds) + 1}, one a world, "
                                 f"found {len(q.options)}")
            if q.answer != self.world:
                raise ValueError(f"{q.id}: answer: expected {self.world} (option w is the answer in world "
                                 f"w), found {q.answer}")

    @property
    def statements(self):
        """The statements of all worlds in their order."""
        return [*self.worlds[:self.world], self.statement, *self.worlds[self.world:]]

    def in_world(self, world):
        """The same news item with another of its worlds as the actual one. What tells or asks about the world
        that was actual goes: restatements, cloze, reversed, spoils and the derivations."""
        if world == self.world:
            return self
        if not 0 <= world <= len(self.worlds):
            raise ValueError(f"news {self.id} has no world {world}; it has {len(self.worlds) + 1}, "
                             f"counted from 0")
        others = self.statements
        statement = others.pop(world)
        return replace(self, statement=statement, worlds=others, world=world, restatements=[], cloze=[],
                       reversed=None, spoils=[],
                       questions=[replace(q, answer=world, why="") for q in self.questions])


# ---- reading ----

def yaml_files(folder):
    """The *.yaml and *.yml of a folder, not of its sub-folders, in the order of their names."""
    return sorted(p for p in Path(folder).iterdir()
                  if p.suffix.lower() in ENDINGS and not p.name.startswith(".") and p.is_file())


def read_news(path, world=0):
    """All news of a file, or of the *.yaml and *.yml of a folder (not of its sub-folders), in order.

    world: which world is the actual one. For another than 0 its statement and its answers take the place of
    world 0's; restatements, cloze, reversed, spoils and derivations belong to world 0 only and are dropped.
    Errors name the file, the item and the field.
    """
    path = Path(path)
    files = yaml_files(path) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path}: no *.yaml or *.yml files in this folder")
    news = [item for file in files for item in read_file(file, world)]
    check_unique(news)
    return news


def check_unique(news):
    """Ids of news and questions are unique, also on file systems that take A for a."""
    seen = {}
    for item in news:
        for name in [item.id, *(q.id for q in item.questions)]:
            same = unicodedata.normalize("NFC", name).casefold()
            if same in seen:
                raise ValueError(f"{item.source}: id {name!r} occurs twice (also in {seen[same]})")
            seen[same] = item.source


def read_file(path, world=0):
    news = []
    for i, row in enumerate(read_list(path, "news", "news file or folder"), 1):
        where, parts = f"{path}: news {i}", {"source": str(path)}
        if isinstance(row, dict) and "world" in row:
            raise ValueError(f"{named(row, where)}: world: found {shown(row['world'])}, expected no key; "
                             f"leave it out: `statement` is world 0, `worlds` are the others, and which one "
                             f"is actual is said to the reader (evaluate.py --world, news.world of a study)")
        if isinstance(row, dict) and isinstance(row.get("questions"), list):
            parts["questions"] = read_questions(row["questions"], f"{named(row, where)}: questions")
            row = {key: value for key, value in row.items() if key != "questions"}
        item = record(News, row, where, **parts)
        try:
            news.append(item.in_world(world))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return news


def read_questions(rows, where):
    """Questions; in older files they have `accept`, the forms of the right option, instead of `forms`."""
    out = []
    for i, row in enumerate(rows, 1):
        place, parts = f"{where}: question {i}", {}
        if isinstance(row, dict) and "accept" in row and "forms" not in row:
            parts["forms"] = checked(list[str], row["accept"], f"{named(row, place)}: accept")
            row = {key: value for key, value in row.items() if key != "accept"}
        out.append(record(Question, row, place, **parts))
    return out


def read_locality(folder):
    """The questions of the YAML files in FOLDER/locality, about neighbouring facts that must not change;
    none if there is no such folder."""
    folder, out = Path(folder) / "locality", []
    for path in yaml_files(folder) if folder.is_dir() else ():
        out += read_questions(read_list(path, "questions"), path)
    return out


def check_asked(news):
    """Each of these news can be asked about."""
    for item in news:
        if not item.questions:
            raise ValueError(f"{item.source}: news {item.id} has no questions: it cannot be asked about")


# ---- writing ----

def write_news(path, news):
    """Write news as YAML that read_news reads; empty fields are left out. Of worlds, 0 is the actual one in a
    file, whichever was before."""
    def filled(value):
        """Without the entries of mappings that are empty, or lists of empty lists."""
        if isinstance(value, dict):
            return {k: filled(v) for k, v in value.items() if k == "answer" or v and (k != "forms" or any(v))}
        return [filled(v) for v in value] if isinstance(value, list) else value

    rows = [filled({k: v for k, v in asdict(item.in_world(0)).items() if k != "source"}) for item in news]
    write_text(path, yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=110))
