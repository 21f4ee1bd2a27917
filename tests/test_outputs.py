"""Outputs that survive a kill: whole or not there, the same bytes after a resume, another run's left alone.

Rows          killed at every call that touches the disk, in the middle of a chunk, with garbage or a torn end
              in the .part file; the manifest is there before the data; a whole output is not touched; another
              run is refused and the key that differs is named
build_folder  the same for folders: nothing at OUT until all is there, state kept in OUT.part
Digests       change with what they stand for
"""

import builtins
import json
import os
from pathlib import Path

import pytest

from newnews import locks, outputs
from newnews.outputs import Rows, build_folder, digest, model_digest, provenance, write_json

RUN = {"seed": 1, "model": "m", "draws": 4}
TOTALS = {"tokens": 1111, "seconds": 2.0}
CHUNKS = [[{"n": 0, "text": "é\u2028\n"}, {"n": 1}], [], [{"n": 2, "long": "x" * 9000}], [{"n": 3}]]


class Killed(BaseException):
    pass


@pytest.fixture
def same_machine(monkeypatch):
    """Asking git takes longer than all the rest."""
    monkeypatch.setattr(outputs, "provenance", lambda: {"git": "unknown"})


def write(path, run=RUN):
    """What a study does: add the chunks that are missing, then finish."""
    output = Rows(path, run)
    for i, rows in enumerate(CHUNKS[output.chunks:], output.chunks) if not output.whole else ():
        output.add(rows, tokens=10 ** i, seconds=0.5)
    output.whole or output.finish(note="done")
    return output


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def kill_at(monkeypatch, number, after):
    """Die at the number-th call that changes the disk: before or after it (a write: halfway or after)."""
    calls = []

    def dying(function):
        def call(*args, **kwargs):
            calls.append(function.__name__)
            if len(calls) - 1 != number:
                return function(*args, **kwargs)
            if after:
                function(*args, **kwargs)
            raise Killed
        return call

    class HalfWritten:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            calls.append("write")
            if len(calls) - 1 == number:
                self.file.write(data if after else data[:len(data) // 2])
                raise Killed
            return self.file.write(data)

    plain = builtins.open
    opened = lambda path, mode="r", *more, **named: (HalfWritten if mode in ("ab", "wb") else lambda f: f)(
        plain(path, mode, *more, **named))
    monkeypatch.setattr(builtins, "open", opened)
    for owner, name in ((os, "replace"), (Path, "write_text"), (Path, "unlink"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    return calls


# ---- Rows ----

def test_an_output_holds_its_rows_its_run_and_its_totals(tmp_path):
    output = write(tmp_path / "sub" / "a.jsonl")
    assert output.whole and output.read() == [row for rows in CHUNKS for row in rows]
    assert sorted(files(tmp_path)) == ["sub/a.jsonl", "sub/a.jsonl.manifest.json"]
    manifest = json.loads((tmp_path / "sub" / "a.jsonl.manifest.json").read_text())
    assert (manifest["run"], manifest["totals"], manifest["note"]) == (RUN, TOTALS, "done")
    assert {"git", "python", "torch", "threads", "machine"} == set(provenance()) <= set(manifest)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_anywhere_and_started_again_ends_in_the_same_bytes(after, tmp_path, same_machine):
    write(tmp_path / "whole.jsonl")
    wanted = (tmp_path / "whole.jsonl").read_bytes()
    number, kinds = 0, set()
    while True:
        path = tmp_path / str(number) / "a.jsonl"
        with pytest.MonkeyPatch.context() as patch:
            calls = kill_at(patch, number, after)
            try:
                write(path)
                break                                       # it has fewer calls than that
            except Killed:
                kinds.add(calls[-1])
        assert path.exists() <= path.with_name("a.jsonl.manifest.json").exists()
        if path.exists():
            assert path.read_bytes() == wanted
        output = write(path)
        assert path.read_bytes() == wanted and output.totals == TOTALS
        assert not path.with_name("a.jsonl.part").exists()
        number += 1
    assert number > 15 and kinds == {"write", "replace", "write_text", "unlink", "mkdir"}


def stop_after(path, chunks):
    output = Rows(path, RUN)
    output.keep()                       # as a kill in the middle of the first chunk leaves it
    for i, rows in enumerate(CHUNKS[:chunks]):
        output.add(rows, tokens=10 ** i, seconds=0.5)
    locks.release_all()
    return path.with_name(f"{path.name}.part")


@pytest.mark.parametrize("tail", [b"garbage", b'{"n": 2, "lo', b"\n\n", bytes(9000)], ids=range(4))
def test_what_stands_behind_the_last_whole_chunk_is_cut_off(tail, tmp_path):
    wanted = write(tmp_path / "whole.jsonl").path.read_bytes()
    for chunks in range(len(CHUNKS) + 1):
        path = tmp_path / f"{chunks}.jsonl"
        part = stop_after(path, chunks)
        part.write_bytes((part.read_bytes() if chunks else b"") + tail)
        assert Rows(path, RUN).chunks == chunks
        assert write(path).path.read_bytes() == wanted


def test_a_part_file_that_lost_its_end_is_never_filled_with_zeros(tmp_path):
    """As after a power cut: the progress file reached the disk, the data did not."""
    part = stop_after(tmp_path / "a.jsonl", 3)
    for cut in (lambda: part.write_bytes(part.read_bytes()[:-7]), part.unlink):
        cut()
        before = files(tmp_path)
        with pytest.raises(ValueError, match=f"{part}.*remove both"):
            Rows(tmp_path / "a.jsonl", RUN)
        assert files(tmp_path) == before


def test_the_manifest_is_there_before_the_data(tmp_path, monkeypatch):
    order, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).name), replace(a, b)))
    write(tmp_path / "a.jsonl")
    assert order[-2:] == ["a.jsonl.manifest.json", "a.jsonl"]


def test_a_whole_output_is_not_touched(tmp_path):
    path = write(tmp_path / "a.jsonl").path
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes()) for p in tmp_path.iterdir()}
    again = Rows(path, dict(reversed(RUN.items())))         # the same run, its keys in another order
    assert again.whole and again.totals == TOTALS and len(again.read()) == 4
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes()) for p in tmp_path.iterdir()} == before


OTHERS = {"another seed": ({**RUN, "seed": 2}, "seed"), "one more key": ({**RUN, "rate": 0.1}, "rate"),
          "one key less": ({"seed": 1, "model": "m"}, "draws")}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "unfinished"])
def test_another_run_is_refused_and_the_key_named(whole, other, tmp_path):
    run, key = OTHERS[other]
    path = tmp_path / "a.jsonl"
    write(path) if whole else stop_after(path, 2)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"{path}.*another run.*differs in {key}"):
        Rows(path, run)
    assert files(tmp_path) == before


def test_a_file_without_a_manifest_is_not_ours(tmp_path):
    (tmp_path / "a.jsonl").write_text("precious")
    with pytest.raises(ValueError, match="no manifest"):
        Rows(tmp_path / "a.jsonl", RUN)
    assert (tmp_path / "a.jsonl").read_text() == "precious"


# ---- build_folder ----

def fill(work, result):
    state = work / "state"
    steps = int(state.read_text()) if state.is_file() else 0
    for step in range(steps, 3):
        (work / "metrics.jsonl").write_text("".join(f"{i}\n" for i in range(step + 1)))
        state.write_text(str(step + 1))
    result.mkdir()
    (result / "weights").write_text("w" * 100)
    (result / "more").write_text("m")
    return {"steps": 3}


def test_a_folder_is_made_whole(tmp_path):
    manifest = build_folder(tmp_path / "out", RUN, fill)
    assert manifest["run"] == RUN and manifest["steps"] == 3 and "torch" in manifest
    assert sorted(files(tmp_path / "out")) == ["manifest.json", "metrics.jsonl", "more", "weights"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    before = files(tmp_path)
    assert build_folder(tmp_path / "out", RUN, None) == manifest and files(tmp_path) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_folder_killed_anywhere_is_whole_or_not_there(after, tmp_path, same_machine):
    build_folder(tmp_path / "whole", RUN, fill)
    wanted, number = files(tmp_path / "whole"), 0
    while True:
        out = tmp_path / str(number) / "out"
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, number, after)
            try:
                build_folder(out, RUN, fill)
                break
            except Killed:
                assert not out.exists() or files(out) == wanted
        build_folder(out, RUN, fill)
        assert files(out) == wanted and not out.with_name("out.part").exists()
        number += 1
    assert number > 8


def test_when_fill_fails_nothing_half_written_is_left(tmp_path):
    def failing(work, result):
        fill(work, result)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        build_folder(tmp_path / "out", RUN, failing)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.part" / "state").read_text() == "3"

    def cleanly(work, result):
        assert not result.exists() and (work / "state").read_text() == "3"
        return fill(work, result)

    assert build_folder(tmp_path / "out", RUN, cleanly)["steps"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_another_runs_folder_is_refused(tmp_path):
    build_folder(tmp_path / "out", RUN, fill)
    (tmp_path / "cut.part").mkdir()
    write_json(tmp_path / "cut.part" / "run.json", RUN)
    (tmp_path / "mine").mkdir()
    before = files(tmp_path)
    for name, wanted in (("out", "differs in seed"), ("cut", "unfinished.*in seed"), ("mine", "no manifest")):
        with pytest.raises(ValueError, match=f"{tmp_path / name}.*{wanted}"):
            build_folder(tmp_path / name, {**RUN, "seed": 2}, fill)
    assert files(tmp_path) == before


# ---- digests ----

def test_digests_change_with_what_they_stand_for(tmp_path):
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    assert digest("ab", "c") != digest("a", "bc") and len(digest("x")) == 16
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(3 * 2 ** 20))
    found = [model_digest(tmp_path)]
    for name, data in (("config.json", b"{ }"), ("model.safetensors", b"\1" + bytes(3 * 2 ** 20 - 1)),
                       ("model.safetensors", bytes(3 * 2 ** 20 - 1) + b"\1"),
                       ("model.safetensors", bytes(3 * 2 ** 20 + 1)), ("more.safetensors", b"")):
        (tmp_path / name).write_bytes(data)
        found.append(model_digest(tmp_path))
    assert len(set(found)) == 6
    (tmp_path / "notes.txt").write_text("x")
    assert model_digest(tmp_path) == found[-1]
