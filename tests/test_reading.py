"""The one reader of YAML, JSONL and records: what is refused, in which words, and that it ends.

YAML      what safe_load reads wrongly or dies of: keys given twice, alias bombs, depth, bytes that are no
          text, !!timestamp foo; each an error with file and line. 1e-3 is a number. As safe_load on our files
Records   every kind of annotation, right and wrong; the nearest known key
JSONL     errors with the line
"""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

import pytest
import yaml
from conftest import ROOT

from newnews import reading
from newnews.reading import number, parse_yaml, plain, read_jsonl, read_list, read_yaml, record, whole


def refusal(function, *arguments, kind=ValueError):
    with pytest.raises(kind) as error:
        function(*arguments)
    said = str(error.value)
    assert "\n" not in said and len(said) < 500
    return said


# ---- YAML ----

def test_our_own_files_read_as_with_safe_load():
    files = sorted(p for folder in ("configs", "data") for p in (ROOT / folder).rglob("*.yaml"))
    assert len(files) > 5
    for path in files:
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121))
MISTAKES = {        # content, words that the message has to have
    "twice": (b"a: 1\nb: 2\na: 3\n", ["line 3", "'a'", "twice", "line 1"]),
    "twice within": (b"- x:\n    b: 1\n    b: 1\n", ["line 3", "'b'", "twice"]),
    "twice in braces": (b'{"a": 1,\n "a": 2}\n', ["line 2", "'a'", "twice"]),
    "bomb": (BOMB, ["line 2", "alias"]),
    "merge": (b"a: &a {x: 1}\nb:\n  <<: *a\n", ["line 3", "alias"]),
    "itself": (b"&a [*a]\n", ["line 1", "alias"]),
    "deep brackets": (b"\n" + b"[" * 100_000, ["line 2", "40 levels"]),
    "deep braces": (b"{a: " * 100_000, ["line 1", "40 levels"]),
    "deep dashes": (b"- " * 5_000 + b"x\n", ["line 1", "40 levels"]),
    "Latin-1": (b"a: 1\nb: K\xf6ln\n", ["line 2", "0xf6", "UTF-8"]),
    "UTF-16": ("a: 1\n".encode("utf-16"), ["line 1", "UTF-8"]),
    "surrogate bytes": (b"a: 1\n\nb: \xed\xa0\x80\n", ["line 3", "UTF-8"]),
    "surrogate": (b'a: 1\nb: "x\\ud83d"\n', ["line 2", "half a character"]),
    "surrogate key": (b'a: 1\n"\\udc00": 1\n', ["line 2", "half a character"]),
    "control": (b"a: 1\nb: x\x07\n", ["line 2", "0x7"]),
    "zero byte": (b"a: 1\nb: \x00\n", ["line 2", "0x0"]),
    "timestamp": (b"a: 1\nb: !!timestamp foo\n", ["line 2", "'foo'", "timestamp"]),
    "no date": (b"a: 1\nb: 2024-13-45\n", ["line 2", "'2024-13-45'", "quotes"]),
    "bool": (b"a: !!bool foo\n", ["line 1", "'foo'", "bool"]),
    "int": (b"a: !!int foo\n", ["line 1", "'foo'", "int"]),
    "float": (b"a: !!float foo\n", ["line 1", "'foo'", "float"]),
    "digits": (b"a: " + b"7" * 5000 + b"\n", ["line 1", "int"]),
    "binary": (b"a: !!binary 'abc'\n", ["line 1"]),
    "object": (b"a: !!python/object/apply:os.system [ls]\n", ["line 1", "python/object"]),
    "list as key": (b"? [a]\n: 1\n", ["line 1", "unhashable"]),
    "two documents": (b"a: 1\n---\nb: 2\n", ["line 2", "document"]),
    "question mark in braces": (b"a: 1\nb: {text: Where?, accept: [x]}\n", ["line 2", "quotes"]),
    "comma behind quotes": (b'a: 1\ntext: "Where?",\n', ["line 2", "quotes"]),
    "colon": (b"a: 1\nb: The rule: x\n", ["line 2", "quotes"]),
    "percent": (b"a: %x\n", ["line 1", "quotes"]),
    "open quotes": (b'a: 1\nb: "x\n', ["line 3", "quotes"]),
    "open bracket": (b"- id: [1\n", ["line 2"]),
    "tab": (b"a:\n\t- 1\n", ["line 2"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_read_is_refused_with_file_and_line(mistake, tmp_path):
    content, wanted = MISTAKES[mistake]
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    said = refusal(read_yaml, path)
    assert said.startswith(f"{path}: ") and all(word in said for word in wanted), said


def test_files_that_are_none_or_too_large(tmp_path, monkeypatch):
    said = refusal(read_yaml, tmp_path / "x", "study", kind=FileNotFoundError)
    assert said == f"{tmp_path}/x: no such study"
    said = refusal(read_yaml, tmp_path, kind=IsADirectoryError)
    assert said == f"{tmp_path}: expected a file, found a folder"
    (tmp_path / "long.yaml").write_text("- a\n- " + "a" * 2 ** 19)
    assert f"{tmp_path}/long.yaml: line 2: 524,290 bytes" in refusal(read_yaml, tmp_path / "long.yaml")
    monkeypatch.setattr(reading, "LARGEST", 2 ** 20)
    with open(tmp_path / "large.yaml", "wb") as f:
        f.truncate(2 ** 20 + 1)
    assert f"{tmp_path}/large.yaml: larger than 1 MiB" in refusal(read_yaml, tmp_path / "large.yaml")
    if Path("/dev/zero").exists():                          # has no size, and no end
        assert "larger than 1 MiB" in refusal(read_yaml, "/dev/zero")


def test_numbers_are_numbers():
    found = parse_yaml("[1e-3, 1E5, -2e+3, 1.5e3, 1.e2, .5, 3, 0.1, -7]", "x")
    assert found == [0.001, 1e5, -2000.0, 1500.0, 100.0, 0.5, 3, 0.1, -7]
    assert list(map(type, found)) == [float] * 6 + [int, float, int]
    assert parse_yaml("[e3, 1e, 1e-3x, '1e-3', v1e5]", "x") == ["e3", "1e", "1e-3x", "1e-3", "v1e5"]


@pytest.mark.parametrize("text, value", [
    ("3", 3), ("1e-3", 0.001), ("0.5", 0.5), ("true", True), ("two words", "two words"), ("[a, 2]", ["a", 2]),
    ("null", None), ("", None), ('"3"', "3"), ("{a: 1e3}", {"a": 1000.0}), ("data/x.yaml", "data/x.yaml")])
def test_plain_values(text, value):
    assert plain(text) == value and type(plain(text)) is type(value)


def test_plain_mistakes():
    for text in ("[a", "{a: 1, a: 2}", "!!int x", "a: b: c"):
        assert refusal(plain, text).startswith(f"--set: {text!r}: line 1: ")


@pytest.mark.parametrize("content, found", [("", "nothing"), ("# x\n", "nothing"), ("[]", "nothing"),
                                            ("a: 1", "dict"), ("words", "str")])
def test_lists(content, found, tmp_path):
    (tmp_path / "x.yaml").write_text(content)
    assert refusal(read_list, tmp_path / "x.yaml", "news") == \
        f"{tmp_path}/x.yaml: expected a list of news, found {found}"
    (tmp_path / "x.yaml").write_text("- 1\n")
    assert read_list(tmp_path / "x.yaml", "news") == [1]


# ---- JSONL ----

def test_jsonl(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [{"a": 1}, {"text": "é\u2028\x85 \U0001f600"}, {}]
    path.write_bytes("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert read_jsonl(path) == rows
    path.write_bytes(b"")
    assert read_jsonl(path) == []
    path.write_bytes(b'{"a": 1}\r\n \n{"pair": "\\ud83d\\ude00"}\r\n')
    assert read_jsonl(path) == [{"a": 1}, {"pair": "\U0001f600"}]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())      # as Notepad and PowerShell save it
    assert read_jsonl(path, numbered=True) == [(1, {"a": 1}), (3, {"pair": "\U0001f600"})]

    def check(row):
        if row["a"] > 1:
            raise ValueError(f"a: expected 1, found {row['a']}")

    path.write_bytes(b'{"a": 1}\n\n{"a": 2}\n')
    assert refusal(read_jsonl, path, check) == f"{path}: line 3: a: expected 1, found 2"
    assert refusal(read_jsonl, tmp_path / "y", None, "data file", kind=FileNotFoundError) == \
        f"{tmp_path}/y: no such data file"
    refusal(read_jsonl, tmp_path, kind=IsADirectoryError)


@pytest.mark.parametrize("line, wanted", [
    (b'{"a": ', "JSON"), (b"[1]", "JSON object"), (b"K\xf6ln", "UTF-8"),
    (b'{"a": "\\ud83d"}', "half a character"), (b'{"a": "\\uDC00 x"}', "half a character"),
    (b'{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"), (b'{"a": NaN}', "NaN is no number"),
    (b'{"a": -Infinity}', "no number"), (b"\xef\xbb\xbf{}", "JSON"), (b"[" * 100_000, "deep"),
    (b'{"a": 1} x', "JSON"), (b"7" * 5000, "JSON")], ids=range(12))
def test_jsonl_mistakes_name_the_line(line, wanted, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    said = refusal(read_jsonl, path)
    assert said.startswith(f"{path}: line 2: ") and wanted in said


# ---- records ----

@dataclass(frozen=True)
class Part:
    name: str
    id: str = ""


@dataclass(frozen=True)
class Whole:
    name: str
    size: int
    rate: float
    on: bool = False
    texts: list[str] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)
    free: dict = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    part: Part | None = None
    old: Optional[int] = None
    parts: list[Part] = field(default_factory=list)
    kind: Literal["a", "b"] = "a"
    either: str | Part = ""
    some: int | list[str] = 0
    given: str = ""

    def __post_init__(self):
        if self.size > 100:
            raise ValueError(f"size: expected at most 100, found {self.size}")


NEEDED = {"name": "n", "size": 3, "rate": 1}


def test_a_record():
    made = record(Whole, NEEDED, "x")
    assert made == Whole("n", 3, 1.0) and type(made.rate) is float
    full = dict(on=True, texts=["a"], lists=[["a"], []], free={"x": [1]}, counts={"a": 1}, part={"name": "p"},
                old=4, parts=[{"name": "p"}, {"name": "q", "id": "i"}], kind="b", either={"name": "e"},
                some=["s"])
    made = record(Whole, {**NEEDED, **full}, "x", given="g")
    full.update(part=Part("p"), parts=[Part("p"), Part("q", "i")], either=Part("e"))
    assert made == Whole("n", 3, 1.0, given="g", **full)
    assert record(Whole, {**NEEDED, "part": None, "old": None, "either": "x", "some": 3}, "x").part is None


@pytest.mark.parametrize("change, said", [
    ({"name": 3}, "w: name: expected a text (put it in quotes), found 3"),
    ({"name": None}, "w: name: expected a text, found None"),
    ({"size": True}, "w: size: expected a whole number, found True"),
    ({"size": 3.0}, "w: size: expected a whole number, found 3.0"),
    ({"size": "3"}, "w: size: expected a whole number, found '3'"),
    ({"size": 101}, "w: size: expected at most 100, found 101"),
    ({"size": 2 ** 70}, "w: size: expected a whole number from -9223372036854775808 to 9223372036854775807, "
                        "found 1180591620717411303424"),
    ({"rate": False}, "w: rate: expected a number, found False"),
    ({"rate": "1e-3"}, "w: rate: expected a number, found '1e-3'"),
    ({"rate": math.nan}, "w: rate: expected a number, found nan"),
    ({"rate": math.inf}, "w: rate: expected a number, found inf"),
    ({"rate": 10 ** 400}, "w: rate: expected a number, found 1000000"),
    ({"rate": 1 << 20000}, "w: rate: expected a number, found a number of thousands of digits"),
    ({"on": 1}, "w: on: expected true or false, found 1"),
    ({"texts": "a"}, "w: texts: expected a list, found 'a'"),
    ({"texts": ["a", 2]}, "w: texts: entry 2: expected a text (put it in quotes), found 2"),
    ({"lists": [["a"], ["b", None]]}, "w: lists: entry 2: entry 2: expected a text, found None"),
    ({"free": []}, "w: free: expected a mapping, found []"),
    ({"counts": {"a": "x"}}, "w: counts: a: expected a whole number, found 'x'"),
    ({"part": "p"}, "w: part: expected a mapping, found str"),
    ({"parts": [{"name": "p"}, {"id": "i"}]}, "w: parts: part 2 (i): key 'name' is missing"),
    ({"part": {"name": 1, "id": "i"}}, "w: part (i): name: expected a text (put it in quotes), found 1"),
    ({"old": "x"}, "w: old: expected a whole number, found 'x'"),
    ({"kind": "c"}, "w: kind: expected a or b, found 'c'"),
    ({"either": 3}, "w: either: expected a text or a mapping, found 3"),
    ({"either": {"nam": "x"}}, "w: either: unknown key 'nam' (is 'name' meant?); known are name, id"),
    ({"some": 1.5}, "w: some: expected a whole number or a list, found 1.5"),
    ({"siez": 1}, "w: unknown key 'siez' (is 'size' meant?); known are name, size, rate, on, "),
    ({"qqq": 1}, "w: unknown key 'qqq'; known are name, "),
    ({7: 1}, "w: unknown key 7; known are name, "),
    ({"given": "x"}, "w: unknown key 'given'")])
def test_records_that_are_none(change, said):
    assert refusal(lambda: record(Whole, {**NEEDED, **change}, "w", given="g")).startswith(said)


def test_rows_that_are_no_records():
    assert refusal(record, Whole, {"name": "n", "rate": 1}, "w") == "w: key 'size' is missing"
    assert refusal(record, Whole, ["name"], "w") == "w: expected a mapping, found list"


def test_numbers_in_range():
    assert whole("n", 3, 1) == 3 and whole("n", 0, 0, 0) == 0
    for value in (True, 0, -1, 1.0, "3", None, math.nan, 2 ** 70, 10 ** 21, 10 ** 6000):
        said = refusal(whole, "steps", value, 1)
        assert said.startswith("steps: expected a whole number from 1 to 9007199254740992, found ")
    assert number("n", 3) == 3.0 and type(number("n", 3)) is float and number("n", 0, 0, 0) == 0
    for value in (True, math.nan, math.inf, -math.inf, "3", None, -1, 5, 10 ** 400):
        said = refusal(number, "rate", value, 0, 4)
        assert said.startswith("rate: expected a number, at least 0 and at most 4, found ")


def test_reading_needs_no_torch():
    code = ("import sys; import newnews.reading, newnews.news, newnews.prompts; "
            "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
