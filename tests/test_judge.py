"""The judge of free-form answers: every rule with its counter-example, and 200 real replies.

Rules      what normalise makes equal, and what looks alike and must stay apart
Finding    the answer in a reply: markers, fences, boxes, short replies, replies that were cut off
Verdicts   exact, contains, undecided: whole words and numbers, denials, choices left open, units, sets
Real       tests/data/judged_replies.jsonl: the labels were written by reading, before any verdict
"""

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from newnews.tasks.judge import (MONTHS, NUMBERS, UNIT_OF, clock, dates, extract, judge, latex, lists,
                                 normalise, number_words, thousands)

REPLIES = [json.loads(line) for line in
           (Path(__file__).parent / "data" / "judged_replies.jsonl").read_text(encoding="utf-8").splitlines()]


def is_right(reply, *accepted, wrong=()):
    """Is the reply right where these texts are accepted and those are other options?"""
    return judge(reply, True, [list(accepted), *([w] for w in wrong)], 0)["contains"]


# ---- rules ----

@pytest.mark.parametrize("text, wanted", [
    ("  The  Large\tBadger. ", "large badger"), ("a cat", "cat"), ("An apple a day", "apple day"),
    ("A", "A"), ("the", "the"), ("banana the", "banana the"), ("theatre", "theatre"), ("“Oslo”", "oslo"),
    ("-5", "-5"),
    ("**42**", "42"), ("1,234", "1234"), ("1,234,567.5", "1234567.5"), ("12,34", "12,34"), ("'Oslo'", "oslo"),
    ("1,2345", "1,2345"), ("-5.", "-5"), ("-1,234", "-1234"), ("[4, 1, 3]", "[4, 1, 3]"), ("3.14", "3.14"),
    ("[4,  1, 3].", "[4, 1, 3]"), ("５", "5"), ("5 %", "5%"), ("", ""), ("...", ""), ("ÉTÉ!", "été"),
    ("x\u00a0y", "x y"), ("the first of January", "first of january"), (".5", ".5"), ("\u22125", "-5"),
    ("It’s", "it's"), ("5²", "5^2"), ("1½", "1 1/2"), ("$n^{2}-1$", "n^2-1"), ("80 °", "80°"),
    ("60 per cent", "60%"), ("Monday 10 p.m.", "monday 22:00"),
    ("Plan A works", "plan A works"), ("plan a is used", "plan A is used"), ("It Is A Cat", "it is cat"),
    ("Type-A people", "type-A people"), ("the A and the B", "A and b"), ("a for loop", "for loop"),
    ("at 17:30 April 5", "at 17:30 april-5"), ("an OR gate", "or gate"), ("a + b", "A+b")])
def test_normalise(text, wanted):
    assert normalise(text) == wanted == normalise(normalise(text))


SAME = [
    ("\u22125", "-5"), ("[4,1,3]", "[4, 1, 3]"), ("(4,2)", "( 4, 2 )"), ("50 %", "50%"),
    ("50 percent", "50%"),
    ("$n^2 - 1$", "n^2 - 1"), (r"\(n^2\)", "n^2"), (r"\frac{s}{5}", "s/5"), (r"\dfrac{s+1}{5}", "(s+1)/5"),
    (r"50\%", "50%"), (r"\text{Oslo}", "Oslo"), ("5:50 a.m.", "05:50"), ("5:50 AM", "05:50"),
    ("5:50", "05:50"),
    ("12:10 a.m.", "00:10"), ("10 pm", "22:00"), ("seven", "7"), ("Twenty", "20"), ("forty-two", "42"),
    ("forty two", "42"), ("1 April 2030", "April 1st, 2030"), ("1st of April 2030", "2030-04-01"),
    ("April 1", "1 April"), ("1,234", "1234"), ("n²", "n^2"),
    ("(x + y) * y", "(x+y)*y"), ("3 × 4", "3*4"), ("12 ÷ 4", "12/4"), (r"3 \times 4", "3 * 4"),
    ("2 ** 3", "2**3"), ("x = (3 - y)", "x=(3-y)"), ("**42** metres", "42 metres"), ("in *Oslo*", "in Oslo"),
    ("__Oslo__", "Oslo"), ("plan a", "Plan A"), ("A = 15", "a=15"), ("x = the sum", "x = sum"),
    ("seven pm", "19:00"), ("April twenty-one, 2030", "21 April 2030"), ("July  7", "7 July"),
    ("seven × three", "7*3"), ("seven – nine", "7-9"), ("5  %", "5%"), ("5 \\( % \\)", "5%"),
    ("5 a.m. - 7 a.m.", "05:00 - 07:00")]
APART = [
    ("1-5", "-15"), ("-5", "5"), ("[4,100]", "[4100]"), ("[4, 1]", "[1, 4]"), ("50", "50%"),
    ("$5 and $6", "5 and 6"),
    (r"\frac{s+1}{5}", "s+1/5"), ("5:50 p.m.", "05:50"), ("15:50", "05:50"), ("12:10 p.m.", "00:10"),
    ("13 pm", "01:00"), ("twenty-four", "20"), ("twenty-four", "4"), ("one hundred and five", "5"),
    ("seventh", "7"), ("1 April 2030", "1 April 2031"), ("1 April 2030", "4 January 2030"),
    ("April 2030", "April 20"),
    ("2 * 3 * 4", "2 3 4"), ("2*3*4", "234"), ("2 ** 3", "2 3"), ("snake_case_name", "snakecasename"),
    ("vitamin c - it helps", "vitamin c-it helps"), ("x - a word", "x-a word"), ("3 x 4", "3*4"),
    ("c++ 20", "c+20"), ("12,34", "1234"), ("5²", "52"), ("1½", "11/2"), ("5.0", "50"), ("3.19", "3.1"),
    ("may", "5"), ("Plan A", "Plan"), ("Plan A works", "Plan works"), ("Plan A", "Plan B"), ("A", "the"),
    ("seven pm", "seven am"), ("seven pm", "7"), ("April twenty-one, 2030", "April 20, 2030"),
    ("one may stay", "1 May"), ("the * operator", "operator"), ("5 a.m. - 7 p.m.", "05:00 - 07:00")]


@pytest.mark.parametrize("one, other", SAME)
def test_the_same_written_in_two_ways(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize("one, other", APART)
def test_what_looks_alike_and_is_not(one, other):
    assert normalise(one) != normalise(other)
    assert not judge(one, True, [[other]], 0)["exact"] and not judge(other, True, [[one]], 0)["exact"]


def test_a_long_reply_full_of_marks_takes_no_longer_than_its_length():
    """Half a second; it would be minutes, were every mark sought in all that follows."""
    start = time.process_time()
    for piece in ("**a", "__a ", "*a ", "x - ", "(1 * "):
        normalise(piece * 30_000)
    assert time.process_time() - start < 10


def test_single_rules():
    assert lists("[4,100,3] and {a,b}") == "[4, 100, 3] and {a, b}" and lists("12,34") == "12,34"
    assert thousands("1,234 or 1,234, 5 or 12,34 or 1,2345") == "1234 or 1234, 5 or 12,34 or 1,2345"
    assert clock("from 9:05 to 5 p.m. and 0 am") == "from 09:05 to 17:00 and 0 am"
    assert dates("on 2030-02-03, in april 2030") == "on february-3-2030, in april 2030"
    assert number_words("one of twenty-one, anyone") == "1 of 21, anyone"
    assert latex(r"$\frac{1}{2}$ costs $5 or $6") == "1/2 costs $5 or $6"


def test_normalising_the_labelled_texts_twice_changes_nothing():
    texts = [text for row in REPLIES for text in [row["text"], *sum(row["forms"], [])]]
    assert [t for t in texts if normalise(normalise(t)) != normalise(t)] == []


def test_normalising_jumbles_twice_changes_hardly_any():
    """Words and signs of all rules in any order; of 300,000 such texts 171 change."""
    rng = random.Random(0)
    words = [*NUMBERS, *MONTHS, *UNIT_OF, *"0123456789+-*/^=×·÷–—−⁄²½,.:;!?…'\"`’“()[]{}$\n\u00a0", *r"""
        am pm A.M. p.m. A a an the is and or of not Plan cat x hundred million 1st 2nd twenty-one per cent
        percent ** __ *** $x$ \( \) \[ \] \left \text{Oslo} \frac{1}{2} \times \cdot \% ^{2} 12 31 2030 1,234
        12,34 3.19 .5 -5 05:50 5:50 17:00 2030-04-01 1-5""".split()]
    jumbles = ["".join(rng.choice(words) + rng.choice(("", " ", " ", " ", "  "))
                       for _ in range(rng.randint(1, 9))) for _ in range(5000)]
    once = [normalise(text) for text in jumbles]
    assert sum(normalise(text) != text for text in once) <= 15


# ---- finding the answer ----

@pytest.mark.parametrize("text, marker, stopped, wanted", [
    ("Lima", "", True, "Lima"), (" Lima \nOslo", "", True, "Lima"), ("\n\nLima\n", "", True, "Lima"),
    ("", "", True, None), (" \n ", "", True, None), ("Lima", "", False, None),
    ("Lima\nand", "", False, "Lima"),
    ("Answer: Lima", "Answer:", True, "Lima"), ("Well. answer:  Lima \nBye", "Answer:", True, "Lima"),
    ("ANSWER:\nLima", "Answer:", True, "Lima"), ("Answer: Oslo. No. Answer: Lima", "Answer:", True, "Lima"),
    ("Lima", "Answer:", True, "Lima"), ("Answer:", "Answer:", True, None),
    ("Answer:\n", "Answer:", True, None),
    ("Answer: Lima", "Answer:", False, None), ("Answer: Lima\nFor", "Answer:", False, "Lima"),
    ("Lima", "Answer:", False, None), ("İİİİ, I think. Answer: Lima", "Answer:", True, "Lima"),
    ("**Answer**: 42", "Answer:", True, "42"), ("**Answer:** 42", "Answer:", True, "42"),
    ("**Answer: 42**", "Answer:", True, "42"), ("Answer: **42**", "Answer:", True, "42"),
    ("answer - 42", "Answer:", True, "42"), ("answer - -42", "Answer:", True, "-42"),
    ("Final answer: 42", "Answer:", True, "42"), ("The answer is: 42", "Answer:", True, "42"),
    ("```42```", "Answer:", True, "42"), ("Answer:\n```python\n[4, 1]\n```", "Answer:", True, "[4, 1]"),
    ("Answer: `*_*_&`", "Answer:", True, "*_*_&"), (r"So it is \boxed{42}, I think.", "Answer:", True, "42"),
    (r"Answer: \boxed{\frac{1}{2}}", "Answer:", True, r"\frac{1}{2}"), (r"\boxed{}", "Answer:", True, None),
    ("word " * 20, "Answer:", True, ("word " * 20).strip()), ("word " * 21, "Answer:", True, None),
    ("an answer-key: 3 " + "word " * 20, "Answer:", True, None), ("Reply > x", "Reply >", True, "x")])
def test_extract(text, marker, stopped, wanted):
    assert extract(text, marker, stopped) == wanted


# ---- verdicts ----

@pytest.mark.parametrize("reply, accepted", [
    ("Norway", "Norway"), ("Kenya", "Kenya"), ("blue", "Blue"), ("January", "January"), ("Answer: 2", "two"),
    ("The plant is the dandelion.", "Dandelion"), ("Answer: Python 3.19", "3.19"),
    ("It is about 180.", "180"),
    ("x = 15", "15"), ("15", "x = 15"), ("n=7", "7"), ("40", "40 km"), ("40 kilometres", "40 km"),
    ("It is 40 kilometres away", "40 km"), ("$960", "960"), ("3 * 4 - 6 = 6", "6"), ("12 or so", "12"),
    ("The answer is **42** metres.", "42"), ("Answer: **42** metres", "42 metres"),
    ("It is *12* here.", "12"), ("Addiplication is (x+y)*y.", "(x + y) * y"),
    ("The list is not reversed; Oslo", "Oslo"),
    ("It was not invented in Oslo but in Paris", "Paris"), ("Not used before: Oslo", "Oslo"),
    ("the letter 'T'", "T"), ("24 of 30", "24"), ("8:09 a.m.", "08:09"), ("-5 degrees", "-5")])
def test_right(reply, accepted):
    assert is_right(reply, accepted)


@pytest.mark.parametrize("reply, accepted", [
    ("The lab is not located in Norway", "Norway"), ("It is not called Norway.", "Norway"),
    ("It has never been to Norway", "Norway"), ("It is **not** Norway", "Norway"), ("**3** * 4", "4"),
    ("not Norway", "Norway"), ("It isn't Norway", "Norway"), ("It is not in Norway", "Norway"),
    ("anywhere except Norway", "Norway"), ("13", "3"), ("3.19", "3"), ("3.19", "19"), ("-5", "5"),
    ("it's", "s"),
    ("40 miles", "40 km"), ("It is 40 miles away", "40 km"), ("50", "50%"), ("50%", "50"),
    ("x = 15", "y = 15"),
    ("1-5", "-15"), ("1-5", "5"), ("12:30", "30"), ("(3 + 4) * 4", "4"), ("3 * 4 - 6 = 6", "3"), ("2^5", "5"),
    ("f(3) = 12", "3"), ("one hundred and five", "5"), ("five hundred", "5"),
    ("10–12", "12"), ("3 – 5 km", "5 km"), ("5 million", "5"), ("5 thousand", "5"), ("10, 12, 14", "12"),
    ("2 to 5", "2"), ("at least 12", "12"), ("more than 12", "12"),
    ("Nimbus-2", "Nimbus"),
    ("April 1, 2028", "1 April"), ("twenty-four", "4"), ("Norwayish", "Norway"), ("", "Norway"),
    ("Norway " + "and " * 20, "Norway"), ("Answer: Norway" + " and so on" * 7, "Norway"),
    ("5:50 p.m.", "05:50"), ("7s", "7"), ("[4, 1]", "4")])
def test_wrong(reply, accepted):
    assert not is_right(reply, accepted)


def test_a_letter_counts_only_where_no_form_names_another():
    """Where only "15" is accepted nobody knows which letter was asked for, and "y = 15" is let through."""
    assert is_right("y = 15", "15") and not is_right("y = 15", "15", "x = 15")
    assert is_right("x = 15", "15", "x = 15")


def test_the_unit_of_one_form_holds_for_all():
    assert is_right("24 grams", "24", "24 g") and not is_right("24 kg", "24", "24 g")
    assert is_right("It weighs 24 grams.", "24 g", wrong=["20 g"])
    assert not is_right("It weighs 20 grams.", "24 g", wrong=["20 g"])


def test_a_unit_belongs_to_its_number():
    """A real reply about a function that runs once a day, and what the third version called right."""
    two_days = "two days", "2 days", "48 hours"
    for reply in ("2 days", "48 h", "2", "It takes 48 hours", "After 2 days."):
        assert is_right(reply, *two_days, wrong=["two hours"])
    for reply in ("2 hours", "48 days", "It takes 2 hours", "After 48 days."):
        assert not is_right(reply, *two_days) and not is_right(reply, *two_days, wrong=["two hours"])


def test_other_options():
    two = judge("Norway or Sweden", True, [["Norway"], ["Sweden"]], 0)
    assert two["undecided"] and not two["contains"] and not two["exact"]
    assert not judge("Sweden or Denmark", True, [["Norway"], ["Sweden"], ["Denmark"]], 0)["undecided"]
    assert judge("Norway or Chad", True, [["Norway"]], 0)["undecided"]      # Chad is no option, yet open
    assert is_right("Norway, not Sweden", "Norway", wrong=["Sweden"])
    assert not is_right("Sweden, not Norway", "Norway", wrong=["Sweden"])
    shorter = judge("It is Marit Vey.", True, [["Vey"], ["Marit Vey"]], 0)      # the longer form counts
    assert not shorter["contains"] and not shorter["undecided"]
    assert judge("It is Marit Vey.", True, [["Vey"], ["Marit Vey"]], 1)["contains"]
    assert judge("Marit Vey", True, [["Vey"], ["Marit Vey"]], 1)["exact"]
    assert is_right("Either of them", "either of them", wrong=["either"])


def test_the_letter_a_is_no_article():
    """To the fourth version every "A" before a word was an article, and "Plan A is used" was wrong."""
    for accepted, other, replies in (
            ("Plan A", "Plan B", ("Plan A is used", "plan a is used", "Plan A works", "Plan A, not Plan B")),
            ("Vitamin A", "Vitamin C", ("It is Vitamin A that helps", "vitamin **A** has it")),
            ("Type-A", "Type-B", ("the Type-A people",)), ("U.S.A", "U.S.", ("The U.S.A won",)),
            ("Hepatitis A", "Hepatitis B", ("the Hepatitis A virus",)),
            ("A", "B", ("A is right", "It is A, as in Oslo", "a", "the A")),
            ("last letter nearest A", "last letter nearest Z", ("the last letter nearest A wins",)),
            ("those only in A", "those only in B", ("those only in A are kept",))):
        for reply in replies:
            assert is_right(f"Answer: {reply}", accepted, wrong=[other]), reply
            assert not is_right(f"Answer: {reply}", other, wrong=[accepted]), reply
    for reply, accepted in (("Plan a trip", "Plan A"), ("A cat", "A"), ("It is a mistake", "A"),
                            ("It Is A Mistake", "A"), ("IT IS A MISTAKE", "A"), ("not A", "A"),
                            ("Take a vitamin a day", "Vitamin A"), ("not a cat", "cat"),
                            ("those only in a set", "those only in A")):
        assert not is_right(reply, accepted), reply
    for right in (0, 1):        # who names both says neither; "Plan A and Plan B" was Plan B
        assert judge("Plan A and Plan B", True, [["Plan A"], ["Plan B"]], right)["undecided"]
        assert judge("A or B", True, [["A"], ["B"]], right)["undecided"]


def test_numbers_in_words_are_numbers_to_every_rule():
    assert is_right("It begins at seven pm.", "7 pm", wrong=["7 am"])
    assert not is_right("It begins at seven pm.", "7") and not is_right("It begins at seven am.", "7 pm")
    assert is_right("on April twenty-one, 2030", "21 April 2030")
    assert not is_right("on April twenty-one, 2030", "April 21, 2031")
    assert not is_right("April twenty-one", "1 April") and not is_right("seven – nine", "9")
    assert is_right("Only one may stay", "one") and is_right("5 may be left", "5")      # verbs, no months
    assert is_right("on 5 May in Oslo", "5 May") and not is_right("on 5 May", "5")
    assert is_right("at 17:30 April 5", "17:30") and not is_right("17:30 April 5", "30 April")


def test_exact_is_stricter_than_contains():
    assert judge("Answer: Python 3.19", True, [["3.12"], ["3.19"]], 1) == {
        "answer": "Python 3.19", "exact": False, "contains": True, "undecided": False}
    verdict = judge("Answer: 3.19", True, [["3.12"], ["3.19"]], 1)
    assert verdict["exact"] and verdict["contains"]
    nothing = {"answer": None, "exact": False, "contains": False, "undecided": False}
    assert judge("Answer: 3.1", False, [["3.1"]], 0) == nothing


def test_the_labelled_replies_are_whole():
    assert len(REPLIES) == 200 == len({row["id"] for row in REPLIES})
    assert Counter(row["label"] for row in REPLIES) == {"wrong": 143, "right": 53, "undecided": 4}


def test_agreement_with_a_reader():
    """Right, wrong or undecided, for each of 200 replies. Three differ: an expression that was not worked
    out, a sentence that names both finalists and plainly says who won, a list of three where one is asked."""
    differ, exact = [], 0
    for row in REPLIES:
        verdict = judge(row["text"], row.get("stopped", True), row["forms"], row["right"])
        said = "right" if verdict["contains"] else "undecided" if verdict["undecided"] else "wrong"
        differ += [f"{row['id']}: {row['text']!r} is {row['label']}, judged {said}"] * (said != row["label"])
        assert not verdict["exact"] or row["label"] == "right"      # the strict verdict is never too kind
        exact += verdict["exact"]
    print(f"{len(REPLIES) - len(differ)} of {len(REPLIES)} agree; exact finds {exact} of the right ones")
    print("\n".join(differ))
    assert len(differ) <= 5, "\n".join(differ)
    # nor is the lenient one, on these replies
    assert not [line for line in differ if line.endswith("judged right")]
