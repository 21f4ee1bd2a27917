"""IFEval: every verdict that the original gave 3 x 391 stored replies, and by hand what those leave open.

Agreement   strict and loose, every non-null one
By hand     a reply that follows and one that just does not, for each of the 25 kinds
English     sentences and capital words, by the rules that decide counts
Refusals    malformed lines, unknown kinds, a missing package
"""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from newnews.tasks.english import capital_words, language_of, sentences
from newnews.tasks.ifeval import IFEval, Item, edits, read_items, verdicts
from newnews.tasks.instructions import ARGUMENTS, CHECKS

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "benchmarks" / "ifeval"
MODELS = ("gpt4", "qwen2.5_1.5b_instruct_gptq_int4", "qwen2.5_7b_instruct_gptq_int4")
stored = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/benchmarks/ifeval")


@stored
@pytest.mark.parametrize("model, strict, loose", [
    (MODELS[0], (300, 494), (308, 504)), (MODELS[1], (150, 300), (166, 320)),
    (MODELS[2], (290, 483), (298, 492))])
def test_verdicts_are_the_originals(model, strict, loose):
    items = {item.id: item for item in IFEval().items(FOLDER / "prompts.jsonl")}
    counts, seen = Counter(), 0
    for line in open(FOLDER / f"responses_{model}.jsonl", encoding="utf-8"):
        row = json.loads(line)
        item = items[str(row["key"])]
        for name, ours in zip(("strict", "loose"), verdicts(row["response"], item)):
            theirs = row[name]
            wrong = [kind for kind, a, b in zip(item.kinds, ours, theirs) if b is not None and a != b]
            assert not wrong and len(ours) == len(theirs), (row["key"], name, wrong)
            seen += len(theirs) - theirs.count(None)
            counts[name, "instruction"] += sum(a for a, b in zip(ours, theirs) if b is not None)
            counts[name, "prompt"] += None not in theirs and all(ours)
    assert (counts["strict", "prompt"], counts["strict", "instruction"]) == strict      # the README's table
    assert (counts["loose", "prompt"], counts["loose", "instruction"]) == loose
    assert seen > 1170 and Counter(k for item in items.values() for k in item.kinds).keys() == CHECKS.keys()


@pytest.mark.parametrize("kind, arguments, follows, fails", [
    ("keywords:existence", {"keywords": ["mom", "sun"]}, "Moments of SUNSHINE", "moments"),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "rocks rocked", "a Rock!"),
    ("keywords:frequency", {"keyword": " war ", "frequency": 2, "relation": "at least"}, "War, wary", "war"),
    ("keywords:letter_frequency", {"letter": "C", "let_frequency": 2, "let_relation": "less than"}, "c",
     "Cc"),
    ("language:response_language", {"language": "de"}, "Das ist ein deutscher Satz über das Wetter.",
     "This is an English sentence about the weather."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One.",
     "One. Two."),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "it so"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a***\n***b"),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"}, "a\n\n'So, it", "a\n\nsofa"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a b"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\np. p.s. x", "P.S. x"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b\n**c**", "* a\nb"),
    ("detectable_format:constrained_response", {}, "Well, My answer is no. So.", "my answer is no."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* * * **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1 a Day2 b",
     "Day 1 a Day b"),
    ("detectable_format:json_format", {}, "```json\n{\"a\": [1]}\n```", "{'a': 1}"),
    ("detectable_format:title", {}, "so: <<a title>>", "<< >>\n<<a\nb>>"),
    ("change_case:english_capital", {}, "THIS IS AN ENGLISH SENTENCE ABOUT THE WEATHER.",
     "This is an English sentence about the weather."),
    ("change_case:english_lowercase", {}, "this is an english sentence about the weather.",
     "das ist ein deutscher satz über das wetter."),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"},
     "DON'T go",
     "NASA goes"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, " say IT. So.", "So: say it."),
    ("combination:two_responses", {}, "a\n******\nb******", "a******a"),
    ("startend:end_checker", {"end_phrase": "The end"}, "so \"the END\"", "The end."),
    ("startend:quotation", {}, ' "so" ', '"'), ("punctuation:no_comma", {}, "a; b", "a, b")])
def test_by_hand(kind, arguments, follows, fails):
    item = Item("1", "", [kind], [arguments])
    assert set(arguments) == set(ARGUMENTS[kind])
    assert verdicts(follows, item)[0] == [True] and verdicts(fails, item) == ([False], [False])


def test_blank_replies_follow_nothing():
    assert verdicts(" \n", Item("1", "", ["punctuation:no_comma"], [{}])) == ([False], [False])


def test_loose_cuts_lines_and_stars():
    item = Item("1", "", ["startend:quotation"], [{}])
    for text in ('Sure:\n"so"', '"so"\nBye.', 'Sure:\n"so"\nBye.', '**"so"**', 'Sure:\n*"so"*\nBye.'):
        assert verdicts(text, item) == ([False], [True])
    assert edits("*a*\nb\nc ") == ["*a*\nb\nc ", "b\nc", "*a*\nb", "b", "a\nb\nc ", "b\nc", "a\nb", "b"]
    assert verdicts('Sure:\nyes:\n"so"', item) == ([False], [False])


@pytest.mark.parametrize("text, count", [
    ("Mr. Smith met Dr. Hu. They left.", 2), ("It costs 3.5 dollars, e.g. Today.", 2),
    ("1. Eat\n2. Sleep", 3), ("A. Eat\nB. Sleep", 3),
    ("In the U.S. Senate. In the U.S. The end.", 3), ('He said "Go!" She went.', 2), ("What?! No!!!", 3),
    ("Wait... what? Wait... The end", 3), ("**Bold.**\n\nMore.", 2),
    ("So J. Smith and J. K. Rowling left.", 1), ("(One.) Two.", 2),
    ("", 0), ("no end", 1)])
def test_sentences(text, count):
    assert sentences(text) == count


@pytest.mark.parametrize("text, count", [
    ("NASA, I and USA.", 3), ("I'm a B-52 (OK?)", 3), ("**NOTE:** CANNOT", 3), ("AND/OR x2 A1", 2),
    ("U.S.A. A...B", 3), ("10:30 AM", 1), ("", 0)])
def test_capital_words(text, count):
    assert capital_words(text) == count


def test_languages_do_not_change_from_call_to_call():
    assert len({language_of("HELLO TO ALL") for _ in range(10)}) == 1 and language_of("123") is None


def test_judging_and_merging():
    item = Item("7", "Say so.", ["punctuation:no_comma", "startend:quotation"], [{}, {}])
    task = IFEval(max_new_tokens=9)
    request, = task.requests(item)
    assert (request.id, request.messages, request.max_new_tokens) == ("7",
        [{"role": "user", "content": "Say so."}], 9)
    assert task.judge(item, request, {"text": '*"so"*', "stopped": False}) == {
        "item": "7", "right": False, "loose_prompt": True, "strict": [True, False], "loose": [True, True],
        "cut": True}
    assert IFEval(plain=True).requests(item)[0].messages == "Say so."


# ---- refusals ----

GOOD = {"key": 1, "prompt": "Hi", "instruction_id_list": ["startend:quotation"], "kwargs": [{"unused": None}]}


@pytest.mark.parametrize("change, said", [
    ({"kwargs": []}, "one for each instruction"), ({"prompt": 3}, "expected key, prompt"),
    ({"instruction_id_list": ["startend:song"]}, "unknown instruction 'startend:song'"),
    ({"kwargs": [{"end_phrase": "x"}]}, "expected the arguments none, found end_phrase"),
    ({"kwargs": [3]}, "expected an object"),
    ({"instruction_id_list": ["length_constraints:number_words"],
      "kwargs": [{"num_words": "3", "relation": "at least"}]}, "num_words: found '3'"),
    ({"instruction_id_list": ["length_constraints:number_words"],
      "kwargs": [{"num_words": 3, "relation": "about"}]}, "relation: found 'about'"),
    ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["c("]}]}, "keywords: found")])
def test_malformed_lines(change, said, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({**GOOD, "key": 0}) + "\n" + json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(ValueError, match="line 2: ") as error:
        read_items(path)
    assert said in str(error.value) and str(path) in str(error.value)


def test_two_with_one_key_or_none(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(2 * (json.dumps(GOOD) + "\n"))
    with pytest.raises(ValueError, match="the id 1 occurs twice"):
        read_items(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no questions"):
        read_items(path)


def test_without_langdetect(tmp_path, monkeypatch):
    """Said before anything is asked, and only where it is needed."""
    monkeypatch.setitem(sys.modules, "langdetect", None)
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    assert len(IFEval().items(path)) == 1
    path.write_text(json.dumps({**GOOD, "instruction_id_list": ["change_case:english_capital"]}) + "\n")
    with pytest.raises(ValueError, match="the extra `retention`"):
        IFEval().items(path)
