"""Before and after: pairs, shares and p values by hand, what flipped, and what may not be compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli import ROOT, make_shared, one_thread, script  # noqa: F401
from scipy.stats import binomtest

from newnews.outputs import Rows
from newnews.studies.retain import compared, report, retain
from newnews.studies.stats import paired, share
from newnews.tasks.settings import check_how, make_items, make_task, requests_digest

HOW = {"task": "gsm8k", "limit": None, "shots": 0, "turns": False, "plain": False, "max_new_tokens": 9}
N = 40


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps({"question": f"What is {i}?",
                                        "answer": f"#### {i}"}) + "\n" for i in range(N)))
    return path


def write(path, data, texts, how=HOW, **changes):
    """An answers file as evaluate.py writes it, with these replies."""
    task, items = make_task(how), make_items(how, data)
    digest = requests_digest(task, items)
    output = Rows(path, {"requests": digest, "data": digest, "how": how, "model_digest": path.name,
                         **changes})
    output.add([{"item": item.id, "id": item.id, "text": text, "stopped": True, "tokens": 1}
                for item, text in zip(items, texts, strict=True)])
    output.finish()
    return path


def replies(right):
    return [f"#### {i}" if i in right else "none" for i in range(N)]


@pytest.fixture
def pair(data, tmp_path):
    """0 to 29 right before; 0 to 3 lost, 30 and 31 gained."""
    return [write(tmp_path / "before", data, replies(range(30))),
            write(tmp_path / "after", data, replies(range(4, 32)))]


def test_three_parts(pair, data):
    found = retain(*pair, data, "gsm8k")
    assert set(found["fields"]) == {"right", "strict, ####"} and found["task"] == "gsm8k"
    f, each = found["fields"]["right"], [str(i) for i in range(N)]
    before, after = [i < 30 for i in range(N)], [4 <= i < 32 for i in range(N)]
    assert f["before"] == share(before, each) and f["after"] == share(after, each)
    assert f["kept"] == share(after[:30], each[:30]) and f["kept"]["mean"] == pytest.approx(26 / 30)
    assert f["gained"] == share(after[30:], each[30:]) and f["gained"]["mean"] == pytest.approx(0.2)
    assert (f["lost"], f["won"], f["n"]) == (["0", "1", "2", "3"], ["30", "31"], N)
    assert f["difference"] == paired(after, before, each) and f["difference"]["mean"] == pytest.approx(-0.05)
    assert f["mcnemar"] == pytest.approx(binomtest(2, 6).pvalue)
    text = report(found, 3)
    assert "kept     0.867" in text and "flipped  4 lost, 2 gained; after - before -0.050 [" in text
    assert "lost     0, 1, 2 and 1 more (--all lists them)" in text and "gained   30, 31\n" in text


def test_the_same_twice(pair, data):
    f = retain(pair[0], pair[0], data)["fields"]["right"]
    assert (f["lost"], f["won"], f["mcnemar"], f["kept"]["mean"], f["gained"]["mean"]) == ([], [], 1.0, 1, 0)
    assert f["difference"]["low"] < 0 < f["difference"]["high"]


def test_instructions_are_clustered_by_prompt():
    before = {f"{p}.{i}": (p, True) for p in "abc" for i in (1, 2)}
    after = {**before, "a.1": ("a", False), "a.2": ("a", False)}
    f = compared(before, after)
    assert f["difference"] == paired([0, 0, 1, 1, 1, 1], [1] * 6, list("aabbcc")) and f["lost"] == ["a.1",
                                                                                                    "a.2"]
    assert f["difference"]["clusters"] == 3 and f["mcnemar"] == 0.5 and f["gained"]["mean"] is None


# ---- what may not be compared ----

def test_other_questions(pair, data, tmp_path):
    other = write(tmp_path / "other", data, replies(()), {**HOW, "max_new_tokens": 8})
    with pytest.raises(ValueError, match="other: was asked otherwise .*they differ in max_new_tokens"):
        retain(pair[0], other, data)
    other = write(tmp_path / "shots", data, replies(()), requests="with examples")
    with pytest.raises(ValueError, match="the data or the examples differ"):
        retain(pair[0], other, data)


def test_other_data(pair, data):
    data.write_text(data.read_text().replace("What is 7?", "What is 8?"))
    with pytest.raises(ValueError, match="test.jsonl: these are not the questions that .*before was asked"):
        retain(*pair, data)


def test_repaired_gold_answers_need_no_new_run(pair, data):
    data.write_text(data.read_text().replace("#### 7", "#### 8"))
    assert retain(*pair, data)["fields"]["right"]["before"]["mean"] == pytest.approx(29 / 30 * 30 / 40)


@pytest.mark.parametrize("change, said", [
    (lambda path: (path.parent / "before.manifest.json").unlink(), "expected finished answers"),
    (lambda path: path.write_text(""), "it was changed since"),
    (lambda path: (path.parent / "before.manifest.json").write_text('{"run": {}}'), "ask again")])
def test_broken_files(change, said, pair, data):
    change(pair[0])
    with pytest.raises(ValueError, match=said):
        retain(*pair, data)


@pytest.mark.parametrize("change, said", [
    (lambda rows: rows.append(rows[0]), "or not twice"),
    (lambda rows: rows[3].update(text=None), "response to 3"),
    (lambda rows: rows[3].pop("stopped"), "response to 3: expected a text"),
    (lambda rows: rows[3].pop("id"), "None"), (lambda rows: rows[3].update(item=["3"]), "do not ask")])
def test_answers_that_were_edited(change, said, pair, data):
    rows = [json.loads(line) for line in pair[0].read_text().splitlines()]
    change(rows)
    pair[0].write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = json.loads(Path(f"{pair[0]}.manifest.json").read_text())
    Path(f"{pair[0]}.manifest.json").write_text(json.dumps({**manifest, "bytes": pair[0].stat().st_size}))
    with pytest.raises(ValueError, match=f"before: .*{said}"):
        retain(*pair, data)


@pytest.mark.parametrize("key, value", [("shots", -1), ("shots", "x"), ("turns", 1), ("max_new_tokens", 0),
                                        ("limit", True), ("task", "gossip"), ("plain", None)])
def test_settings_that_were_edited(key, value, pair, data):
    manifest = json.loads(Path(f"{pair[0]}.manifest.json").read_text())
    manifest["run"]["how"][key] = value
    Path(f"{pair[0]}.manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"before.manifest.json: how: {key}: "):
        retain(*pair, data)


def test_settings_of_news_want_their_prompts():
    how = {"task": "news", "limit": None, "world": 0, "in_context": False, "seed": 0, "formats": ["free"]}
    with pytest.raises(ValueError, match="prompts: is missing"):
        check_how(how)


def test_another_task(pair, data):
    with pytest.raises(ValueError, match="answers to the task gsm8k, expected ifeval"):
        retain(*pair, data, "ifeval")


# ---- as a command, without torch ----

def test_command_without_torch(pair, data):
    words = ["newnews", "retain", *map(str, pair), "--data", str(data), "--all"]
    code = (f"import sys, runpy; sys.modules['torch'] = None; sys.argv = {words!r}; "
            "runpy.run_module('newnews', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "lost     0, 1, 2, 3\n" in done.stdout


def test_a_comment_in_the_prompts_makes_no_other_run_and_older_answers_are_read(tmp_path):
    shared, prompts = make_shared(tmp_path / "shared"), tmp_path / "p.yaml"
    text = (shared.model / "prompts.yaml").read_text()
    words = ["evaluate.py", "--model", shared.model, "--news", shared.news, "--prompts", prompts, "--formats",
             "letter", "--out"]
    for more, code in (("", 0), ("# a comment\n", 0), ("reason: Think about {question}\n", 2)):
        prompts.write_text(text + more)
        done = script(*words, tmp_path / "a")
        assert done.code == code, done.err
    assert "differs in how.prompts" in done.err
    prompts.write_text(text)
    assert script(*words, tmp_path / "older").code == 0
    manifest = json.loads((tmp_path / "older.manifest.json").read_text())
    manifest["run"]["how"]["prompts"]["digest"] = "0" * 64             # as it was written once
    (tmp_path / "older.manifest.json").write_text(json.dumps(manifest))
    for pair in (("a", "older"), ("older", "a")):
        f = retain(*[tmp_path / name for name in pair], shared.news)["fields"]["letter"]
        assert f["lost"] == f["won"] == []


def test_news_and_choice_from_evaluate_to_report(tmp_path):
    shared = make_shared(tmp_path / "shared")
    choice = tmp_path / "choice.jsonl"
    choice.write_text('{"question": "What?", "options": ["x", "y"], "answer": 1}\n' * 3)
    other = shared.folder / "adapter"
    assert script("train.py", "--model", shared.model, "--data", shared.data, "--out", other, "--steps", 2,
                  "--batch", 2,
                  "--lora-rank", 2, "--rate", 0.05).code == 0
    for name, words in (("news", ["--news", shared.news]), ("choice",
                                                            ["--task", "choice", "--data", choice])):
        out = [tmp_path / f"{name}-{part}" for part in ("before", "after")]
        for path, extra in zip(out, ([], ["--adapter", other])):
            assert script("evaluate.py", "--model", shared.model, *words, *extra, "--out", path).code == 0
        done = script("newnews", "retain", *out, "--data", words[-1])
        titles = ("free", "text", "letter") if name == "news" else ("raw", "by characters", "by bytes",
                                                                    "less uncond")
        assert done.code == 0 and all(f"\n{title}" in done.out for title in titles), done.err
        assert done.out.count("McNemar") == len(titles)
