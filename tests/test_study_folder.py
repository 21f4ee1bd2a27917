"""A study's folder: whose it is, what it keeps of the run, and a summary made of it again, without torch.

The stages whose files lie there: test_study.py."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cli import script
from conftest import ROOT
from test_study import tiny     # noqa: F401 (a fixture)

from newnews.news import write_news
from newnews.outputs import write_json
from newnews.studies import summary
from newnews.studies.study import check_study, course

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_folder_that_is_no_study_is_left_alone(tiny, tmp_path, monkeypatch):
    """Not /, not "", not a folder with other things, whatever their names; what a killed study left is."""
    monkeypatch.chdir(tmp_path)
    for name in ("prompts.yaml", "summary.json", "study.json", "notes.txt", "updates.txt"):
        tiny.out = tmp_path / name.partition(".")[0]
        tiny.out.mkdir()
        (tiny.out / name).write_text('{"mine": 1}')
        with pytest.raises(ValueError, match=f"{tiny.out}: is there already, holds '{name}' and is no study"):
            tiny.run()
        assert [(p.name, p.read_text()) for p in tiny.out.iterdir()] == [(name, '{"mine": 1}')]
    tiny.out = tmp_path / "other"
    tiny.out.mkdir()
    (tiny.out / "study.json").write_text('{"study": 1, "cells": []}')
    with pytest.raises(ValueError, match="is no study of ours"):
        tiny.run()
    for tiny.out in (Path("/"), Path(""), Path("..")):
        with pytest.raises(ValueError, match="expected the path of a folder|is no study"):
            tiny.run()
    killed = tmp_path / "killed"
    (killed / "replay").mkdir(parents=True)
    (killed / "study.json.part").write_text('{"stu')
    assert check_study(killed, {}) == killed


def test_another_study_in_the_folder_is_said_to_take_the_place_of_the_first(tiny, capsys):
    first = tiny.run("axes.protocol=[naive]")
    assert tiny.run("axes.protocol=[naive]")["groups"] == first["groups"] and capsys.readouterr().err == ""
    tiny.run("axes.protocol=[naive]", "recipe.steps=4", "seed=3")
    assert f"{tiny.out} has a study that differs in recipe.steps, seed: its table" in capsys.readouterr().err


def test_a_study_names_the_commits_at_which_its_stages_were_computed(tiny):
    tiny.run("axes.protocol=[naive]")
    first, second = sorted(tiny.out.glob("answers/base.*.manifest.json"))
    first.write_text(json.dumps({**json.loads(first.read_text()), "git": "older"}))
    second.write_text(json.dumps({k: v for k, v in json.loads(second.read_text()).items() if k != "git"}))
    tiny.run("axes.protocol=[naive]")
    found = json.loads((tiny.out / "study.json").read_text())
    assert found["computed_at"] == sorted({"older", "None", found["git"]}) and len(found["computed_at"]) == 3


def test_a_report_made_again_is_the_summary_of_the_run(tiny):
    tiny.run("axes.protocol=[naive]")
    before = json.loads((tiny.out / "summary.json").read_text())
    (tiny.out / "summary.json").unlink()
    assert script("newnews", "report", tiny.out).code == 0
    assert json.loads((tiny.out / "summary.json").read_text()) == before
    assert "torch" in before                                                # and of what made it


def test_a_summary_needs_neither_torch_nor_adapters_nor_the_model(tiny):
    found = tiny.run()
    for path in tiny.out.rglob("adapter_model.safetensors"):
        path.unlink()
    code = ("import sys, json; from newnews.studies.summary import Finished, summarise; "
            "from newnews.studies.report import table; "
            f"s = summarise(Finished({str(tiny.out)!r})); table(s); assert 'torch' not in sys.modules; "
            "print(json.dumps(s))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again == {key: json.loads(json.dumps(found[key])) for key in again}


def test_a_summary_of_other_news_is_refused(tiny):
    tiny.run("axes.protocol=[naive]")
    write_news(tiny.file, tiny.items[1:])
    with pytest.raises(ValueError, match="'zog-1/free'.*changed"):
        summary.summarise(summary.Finished(tiny.out))
    q = tiny.items[0].questions[0]
    write_news(tiny.file, [replace(tiny.items[0], questions=[replace(q, options=list("nyo?"), answer=1)]),
                           *tiny.items[1:]])
    with pytest.raises(ValueError, match="options were changed"):           # the number of an option
        summary.summarise(summary.Finished(tiny.out))
    write_json(tiny.out / "study.json", {})
    with pytest.raises(ValueError, match="study.json: expected study, prompts"):
        summary.summarise(summary.Finished(tiny.out))
    (tiny.out / "study.json").unlink()
    with pytest.raises(ValueError, match="holds no study.json: .*start its command again"):
        summary.Finished(tiny.out)


def test_the_course_of_training_is_the_mean_of_what_its_banks_noted(tmp_path):
    for name, losses in (("a", [[8, 4], [2, None]]), ("b", [[3, 9], [4, 6], [7, 7]])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(
            json.dumps({"step": i, "loss": loss, "grad_norm": [1, 3]}) + "\n"
            for i, loss in enumerate(losses)))
    assert course([tmp_path / "a", tmp_path / "b"]) == [[0, 6.0, 2.0], [1, 4.0, 2.0]] and course([]) == []


def test_a_study_keeps_the_course_of_its_training(tiny):
    tiny.run("axes={protocol: [naive], seed: [0]}")
    cell, = json.loads((tiny.out / "study.json").read_text())["cells"]
    steps, losses, norms = zip(*cell["course"])
    assert list(steps) == list(range(len(steps))) and losses[-1] < losses[0] and min(norms) > 0
