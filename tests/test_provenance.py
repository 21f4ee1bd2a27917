"""What an output says of how it was made: digests change with what they stand for, other code is said once, a
record that differs is named by its keys; read without torch."""

import subprocess
import sys

import torch
from conftest import ROOT

from newnews import outputs
from newnews.identity import model_digest
from newnews.outputs import Rows, build_folder, digest, provenance
from test_outputs import RUN, write


def test_what_other_code_made_is_taken_and_said_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(outputs, "TOLD", [])
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        write(path)
        Rows(path, RUN)
    build_folder(tmp_path / "c", RUN, lambda work, result: result.mkdir() or {})
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(outputs, "code_digest", lambda: "edited")
    assert all(Rows(path, RUN).whole for path in paths)
    build_folder(tmp_path / "c", RUN, None)
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and f"{paths[0]} is there already, made by other code than this" in said


def test_a_digest_of_code_sees_every_byte_of_model_and_newnews(tmp_path, monkeypatch):
    for name in ("model/a.py", "newnews/sub/b.py", "tests/c.py", "newnews/outputs.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(outputs, "__file__", str(tmp_path / "newnews" / "outputs.py"))
    found = []
    for name in (None, "tests/c.py", "model/a.py", "newnews/sub/b.py"):
        if name:
            (tmp_path / name).write_text("2")
        outputs.code_digest.cache_clear()
        found.append(outputs.code_digest())
    outputs.code_digest.cache_clear()
    assert found[0] == found[1] and len(set(found)) == 3


def test_a_record_that_differs_is_named_by_its_keys():
    old = {"recipe": {"steps": 30, "rate": 1}, "data": "x", "lora": {"rank": 2}}
    new = {"recipe": {"steps": 40, "rate": 1, "clip": 1}, "data": "x", "masked": 1}
    assert outputs.differing(old, new) == ["recipe.steps", "recipe.clip", "masked", "lora"]
    assert outputs.differing(old, old) == []


def test_results_are_read_without_torch():
    code = ("import sys; from newnews.outputs import provenance; provenance(); "
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
