"""One reader for all that people write: YAML files, JSONL files, and mappings that become dataclasses.

Errors are ValueError or OSError and say the file, the line or the key, what was found and what is expected.
No torch here: files are checked before a model is loaded.
"""

import codecs
import difflib
import json
import math
import re
import types
import typing
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass

import yaml

from model.files import once

LARGEST = 64 * 2 ** 20      # bytes of a YAML file: 200 times our largest; PyYAML reads 0.2 MB a second
LONGEST = 2 ** 19           # bytes of one of its lines, which take some 3 s; the longest context is shorter
DEEPEST = 40                # levels of a YAML file; ours have 7, Python's stack ends at some 300
SURROGATE = re.compile("[\ud800-\udfff]")       # half a character, which no file or tokenizer can hold


@contextmanager
def opened(path, what):
    """A file to read bytes from. what: the words for it if there is none ("prompt file")."""
    try:
        with open(path, "rb") as f:
            yield f
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such {what}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path}: expected a file, found a folder") from None


# ---- YAML ----

class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses what would be read wrongly or never end: a key given twice
    (the first would be lost), aliases (nine lines of them grow to gigabytes), endless depth, half characters.
    Numbers like 1e-3 are numbers: YAML 1.1 reads those without a dot as texts."""

    depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise refusal("aliases (*name) are not read; write the value out", self.peek_event())
        self.depth += 1
        if self.depth > DEEPEST:
            raise refusal(f"nested more than {DEEPEST} levels deep", self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # what SafeConstructor dies of: !!timestamp foo, !!bool foo, the date 2024-13-45, 5000 digits
            raise refusal(f"{shown(node.value)} is no valid {node.tag.rpartition(':')[2]}; "
                          f"put a text in quotes", node) from None

    def construct_scalar(self, node):
        value = super().construct_scalar(node)
        if SURROGATE.search(value):
            raise refusal(f"{shown(value)} holds half a character (a lone surrogate)", node)
        return value

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen and key is not None:
                raise refusal(f"the key {key!r} is there twice (also in line {seen[key]})", key_node)
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
                             list("-+0123456789"))


def refusal(what, place):
    return yaml.constructor.ConstructorError(None, None, what, place.start_mark)


def parse_yaml(text, where):
    """The value of a YAML text; an error begins with `where` and the line."""
    try:
        return yaml.load(text, Loader)
    except yaml.reader.ReaderError as error:            # a control character
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"{where}: line {line}: not valid YAML (character {error.character:#x})") from None
    except yaml.constructor.ConstructorError as error:
        raise ValueError(f"{where}: line {error.problem_mark.line + 1}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"{where}: line {mark.line + 1}: not valid YAML ({said}); a text with : ? # , "
                         f"[ ] {{ }} or quotes in it must stand in \"quotes\"") from None


def read_yaml(path, what="file"):
    """The value in a YAML file. what: the words for it if there is none ("prompt file")."""
    with opened(path, what) as f:
        data = f.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{path}: larger than {LARGEST >> 20} MiB, so hardly written by hand")
    for number, line in enumerate(data.split(b"\n"), 1):
        if len(line) > LONGEST:
            raise ValueError(f"{path}: line {number}: {len(line):,} bytes, more than the {LONGEST:,} that "
                             f"any text needs")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: line {data.count(10, 0, error.start) + 1}: not valid YAML (byte "
                         f"{data[error.start]:#x} is no UTF-8; save the file as UTF-8)") from None
    return parse_yaml(text, path)


def read_list(path, item, what="file"):
    """The list in a YAML file, with at least one entry. item: what is listed ("news"), for errors."""
    rows = read_yaml(path, what)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: expected a list of {item}, "
                         f"found {'nothing' if not rows else type(rows).__name__}")
    return rows


def plain(text):
    """The value that is meant by TEXT after --set KEY=, as YAML reads it: 3, 1e-3, true, [a, b], words."""
    return parse_yaml(text, f"--set: {shown(text)}")


# ---- JSONL ----

def read_jsonl(path, check=None, what="file", numbered=False):
    """The objects of a JSONL file, one a line; empty lines are skipped. check(row) may raise ValueError;
    errors name the file and the line. numbered: [(number of the line, object)]."""
    rows = []
    with opened(path, what) as f:
        for number, line in enumerate(f, 1):            # bytes: lines end at \n only, not at U+2028
            if not line.strip():
                continue
            try:
                row = parse_json_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
                if check is not None:
                    check(row)
            except ValueError as error:
                raise ValueError(f"{path}: line {number}: {error}") from None
            rows.append((number, row) if numbered else row)
    return rows


def parse_json_line(line):
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=once, parse_constant=no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON ({error}); expected one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object a line, found {type(row).__name__}")
    if b"\\ud" in line.lower() and SURROGATE.search(json.dumps(row, ensure_ascii=False)):
        raise ValueError("holds half a character (a lone surrogate)")
    return row


def no_number(name):
    raise ValueError(f"{name} is no number in JSON")


# ---- records ----

NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
         dict: "a mapping"}


def record(cls, row, where, **given):
    """A dataclass from a mapping. Each field is checked against its annotation: str, int, float, bool, dict,
    list, list[...], dict[str, ...], X | None, Literal[...], a dataclass (nested), or several joined by |.

    given: fields that are not the mapping's to set. where: how errors begin ("news.yaml: news 3"). Ranges are
    the class's matter: a ValueError of its __post_init__ gets `where` before it.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a mapping, found {type(row).__name__}")
    where = named(row, where)
    kinds = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls) if f.init and f.name not in given}
    for key in row:
        if key not in known:
            raise ValueError(f"{where}: unknown key {shown(key)}{meant(key, known)}; known are "
                             f"{', '.join(known)}")
    values = {}
    for name, f in known.items():
        if name in row:
            values[name] = checked(kinds[name], row[name], f"{where}: {name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}: key {name!r} is missing")
    try:
        return cls(**values, **given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def named(row, where):
    """`where` with the row's id, if it has one."""
    return f"{where} ({row['id'][:80]})" if isinstance(row.get("id"), str) else where


def checked(kind, value, where):
    """The value if it is of the kind that an annotation names; nested records are built."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return record(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return one_of(parts, value, where)
    if origin is typing.Literal:
        if any(type(value) is type(part) and value == part for part in parts):     # True == 1
            return value
        raise ValueError(f"{where}: expected {' or '.join(map(str, parts))}, found {shown(value)}")
    if origin is list and isinstance(value, list):
        item = parts[0].__name__.lower() if is_dataclass(parts[0]) else "entry"
        return [checked(parts[0], v, f"{where}: {item} {i}") for i, v in enumerate(value, 1)]
    if origin is dict and isinstance(value, dict):
        return {checked(parts[0], k, where): checked(parts[1], v, f"{where}: {k}") for k, v in value.items()}
    if kind is int and type(value) is int:
        return whole(where, value, -2 ** 63, 2 ** 63 - 1)
    if kind is float and type(value) in (int, float):
        return number(where, value)
    if type(value) is kind:
        return value
    quotes = kind is str and value is not None and not isinstance(value, (list, dict))
    raise ValueError(f"{where}: expected {NAMES[origin or kind]}{' (put it in quotes)' if quotes else ''}, "
                     f"found {shown(value)}")


def one_of(kinds, value, where):
    """The value as the first of several kinds that it fits; else the error of the kind that it resembles."""
    errors = {}
    for kind in kinds:
        if kind is types.NoneType:
            if value is None:
                return None
            continue
        try:
            return checked(kind, value, where)
        except ValueError as error:
            errors[kind] = error
    nested = [kind for kind in errors if is_dataclass(kind) and isinstance(value, dict)]
    if len(errors) == 1 or nested:
        raise errors[(nested or list(errors))[0]]
    wanted = " or ".join(NAMES.get(typing.get_origin(kind) or kind, "a mapping") for kind in errors)
    raise ValueError(f"{where}: expected {wanted}, found {shown(value)}")


# ---- numbers ----

def whole(name, value, low, high=2 ** 53):
    """The value if it is a whole number (no bool) from low to high; errors begin with `name`.
    Beyond 2^53 a float, and so JSON in other languages, no longer holds every whole number."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, found {shown(value)}")
    return value


def number(name, value, low=-math.inf, high=math.inf):
    """The value as a float if it is a finite number (no bool) from low to high."""
    try:
        if type(value) in (int, float) and math.isfinite(value) and low <= value <= high:
            return float(value)
    except OverflowError:                               # a whole number beyond all floats
        pass
    bounds = [f"at least {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
    raise ValueError(f"{name}: expected a number{', ' if bounds else ''}{' and '.join(bounds)}, "
                     f"found {shown(value)}")


def shown(value):
    """A value as an error shows it: repr, cut to 80 letters."""
    try:
        text = repr(value)
    except ValueError:                                  # Python does not print whole numbers of 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def meant(name, known):
    """" (is 'naive' meant?)", with up to three of the known names, or "" where none is near."""
    near = difflib.get_close_matches(str(name), map(str, known), 3)
    return f" (is {' or '.join(map(repr, near))} meant?)" if near else ""
