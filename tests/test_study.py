"""A study: what its YAML may say, the arithmetic of its summary, the table and the picture.

read_study   the demo reads; changes by --set; each mistake is a ValueError before any work starts
summarise    on made-up rows, means, gap recovered and overlap worked out by hand; rehearsed questions are
             left out for all
rehearsed    found in the same words, or as the same question in other words
Study        a whole study with a tiny random model: files, resume, what is refused
table, draw  one row a protocol, 120 columns; a PNG
"""

import copy
import json
from dataclasses import replace

import pytest
import yaml
from conftest import ROOT
from test_protocols import make_pocket

from newnews import experiment
from newnews.experiment import Study, read_study, recipe_of, sameness, summarise
from newnews.news import News, Question, write_news
from newnews.report import draw, table
from newnews.studies.stats import ratio, share
from newnews.first_world import DOMAINS

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = ROOT / "configs" / "demo.yaml"


# ---- read_study ----

def test_the_demo_reads_and_changes_apply_with_dots_for_depth():
    study = read_study(DEMO)
    assert study == yaml.safe_load(DEMO.read_text())
    changed = read_study(DEMO, ["news.split=dev", "draws=3", "recipes.naive={rate: 0.5}", "protocols=[naive]",
                                "recipes.naive.rate=0.01", "model=x=y"])
    recipes = {**study["recipes"], "naive": {"rate": 0.01}}
    assert changed == {**study, "news": {**study["news"], "split": "dev"}, "draws": 3, "recipes": recipes,
                       "protocols": ["naive"], "model": "x=y"}
    recipe = recipe_of(changed, "naive")
    assert (recipe.rate, recipe.steps) == (0.01, study["recipe"]["steps"])
    assert recipe_of({**study, "seed": 8}, "naive").seed == 8


MISTAKES = [        # change, words that the message has to have
    ("color=red", ["color", "unknown"]), ("protocols=[naive, rumour]", ["'rumour'", "naive"]),
    ("protocols=[]", ["protocol"]), ("recipes.rumour.rate=1", ["'rumour'"]), ("recipes=null", ["recipes"]),
    ("draws=0", ["draws", "0"]), ("draws=2.5", ["draws", "2.5"]), ("recipe.rate=0", ["recipe", "rate"]),
    ("recipe.steps=0", ["recipe", "steps"]), ("recipe.schedule=step", ["recipe", "schedule"]),
    ("recipe.epochs=3", ["recipe", "epochs"]), ("recipe.rate=high", ["recipe"]),
    ("recipes.self_qa={batch: 0}", ["self_qa", "batch"]), ("news.split=train", ["news", "split"]),
    ("lora=null", ["lora"]), ("lora.dropout=0", ["lora"]), ("lora.targets=[lm_head]", ["lora", "targets"]),
    ("news.size=3", ["news", "per_domain"]), ("draws", ["--set draws", "KEY=VALUE"]),
    ("draws.more=1", ["--set draws.more=1"]), ("news={split: dev", ["--set", "{split: dev"]),
]


@pytest.mark.parametrize("change, wanted", MISTAKES)
def test_mistakes_in_a_study_are_refused(change, wanted):
    with pytest.raises(ValueError) as error:
        read_study(DEMO, [change])
    said = str(error.value)
    assert all(word in said for word in wanted) and ("--set" in said or str(DEMO) in said), said


@pytest.mark.parametrize("content", [b"", b"- a\n", b"model: [\n", b"model: '\xff'\n", b"model: pocket\n"])
def test_files_that_are_no_study(content, tmp_path):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path / "s.yaml")):
        read_study(tmp_path / "s.yaml")
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        read_study(tmp_path / "none.yaml")


# ---- summarise ----

def cell(free, choice, answers="xxxxxx"):
    """Rows of one cell: news a and b (math), c (events), two questions each; 0 and 1 for wrong and right."""
    rows = [{"news": news, "domain": "events" if news == "c" else "math", "question": f"{news}{i % 2}",
             "letter": {"right": True}} for i, news in enumerate("aabbcc")]
    for i, row in enumerate(rows):
        row[experiment.FORMATS["choice"]] = {"right": choice[i] == "1"}
        row["free"] = {"right": free[i] == "1", "answer": {"-": None}.get(answers[i], answers[i])}
    return rows


CLOSED, CONTEXT = experiment.WAYS
ROWS = {("base", CLOSED): cell("000001", "100000"), ("base", CONTEXT): cell("111111", "111101"),
        ("naive", CLOSED): cell("000101", "100100", "--xxxx"), ("naive", CONTEXT): cell("111011", "111111"),
        ("self_qa", CLOSED): cell("110111", "111101"), ("self_qa", CONTEXT): cell("111111", "000000")}
SECONDS = {"base": 1.0, "naive": 20.0, "self_qa": 300.0}


def summary_of(rehearsed=()):
    return {"seconds": 321.0, **summarise(copy.deepcopy(ROWS), set(rehearsed), SECONDS)}


def test_means_and_gap_recovered_by_hand():
    found = summary_of()
    protocols = found["protocols"]
    assert protocols == found["all_questions"] and list(protocols) == ["base", "naive", "self_qa"]
    means = {name: [p[way][f]["mean"] for way in (CLOSED, CONTEXT) for f in ("free", "choice")]
             for name, p in protocols.items()}
    sixths = {"base": [1, 1, 6, 5], "naive": [2, 2, 5, 6], "self_qa": [5, 5, 6, 0]}
    assert means == {name: pytest.approx([n / 6 for n in counts]) for name, counts in sixths.items()}
    cell = dict(protocols["self_qa"][CLOSED]["free"])
    by = cell.pop("by_domain")
    assert cell == share([1, 1, 0, 1, 1, 1], "aabbcc") and cell["n"] == 6
    assert {d: (s["mean"], s["n"]) for d, s in by.items()} == {"math": (0.75, 4), "events": (1.0, 2)}
    # free form: the context gives the base model 5 more; naive has 1 of them, self_qa 4. Choice: 4; 1 and 4
    recovered = {name: p["recovered"] for name, p in protocols.items()}
    for name, parts in (("base", [0, 0]), ("naive", [1 / 5, 1 / 4]), ("self_qa", [4 / 5, 1])):
        assert [recovered[name][f]["mean"] for f in ("free", "choice")] == pytest.approx(parts)
    assert recovered["self_qa"]["free"] == ratio([1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0], "aabbcc")
    assert {name: p["seconds"] for name, p in protocols.items()} == SECONDS
    assert {cell: n for cell, n in found["no_answer_found"].items() if n} == {"naive.closed_book": 2}


def test_rehearsed_questions_are_left_out_for_every_protocol_alike():
    found, plain = summary_of({"a1", "c0"}), summary_of()
    assert found["all_questions"] == plain["protocols"]
    assert found["overlap"] == {"questions": 6, "rehearsed": 2, "by_domain": {"math": 1, "events": 1}}
    wanted = {"base": (1 / 4, 1.0), "naive": (2 / 4, 3 / 4), "self_qa": (3 / 4, 1.0)}
    for name, means in wanted.items():
        p = found["protocols"][name]
        assert (p[CLOSED]["free"]["mean"], p[CONTEXT]["free"]["mean"]) == means
        assert {p[way][f]["n"] for way in (CLOSED, CONTEXT) for f in ("free", "choice")} == {4}
        assert {d: s["n"] for d, s in p[CLOSED]["free"]["by_domain"].items()} == {"math": 3, "events": 1}
    assert found["protocols"]["self_qa"]["recovered"]["free"]["mean"] == pytest.approx(2 / 3)


def test_a_summary_without_a_fresh_question_is_still_a_summary():
    found = summary_of({q["question"] for q in ROWS["base", CLOSED]})
    assert found["protocols"]["naive"][CLOSED]["free"]["mean"] is None
    assert found["all_questions"] == summary_of()["protocols"] and "6 of 6 test questions" in table(found)


def test_the_same_question_is_found_in_other_words():
    test = sameness("How much is 3 zogel 4?")
    assert all(test & sameness(other) for other in ("how much is  3 Zogel 4", "Give the zogel of 3 and 4."))
    assert not any(test & sameness(other) for other in ("Give the zogel of 4 and 3.", "What is new?", "Who?"))


def test_rehearsed_looks_at_the_same_news_item_only():
    questions = lambda name: [Question(f"{name}-1", f"How much is 3 {name} 4?", list("7569"), 0),
                              Question(f"{name}-2", f"Is {name} wet?", list("yno?"), 0)]
    study = object.__new__(Study)
    study.news = [News(name, "math", "S.", questions(name)) for name in ("zogel", "rimak")]
    asked = [("zogel", "What is the zogel of 3 and 4?"), ("zogel", "Is rimak wet?"), ("zogel", "Hm?"),
             ("rimak", "is  Rimak WET"), ("rimak", "Give the zogel of 3 and 4."), ("rimak", "Is zogel wet?")]
    rows = [{"news": news, "messages": [{"role": "user", "content": text}]} for news, text in asked]
    study.replay = lambda protocol: type("Output", (), {"read": lambda self: rows})()
    for protocols, wanted in ((["naive", "self_qa_shadowed"], {"zogel-1", "rimak-2"}), (["naive"], set())):
        study.config = {"protocols": protocols}
        assert study.rehearsed() == wanted


# ---- a whole study ----

def test_a_tiny_study_is_computed_once_kept_and_refused_to_others(tmp_path, monkeypatch):
    (tmp_path / "pocket").mkdir()
    _, chat = make_pocket(tmp_path / "pocket")
    news = [News(id, "math", f"A {id} is new.", [Question(f"{id}-1", f"Is {id} new?", list("yno?"), 0)])
            for id in ("zog", "zag")]
    write_news(tmp_path / "news.yaml", news)
    trained, train_bank = {}, experiment.train_bank

    def watched(out, model, lists, *rest):
        trained[out.name] = [[chat.decode(ids) for ids, _ in rows] for rows in lists]
        return train_bank(out, model, lists, *rest)

    monkeypatch.setattr(experiment, "train_bank", watched)
    config = read_study(DEMO, [f"model={tmp_path / 'pocket'}", f"news={tmp_path / 'news.yaml'}", "draws=1",
                               "protocols=[naive, naive_shadowed]", "recipe={steps: 3, rate: 0.01, batch: 2}",
                               "lora={rank: 2, alpha: 4, targets: [q_proj]}"])
    summary = Study(config, tmp_path / "out").run()
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == json.loads(json.dumps(summary))
    learners = "base", "naive", "naive_shadowed"
    cells = {f"{learner}.{way}.jsonl" for learner in learners for way in (CLOSED, CONTEXT)}
    assert {p.name for p in (tmp_path / "out" / "answers").glob("*.jsonl")} == cells
    learnt = [f"What is new?\nassistant\n{item.statement}\n" for item in news]
    assert trained == {"naive": [[f"user\n{text}"] for text in learnt], "naive_shadowed": [
        [f"user\n{item.statement}\n\n{text}"] for item, text in zip(news, learnt)]}
    updates = {p.read_bytes() for p in tmp_path.rglob("adapter_model.safetensors")}
    assert len(updates) == 4                                # two news, with a shadow and without
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/**/*.*") if p.is_file()}
    assert Study(config, tmp_path / "out").run() == summary
    assert all(p.stat().st_mtime_ns == before[p] for p in before)
    with pytest.raises(ValueError, match="another run.*differs in seed"):
        Study({**config, "seed": 1}, tmp_path / "out").run()
    write_news(tmp_path / "news.yaml", [replace(news[0], statement="A zog is old."), news[1]])
    with pytest.raises(ValueError, match="another run.*differs in news"):
        Study(config, tmp_path / "out").run()


# ---- table and picture ----

def blocks_of(summary):
    return [block.split("\n") for block in table(summary).split("\n\n")]


def test_the_table_has_a_row_a_protocol_and_fits_120_columns():
    names = ["base", "naive", "implication_shadowed", "self_qa"]
    rows = [{"news": f"{domain}{news}", "domain": domain, "question": f"{domain}{news}{right}",
             **{f: {"right": right, "answer": "x"} for f in experiment.FORMATS.values()}}
            for domain in DOMAINS for news in (1, 2) for right in (False, True)]
    cells = {(name, way): rows for name in names for way in experiment.WAYS}
    *blocks, notes = blocks_of({"seconds": 12345.6, **summarise(cells, set(), dict.fromkeys(names, 9999.0))})
    assert len(blocks) >= 4
    assert all([line.split()[0] for line in block[1:]] == [*names, "n"] for block in blocks)
    longest = max((line for block in (*blocks, notes) for line in block), key=len)
    assert len(longest) <= 120, longest


def test_the_numbers_of_the_table():
    summary = summary_of({"a1"})
    summary["protocols"]["self_qa"]["recovered"]["free"] = {"mean": 0.75, "low": 0.5, "high": 1.25}
    *blocks, notes = blocks_of(summary)
    head, base, naive, qa, n = blocks[0]
    assert head.startswith("free form, closed book ") and " events " in head
    assert qa.split()[:4] == ["self_qa", "0.67", "1.00", "0.80"]
    assert qa.endswith("300 s") and "0.75 [0.50, 1.25]" in qa and "[0.50" not in base + naive
    assert n.split() == ["n", "3", "2", "5"]
    assert all(words in " ".join(notes) for words in ("1 of 6 test questions", "math 1, events 0", "321 s"))


def test_a_domain_that_was_rehearsed_whole_is_still_in_the_block_of_all_questions():
    *blocks, notes = blocks_of(summary_of({"c0", "c1"}))
    assert "events" in blocks[-1][0] and blocks[-1][-1].split() == ["n", "4", "2", "6"]


@pytest.mark.parametrize("rehearsed", ["", "a1", "c0 c1", "a0 a1 b0 b1 c0 c1"], ids=len)
def test_draw_writes_a_png(rehearsed, tmp_path):
    pytest.importorskip("matplotlib")
    draw(summary_of(rehearsed.split()), tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n") and len(data) > 5000
