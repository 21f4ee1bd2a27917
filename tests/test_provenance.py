"""What an output says of how it was made: digests change with what they stand for, other code is said once, a
record that differs is named by its keys; read without torch."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from newnews import locks, outputs, provenance as made
from newnews.identity import model_digest
from newnews.outputs import Rows, build_folder, digest
from newnews.provenance import provenance
from test_outputs import CHUNKS, RUN, stop_after, write


def test_what_other_code_made_is_taken_and_said_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(made, "TOLD", [])
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        write(path)
        Rows(path, RUN)
    build_folder(tmp_path / "c", RUN, lambda work, result: result.mkdir() or {})
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(made, "code_digest", lambda: "edited")
    assert all(Rows(path, RUN).whole for path in paths)
    build_folder(tmp_path / "c", RUN, None)
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and f"{paths[0]} is there already, made by other code than this" in said


def stopped_folder(work, result):
    raise KeyboardInterrupt


def go_on(path, run=RUN):
    """The manifest of an output that goes on until it is whole: a file, or a folder."""
    if path.suffix != ".jsonl":
        return build_folder(path, run, lambda work, result: result.mkdir() or {})
    write(path, run)
    return json.loads(outputs.manifest_of(path).read_text())


@pytest.mark.parametrize("name", ["a.jsonl", "a"])
def test_what_two_codes_made_names_both(name, tmp_path, capsys, monkeypatch):
    """Begun by one, gone on with by a second and a third, which says so; not where it is one and the same."""
    def stop(path):
        if path.suffix == ".jsonl":
            output = Rows(path, RUN)
            output.add(CHUNKS[output.chunks], tokens=10 ** output.chunks, seconds=0.5)
            locks.release_all()
        else:
            with pytest.raises(KeyboardInterrupt):
                build_folder(path, RUN, stopped_folder)

    path, alone = tmp_path / name, tmp_path / f"alone-{name}"
    for code in ("first", "second"):
        monkeypatch.setattr(made, "code_digest", lambda: code)
        monkeypatch.setattr(made, "TOLD", [])
        stop(path)
        stop(path)                                      # by the same code: it stands there once
        said = capsys.readouterr().err
        assert said.count("was begun by other code than this (commit") == (code == "second"), said
    stop(alone)
    assert "begun_by" not in go_on(alone) and capsys.readouterr().err == ""
    monkeypatch.setattr(made, "code_digest", lambda: "third")
    monkeypatch.setattr(made, "TOLD", [])
    manifest = go_on(path)
    assert [v["code"] for v in manifest["begun_by"]] == ["first", "second"] and manifest["code"] == "third"
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and str(path) in said and "goes on with this one" in said
    assert sorted(p.name for p in tmp_path.glob("a*") if "alone" not in p.name) in (
        ["a"], ["a.jsonl", "a.jsonl.manifest.json"])
    if path.suffix:
        own = {key: manifest[key] for key in ("git", "code")}
        assert Rows(path, RUN).versions == [*manifest["begun_by"], own]


def test_an_unfinished_output_without_versions_goes_on_and_a_broken_note_is_named(tmp_path, capsys):
    """Older code kept none."""
    file, folder = tmp_path / "a.jsonl", tmp_path / "a"
    stop_after(file, 1)
    with pytest.raises(KeyboardInterrupt):
        build_folder(folder, RUN, stopped_folder)
    progress, note = file.with_name("a.jsonl.progress.json"), tmp_path / "a.part" / "made_by.json"
    kept = json.loads(progress.read_text())
    for broken in (7, [7], [{}], [{"code": ["x"]}]):
        progress.write_text(json.dumps({**kept, "made_by": broken}))
        note.write_text(json.dumps({"made_by": broken}))
        for path, where in ((file, progress), (folder, note)):
            with pytest.raises(ValueError, match=f"{where}: made_by: expected a list of .*; remove"):
                go_on(path)
    progress.write_text(json.dumps({key: value for key, value in kept.items() if key != "made_by"}))
    note.unlink()
    assert not any("begun_by" in go_on(path) for path in (file, folder))
    assert capsys.readouterr().err == ""


def test_a_digest_of_code_sees_every_byte_of_model_and_newnews(tmp_path, monkeypatch):
    for name in ("model/a.py", "newnews/sub/b.py", "tests/c.py", "newnews/outputs.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(made, "__file__", str(tmp_path / "newnews" / "provenance.py"))
    found = []
    for name in (None, "tests/c.py", "model/a.py", "newnews/sub/b.py"):
        if name:
            (tmp_path / name).write_text("2")
        made.code_digest.cache_clear()
        found.append(made.code_digest())
    made.code_digest.cache_clear()
    assert found[0] == found[1] and len(set(found)) == 3


def test_a_record_that_differs_is_named_by_its_keys():
    old = {"recipe": {"steps": 30, "rate": 1}, "data": "x", "lora": {"rank": 2}}
    new = {"recipe": {"steps": 40, "rate": 1, "clip": 1}, "data": "x", "masked": 1}
    assert outputs.differing(old, new) == ["recipe.steps", "recipe.clip", "masked", "lora"]
    assert outputs.differing(old, old) == []


def test_results_are_read_without_torch():
    code = ("import sys; from newnews.provenance import provenance; provenance(); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert provenance()["torch"] == torch.__version__ and provenance()["threads"] == torch.get_num_threads()


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
