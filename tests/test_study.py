"""A study: what its YAML may say, the arithmetic of its summary, the table and the picture.

grid         the demo reads; changes by --set; axes multiply; each mistake is a ValueError before any work
starts summary      on made-up verdicts, means, gap recovered and overlap worked out by hand; rehearsed
questions are
             left out for all
stages       what changes what: other accepted answers recompute nothing, other questions no replay
a study      a whole study with a tiny random model: files, resume, no torch in the summary
table, draw  one row a cell, 120 columns; a PNG
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cli import script
from conftest import ROOT
from safetensors.torch import load_file
from test_protocols import make_pocket

from model.chat import Chat
from newnews.world.things import DOMAINS
from newnews.news import News, Question, write_news
from newnews.outputs import write_json
from newnews.protocols import rehearse
from newnews.protocols.base import conversation
from newnews.studies import stages, summary
from newnews.studies.contrasts import contrasted, groups, read_contrasts
from newnews.studies.grid import cells, read_study
from newnews.studies.report import draw, table, walk
from newnews.studies.sources import source
from newnews.studies.stats import ratio, share
from newnews.studies.study import check_study, course, run_study
from newnews.tasks.news import WAYS

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = ROOT / "configs" / "demo.yaml"
CLOSED, CONTEXT = WAYS
WORLD = source({"split": "dev", "per_domain": 1, "questions": 1, "seed": 0}, "here")


# ---- grid ----

def test_the_demo_reads_and_changes_apply_with_dots_for_depth():
    study = read_study(DEMO)
    assert study == yaml.safe_load(DEMO.read_text())
    changed = read_study(DEMO, ["news.split=dev", "draws=3", "recipes.naive={rate: 0.5}", "axes.protocol=[naive]",
                                "recipes.naive.rate=0.01", "model=x=y"])
    recipes = {**study["recipes"], "naive": {"rate": 0.01}}
    assert changed == {**study, "news": {**study["news"], "split": "dev"}, "draws": 3, "recipes": recipes,
                       "axes": {"protocol": ["naive"]}, "model": "x=y"}
    cell, = cells(changed)
    assert (cell.name, cell.recipe.rate, cell.recipe.steps) == ("naive", 0.01, study["recipe"]["steps"])
    assert cells({**changed, "seed": 8})[0].recipe.seed == 8


def test_an_unknown_key_of_the_recipe_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match="recipe of .*: unknown key 'lr'.*known are steps, rate, batch"):
        read_study(DEMO, ["recipe.lr=1"])


def test_a_change_of_the_recipe_holds_for_every_protocol():
    rates = lambda study: {cell.protocol: cell.recipe.rate for cell in cells(study)}
    assert len(set(rates(read_study(DEMO)).values())) > 1
    assert set(rates(read_study(DEMO, ["recipe.rate=1e-4"])).values()) == {1e-4}
    later = read_study(DEMO, ["recipe.rate=1e-4", "recipes.naive.rate=0.5"])
    assert rates(later)["naive"] == 0.5 and rates(later)["self_qa"] == 1e-4


def test_axes_multiply_into_frozen_cells():
    study = read_study(DEMO, ["axes={protocol: [naive, self_qa], seed: [0, 1], recipe.steps: [5], draws: [4, 8]}"])
    found = cells(study)
    assert [cell.name for cell in found] == [f"{p} seed={s} draws={d}" for p in ("naive", "self_qa")
                                             for s in (0, 1) for d in (4, 8)]
    assert {cell.recipe.steps for cell in found} == {5} and [c.recipe.seed for c in found[:3]] == [0, 0, 1]
    assert len(set(found)) == 8                             # frozen and hashable
    assert {cell.writer for cell in found} == {study["model"]}
    assert {cell.writer for cell in cells(read_study(DEMO, ["writer=other"]))} == {"other"}
    rated = cells(read_study(DEMO, ["axes={protocol: [naive], recipe.rate: [0.5, 0.25], lora.rank: [1]}"]))
    assert [cell.recipe.rate for cell in rated] == [0.5, 0.25] and rated[0].lora[0] == 1


MISTAKES = [        # change, words that the message has to have
    ("color=red", ["color", "unknown"]), ("axes.protocol=[naive, rumour]", ["'rumour'", "naive"]),
    ("axes.protocol=[]", ["protocol"]), ("axes.protocol=[naive, naive]", ["protocol", "different"]),
    ("axes={seed: [1]}", ["protocol is missing"]), ("axes.color=[1]", ["'color'", "protocol"]),
    ("axes.seed=[high]", ["seed", "'high'"]), ("axes.draws=[0]", ["draws", "0"]),
    ("recipes.rumour.rate=1", ["'rumour'"]), ("recipes=null", ["recipes"]), ("recipes.naive=fast", ["recipes"]),
    ("draws=0", ["draws", "0"]), ("draws=2.5", ["draws", "2.5"]), ("draws=1000000000", ["draws"]),
    ("seed=-1", ["seed"]), ("bank=0", ["bank"]), ("bank=true", ["bank"]),
    ("recipe.rate=0", ["recipe", "rate"]), ("recipe.rate=.nan", ["rate"]), ("lora.alpha=.nan", ["lora", "alpha"]),
    ("recipe.steps=0", ["recipe", "steps"]), ("recipe.clip=.nan", ["recipe of every protocol", "clip"]),
    ("lora.targets=[q_proj, q_proj]", ["lora", "once each"]), ("recipe.schedule=step", ["recipe", "schedule"]),
    ("recipe.epochs=3", ["recipe", "epochs"]), ("recipe.rate=high", ["recipe"]),
    ("recipes.self_qa={batch: 0}", ["self_qa", "batch"]), ("recipes.implication_shadowed={batch: 0}", ["batch"]),
    ("news.split=train", ["news", "split"]), ("ask=[free, song]", ["ask", "song"]), ("ask=[]", ["ask"]),
    ("lora=null", ["lora"]), ("lora.dropout=0", ["lora"]), ("lora.targets=[lm_head]", ["lora", "targets"]),
    ("news.size=3", ["news", "per_domain"]), ("draws", ["--set draws", "KEY=VALUE"]),
    ("draws.more=1", ["--set draws.more=1"]), ("news={split: dev", ["{split: dev"]),
    ("axes={protocol: [naive], 1: [2]}", ["axes", "1"]), ("news.split=[dev]", ["news", "split"]),
    ("news={path: a.yaml, per_domain: 0}", ["news", "per_domain"]), ("writer=7", ["writer", "7"]), ("recipe.optimizer=muon", ["muon", "whole models"]),
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


# ---- summary ----

def rows(free, text, names="aabbcc"):
    """Verdicts of one cell: news a and b (math), c (events), two questions each; 0 and 1 for wrong and
    right."""
    out = []
    for i, news in enumerate(names):
        row = {"news": news, "domain": "events" if news == "c" else "math", "question": f"{news}{i % 2}",
               "needs": "reversal" if i % 2 else "recall"}
        out.append({**row, "format": "free", "right": free[i] == "1", "exact": free[i] == "1"})
        out.append({**row, "format": "text", "right": text[i] == "1"})
    return out


ROWS = {("base", CLOSED): rows("000001", "100000"), ("base", CONTEXT): rows("111111", "111101"),
        ("naive", CLOSED): rows("000101", "100100"), ("naive", CONTEXT): rows("111011", "111111"),
        ("self_qa", CLOSED): rows("110111", "111101"), ("self_qa", CONTEXT): rows("111111", "000000")}
FORMATS = ["free", "text"]


def summary_of(rehearsed=(), verdicts=ROWS, formats=FORMATS, contrasts=()):
    names = list(dict.fromkeys(name for name, _ in verdicts))
    domains = dict.fromkeys(r["domain"] for r in verdicts["base", CLOSED])
    asked = {r["question"]: r["domain"] for r in verdicts["base", CLOSED]}
    about = {name: {"seconds": 300.0, "flops": 1, "tokens": 1, "diverged": {}, "empty": []} for name in names[1:]}

    def every(name, way, format):
        return [r for r in verdicts[name, way] if r["format"] == format]

    def fresh(*which):
        return [r for r in every(*which) if r["question"] not in rehearsed]

    single = {name: ([name], "base") for name in names}
    pooled = {group: (cells, "base") for group, cells in groups(names).items()}
    read = read_contrasts(contrasts, names, formats, "study.yaml")
    return {"study": {"ask": formats, "news": {"split": "test"}}, "news": 3, "seconds": 321.0, "about": about,
            "cells": summary.block(fresh, single, formats), "all_questions": summary.block(every, single, formats),
            "groups": summary.grouped(summary.block(fresh, pooled, formats),
                                      summary.block(every, pooled, formats), pooled, about),
            "contrasts": contrasted(read, names, fresh), "chance": 1 / 3,
            "overlap": {"questions": len(asked), "rehearsed": len(rehearsed), "by_domain": {
                d: sum(asked[q] == d for q in rehearsed) for d in domains}}}


def test_means_and_gap_recovered_by_hand():
    found = summary_of()
    named = found["cells"]
    assert named == found["all_questions"] and list(named) == ["base", "naive", "self_qa"]
    means = {name: [p[way][f]["mean"] for way in WAYS for f in FORMATS] for name, p in named.items()}
    sixths = {"base": [1, 1, 6, 5], "naive": [2, 2, 5, 6], "self_qa": [5, 5, 6, 0]}
    assert means == {name: pytest.approx([n / 6 for n in counts]) for name, counts in sixths.items()}
    cell = dict(named["self_qa"][CLOSED]["text"])
    by, needs = cell.pop("by_domain"), cell.pop("by_needs")
    assert cell.pop("seeds") == 1 and cell == share([1, 1, 1, 1, 0, 1], "aabbcc") and cell["n"] == 6
    assert {d: (s["mean"], s["n"]) for d, s in by.items()} == {"math": (1.0, 4), "events": (0.5, 2)}
    assert {k: (s["mean"], s["n"]) for k, s in needs.items()} == {"recall": (2 / 3, 3), "reversal": (1.0, 3)}
    # free form: the context gives the base model 5 more; naive has 1 of them, self_qa 4. Text: 4; 1 and 4
    recovered = {name: p["recovered"] for name, p in named.items()}
    for name, parts in (("base", [0, 0]), ("naive", [1 / 5, 1 / 4]), ("self_qa", [4 / 5, 1])):
        assert [recovered[name][f]["mean"] for f in FORMATS] == pytest.approx(parts)
    assert recovered["self_qa"]["free"] == ratio([1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0], "aabbcc")


def test_rehearsed_questions_are_left_out_for_every_cell_alike():
    found, plain = summary_of({"a1", "c0"}), summary_of()
    assert found["all_questions"] == plain["cells"]
    wanted = {"base": (1 / 4, 1.0), "naive": (2 / 4, 3 / 4), "self_qa": (3 / 4, 1.0)}
    for name, means in wanted.items():
        p = found["cells"][name]
        assert (p[CLOSED]["free"]["mean"], p[CONTEXT]["free"]["mean"]) == means
        assert {p[way][f]["n"] for way in WAYS for f in FORMATS} == {4}
        assert {d: s["n"] for d, s in p[CLOSED]["free"]["by_domain"].items()} == {"math": 3, "events": 1}
    assert found["cells"]["self_qa"]["recovered"]["free"]["mean"] == pytest.approx(2 / 3)


def test_a_summary_without_a_fresh_question_is_still_a_summary():
    found = summary_of({r["question"] for r in ROWS["base", CLOSED]})
    assert found["cells"]["naive"][CLOSED]["free"]["mean"] is None
    assert found["all_questions"] == summary_of()["cells"] and "6 of 6 test questions" in table(found)


def test_news_that_a_cell_leaves_out_are_left_out_of_its_ratio_only():
    """An adapter that diverged was not asked: its news item has no rows in that cell."""
    some = {**ROWS, ("naive", CLOSED): rows("0001", "1001", "aabb"), ("naive", CONTEXT): rows("1111", "1111", "aabb")}
    found = summary_of(verdicts=some)["cells"]
    assert found["naive"][CLOSED]["free"]["n"] == 4 and found["self_qa"] == summary_of()["cells"]["self_qa"]
    assert found["naive"]["recovered"]["free"] == ratio([0, 0, 0, 1], [1, 1, 1, 1], "aabb")


def test_the_same_question_is_found_in_other_words_and_as_a_statement():
    keys = WORLD.keys
    test = keys("What is 3 zogel 4?")
    assert all(test & keys(other) for other in ("what is  3 Zogel 4", "Work out the zogel of 3 and 4.",
                                                "So 3 zogel 4 is 9."))
    assert not any(test & keys(other) for other in ("Find the zogel of 4 and 3.", "What is new?", "Who?"))


def test_rehearsed_looks_at_every_row_of_the_same_news_item_only(monkeypatch):
    def questions(name):
        return [Question(f"{name}-1", f"What is 3 {name} 4?", list("7569"), 0),
                Question(f"{name}-2", f"Is {name} wet?", list("yno?"), 0)]

    news = [News(name, "math", "S.", questions(name)) for name in ("zogel", "rimak")]
    keys = WORLD.keys

    def said(*texts):
        lines = [{"news": name, "messages": [{"role": "user", "content": asked},
                                             {"role": "assistant", "content": answered}]}
                 for name, asked, answered in texts]
        monkeypatch.setattr(summary, "read_rows", lambda path: lines)
        return summary.rehearsed(["r.jsonl"], news, keys)

    assert said(("zogel", "What is the zogel of 3 and 4?", "7"), ("zogel", "Is rimak wet?", "y"),
                ("rimak", "is  Rimak WET", "y"), ("rimak", "Compute the zogel of 3 and 4.", "7")) == {"zogel-1", "rimak-2"}
    news[1] = replace(news[1], questions=[replace(news[1].questions[0], ask="Work it out: 3 rimak 4")])
    assert said(("rimak", "Work it out: 3 rimak 4", "7")) == {"rimak-1"}        # asked without options
    assert said(("zogel", "What follows?", "So 3 zogel 4 is 7.")) == {"zogel-1"}
    assert said(("zogel", "Hm?", "Who knows.")) == set()


# ---- stages and a whole study ----

@pytest.fixture
def tiny(tmp_path):
    """.config(*changes): a study of two cells with a tiny model; .news: its file."""
    (tmp_path / "pocket").mkdir()
    make_pocket(tmp_path / "pocket")
    news = [News(id, "math", f"A {id} is new.", [Question(f"{id}-1", f"Is {id} new?", list("yno?"), 0)])
            for id in ("zog", "zag", "zug")]
    write_news(tmp_path / "news.yaml", news)

    class Tiny:
        items, file, out = news, tmp_path / "news.yaml", tmp_path / "out"
        changes = [f"model={tmp_path / 'pocket'}", f"news={file}", "draws=1", "bank=2",
                   "axes.protocol=[naive, naive_shadowed]", "recipe={steps: 3, rate: 0.01, batch: 2}",
                   "lora={rank: 2, alpha: 4, targets: [q_proj]}"]

        def run(self, *changes):
            return run_study(read_study(DEMO, [*self.changes, *changes]), self.out)

        def stamps(self):
            return {p.relative_to(self.out): p.stat().st_mtime_ns for p in self.out.glob("*/**/*.*")
                    if p.is_file() and not p.name.endswith(".lock")}
    return Tiny()


def test_what_is_trained_on_is_what_the_protocol_chooses(tiny, monkeypatch):
    """The control of another item: each adapter sees the conversations that were written about its neighbour."""
    wrote, lists = {}, {}

    def write(self, item, n):
        yield from ()
        wrote[item.id] = f"Written about {item.id}."
        return [{"messages": conversation("?", wrote[item.id]), "news": item.id, "protocol": "self_qa",
                 "row": 0}], {"drawn": 1, "kept": 1}

    monkeypatch.setattr(rehearse.SelfQA, "write", write)
    trained = stages.train_bank
    monkeypatch.setattr(stages, "train_bank", lambda out, model, data, names, *rest: (
        lists.update(zip(names, data)), trained(out, model, data, names, *rest))[1])
    tiny.run("axes.protocol=[self_qa_other]")
    chat = Chat(tiny.file.parent / "pocket")
    assert {name: [e.ids for e in mine] for name, mine in lists.items()} == {
        name: [chat.conversation(conversation("?", wrote[other]))[0]]
        for name, other in (("zog", "zag"), ("zag", "zug"), ("zug", "zog"))}


def test_a_small_study_ends_with_one_question_and_what_every_cell_answered(tiny):
    sets = [word for change in tiny.changes for word in ("--set", change)]
    done = script("newnews", "run", DEMO, "--out", tiny.out, *sets)
    assert done.code == 0 and "zog-1: Is zog new?\n" in done.out, done
    last = done.out[done.out.index("zog-1: "):]
    assert sum(line[2:].startswith("naive_shadowed ") for line in last.splitlines()) == 4     # two ways, two formats


def test_other_words_of_a_protocol_make_another_update_of_it_alone(tiny):
    tiny.run("axes.protocol=[naive, masked]")
    before = tiny.stamps()
    with open(tiny.file.parent / "pocket" / "prompts.yaml", "a") as f:
        f.write('\nrestore: "Fill the holes."\n')
    tiny.run("axes.protocol=[naive, masked]")
    fresh = {str(path).split("-")[0] for path in tiny.stamps().keys() - before.keys()}
    assert fresh == {"updates/masked", "answers/masked.closed_book", "answers/masked.in_context"}


def test_a_tiny_study_is_computed_once_and_kept(tiny, monkeypatch):
    trained, train_bank = [], stages.train_bank

    def watched(out, model, lists, names, *rest):
        trained.append((out.name.partition("-")[0], names, [[len(e.ids) for e in some] for some in lists]))
        return train_bank(out, model, lists, names, *rest)

    monkeypatch.setattr(stages, "train_bank", watched)
    found = tiny.run()
    assert json.loads((tiny.out / "summary.json").read_text()) == json.loads(json.dumps(found))
    names = [p.name for p in tiny.out.glob("answers/*.jsonl")]
    cells = [f"{name}.{way}" for name in ("base", "naive", "naive_shadowed") for way in WAYS]
    assert sorted(name.partition("-")[0] for name in names) == sorted(cells)
    assert [(name, who) for name, who, _ in trained] == [("naive", ["zog", "zag"]), ("naive", ["zug"]),
                                                         ("naive_shadowed", ["zog", "zag"]),
                                                         ("naive_shadowed", ["zug"])]
    assert all(a < b for (*_, plain), (*_, dark) in zip(trained[:2], trained[2:])
               for [a], [b] in zip(plain, dark))            # the shadow makes each conversation longer
    assert len({p.read_bytes() for p in tiny.out.rglob("adapter_model.safetensors")}) == 6
    before = tiny.stamps()
    assert tiny.run() == found and tiny.stamps() == before


def test_a_change_recomputes_what_depends_on_it_and_nothing_else(tiny):
    tiny.run()
    before = tiny.stamps()

    def fresh(*changes):
        tiny.run(*changes)
        return {str(name).split("/")[0] for name in tiny.stamps().keys() - before.keys()}

    q = tiny.items[0].questions[0]
    write_news(tiny.file, [replace(tiny.items[0], questions=[replace(q, forms=["yes"])]), *tiny.items[1:]])
    assert fresh() == set()                                 # other accepted answers: only the summary
    write_news(tiny.file, [replace(tiny.items[0], questions=[replace(q, text="New?", ask="New?")]), *tiny.items[1:]])
    assert fresh() == {"answers"}
    before = tiny.stamps()
    assert fresh("recipe.steps=4") == {"updates", "answers"}
    before = tiny.stamps()
    write_news(tiny.file, [replace(tiny.items[0], statement="A zog is old."), *tiny.items[1:]])
    assert fresh() == {"replay", "updates", "answers"}


def test_cells_that_differ_in_nothing_that_counts_share_what_they_have(tiny, monkeypatch):
    """A second axis names cells, not files: the answers of a cell are found again by another study. What two
    cells share is paid for once."""
    train_bank = stages.train_bank
    monkeypatch.setattr(stages, "train_bank", lambda *args: {**train_bank(*args), "seconds": 100.0})
    found = tiny.run("axes={protocol: [naive], draws: [1, 2]}")
    assert list(found["cells"]) == ["base", "naive draws=1", "naive draws=2"]
    assert found["cells"]["naive draws=1"] == found["cells"]["naive draws=2"]
    assert len(list(tiny.out.glob("updates/*/manifest.json"))) == 2       # two banks, trained once
    assert 200 <= found["seconds"] < 300 and all(about["seconds"] >= 200 for about in found["about"].values())
    before = tiny.stamps()
    tiny.run("axes.protocol=[naive]")
    assert tiny.stamps() == before


def test_a_store_outside_and_an_axis_over_models_that_are_asked_in_words_of_their_own(tiny, tmp_path):
    """The second model's answers stand behind a marker. Its path does not become part of a file's name."""
    second = shutil.copytree(tmp_path / "pocket", tmp_path / "second")
    prompts = yaml.safe_load((second / "prompts.yaml").read_text())
    (second / "prompts.yaml").write_text(yaml.safe_dump({**prompts, "answer_marker": "Answer:"}))
    models = [str(tmp_path / "pocket"), str(second)]
    study = read_study(DEMO, [
        "model=nowhere", f"news={tiny.file}", "draws=1", "recipe={steps: 2, rate: 0.01, batch: 2}",
        "lora={rank: 2, alpha: 4, targets: [q_proj]}", f"axes={{protocol: [naive], model: {models}}}"])
    found = run_study(study, tiny.out, tmp_path / "store")
    assert [name.split()[0] for name in found["cells"]] == ["base", "base", "naive", "naive"]
    wanted = {"study.json", "summary.json", "prompts.yaml", "prompts.2.yaml"}
    assert {p.name for p in tiny.out.iterdir()} == wanted
    assert all(p.parent.name == "answers" for p in (tmp_path / "store").rglob("*.closed_book-*.jsonl"))
    done = summary.Finished(tiny.out)
    markers = {name: done.tasks[done.model_of[name], CLOSED].prompts.answer_marker for name in done.answers}
    assert list(markers.values()) == ["", "Answer:", "", "Answer:"]


@pytest.mark.parametrize("change, said", [
    ("ask=[free, reason]", "pocket.*does not say how to ask for thought"),
    ("axes={protocol: [self_qa], writer: [nowhere]}", "nowhere: no such model folder")])
def test_what_cannot_end_well_is_refused_before_any_work(change, said, tiny):
    with pytest.raises((ValueError, OSError), match=said):
        tiny.run(change)
    assert not tiny.out.exists()


def test_a_folder_that_is_no_study_is_left_alone(tiny, tmp_path, monkeypatch):
    """Not /, not "", not a folder with other things, whatever they are called; what a killed study left is."""
    monkeypatch.chdir(tmp_path)
    for name in ("prompts.yaml", "summary.json", "study.json", "notes.txt", "updates.txt"):
        tiny.out = tmp_path / name.partition(".")[0]
        tiny.out.mkdir()
        (tiny.out / name).write_text('{"mine": 1}')
        with pytest.raises(ValueError, match=f"{tiny.out}: is there already, holds '{name}' and is no study"):
            tiny.run()
        assert [(p.name, p.read_text()) for p in tiny.out.iterdir()] == [(name, '{"mine": 1}')]
    for tiny.out in (Path("/"), Path(""), Path("..")):
        with pytest.raises(ValueError, match="expected the path of a folder|is no study"):
            tiny.run()
    killed = tmp_path / "killed"
    (killed / "replay").mkdir(parents=True)
    (killed / "study.json.part").write_text('{"stu')
    assert check_study(killed) == killed


def test_a_report_made_again_is_the_summary_of_the_run(tiny):
    tiny.run("axes.protocol=[naive]")
    before = json.loads((tiny.out / "summary.json").read_text())
    (tiny.out / "summary.json").unlink()
    assert script("newnews", "report", tiny.out).code == 0
    assert json.loads((tiny.out / "summary.json").read_text()) == before
    assert "torch" in before                                                # and of what made it


def test_a_conversation_longer_than_the_context_is_not_trained_on(tiny):
    """A shadowed news item is read twice: it may fit before a question, and not here."""
    write_news(tiny.file, [replace(tiny.items[0], statement="zog is new. " * 40)])
    with pytest.raises(ValueError, match=r"news zog: a conversation of naive_shadowed has \d+ tokens.* 512"):
        tiny.run()
    assert list(tiny.out.glob("updates/naive-*/manifest.json"))


def test_the_answers_to_one_question_name_their_cells_in_full(tiny):
    tiny.run("axes={protocol: [naive_shadowed], seed: [0, 1]}")
    lines = walk(tiny.items[0].questions[0], summary.Finished(tiny.out).walk("zog-1")).split("\n")[3:]
    names = [" ".join(line[2:].split()[:2]) for line in lines if "naive" in line]
    assert names == [f"naive_shadowed seed={seed}" for seed in (0, 1) for _ in range(4)]


def test_the_adapter_of_a_news_item_is_the_same_in_any_bank(tiny):
    """Second of its bank, then first of another: the same to float noise; another start differs by .1."""
    def adapters():
        return {p.parent.name: load_file(p) for p in tiny.out.rglob("naive-*/*/adapter_model.safetensors")}

    tiny.run("axes.protocol=[naive]")
    many = adapters()
    tiny.out = tiny.out.with_name("fewer")
    write_news(tiny.file, tiny.items[1:])
    tiny.run("axes.protocol=[naive]")
    few = adapters()
    assert set(many) == {"zog", "zag", "zug"} and set(few) == {"zag", "zug"}
    far = lambda a, b: max((a[n] - b[n]).abs().max().item() for n in a)
    assert max(far(many[name], few[name]) for name in few) < 1e-4 < 0.1 < far(many["zag"], many["zug"])


def test_what_diverged_or_was_not_written_is_counted_and_left_out(tiny, monkeypatch):
    train_bank, write = stages.train_bank, stages.write_replay

    def bad(*args):
        manifest = train_bank(*args)
        return {**manifest, "stopped": {n: 2 for n in manifest["names"] if n == "zag"}}

    monkeypatch.setattr(stages, "train_bank", bad)
    found = tiny.run("axes.protocol=[naive]")
    assert found["about"]["naive"]["diverged"] == {"zag": 2}
    assert found["cells"]["naive"][CLOSED]["free"]["n"] == 2 and found["cells"]["base"][CLOSED]["free"]["n"] == 3
    assert "naive: 1 of 3 news diverged and are left out: zag" in table(found)

    class Silent:
        def __init__(self, output):
            self.path, self.totals, self.read = output.path, output.totals, lambda: []

    monkeypatch.setattr(stages, "write_replay", lambda *args: Silent(write(*args)))
    tiny.out = tiny.out.with_name("silent")
    found = tiny.run("axes.protocol=[naive]")
    assert found["about"]["naive"]["empty"] == ["zog", "zag", "zug"]
    assert found["cells"]["naive"][CLOSED]["free"]["mean"] is None and "nothing usable" in table(found)


def test_a_summary_needs_neither_torch_nor_adapters_nor_the_model(tiny):
    found = tiny.run()
    for path in tiny.out.rglob("adapter_model.safetensors"):
        path.unlink()
    code = ("import sys, json; from newnews.studies.summary import summarise; from newnews.studies.report import table; "
            f"s = summarise({str(tiny.out)!r}); table(s); assert 'torch' not in sys.modules; print(json.dumps(s))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again == {key: json.loads(json.dumps(found[key])) for key in again}


def test_a_summary_of_other_news_is_refused(tiny):
    tiny.run("axes.protocol=[naive]")
    write_news(tiny.file, tiny.items[1:])
    with pytest.raises(ValueError, match="'zog-1/free'.*changed"):
        summary.summarise(tiny.out)
    q = tiny.items[0].questions[0]
    write_news(tiny.file, [replace(tiny.items[0], questions=[replace(q, options=list("nyo?"), answer=1)]),
                           *tiny.items[1:]])
    with pytest.raises(ValueError, match="options were changed"):           # the number of an option
        summary.summarise(tiny.out)
    write_json(tiny.out / "study.json", {})
    with pytest.raises(ValueError, match="study.json: expected study, prompts"):
        summary.summarise(tiny.out)


def test_news_without_questions_cannot_be_studied(tiny):
    write_news(tiny.file, [replace(tiny.items[0], questions=[])])
    with pytest.raises(ValueError, match="zog.*no questions"):
        tiny.run()


def test_the_course_of_training_is_the_mean_of_what_its_banks_noted(tmp_path):
    for name, losses in (("a", [[8, 4], [2, None]]), ("b", [[3, 9], [4, 6], [7, 7]])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(
            json.dumps({"step": i, "loss": loss, "grad_norm": [1, 3]}) + "\n" for i, loss in enumerate(losses)))
    assert course([tmp_path / "a", tmp_path / "b"]) == [[0, 6.0, 2.0], [1, 4.0, 2.0]] and course([]) == []


def test_a_study_keeps_the_course_of_its_training(tiny):
    tiny.run("axes={protocol: [naive], seed: [0]}")
    cell, = json.loads((tiny.out / "study.json").read_text())["cells"]
    steps, losses, norms = zip(*cell["course"])
    assert list(steps) == list(range(len(steps))) and losses[-1] < losses[0] and min(norms) > 0


def test_a_source_is_a_file_or_a_world(tmp_path, tiny):
    assert source(str(tiny.file), "x").load() == source({"path": str(tiny.file), "world": 0}, "x").load()
    first = source({"path": str(tiny.file), "per_domain": 2}, "x").load()
    assert [item.id for item in first] == ["zog", "zag"]
    spec = {"split": "dev", "per_domain": 2, "questions": 3, "seed": 4}
    world = source(spec, "x")
    assert len(world.load()) == 10 and all(len(world.keys(q.text)) == 2 for i in world.load() for q in i.questions)


# ---- table and picture ----

def blocks_of(found):
    return [block.split("\n") for block in table(found).split("\n\n")]


def test_the_table_has_a_row_a_cell_and_fits_120_columns():
    names = ["base", "naive", "implication_shadowed", "self_qa"]
    made = [{"news": f"{domain}{news}", "domain": domain, "question": f"{domain}{news}{right}", "format": f,
             "needs": "recall", "right": right, "exact": right}
            for domain in DOMAINS for news in (1, 2) for right in (False, True) for f in FORMATS]
    *blocks, notes = blocks_of(summary_of(verdicts={(name, way): made for name in names for way in WAYS}))
    assert len(blocks) == 5
    assert all([line.split()[0] for line in block[1:]] == [*names, "n"] for block in blocks)
    longest = max((line for block in (*blocks, notes) for line in block), key=len)
    assert len(longest) <= 120, longest


def test_a_study_without_free_form_has_its_table_and_says_nothing_of_formats_that_it_lacks():
    for format, said in (("text", True), ("letter", False)):
        made = {key: [{**r, "format": format} for r in some if r["format"] == "text"]
                for key, some in ROWS.items()}
        *blocks, notes = blocks_of(summary_of(verdicts=made, formats=[format]))
        kinds = [block for block in blocks if "   recall reversal " in block[0]]
        assert len(blocks) == 5 and [block[-2].split()[1:3] for block in kinds] == [["0.67", "1.00"], ["0.00", "0.00"]]
        assert ("by option text" in " ".join(notes)) == said


def test_the_numbers_of_the_table():
    found = summary_of({"a1"})
    found["groups"]["self_qa"]["recovered"]["free"] = {"mean": 0.75, "low": 0.5, "high": 1.25}
    *blocks, notes = blocks_of(found)
    head, base, naive, qa, n = blocks[0]
    assert head.startswith("free form, closed book ") and " events " in head
    assert qa.split()[:4] == ["self_qa", "0.67", "1.00", "0.80"]
    assert qa.endswith(" 300 s") and " 0.75 [0.50, 1.25] " in qa and "[0.50" not in base + naive
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
