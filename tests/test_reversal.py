"""Forward and backward questions: the metric against one written otherwise, the file's facts and directions,
and what is wrong with a file."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from newnews.studies.scores import score_table
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
