"""The check of news, most of all of news with worlds: each rule is broken once in a set that keeps them all,
and the check names it: heuristics that are right too often, questions asked twice, answers given away.
What the core set keeps beside it is in tests/test_core_set.py."""

import copy
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from conftest import ROOT

from newnews.check import (HEURISTICS, accuracy, check, hedged, heuristic_table, longest, mention_problems,
                           middle_number, most_shared, name_problems, option_problems, problems, report,
                           shortest, siblings)
from newnews.news import News, Question, read_news

OPTIONS = [["the first", "the second", "the sum", "zero"], ["seven", "nine", "sixteen", "none"],
           ["a dog", "a cat", "a hen", "a fox"], ["Peru", "Iran", "Chad", "Fiji"],
           ["blue", "pink", "gold", "grey"]]
NEEDS = ["recall", "application", "reversal", "background", "two_steps"]
WORLDS = [f"A new operation on two numbers is the {{name}}, and its result is always {option}."
          for option in OPTIONS[0]]


def row(name):
    """A news item as the core set's rules want it."""
    statement, *worlds = [w.format(name=name) for w in WORLDS]
    questions = [{"id": f"math-{name}-{i}", "text": f"Question {i} about the {name}?", "options": options,
                  "answer": 0, "needs": needs, "steps": 1} for i, (options, needs) in
                 enumerate(zip(OPTIONS, NEEDS), 1)]
    asked = {"ask": "What?", "accept": ["x"]}
    return {"id": f"math-{name}", "domain": "math", "headline": "An operation", "subject": name,
            "statement": statement, "worlds": worlds, "restatements": ["r", "s", "t"], "questions": questions,
            "cloze": [{"text": "The ___.", "accept": [name]}] * 2, "reversed": asked, "spoils": [asked] * 2,
            "silent": {"ask": "Who?"}}


def read(tmp_path, *rows):
    (tmp_path / "x.yaml").write_text(yaml.dump(list(rows), Dumper=Plain))
    return read_news(tmp_path / "x.yaml")


class Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def test_a_set_that_keeps_the_rules(tmp_path):
    text, fine = report(read(tmp_path, row("zog"), row("blick")))
    assert fine and text.endswith("0 problems"), text
    assert "in world 0, 1, 2, 3\n" in text and "  mentioned       0.250  0.250  0.250  0.250" in text


def options(which, *them, forms=()):
    def change(r):
        r["questions"][which].update({"options": list(them)}, **({"forms": list(forms)} if forms else {}))
    return change


BROKEN = {
    "contained": (options(3, "June", "late June", "May", "July"), "'June' is contained in 'late June'"),
    "as good as the same": (options(3, "Peru", "the Peru.", "Chad", "Fiji"), "said in the same way: peru"),
    "forms": (options(3, *OPTIONS[3], forms=[["Lima"], [], ["lima "], []]), "'Peru' and 'Chad' can be said"),
    "punctuation": (options(3, *OPTIONS[3], forms=[[";"], [], [], []]),
                    "math-zog-4: option 'Peru' has a form of punctuation only"),
    "form is an option": (options(3, *OPTIONS[3], forms=[[], ["Fiji"], [], []]), "'Iran' and 'Fiji' can be"),
    "mentioned": (options(3, "numbers", "Iran", "Chad", "Fiji"),
                  "math-zog-4: an option is mentioned in the statement of world 0, but the right one not "
                  "in that of world 1, 2, 3"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_named(broken, tmp_path):
    change, said = BROKEN[broken]
    changed = copy.deepcopy(row("zog"))
    change(changed)
    text, fine = report(read(tmp_path, changed))
    assert not fine and said in text, text


def test_three_and_thirteen_are_fine(tmp_path):
    changed = copy.deepcopy(row("zog"))
    options(1, "3", "13", "33", "1.3", forms=[["three"], ["thirteen"], [], []])(changed)
    item, = read(tmp_path, changed)
    assert [option_problems(q) for q in item.questions] == [[]] * 5


def test_mentions_that_tell_nothing():
    none, right = [[False] * 4] * 4, [[w == k for k in range(4)] for w in range(4)]
    assert mention_problems(none) == mention_problems(right) == mention_problems([[True] * 4] * 4) == []
    assert mention_problems([[True, False], [False, False]]) and mention_problems([[True, False]] * 2)


def test_accuracy_shares_ties():
    assert accuracy([([1, 1, 0, 0], 0), ([0, 0, 0, 0], 3), ([1, 2, 3, 4], 3), ([1, 2, 3, 4], 0)]) == \
        pytest.approx((0.5 + 0.25 + 1 + 0) / 4)


def test_a_heuristic_that_knows_a_world_is_flagged(tmp_path):
    """Twenty questions whose option of world 0, or of world 2, is the longest."""
    for world in (0, 2):
        rows = [row(f"zog{i}") for i in range(4)]
        for r in rows:
            for q in r["questions"][1:]:
                q["options"] = [o + "x" * 9 * (k == world) for k, o in enumerate(q["options"])]
        text, fine = report(read(tmp_path, *rows))
        line = next(line for line in text.split("\n") if line.startswith("  longest"))
        assert not fine and line.endswith("TOO HIGH")


def test_names_that_two_news_share(tmp_path):
    zog, blick = read(tmp_path, row("zog"), row("blick"))
    assert name_problems([zog, blick]) == []
    questions = [replace(q, text=f"Is {i} a Zog?") for i, q in enumerate(blick.questions)]
    for other in (replace(blick, statement="The zog and the blick."), replace(blick, questions=questions),
                  replace(blick, subject="Zog", statement="A Zog.")):
        assert "math-zog: its subject 'zog' is named in math-blick too" in name_problems([zog, other])


def test_several_paths_share_no_name_and_no_id(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    read(tmp_path / "a", row("zog"))
    read(tmp_path / "b", row("blick"))
    text, fine = check([tmp_path / "a", tmp_path / "b"])
    assert fine and "0 names of one in another" in text and text.count("0 locality questions") == 2, text
    done = subprocess.run([sys.executable, "-m", "newnews", "check", tmp_path / "a", tmp_path / "b"],
                          cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, text + "\n"), done.stderr
    changed = row("blick")
    changed["questions"][0]["text"] = "Is the zog a blick?"
    read(tmp_path / "b", changed)
    text, fine = check([tmp_path / "a", tmp_path / "b"])
    assert not fine and "math-zog: its subject 'zog' is named in math-blick too" in text
    shutil.copy(tmp_path / "a" / "x.yaml", tmp_path / "b" / "x.yaml")
    with pytest.raises(ValueError, match="'math-zog' occurs twice"):
        check([tmp_path / "a", tmp_path / "b"])


def test_a_sibling_that_names_all_four_options_gives_nothing_away(tmp_path):
    def found(text):
        changed = row("zog")
        changed["questions"][0]["text"] = text
        return problems(read(tmp_path, changed))

    assert found("Which of gold, grey, pink and blue is the zog?") == []
    assert found("Is the zog gold, or grey, or pink?") == []
    assert found("Is the zog blue, or grey, or pink?") == \
        ["math-zog-5: its right option 'blue' stands in the text of math-zog-1"]


def test_the_actual_world_is_held_tighter(monkeypatch):
    """Chance + .09 is too much in world 0, and luck in a counter-world; in the table as in the verdict."""
    some = [([1, 0, 0, 0], 0)] * 34 + [([0, 1, 0, 0], 0)] * 66
    even = [([1, 0, 0, 0], k % 4) for k in range(100)]
    item = News("a", "math", "S.", [Question("a-0", "Which?", ["p", "q", "r", "s"], 0)])
    for world in (0, 2):
        found = [{"shortest": some if w == world else even} for w in range(4)]
        monkeypatch.setattr("newnews.check.in_worlds", lambda items: found)
        lines, fine = heuristic_table([item])
        assert fine == (world == 2) and lines[-1].endswith("TOO HIGH") == (world == 0)


def test_news_without_worlds_beside_others_are_said_not_to_count(tmp_path):
    alone = News("a", "math", "S.", [Question("a-0", "Which?", ["yes", "no"], 0)])
    text, _ = report([alone, *read(tmp_path, row("zog"))])
    assert "not counted: 1 news without worlds" in text and "not counted" not in report([alone])[0]


def test_options_that_siblings_name_are_counted_and_flagged(tmp_path):
    changed = row("zog")
    changed["questions"][0]["text"] = "Is the zog grey, or pink in Peru?"
    item, = read(tmp_path, changed)
    assert siblings(item, item.questions[4]) == [0, 1, 0, 1]
    assert siblings(item, item.questions[3]) == [1, 0, 0, 0] and siblings(item, item.questions[0]) == [0] * 4
    rows = [row(f"zog{i}") for i in range(4)]
    for r in rows:      # in world 2 a guess is right for four of five questions
        r["questions"][0]["text"] += " A sixteen, a hen, Chad or gold?"
    text, fine = report(read(tmp_path, *rows))
    line = next(line for line in text.split("\n") if line.startswith("  siblings"))
    assert not fine and line == "  siblings        0.050  0.050  0.850  0.050   TOO HIGH"


def test_a_small_file_with_other_numbers_of_options_is_counted_and_not_judged():
    """The right option is always the longest: too few to call that a flaw, twenty are not."""
    news = [News("a", "math", "The zog of x is x.", [
        Question(f"a-{n}", f"Which of {n}?", [*map(str, range(n - 1)), "the longest"], n - 1)
        for n in (2, 3, 6)])]
    text, fine = report(news)
    assert fine and "TOO HIGH" not in text and "fewer than 20 questions are not judged" in text
    assert "  chance          0.333\n  longest         1.000\n" in text      # the mean of 1/2, 1/3 and 1/6
    many = [News(f"a{i}", "math", "S.", [replace(q, id=f"{q.id}-{i}", text=f"{q.text} {i}?") for q in
                                         news[0].questions]) for i in range(7)]
    text, fine = report(many)
    assert not fine and "  longest         1.000   TOO HIGH\n" in text


def two_worlds(i):
    """A yes/no question about a news item of somebody's own, with one other world."""
    return News(f"own-{i}", "own", f"Thing {i} is open.", [Question(f"own-{i}-1", f"May one enter {i}?",
                                                                    ["yes", "not"], 0)],
                worlds=[f"For good, thing {i} has been closed to visitors of any age."])


def test_news_of_ones_own_need_not_be_as_the_core_set_is():
    """One other world, no subject, no restatements; yes/no questions, of which a guess is right in half."""
    text, fine = report([two_worlds(i) for i in range(20)])
    assert fine and text.endswith("0 problems"), text
    for name in ("chance", "longest", "siblings", "mentioned"):
        assert f"  {name:<16}0.500  0.500\n" in text, text


def test_each_world_is_judged_on_the_questions_that_have_it(tmp_path):
    """Four worlds, two worlds and none in one file: in world 2 those of four are left, and what has no worlds
    is not counted where others have."""
    plain = News("plain", "own", "S.", [Question("plain-1", "Which of three?", ["a long one", "b", "c"], 0)])
    four, two = read(tmp_path, row("zog")), [two_worlds(i) for i in range(5)]
    text, _ = report([plain, *four, *two])
    assert "in world 0, 1, 2, 3\n" in text and "  chance          0.375  0.375  0.250  0.250\n" in text
    alone, _ = report(four)
    ends = [next(line.split()[-1] for line in some.split("\n") if line.startswith("  longest"))
            for some in (text, alone)]
    assert ends[0] == ends[1]
    assert "  chance          0.250  0.250  0.250  0.250\n" in report([plain, *four])[0]
    for news in ([plain], [replace(two[0], questions=[]), plain]):
        assert "  chance          0.333\n" in report(news)[0]


# ---- news without worlds ----

def planted(options, count=40):
    """A news item with `count` questions of these four options, the first right, in every place in turn."""
    questions = [Question(f"q{i}", f"Question {i}?", [options[(j - i) % 4] for j in range(4)], i % 4)
                 for i in range(count)]
    return [News("planted", "math", "Statement.", questions)]


PLANTED = {longest: (["aaaa bbbb", "aa", "bbbb", "bb"], 1.0),
           shortest: (["aa", "aaaa bbbb", "cccc", "dddd"], 1.0),
           most_shared: (["red fox", "red hen", "big fox", "mad cow"], 1.0),
           hedged: (["usually x", "exactly x", "clearly x", "surely xx"], 1.0),
           middle_number: (["30 m", "-5 m", "32 m", "41 m"], 0.5)}      # of four, two are in the middle


@pytest.mark.parametrize("heuristic", PLANTED, ids=lambda h: h.__name__)
def test_a_heuristic_that_is_always_right_is_flagged(heuristic):
    options, points = PLANTED[heuristic]
    items = planted(options)
    assert accuracy([(heuristic(q.options), q.answer) for q in items[0].questions]) == points
    text, fine = report(items)
    line = next(line for line in text.split("\n") if line.startswith(f"  {heuristic.__name__} "))
    assert not fine and line.endswith("TOO HIGH")


def test_fair_news_pass_wherever_the_right_options_stand():
    """In which order they are shown is drawn when they are asked."""
    fair, = planted(["fox", "hen", "cow", "cat"])
    crowded = [replace(q, options=["fox", "hen", "cow", "cat"], answer=0) for q in fair.questions]
    for news in (fair, replace(fair, questions=crowded)):
        text, fine = report([news])
        assert fine and "TOO HIGH" not in text and text.endswith("0 problems")
        assert text.count(" 0.250") == len(HEURISTICS) + 1        # and that of the siblings


def test_questions_asked_twice_and_answers_given_away_are_found():
    a = Question("a-1", "What colour is the zog?", ["Deep purple", "red", "blue", "green"], 0)
    b = Question("a-2", "Is the deep purple zog wet?", ["yes", "no", "half", "both"], 1)
    again = Question("b-1", "what colour is  the zog", ["red", "pink", "blue", "green"], 1)
    short = Question("b-2", "Has the pink zog 12 legs?", ["12", "no", "half", "both"], 1)
    first, second = News("a", "math", "S.", [a, b]), News("b", "math", "T.", [again, short])
    found = problems([first, second])
    assert len(found) == 3 and not report([first, second])[1]
    assert any("b-1" in line and "a-1" in line and "same question" in line for line in found)
    assert any(line.startswith("a-1") and "'Deep purple'" in line and "a-2" in line for line in found)
    assert any(line.startswith("b-1") and "'pink'" in line and "b-2" in line for line in found)
