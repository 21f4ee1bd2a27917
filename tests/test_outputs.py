"""Outputs that survive a kill: whole or not there, the same bytes after a resume, another run's left alone.

Rows          killed at every call that touches the disk, in the middle of a chunk, with garbage or a torn end
              in the .part file; the manifest is there before the data; a whole output is not touched; another
              run is refused and the key that differs is named
Strangers     what is in the way and carries no mark of ours is neither replaced nor removed; a full disk,
              files that change under the writer

Folders: test_build_folder.py. What an output says of the run and the code that made it: test_provenance.py.
"""

import builtins
import errno
import json
import os
from pathlib import Path

import pytest

from newnews import locks, outputs
from newnews.outputs import Rows, build_folder, read_rows
from newnews.provenance import provenance
from newnews.together import Part, write_together

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
    output.whole or output.finish()
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
    assert (manifest["run"], manifest["totals"]) == (RUN, TOTALS)
    assert {"git", "code", "python", "torch", "threads", "machine"} == set(provenance()) <= set(manifest)


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


@pytest.mark.parametrize("name, text, said", [
    ("a.jsonl", "precious", "no manifest"), ("a.jsonl.part", "", "not ours"),
    ("a.jsonl.part", "precious", "a.jsonl.part: is needed .* not ours"),
    ("a.jsonl.manifest.json", '{"mine": 1}', "a.jsonl.manifest.json: is needed, but is there and not ours"),
    ("a.jsonl.progress.json", '{"mine": 1}', "another run"),
    ("a.jsonl.progress.json", json.dumps({"run": RUN, "chunks": "1"}), "expected chunks, bytes and totals")])
def test_what_is_in_the_way_and_not_ours_is_left_alone(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        Rows(tmp_path / "a.jsonl", RUN)
    assert files(tmp_path) == {name: text.encode()}


def test_a_manifest_whose_data_was_removed_is_ours_to_replace(tmp_path):
    write(tmp_path / "a.jsonl").path.unlink()
    assert len(write(tmp_path / "a.jsonl").read()) == 4


@pytest.mark.parametrize("out, said", [
    ("", "''"), ("/", "'/'"), (".", "'.'"), ("..", "'..'"),
    ("sub", "expected a file to write, found a folder"),
    ("new/", "'new/'"), (os.devnull, "expected a file to write, found a device")])
def test_paths_that_no_output_can_have(out, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match=said):
        Rows(out, RUN)
    if out not in ("sub", "new/"):
        with pytest.raises(ValueError, match=said.replace("a file to", "a folder to")):
            build_folder(out, RUN, None)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file: expected a folder to write, found a file"):
        build_folder("file", RUN, None)
    assert files(tmp_path) == {"file": b"mine"}


def test_a_full_disk_names_the_file_and_the_next_start_goes_on(tmp_path, monkeypatch):
    wanted = write(tmp_path / "whole.jsonl").path.read_bytes()
    plain = builtins.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, *place):
            return self.file.seek(*place)

        def write(self, data):
            self.file.write(data[:len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    for chunk in range(len(CHUNKS)):
        path = tmp_path / f"{chunk}.jsonl"
        stop_after(path, chunk)
        output = Rows(path, RUN)
        with monkeypatch.context() as patch, pytest.raises(OSError, match=f"No space left.*{path}.part"):
            patch.setattr(builtins, "open", lambda *a, **b: Full(plain(*a, **b)))
            output.add(CHUNKS[chunk], tokens=10 ** chunk, seconds=0.5)
        locks.release_all()
        again = write(path)
        assert again.path.read_bytes() == wanted and again.totals == TOTALS


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    for make in (lambda out: Rows(out, RUN), lambda out: build_folder(out, RUN, None)):
        with pytest.raises(PermissionError, match=str(tmp_path)):
            make(tmp_path / "out")


def test_a_part_file_that_another_program_changes_is_an_error(tmp_path):
    for change in (lambda part: part.write_bytes(b""), lambda part: part.write_bytes(bytes(99)), Path.unlink):
        for end in (lambda output: output.add([{"n": 1}]), Rows.finish):
            output = Rows(tmp_path / "a.jsonl", RUN)
            output.add([{"n": 0}])
            change(output.part)
            with pytest.raises(OSError, match="a.jsonl.part"):
                end(output)
            assert not output.path.exists()
            output.progress.unlink()
            output.part.unlink(missing_ok=True)
    output = Rows(tmp_path / "a.jsonl", RUN)
    output.add([{"n": 0}])
    output.path.write_text("somebody else's")
    with pytest.raises(OSError, match="somebody else wrote it"):
        output.finish()
    assert output.path.read_text() == "somebody else's"


def test_rows_are_read_from_whole_outputs_only(tmp_path):
    path = write(tmp_path / "a.jsonl").path
    assert read_rows(path) == [row for rows in CHUNKS for row in rows]
    path.write_bytes(path.read_bytes()[:-8])
    for read in (read_rows, lambda path: Rows(path, RUN)):
        with pytest.raises(ValueError, match="a.jsonl: holds .* its manifest says .* changed since"):
            read(path)
    with pytest.raises(FileNotFoundError, match="b.jsonl.manifest.json"):
        read_rows(stop_after(tmp_path / "b.jsonl", 2).with_suffix(""))
    (tmp_path / "c.jsonl").write_text("{}\n")
    (tmp_path / "c.jsonl.manifest.json").write_text('{"run": {}}')
    with pytest.raises(ValueError, match="c.jsonl.manifest.json: expected a manifest"):
        read_rows(tmp_path / "c.jsonl")


def test_parts_of_a_job_of_other_processes_go_with_the_whole_file(tmp_path):
    """Two processes were stopped, one whole and one not; one process goes on and makes the file by itself."""
    path = tmp_path / "a.jsonl"

    def part(r, n, run, whole):
        output = Part(f"{path}.{r}of{n}", {**run, "share": [r, n]})
        output.add([{"n": r}], tokens=1)
        if whole:
            output.finish()

    part(0, 2, RUN, True)
    part(1, 2, RUN, False)
    locks.release_all()
    path.with_name("a.jsonl.1of2.progress.json.part").write_text("")        # a kill while it was written
    ours = set(files(tmp_path))
    part(0, 3, {**RUN, "seed": 2}, True)                    # somebody else's
    part(1, 3, {**RUN, "seed": 2}, False)
    locks.release_all()
    path.with_name("a.jsonl.2of3").write_text("mine")
    path.with_name("a.jsonl.2of3.progress.json").write_text("[broken")
    path.with_name("a.jsonl.0of2.txt").write_text("mine")
    other = {name: data for name, data in files(tmp_path).items() if name not in ours}
    again = lambda: write_together(path, RUN, 1, lambda output, share: write(path))
    again()
    made = {name: files(tmp_path)[name] for name in ("a.jsonl", "a.jsonl.manifest.json")}
    assert len(ours) == 5 and files(tmp_path) == {**made, **other}
    part(0, 2, RUN, False)                                  # as a kill after the joining leaves it
    locks.release_all()
    again()
    assert files(tmp_path) == {**made, **other}
