"""A study's folder: whose it is, what it keeps of the run, and a summary made of it again, without torch.

The stages whose files lie there: test_study.py."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cli import script
from conftest import ROOT
from test_study import DEMO, tiny  # noqa: F401 (a fixture)

from newnews import locks
from newnews.news import write_news
from newnews.outputs import manifest_of, write_json
from newnews.studies import summary
from newnews.studies.checks import check_study
from newnews.studies.grid import read_study
from newnews.studies.plan import plan
from newnews.studies.study import course, run_study

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


def again(tiny, *changes):
    """A second start in the folder as it is."""
    return run_study(read_study(DEMO, [*tiny.changes, "axes.protocol=[naive]", *changes]), tiny.out)


def test_results_of_another_study_are_kept_and_share_their_stages(tiny):
    first = tiny.run("axes.protocol=[naive]")
    assert again(tiny)["groups"] == first["groups"]
    kept = {path: path.read_bytes() for path in tiny.out.rglob("*") if path.is_file()}
    said = f"{tiny.out}: holds .* another study .differs in recipe.steps, seed.; write elsewhere, with --st"
    with pytest.raises(ValueError, match=said):
        again(tiny, "recipe.steps=4", "seed=3")
    assert {path: path.read_bytes() for path in tiny.out.rglob("*") if path.is_file()} == kept
    study = read_study(DEMO, [*tiny.changes, "axes.protocol=[naive]", "ask=[free]"])
    run_study(study, tiny.out.with_name("other"), tiny.out)
    fresh = {path.relative_to(tiny.out).parts[0] for path in tiny.out.rglob("*")
             if path.is_file() and path not in kept}
    assert fresh == {"answers"}


def test_results_about_other_prompts_weights_or_news_are_kept(tiny):
    tiny.run("axes.protocol=[naive]")
    pocket, q = tiny.file.parent / "pocket", tiny.items[0].questions[0]
    write_news(tiny.file, [replace(tiny.items[0], questions=[replace(q, forms=["yes"])]), *tiny.items[1:]])
    again(tiny)                                             # accepted answers: judged anew
    write_news(tiny.file, [replace(tiny.items[0], statement="A zog is old."), *tiny.items[1:]])
    with pytest.raises(ValueError, match=f"{tiny.out}: .*the news, questions or options were changed since"):
        again(tiny)
    write_news(tiny.file, tiny.items)
    again(tiny)
    for name, said in (("prompts.yaml", "the prompts of .*pocket, .*prompts.yaml, were changed since"),
                       ("model.safetensors", "the weights or the tokenizer of .*pocket were changed")):
        before = (pocket / name).read_bytes()
        last = bytes([before[-1] ^ 1]) if name == "model.safetensors" else before[-1:] + b"# more\n"
        (pocket / name).write_bytes(before[:-1] + last)
        with pytest.raises(ValueError, match=f"{tiny.out}: .*{said}.*--store"):
            again(tiny)
        (pocket / name).write_bytes(before)
    again(tiny)


def test_what_a_writer_or_neutral_texts_were_is_kept_too(tiny, tmp_path):
    shutil.copytree(tiny.file.parent / "pocket", writer := tmp_path / "writer")
    said = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "no"}]
    (neutral := tmp_path / "neutral.jsonl").write_text(json.dumps({"messages": said}))
    changes = f"writer={writer}", f"neutral={{share: 0.5, source: {neutral}}}"
    tiny.run("axes.protocol=[naive]", *changes)
    again(tiny, *changes)
    for path, said in ((writer / "prompts.yaml", "the prompts of .*writer were changed"),
                       (neutral, "the neutral texts .*neutral.jsonl were changed")):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        study = read_study(DEMO, [*tiny.changes, "axes.protocol=[naive]", *changes])
        for start in (lambda: again(tiny, *changes), lambda: plan(study, tiny.out)):    # a dry run too
            with pytest.raises(ValueError, match=f"{tiny.out}: .*{said} since.*--store"):
                start()
        path.write_bytes(before)
    again(tiny, *changes)


def test_two_studies_started_at_once_into_one_folder_do_not_mix(tiny, monkeypatch):
    """The second is refused while the first runs; if that one ends just then, for what it has left there."""
    tiny.out.mkdir()
    code = (f"import time; from newnews import locks; locks.hold({str(tiny.out / 'study.json')!r}); "
            f"print(flush=True); time.sleep(60)")
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        first.stdout.readline()
        with pytest.raises(ValueError, match="study.json: process .* has been writing it since"):
            tiny.run("axes.protocol=[naive]")
        assert {path.name for path in tiny.out.iterdir()} == {"study.json.lock"}
    finally:
        first.kill()
        first.wait()
    hold = locks.hold

    def ended(path):
        hold(path)
        if path.name == "study.json":
            write_json(path, {"study": {"seed": 1}, "cells": []})

    monkeypatch.setattr(locks, "hold", ended)
    with pytest.raises(ValueError, match="holds the results of another study"):
        tiny.run("axes.protocol=[naive]")
    assert {path.name for path in tiny.out.iterdir()} == {"study.json"}


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


def test_what_is_missing_in_a_finished_study_is_made_again(tiny):
    """By a kill between study.json and the words that it was asked in, or by hand."""
    first = tiny.run("axes.protocol=[naive]")
    base, = tiny.out.glob("answers/base.closed_book-*.jsonl")
    for some in ([tiny.out / "prompts.yaml"], [base, manifest_of(base)], [base], [tiny.out / "summary.json"]):
        kept = {path: path.read_bytes() for path in some}
        for path in some:
            path.unlink()
        assert again(tiny)["groups"] == first["groups"]
        assert all(path.read_bytes() == kept[path] for path in some if path.suffix != ".json")
    for prompts in (3, {"somebody": "prompts.yaml"}):
        (tiny.out / "study.json").write_text(json.dumps({
            **json.loads((tiny.out / "study.json").read_text()), "prompts": prompts}))
        assert again(tiny)["groups"] == first["groups"]


@pytest.mark.parametrize("changes, said", [
    (["axes.protocol=[naive, self_qa_other]"],
     "self_qa_other: needs two news or more of one domain; found 3 of 3 domains"),
    (["axes.protocol=[self_qa_shadowed_other]"], "self_qa_shadowed_other: needs two news or more of one"),
    (["news=NEWS", "axes.protocol=[self_qa_shadowed_unrelated]"], "needs news of two domains or more"),
    (["lora.layers=[0, 99]"], r"lora: layers: .*pocket has the blocks 0 to 1; found \[0, 99\]"),
    (["learner=WIDER"], "learner: .* the shape of .*pocket, intermediate_size .*; .*wider has 999"),
    (["neutral={share: 0.1, source: nofile.jsonl}"], "neutral: source: nofile.jsonl: no such data file"),
    (["neutral={share: 0, source: nofile.jsonl}", "also=[kl]"], "neutral: source: nofile.jsonl: no such"),
    (["neutral={share: 0.1, source: NEWS}"], "neutral: source: .*news.yaml: line 1: "),
])
def test_what_cannot_be_is_said_before_any_work(tiny, changes, said):
    one, wider = tiny.file.with_name("apart.yaml"), tiny.file.with_name("wider")
    write_news(one, [replace(item, domain=item.id) for item in tiny.items])
    shutil.copytree(tiny.file.with_name("pocket"), wider)
    config = json.loads((wider / "config.json").read_text())
    (wider / "config.json").write_text(json.dumps({**config, "intermediate_size": 999}))
    words = {"WIDER": wider, "NEWS": tiny.file}
    changes = [f"news={one}", *changes]
    for word, path in words.items():
        changes = [change.replace(word, str(path)) for change in changes]
    with pytest.raises(ValueError, match=said):
        tiny.run(*changes)
    assert not tiny.out.exists()
