"""MMLU-Pro: the letters that upstream's rules read from 2 x 700 stored outputs, and its prompts."""

import json
from pathlib import Path

import pytest

from newnews.tasks.mmlu_pro import Item, MMLUPro, chain_rule, first_rule, read_items

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "benchmarks" / "mmlu_pro"
ITEM = Item("1", "law", "Who?", ["x", "y", "z"], "B")
stored = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/benchmarks/mmlu_pro")
HEAD = ("The following are multiple choice questions (with answers) about law. Think step by step and then "
        "finish your answer with \"the answer is (X)\" where X is the correct letter choice.\n\n\n\n")
STEPS = "Let's think step by step. So. The answer is"
ASKED = "Question:\nWho?\nOptions:\nA. x\nB. y\nC. z\nAnswer: Let's think step by step."


@stored
@pytest.mark.parametrize("model, first, chain", [("mistral_7b_instruct_v0.2", 208, 218),
                                                 ("phi_3_mini_4k_instruct", 304, 312)])
def test_letters_are_upstreams(model, first, chain):
    items, right = read_items(FOLDER / "questions.jsonl"), []
    rows = [json.loads(line) for line in open(FOLDER / f"outputs_{model}.jsonl", encoding="utf-8")]
    for item, row in zip(items, rows, strict=True):
        assert (str(row["question_id"]), row["answer"]) == (item.id, item.answer)
        assert first_rule(row["output"]) == row["first_rule"] == row["recorded_pred"], row["output"][-100:]
        assert chain_rule(row["output"]) == row["chain_rule"], row["output"][-100:]
        right.append(MMLUPro().judge(item, None, {"text": row["output"], "stopped": True}))
    assert (sum(v["first"] for v in right), sum(v["right"] for v in right)) == (first, chain)
    assert len({v["group"] for v in right}) == 14 and len(right) == 700


@pytest.mark.parametrize("text, first, chain", [
    ("The answer is (B). No, the answer is C.", "B", "B"), ("answer is D", "D", "D"),
    ("Answer: C", None, "C"),
    ("answer: A or answer:\nB", None, "B"), ("Answer: C\nAnswer: D", None, "C"),
    ("So B, then C it is", None, "C"),
    ("none", None, None), ("the answer is (K)", None, None), ("", None, None), ("**A**.", None, "A")])
def test_rules(text, first, chain):
    assert (first_rule(text), chain_rule(text)) == (first, chain)


def test_a_question_of_its_own_ends_the_answer():
    verdict = MMLUPro().judge(ITEM, None, {"text": "It is B.\n\nQuestion: The answer is (C).",
                                           "stopped": False})
    assert verdict == {"item": "1", "group": "law", "right": True, "first": False, "answer": "B",
                       "cut": False}
    assert MMLUPro().judge(ITEM, None, {"text": "Well", "stopped": False})["cut"]


def test_prompts():
    def messages(**settings):
        request, = MMLUPro(**settings).requests(ITEM)
        assert request.max_new_tokens == 2048
        return request.messages

    assert messages(plain=True) == HEAD + ASKED
    assert messages() == [{"role": "user", "content": HEAD + ASKED}]
    shots = [Item(str(i), category, f"{i}?", ["x", "y"], "A", f"A: {STEPS} (A).")
             for i, category in enumerate(("law", "physics", "law", "law"))]
    worked = [f"Question:\n{i}?\nOptions:\nA. x\nB. y\nAnswer: {STEPS} (A)."
              for i in (0, 2)]
    assert messages(shots=shots, n_shots=2, plain=True) == HEAD + "\n\n".join([*worked, ASKED])
    turns = messages(shots=shots, n_shots=2, turns=True)
    assert [m["role"] for m in turns] == ["user", "assistant"] * 2 + ["user"]
    assert turns[0]["content"].startswith(HEAD) and turns[-1]["content"] == ASKED
    assert "\n".join(m["content"] for m in turns[:2]) == HEAD + worked[0]
    with pytest.raises(ValueError, match="3 worked examples fit, expected 5"):
        messages(shots=shots, n_shots=5)


GOOD = {"question_id": 1, "category": "law", "question": "Who?", "options": ["x", "N/A", "y"], "answer": "B"}


def test_reading(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({**GOOD, "cot_content": "A: So."}))
    assert read_items(path) == [Item("1", "law", "Who?", ["x", "y"], "B")]
    assert MMLUPro().examples(path)[0].worked == "A: So."
    path.write_text(json.dumps(GOOD))
    with pytest.raises(ValueError, match="line 1: cot_content: expected a text"):
        MMLUPro().examples(path)


@pytest.mark.parametrize("change, said", [
    ({"answer": "C"}, "a letter of 2 options"), ({"answer": ""}, "a letter"),
    ({"answer": "AB"}, "a letter of"),
    ({"options": "xy"}, "options: expected"), ({"options": ["x"] * 11}, "at most 10 texts"),
    ({"category": None}, "category: expected a text, found None"),
    ({"category": "all"}, "category: 'all' is what tables call their totals")])
def test_malformed_lines(change, said, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(ValueError, match="line 2: ") as error:
        read_items(path)
    assert said in str(error.value)
