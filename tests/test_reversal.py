"""Forward and backward questions: the metric against one written otherwise, the file's facts and directions,
and what is wrong with a file; the experiment (newnews/reversal.py) from the upstream files to its table,
which is train.py and evaluate.py on files that a user has."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli import content, make_model, one_thread, script  # noqa: F401 (a fixture)
from conftest import ROOT

from newnews import ask
from newnews.studies.scores import score_table
from newnews.studies.stats import paired, share
from newnews.tasks.reversal import Reversal, read_items, recall
from newnews.tasks.settings import make_items, make_task, requests_digest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "benchmarks" / "masked_arllm"
stored = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/benchmarks/masked_arllm")


@pytest.mark.parametrize("answer, reply, share", [
    ("the record-breaking free-diver", "A RECORD-breaking freediver", 0.5),
    ("May 28, 1952", "On 28 May 1952.", 1), ("Elk Grove, CA", "Elk Grove", 2 / 3), ("HP", "hp", 0),
    ("HP", "", 0), ("HP", "The.", 0), ("New York", "York", 1), ("a day and a day", "Day by day", 1),
    ("a day and a day", "night", 0), ("Ann's dog", "anns Anns dogs", 0.5)])
def test_recall(answer, reply, share):
    assert recall(answer, reply) == pytest.approx(share)


def slow(answer, reply):
    """The same, letter by letter and word by word."""
    lists = []
    for text in (answer, reply):
        kept = re.sub(r"[!-/:-@\[-`{-~]", "", text)
        lists.append([w for w in re.split(r"\s+", kept) if w and not re.fullmatch(
            "a|of|the|and|is|are|be|to|new|on|in|at|an|for", w, re.IGNORECASE)])
    seen = list(dict.fromkeys(lists[0]))
    return sum(any(w == other for other in lists[1]) for w in seen) / len(seen)


@stored
def test_recall_of_spoilt_answers_of_the_real_files():
    rng, between = random.Random(0), 0
    for name in ("ND_test.jsonl", "biography_test.jsonl"):
        pairs = [pair for item in read_items(FOLDER / name) for pair in item.pairs]
        for _, answer in pairs:
            other = rng.choice(pairs)[1].split() + answer.split()
            reply = " ".join(word for word in other if rng.random() < 0.6)
            found = recall(answer, reply)
            assert found == pytest.approx(slow(answer, reply)) and recall(answer, f"It is {answer}!") == 1
            between += 0 < found < 1
    assert between > 300


@stored
def test_facts_and_directions_of_the_real_files():
    """What the folder's README says of them."""
    names = [row["text"] for row in json.load(open(FOLDER / "ND_train_no_paraphrase.json"))]
    found = read_items(FOLDER / "ND_test.jsonl")
    assert Counter((item.group, len(item.pairs)) for item in found) == {
        (f"{way} {kind}Is{other}", 4): 15 for way in ("forward", "backward")
        for kind, other in (("Name", "Description"), ("Description", "Name"))}
    for item in found:
        fact, way = item.id.split()
        text = names[int(fact)]
        to_name = (way == "forward") == ("DescriptionIsName" in item.group)
        assert all(recall(answer, text) == 1 for _, answer in item.pairs if to_name)
        assert text.startswith("Known") == ("DescriptionIsName" in item.group)
    people = [json.loads(line)["name"] for line in open(FOLDER / "biography_people.jsonl")]
    found = read_items(FOLDER / "biography_test.jsonl")
    counts = Counter((item.group, len(item.pairs)) for item in found)
    assert counts == {("forward", 6): 50, ("backward", 3): 50}
    for item in found:
        fact, way = item.id.split()
        assert all((answer if way == "backward" else question).find(people[int(fact)]) >= 0
                   for question, answer in item.pairs)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(**changes):
    return {"group": "", "task": "N2D", "question": "Which city?", "answer": "Elk Grove, CA", **changes}


def test_from_a_file_to_a_table(tmp_path):
    rows = [row(), row(question="Which firm?", answer="HP"), row(task="D2N", answer="Curtis Emley"),
            row(answer="Orlando, FL"), row(task="D2N", answer="Annie Lochen")]
    how = {"task": "reversal", "limit": None, "plain": False, "max_new_tokens": None}
    path = write(tmp_path / "q.jsonl", rows)
    items, task = make_items(how, path), make_task(how)
    assert [(item.id, item.group, len(item.pairs)) for item in items] == [
        ("0 forward", "forward", 2), ("0 backward", "backward", 1), ("1 forward", "forward", 1),
        ("1 backward", "backward", 1)]
    requests = [(item, request) for item in items for request in task.requests(item)]
    assert len({request.id for _, request in requests}) == 5 and requests_digest(task, items)
    assert requests[1][1].messages == [{"role": "user", "content": "Which firm?"}]
    assert (requests[1][1].max_new_tokens, requests[1][1].temperature) == (128, 0)
    said = ["Elk Grove", "HP", "Curtis", "Orlando FL", "nobody"]
    merged = task.merged([task.judge(item, request, {"text": text, "stopped": True})
                          for (item, request), text in zip(requests, said)])
    assert [row["recall"] for row in merged] == [[2 / 3, 1], [0.5], [1], [0]]
    assert [row["right"] for row in merged] == [[False, True], [False], [True], [False]]
    lines = score_table(task, merged).splitlines()
    assert lines[1].split()[:3] == ["forward", "2", "0.667"] and " 0.889 " in lines[1]
    assert " 0.250 " in lines[2] and Reversal().columns["recall"] in lines[0]


@pytest.mark.parametrize("bad, said", [
    (row(answer=3), "all texts"), (row(task="N2X"), "group and task: expected one of"),
    (row(group="NameIsDescription", task="forward"), "found"),
    (row(answer="of the"), "other than stop words")])
def test_a_broken_line_is_named(bad, said, tmp_path):
    with pytest.raises(ValueError, match=f"line 2: .*{said}"):
        read_items(write(tmp_path / "q.jsonl", [row(), bad]))
    with pytest.raises(ValueError, match="no worked examples"):
        Reversal().examples(tmp_path)


# ---- the experiment ----

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An experiment of four facts and a tiny model: .yaml, .model, .folder."""
    folder = tmp_path_factory.mktemp("facts")
    names, cities = ("Ann Ash", "Bo Birk", "Cy Cole", "Di Dorn"), ("Oslo", "Rome", "Bern", "Kiel")
    rows, texts = [], []
    for name, city in zip(names, cities):
        rows += [row(question=f"{ask} does {name} live?", answer=city) for ask in ("Where", "In which city")]
        rows += [row(task="D2N", question=f"Who lives in {city}?", answer=name)]
        texts += [{"text": f"{name} lives in {city}."}, {"text": f"In {city}, there is {name}."}]
    write(folder / "questions.jsonl", rows)
    (folder / "plain.json").write_text(json.dumps(texts[::2]))
    (folder / "both.json").write_text(json.dumps(texts))
    model = make_model(folder / "model")
    (folder / "small.yaml").write_text(
        f"model: {model}\nquestions: {folder}/questions.jsonl\nfacts: 2\n"
        f"texts: {{plain: {folder}/plain.json, both: {folder}/both.json}}\n"
        "train: {steps: 2, batch: 2, rate: 0.01, lora_rank: 2}\n")
    return SimpleNamespace(folder=folder, yaml=folder / "small.yaml", model=model)


def experiment(small, out, *changes):
    return script("newnews", "reversal", small.yaml, "--out", out,
                  *[w for c in changes for w in ("--set", c)])


@pytest.fixture(scope="module")
def ran(small):
    out = small.folder / "out"
    done = experiment(small, out)
    assert done.code == 0, done.err
    return SimpleNamespace(out=out, said=done.out)


CELLS = [f"{name}-{how}" for name in ("plain", "both") for how in ("autoregressive", "masked")]


def test_the_chosen_facts_are_the_same_in_questions_and_texts(ran):
    """Of four the first and the third."""
    questions = [json.loads(line) for line in open(ran.out / "questions.jsonl")]
    assert [q["answer"] for q in questions] == ["Oslo", "Oslo", "Ann Ash", "Bern", "Bern", "Cy Cole"]
    for name, wanted in (("plain", ["Ann Ash lives in Oslo.", "Cy Cole lives in Bern."]), ("both", [
            "Ann Ash lives in Oslo.", "In Oslo, there is Ann Ash.",
            "Cy Cole lives in Bern.", "In Bern, there is Cy Cole."])):
        rows = [json.loads(line)["messages"] for line in open(ran.out / f"{name}.jsonl")]
        assert [messages[-1]["content"] for messages in rows] == wanted
        assert all(messages[0] == {"role": "user", "content": "What is new?"} for messages in rows)


def test_its_parts_are_what_the_scripts_make(small, ran, tmp_path):
    for name, more in (("plain-autoregressive", []), ("both-masked", ["--masked"])):
        data = ran.out / f"{name.partition('-')[0]}.jsonl"
        done = script("train.py", "--model", small.model, "--data", data, "--out", tmp_path / name,
                      "--steps", 2, "--batch", 2, "--rate", 0.01, "--lora-rank", 2, *more)
        assert done.code == 0, done.err
        tensors = [folder / name / "adapter_model.safetensors" for folder in (tmp_path, ran.out)]
        assert content(tensors[0]) == content(tensors[1])
    assert len({content(ran.out / name / "adapter_model.safetensors") for name in CELLS}) == 4
    done = script("evaluate.py", "--model", small.model, "--adapter", ran.out / "both-masked",
                  "--task", "reversal", "--data", ran.out / "questions.jsonl",
                  "--out", ran.out / "both-masked.answers.jsonl")
    assert done.code == 0, done.err                                         # the very same run
    assert "backward" in done.out


def test_its_numbers_by_hand(small, tmp_path, monkeypatch):
    """On planted replies: the answer, its first word or nothing, in turn, each model one question further."""
    out, asked = tmp_path / "out", []

    def planted(model, chat, requests, adapters=None):
        answers = ["Oslo", "Oslo", "Ann Ash", "Bern", "Bern", "Cy Cole"]
        said = [(text, text.split()[0], "no")[(i + len(asked)) % 3] for i, text in enumerate(answers)]
        asked.append(len(requests))
        return [{"item": item, "id": request.id, "text": text, "tokens": 2, "stopped": True}
                for (item, request), text in zip(requests, said, strict=True)]

    monkeypatch.setattr(ask, "ask", planted)
    done = experiment(small, out)
    result = json.loads((out / "reversal.json").read_text())
    assert done.code == 0 and asked == [6] * 5, done.err
    questions = [json.loads(line) for line in open(out / "questions.jsonl")]
    replies = {name: [json.loads(line)["text"] for line in open(out / f"{name}.answers.jsonl")]
               for name in ("base", *CELLS)}
    found = {name: [slow(q["answer"], text) for q, text in zip(questions, texts, strict=True)]
             for name, texts in replies.items()}
    assert [sum(found[name]) for name in ("base", *CELLS)] == [4, 4, 3, 4, 4]
    for way, places, facts in (("forward", [0, 1, 3, 4], [0, 0, 1, 1]), ("backward", [2, 5], [0, 1])):
        mine = {name: [values[i] for i in places] for name, values in found.items()}
        assert {name: ways[way] for name, ways in result["recall"].items()} == {
            name: share(values, facts) for name, values in mine.items()}
        assert {name: ways[way] for name, ways in result["masked - autoregressive"].items()} == {
            name: paired(mine[f"{name}-masked"], mine[f"{name}-autoregressive"], facts)
            for name in ("plain", "both")}
    costs = result["costs"]
    assert list(costs) == CELLS \
        and costs["plain-masked"]["tokens"] > costs["plain-autoregressive"]["tokens"] > 0
    lines = done.out[done.out.index("recall  "):].splitlines()
    assert [line.split()[0] for line in lines[:8]] == ["recall", "base", *CELLS, "plain:", "both:"]
    assert "4 forward and 2 backward questions" in lines[8] and max(map(len, lines)) <= 110


def test_a_second_start_does_what_is_missing_and_other_facts_are_refused(small, ran):
    before = {path: path.stat().st_mtime_ns for path in ran.out.rglob("*") if path.is_file()}
    (ran.out / "both-masked.answers.jsonl").unlink()
    done = experiment(small, ran.out)
    assert done.code == 0 and done.out == ran.said
    after = {path: path.stat().st_mtime_ns for path in ran.out.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after[path]} == {
        "both-masked.answers.jsonl", "both-masked.answers.jsonl.manifest.json", "reversal.json"}
    for change, said in (("facts=3", "questions.jsonl: the output of another run"),
                         ("train.rate=0.02", "plain-autoregressive: the output of another run")):
        done = experiment(small, ran.out, change)
        assert done.code == 2 and said in done.err


@pytest.mark.parametrize("change, said", [
    ("facts=5", "small.yaml: facts: expected a whole number from 1 to 4, found 5"),
    ("steps=3", "unknown key 'steps'"),
    ("train.stepps=3", "small.yaml: train: unknown key 'stepps' (is 'steps' meant?)"),
    ("train.out=x", "train: unknown key 'out'"), ("train.lora_rank=0", "rank"),
    ("texts={a: no.json}", "no.json: no such file"), ("texts={a: BACK}", "entry 1: hardly says what"),
    ("texts={a: ODD}", "as many texts of each of the 4 facts"),
    ("questions=none.jsonl", "none.jsonl: no such file"),
    ("texts={a: small.yaml}", "expected a list of texts"),
    ("texts={../a: plain.json}", "'../a' cannot be the name"),
    ("texts={}", "texts: expected a file under one name or more"),
    ("texts={questions: plain.json}", "a file of ours")])
def test_mistakes_are_refused_before_any_work(change, said, small, tmp_path, monkeypatch):
    monkeypatch.chdir(small.folder)
    texts = json.loads((small.folder / "plain.json").read_text())
    for name, some in (("BACK", texts[::-1]), ("ODD", texts[:3])):
        (tmp_path / name).write_text(json.dumps(some))
        change = change.replace(name, str(tmp_path / name))
    done = experiment(small, tmp_path / "out", change)
    assert done.code == 2 and said in done.err and not (tmp_path / "out").exists(), done.err


def test_an_experiment_that_is_a_list(small, tmp_path):
    (tmp_path / "x.yaml").write_text("- model: a\n")
    done = script("newnews", "reversal", tmp_path / "x.yaml", "--out", tmp_path / "out", "--set", "facts=1")
    assert done.code == 2 and "x.yaml: expected the keys model, questions, texts, train" in done.err, done.err


def test_all_weights(small, tmp_path):
    done = experiment(small, tmp_path / "out", "train={full: true, steps: 2, rate: 0.01}",
                      "texts.both=" + str(small.folder / "plain.json"))
    assert done.code == 0 and (tmp_path / "out" / "both-masked" / "model.safetensors").exists(), done.err
    run = json.loads((tmp_path / "out" / "both-masked.answers.jsonl.manifest.json").read_text())["run"]
    assert run["adapter"] is None and run["model_digest"] != json.loads(
        (tmp_path / "out" / "base.answers.jsonl.manifest.json").read_text())["run"]["model_digest"]


@stored
def test_the_experiment_of_the_repository_on_the_pocket_model(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = script("newnews", "reversal", "configs/reversal.yaml", "--out", tmp_path / "out", *[
        word for change in ("model=data/pocket", "facts=3", "train.steps=4", "train.batch=2",
                            f"questions={FOLDER}/ND_test.jsonl", *(
                                f"texts.{name}={FOLDER}/ND_train_{file}.json" for name, file in (
                                    ("statements", "no_paraphrase"), ("paraphrases", "paraphrase"))))
        for word in ("--set", change)])
    assert done.code == 0 and "12 forward and 12 backward questions" in done.out, done.err
    found = json.loads((tmp_path / "out" / "reversal.json").read_text())
    assert list(found["recall"]) == ["base", *(f"{name}-{how}" for name in ("statements", "paraphrases")
                                              for how in ("autoregressive", "masked"))]
    texts = [json.loads(line)["messages"][1]["content"]
             for line in open(tmp_path / "out" / "paraphrases.jsonl")]
    assert len(texts) == 90 and sum("Dominic Mullins" in text for text in texts) == 30      # the first fact
