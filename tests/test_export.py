"""JSONL and card of the export: rows against the news, the key's place, `datasets` where it is installed."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from newnews.export import export, is_ours
from newnews.news import read_news
from newnews.tasks.news import shown_order

FOLDER = ROOT / "data" / "new_news"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "deep" / "new_news"
    done = subprocess.run([sys.executable, "-m", "newnews", "export", FOLDER, "--out", out], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (f"{out}/test.jsonl: 75 news, 375 questions\n"
                           f"{out}/validation.jsonl: 25 news, 125 questions\n")
    return out


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize("split, folder", [("test", FOLDER), ("validation", FOLDER / "dev")])
def test_rows_hold_what_the_news_hold(exported, split, folder):
    rows = read(exported / f"{split}.jsonl")
    questions = [(item, q) for item in read_news(folder) for q in item.questions]
    assert [row["id"] for row in rows] == [q.id for _, q in questions]
    assert len({tuple(row) for row in rows}) == 1, "a key is missing somewhere"
    for row, (item, q) in zip(rows, questions):
        assert row["options"] == [q.options[i] for i in shown_order(q, 0)]   # as evaluate.py --seed 0 asks
        assert row["options"][row["answer"]] == q.right == row["world_answers"][0] == row["accept"][0]
        assert row["world_answers"] == q.options and sorted(row["options"]) == sorted(q.options)
        assert [row["statement"], *row["counter_statements"]] == item.statements
        assert [q.forms[q.options.index(option)] for option in row["options"]] == row["forms"]
        assert (row["news"], row["domain"], row["question"], row["ask"], row["accept"]) == \
            (item.id, item.domain, q.text, q.ask, q.accept)
        assert (row["needs"], row["steps"], row["why"]) == (q.needs, q.steps, q.why)


def test_the_place_of_the_key_tells_nothing(exported):
    places = [row["answer"] for row in read(exported / "test.jsonl")]
    assert all(70 < places.count(place) < 118 for place in range(4))       # 94 +- 3 standard errors of 8.4


def test_the_card_has_the_header_that_a_hub_reads(exported):
    _, header, text = (exported / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "cc-by-4.0" and header["language"] == ["en"]
    assert header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["multiple-choice", "question-answering"]
    assert header["configs"] == [{"config_name": "default", "data_files": [
        {"split": split, "path": f"{split}.jsonl"} for split in ("test", "validation")]}]
    assert "- `test`: 75 news, 375 questions\n- `validation`: 25 news, 125 questions" in text
    canary = next(word for word in (FOLDER / "README.md").read_text().split() if len(word.strip(".")) == 36)
    assert f"newnews-canary {canary.strip('.')}" in text


def test_datasets_reads_it(exported, tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(exported), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == {"test": 375, "validation": 125}
    assert loaded["test"].to_list() == read(exported / "test.jsonl")


def tiny(tmp_path, **changes):
    item = {"id": "a", "domain": "d", "statement": "S.", "questions": [
        {"id": "a-1", "text": "T?", "options": ["x", "y"], "answer": 1}], **changes}
    (tmp_path / "news.yaml").write_text(yaml.safe_dump([item]))
    return tmp_path / "news.yaml"


def test_news_without_worlds_and_without_dev(tmp_path):
    assert export(tiny(tmp_path), tmp_path / "out") == {"test": (1, 1)}
    row, = read(tmp_path / "out" / "test.jsonl")
    assert row["options"][row["answer"]] == "y" and row["counter_statements"] == row["world_answers"] == []
    assert "validation" not in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="the news for test have no questions"):
        export(tiny(tmp_path, questions=[]), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_only_an_earlier_export_is_replaced(tmp_path):
    out = tmp_path / "out"
    export(tiny(tmp_path), out)
    export(tiny(tmp_path, statement="Another."), out)
    assert is_ours(out) and read(out / "test.jsonl")[0]["statement"] == "Another."
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="no export of ours"):
        export(tmp_path / "news.yaml", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no export of ours"):
        export(tmp_path / "news.yaml", tmp_path / "empty")


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(tiny(tmp_path), out)
    before = (out / "test.jsonl").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("newnews.export.rows", fail)
    with pytest.raises(OSError, match="disk full"):
        export(tiny(tmp_path, statement="Another."), out)
    assert (out / "test.jsonl").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["news.yaml", "out"]
