"""The YAML that people write: news and prompts, what is read, what is refused and in which words.

Reading   the smallest file works and fills in its defaults; written news read back the same; each mistake
          is a ValueError that names the file, the item and the field
Prompts   filled in one pass; both files read; each mistake names the file and the key

The check of news: test_check.py; the news that come with the code: test_core_set.py, test_hard_set.py.
"""

import copy
import textwrap
from dataclasses import replace

import pytest
import yaml
from conftest import ROOT

from newnews import news as news_module
from newnews.news import News, Question, read_locality, read_news, write_news
from newnews.prompts import fill, prompts_for, read_prompts
from newnews.tasks.news import NewsTask
from newnews.tasks.settings import requests_digest

SMALLEST = textwrap.dedent(news_module.__doc__.split("works:")[1])
FILES = {name: ROOT / "configs" / "prompts" / f"{name}.yaml" for name in ("pocket", "qwen")}
POCKET, QWEN = (read_prompts(path) for path in FILES.values())


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path, read, kind=ValueError):
    """The words in which a file is refused; they name it."""
    with pytest.raises(kind) as error:
        read(path)
    assert str(path) in str(error.value)
    return str(error.value)


# ---- reading ----

def test_the_smallest_file(tmp_path):
    item, = read_news(write(tmp_path / "a.yaml", SMALLEST))
    question, = item.questions
    assert (item.id, item.domain, item.source) == ("addiplication", "math", str(tmp_path / "a.yaml"))
    assert (item.headline, item.subject) == ("", "") and item.statement.endswith("is (x + y) * y.")
    assert (question.right, question.accept, question.needs) == ("28", ["28"], "")
    assert question.ask == question.text == "What is the addiplication of 3 and 4?"


def test_written_news_read_back_the_same(tmp_path):
    smallest, = read_news(write(tmp_path / "a.yaml", SMALLEST))
    odd = Question("q 1", "Wie heißt “es”?\nZeile: {x} # 'no'", ["1.0", "yes", "[4, 1]", "  x"], 3,
                   "Wie?", ["~", "é"], "recall", "- because")
    long = News("2024-01-01", "events", "Das Ding: " + 40 * "lang ", [odd], subject="Ding")
    news = [replace(smallest, source=""), long]
    write_news(tmp_path / "b.yaml", news)
    assert [replace(item, source="") for item in read_news(tmp_path / "b.yaml")] == news
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.yaml", "b.yaml"]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name in "bac":
        write(tmp_path / f"{name}.yaml", SMALLEST.replace("addiplication", f"op{name}"))
    write(tmp_path / "notes.txt", "no news")
    write(tmp_path / "d.yml", SMALLEST.replace("addiplication", "opd"))
    for name in ("dev", "locality"):                        # other sets: not part of this one
        (tmp_path / name).mkdir()
        write(tmp_path / name / "e.yaml", SMALLEST.replace("addiplication", name))
    assert [item.id for item in read_news(tmp_path)] == ["opa", "opb", "opc", "opd"]


# ---- worlds ----

WORLDS = """
- id: math-zog
  domain: math
  headline: "A new operation: zog"
  subject: "zog"
  statement: "The zog of x and y is x."
  worlds: ["The zog of x and y is y.", "The zog of x and y is x + y."]
  restatements: ["x is what one calls the zog of x and y."]
  questions:
    - id: math-zog-1
      text: "What is the zog of 2 and 3?"
      options: ["2", "3", "5"]
      answer: 0
      forms: [["two"], [], ["five"]]
      steps: 1
      needs: application
      why: "x = 2."
      ask: "Say the zog of 2 and 3."
  cloze: [{text: "The zog is ___.", accept: ["x"]}]
  reversed: {ask: "Which operation?", accept: ["zog"]}
  spoils: [{ask: "What is 2 + 2?", accept: ["4", "four"]}]
  silent: {ask: "Who discovered the zog?"}
"""


def test_any_world_can_be_the_actual_one(tmp_path):
    path = write(tmp_path / "a.yaml", WORLDS)
    items = [read_news(path, world)[0] for world in range(3)]
    all_statements = ["The zog of x and y is x.", "The zog of x and y is y.", "The zog of x and y is x + y."]
    for world, item in enumerate(items):
        q, = item.questions
        assert item.statement == all_statements[world] and item.statements == all_statements
        assert item.worlds == [s for s in all_statements if s != item.statement] and item.world == world
        assert (q.answer, q.right, q.options) == (world, "235"[world], ["2", "3", "5"])
        assert q.forms == [["two"], [], ["five"]] and q.steps == 1 and q.ask == "Say the zog of 2 and 3."
        assert q.accept == [["2", "two"], ["3"], ["5", "five"]][world] and q.ways(2) == ["5", "five"]
        assert (item.subject, item.silent.ask) == ("zog", "Who discovered the zog?")
        dropped = item.restatements, item.cloze, item.reversed, item.spoils, q.why
        assert all(dropped) if world == 0 else not any(dropped)
        write_news(tmp_path / "b.yaml", [item])
        assert "world:" not in (tmp_path / "b.yaml").read_text()        # it would be undone by the reader
        assert read_news(tmp_path / "b.yaml")[0].statement == all_statements[0]
        assert replace(read_news(tmp_path / "b.yaml", world)[0], source=item.source) == item
        assert item.in_world(2).in_world(1) == replace(items[2], source=item.source).in_world(1)
    for world in (3, -1):
        assert f"math-zog has no world {world}; it has 3" in refusal(path, lambda p: read_news(p, world))
        with pytest.raises(ValueError, match=f"world: {world} is not there; this news item has 3"):
            replace(items[0], world=world)


def test_requests_change_with_what_is_asked_alone(tmp_path):
    """Accepted answers are of the verdicts only, the statement closed book of none."""
    item, = read_news(write(tmp_path / "a.yaml", WORLDS))
    q, = item.questions

    def asked(**fields):
        return requests_digest(NewsTask(QWEN, False), [replace(item, **fields)])

    for change in ({"forms": [["2.0"], [], []]}, {"why": "", "steps": 2}):
        assert asked(questions=[replace(q, **change)]) == asked()
    assert asked(statement="The zog is x - y.", headline="", restatements=[], source="x") == asked()
    for change in ({"ask": "Well?"}, {"text": "Well?"}, {"id": "q2"}, {"options": ["2", "3", "7"]}):
        assert asked(questions=[replace(q, **change)]) != asked()


def test_news_without_questions_can_be_read(tmp_path):
    rows = copy.deepcopy(yaml.safe_load(SMALLEST))
    del rows[0]["questions"]
    assert read_news(write(tmp_path / "a.yaml", yaml.safe_dump(rows)))[0].questions == []


def test_forms_of_older_files_are_those_of_the_right_option(tmp_path):
    text = SMALLEST.replace("answer: 0", 'answer: 2\n      accept: ["16", "sixteen", "4 * 4"]')
    q = read_news(write(tmp_path / "a.yaml", text))[0].questions[0]
    assert q.forms == [[], [], ["sixteen", "4 * 4"], []] and q.accept == ["16", "sixteen", "4 * 4"]
    (tmp_path / "locality").mkdir()
    write(tmp_path / "locality" / "a.yml", textwrap.dedent(text.split("questions:\n")[1]))
    assert read_locality(tmp_path) == [q] and read_locality(tmp_path / "a.yaml") == []


def news(**fields):
    """An edit of the parsed smallest file: fields of the news; None removes one."""
    return lambda rows: edit(rows[0], fields)


def question(**fields):
    return lambda rows: edit(rows[0]["questions"][0], fields)


def edit(target, fields):
    for name, value in fields.items():
        target.pop(name, None) if value is None else target.update({name: value})


def twice(rows):
    rows[0]["questions"].append(copy.deepcopy(rows[0]["questions"][0]))


FOUR = ["28", "21", "16", "12"]
CASES = [       # edit, words that the message has to have
    *((news(**{name: None}), ["news 1", name, "missing"])
      for name in ("id", "domain", "statement")),
    *((question(**{name: None}), ["news 1 (addiplication): ", "question 1", name, "missing"])
      for name in ("id", "text", "options", "answer")),
    (question(options=["28", "21", "28", "12"]), ["(addiplication-1)", "options", "found 3"]),
    (question(options=[28, *FOUR[1:]]), ["(addiplication-1)", "options", "quote"]),
    (question(options="28"), ["(addiplication-1)", "options", "'28'"]),
    (question(answer=4), ["(addiplication-1)", "answer", "4"]),
    (question(answer=-1), ["(addiplication-1)", "answer", "-1"]),
    (question(answer="0"), ["(addiplication-1)", "answer", "'0'"]),
    (question(answer=1.0), ["(addiplication-1)", "answer", "1.0"]),
    (question(answer=True), ["(addiplication-1)", "answer", "True"]),
    (question(accept=[28]), ["(addiplication-1)", "accept", "28"]),
    (question(text=" "), ["(addiplication-1)", "text", "' '"]),
    (question(points=3), ["(addiplication-1)", "'points'", "unknown"]),
    (news(title="x"), ["news 1 (addiplication)", "'title'", "unknown", "headline"]),
    (lambda rows: rows[0].update({1: "x", "title": "y"}), ["(addiplication)", "unknown"]),
    (news(subject="Addiplication"), ["(addiplication)", "subject", "'Addiplication'"]),
    (news(domain="all"), ["news 1 (addiplication): domain: 'all'", "totals", "another name"]),
    (news(statement=5), ["news 1 (addiplication)", "statement", "5"]),
    (news(id=yaml.safe_load("2024-01-01")), ["news 1", "id", "2024"]),
    (news(questions="none"), ["(addiplication)", "questions", "'none'"]),
    (news(headlin="x"), ["(addiplication)", "'headlin'", "'headline' meant"]),
    (news(worlds=["w 1"]), ["(addiplication)", "addiplication-1: options", "expected 2", "found 4"]),
    (lambda rows: (news(worlds=list("bcd"))(rows), question(answer=2)(rows)),
     ["(addiplication)", "addiplication-1: answer", "expected 0", "found 2"]),
    (news(worlds=["w", " "]), ["(addiplication)", "worlds", "' '"]),
    (news(world=1), ["news 1 (addiplication): world: found 1", "`statement` is world 0", "--world"]),
    (lambda rows: rows[0].update(worlds=list("bcd"), world=0), ["(addiplication): world: found 0", "leave"]),
    (news(cloze=[{"text": "no gap", "accept": ["x"]}]), ["(addiplication): cloze: cloze 1", "one gap ___"]),
    (news(reversed={"ask": "What?"}), ["(addiplication): reversed", "'accept' is missing"]),
    (news(spoils=[{"ask": "What?", "accept": []}]), ["spoils: asked 1: accept", "at least one"]),
    (news(silent="What?"), ["(addiplication): silent", "a mapping", "str"]),
    (question(forms=[["x"], []]), ["(addiplication-1)", "forms", "expected 4 lists", "found 2"]),
    (question(forms=[["x"], [], [], [3]]), ["(addiplication-1): forms: entry 4", "in quotes", "found 3"]),
    (question(steps="two"), ["(addiplication-1): steps", "a whole number", "'two'"]),
    (question(steps=2 ** 70), ["(addiplication-1): steps", "found 1180591620717411303424"]),
    (question(options=[str(i) for i in range(27)]), ["(addiplication-1)", "2 to 26", "found 27"]),
    (question(options=["28"]), ["(addiplication-1)", "2 to 26", "found 1"]),
    (lambda rows: rows[0]["questions"].append("x"), ["(addiplication)", "question 2", "str"]),
    (lambda rows: rows.append(3), ["news 2", "int"]),
    (twice, ["'addiplication-1'", "twice"]),
    (lambda rows: rows.append({**rows[0], "questions": []}),
     ["'addiplication'", "twice"]),
]


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: ", ".join(CASES[i][1][-3:]))
def test_mistakes_in_a_file_name_the_file_the_item_and_the_field(case, tmp_path):
    change, wanted = CASES[case]
    rows = copy.deepcopy(yaml.safe_load(SMALLEST))
    change(rows)
    said = refusal(write(tmp_path / "mistaken.yaml", yaml.safe_dump(rows)), read_news)
    assert all(word in said for word in wanted), said


@pytest.mark.parametrize("content, wanted", [
    (b"", "nothing"), (b"# nothing yet\n", "nothing"), (b"id: x\n", "dict"), (b"- id: [1\n", "valid YAML"),
    (b"- id: 'K\xf6ln'\n", "valid YAML")])
def test_files_that_hold_no_list_of_news(content, wanted, tmp_path):
    (tmp_path / "odd.yaml").write_bytes(content)
    assert wanted in refusal(tmp_path / "odd.yaml", read_news)


@pytest.mark.parametrize("id", [
    "", "..", ".hidden", "/etc/x", "a/b", "a\\b", "a\nb", "x" * 300, "é" * 60, "end ", " start", "end.",
    "a:b", "what?", "a*", "<a>", "a|b", 'a"b', "NUL", "manifest.json", "com1.x", "a\u202eb"])
def test_ids_that_cannot_be_the_name_of_a_folder(id, tmp_path):
    for change in (news(id=id), question(id=id)):
        rows = copy.deepcopy(yaml.safe_load(SMALLEST))
        change(rows)
        said = refusal(write(tmp_path / "odd.yaml", yaml.safe_dump(rows)), read_news)
        assert "id: " in said and "name of a folder" in said and len(said) < 700


def test_ids_that_are_fine(tmp_path):
    for id in ("Köln 2", "a.b_c-d", "x" * 100, "nul-2", "~"):
        rows = copy.deepcopy(yaml.safe_load(SMALLEST))
        rows[0]["id"] = id
        assert read_news(write(tmp_path / "fine.yaml", yaml.safe_dump(rows)))[0].id == id


def test_ids_that_one_folder_cannot_hold_on_every_system(tmp_path):
    rows = copy.deepcopy(yaml.safe_load(SMALLEST)) * 2
    rows[1] = {**rows[1], "id": "ADDIplication", "questions": []}
    assert "twice" in refusal(write(tmp_path / "case.yaml", yaml.safe_dump(rows)), read_news)


def test_an_id_in_two_files_is_named_with_both(tmp_path):
    first, second = (write(tmp_path / name, SMALLEST) for name in ("a.yaml", "b.yaml"))
    with pytest.raises(ValueError) as error:
        read_news(tmp_path)
    assert all(word in str(error.value) for word in (str(first), str(second), "'addiplication'"))


def test_missing_paths(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        refusal(path, read_news, FileNotFoundError)


# ---- prompts ----

def test_fill_is_one_pass_and_leaves_braces_in_values_alone():
    assert fill("{a} and {b} and {c}", a="{b}", b="\\1 {a}") == "{b} and \\1 {a} and {c}"
    assert POCKET.with_news("def f(s): return {text}", "{news}?") == "def f(s): return {text}\n\n{news}?"
    asked = QWEN.ask_choice("What is {options}?", ["{question}", "{letter}", "b", "c"])
    assert asked.startswith("What is {options}?\n\nA. {question}\nB. {letter}\nC. b\nD. c\n\nAnswer with")
    assert POCKET.ask_free("{question}") == "{question}\nAnswer in a few words."


def test_both_prompt_files_read_and_a_model_folder_brings_its_own(tmp_path):
    assert POCKET.digest != QWEN.digest and len(POCKET.digest) == 64
    assert len(QWEN.paraphrase) > 1 and QWEN.answer_marker in QWEN.free and POCKET.answer_marker == ""
    assert prompts_for(tmp_path) == QWEN
    write(tmp_path / "prompts.yaml", FILES["pocket"].read_text())
    assert prompts_for(tmp_path) == POCKET


@pytest.mark.parametrize("key, value", [
    ("naive", None), ("paraphrase", "Say it."), ("implication", []), ("question", [1]), ("style", "x"),
    ("temperature", "hot"), ("temperature", True), ("max_new_tokens", 4.5), ("max_new_tokens", True),
    ("deduplicate", 1), ("in_context", "{text}"), ("choice", "{question}"), ("option", "{option}"),
    ("free", "Well?"), ("reason", "Think.")])
def test_mistakes_in_prompts_name_the_file_and_the_key(key, value, tmp_path):
    fields = {**yaml.safe_load(FILES["pocket"].read_text()), key: value}
    if value is None:
        del fields[key]
    assert key in refusal(write(tmp_path / "p.yaml", yaml.safe_dump(fields)), read_prompts)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"a: [\n", b"a: '\xff'\n"])
def test_files_that_are_no_prompts(content, tmp_path):
    (tmp_path / "p.yaml").write_bytes(content)
    refusal(tmp_path / "p.yaml", read_prompts)
    refusal(tmp_path / "none.yaml", read_prompts, FileNotFoundError)


