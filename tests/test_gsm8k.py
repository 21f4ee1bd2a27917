"""GSM8K: upstream's flag for every stored solution, and the number in all styles that models end with."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from newnews.tasks.gsm8k import GSM8K, INSTRUCTION, Item, final_number, read_items

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "benchmarks" / "gsm8k"
ITEM = Item("0", "How many?", "6 * 3 = <<6*3=18>>18\n#### 1,018")
stored = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/benchmarks/gsm8k")


def judged(text, stopped=True, item=ITEM):
    return GSM8K().judge(item, None, {"text": text, "stopped": stopped})


@stored
@pytest.mark.parametrize("model, right", [("6b_finetuning", 223), ("6b_verification", 404),
                                          ("175b_finetuning", 363),
                                          ("175b_verification", 572)])
def test_flags_are_upstreams(model, right):
    items, total = read_items(FOLDER / "test.jsonl"), 0
    rows = [json.loads(line) for line in open(FOLDER / "example_model_solutions.jsonl", encoding="utf-8")]
    for item, row in zip(items, rows, strict=True):
        solution, flag = row[model]["solution"], row[model]["is_correct"]
        assert row["question"] == item.question
        verdict = judged(solution, item=item)
        assert verdict["right"] == flag, (item.id, solution[-80:])
        # in upstream's own format the strict rule says the same
        assert judged(solution.replace("\nA:", "\n####"), item=item)["strict"] == flag
        total += verdict["right"]
    assert total == right and len(items) == 1019


@stored
def test_every_gold_solution_is_right():
    for name in ("test.jsonl", "train_sample.jsonl"):
        for item in read_items(FOLDER / name):
            verdict = judged(item.answer, item=item)
            assert verdict["right"] and verdict["strict"]


@pytest.mark.parametrize("text, number", [
    (r"6 * 3 = 18, so \boxed{18}.", 18), (r"\boxed{\$1,234.50}", "1234.5"),
    (r"$\boxed{18 \text{ dollars}}$ of 20", 18),
    (r"\boxed{x = 5} and 7", 5), (r"first \boxed{1}, no: \boxed{2}", 2), (r"\boxed{10{,}000}", 10000),
    (r"\boxed {10\,000}", 10000), ("#### 18\nin 3 days", 18), ("#### $1,234", 1234), ("####-5.", -5),
    ("#### 20 - 2 = 18", 18), ("The answer is 18.", 18), ("The final answer is: **18** apples, of 20.", 18),
    ("the answer is $1,234,567.", 1234567), ("**Answer:** 42 km in 3 h", 42), ("Answer: -$7", -7),
    ("A: 9", 9),
    ("Final answer is 3 * 6 = $18 a day", 18), ("The answer is 1. No, the answer is 2.", 2),
    ("Answer:\n18", 18), ("the answer is as follows.\nShe has 18 eggs.", 18),
    ("She makes $18 every day.", 18),
    ("18.00", 18), ("It is .5", "0.5"), ("70,000 dollars in total.", 70000), ("1,23 is odd", 23),
    ("from 5-3", 3), ("20 - 2", 2), ("so -3", -3), ("(2)-3", 3), ("50%.", 50), ("x=12", 12), ("7.", 7)])
def test_the_number_is_found(text, number):
    assert final_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "The answer is unknown.", r"\boxed{}", "#### ?"])
def test_no_number(text):
    assert final_number(text) is None and not judged(text)["right"] and judged(text)["answer"] is None


def test_right_and_strict():
    assert judged("#### 1,018") == {"item": "0", "right": True, "strict": True, "answer": "1018",
                                    "cut": False}
    assert judged("The answer is 1018.00")["right"] and not judged("The answer is 1018.00")["strict"]
    assert judged("#### 1018.0")["right"] and not judged("#### 1018.0")["strict"]   # texts are compared
    assert not judged("1018 or 1019")["right"]


def test_a_question_of_its_own_ends_the_answer():
    verdict = judged(" so 1018.\n\nQuestion: And 7?\nAnswer: 9", stopped=False)
    assert verdict["right"] and not verdict["cut"] and judged(" so 1018", stopped=False)["cut"]


def test_prompts():
    def messages(**settings):
        request, = GSM8K(**settings).requests(ITEM)
        assert request.max_new_tokens == 512 and request.temperature == 0
        return request.messages

    shots = [Item("0", "Few?", "One.\n#### 1"), ITEM, Item("2", "Two?", "#### 2")]
    assert messages() == [{"role": "user", "content": f"How many?\n{INSTRUCTION}"}]
    assert messages(plain=True) == "Question: How many?\nAnswer:"
    text = ("Question: Few?\nAnswer: One.\n#### 1\n\nQuestion: Two?\nAnswer: #### 2\n\n"     # not itself
            "Question: How many?\nAnswer:")
    assert messages(shots=shots, n_shots=2, plain=True) == text
    assert messages(shots=shots, n_shots=2) == [{"role": "user", "content": text}]
    turns = messages(shots=shots, n_shots=1, turns=True)
    assert [(m["role"], m["content"]) for m in turns] == [
        ("user", "Question: Few?\nAnswer:"), ("assistant", "One.\n#### 1"),
        ("user", "Question: How many?\nAnswer:")]
    with pytest.raises(ValueError, match="2 worked examples fit, expected 3"):
        messages(shots=shots, n_shots=3)
    with pytest.raises(ValueError, match="turns need the chat template"):
        GSM8K(turns=True, plain=True)
    with pytest.raises(ValueError, match="0 worked examples fit, expected 1"):
        messages(n_shots=1)


@pytest.mark.parametrize("line, said", [
    ('{"question": "a", "answer": "so 3"}', "line 2: answer: expected a last line '#### NUMBER'"),
    ('{"question": "a", "answer": "#### ."}', "line 2: answer: "),
    ('{"question": "a"}', "line 2: expected question"),
    ("[", "line 2: not valid JSON")])
def test_malformed_lines(line, said, tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "a", "answer": "#### 3"}\n' + line + "\n")
    with pytest.raises(ValueError) as error:
        read_items(path)
    assert f"{path}: {said}" in str(error.value)
