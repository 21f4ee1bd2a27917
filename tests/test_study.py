"""A study, its stages and what they compute.

Stages   what changes what: other accepted answers recompute nothing, other questions no replay
A study  a whole study with a tiny random model: files, resume, what cannot end well, what is left out

Its YAML: test_grid.py; its folder: test_study_folder.py; its arithmetic, table, picture: test_summary.py."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from cli import script
from conftest import ROOT
from safetensors.torch import load_file
from test_protocols import make_pocket

from model.chat import Chat
from newnews.news import News, Question, write_news
from newnews.protocols import rehearse
from newnews.protocols.base import conversation
from newnews.studies import stages, summary
from newnews.studies.grid import read_study
from newnews.studies.report import table, walk
from newnews.studies.sources import source
from newnews.studies.study import run_study
from newnews.tasks.news import WAYS

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = ROOT / "configs" / "demo.yaml"
CLOSED, CONTEXT = WAYS
WORLD = source({"split": "dev", "per_domain": 1, "questions": 1, "seed": 0}, "here")


@pytest.fixture
def tiny(tmp_path):
    """.config(*changes): a study of two cells with a tiny model; .news: its file."""
    (tmp_path / "pocket").mkdir()
    make_pocket(tmp_path / "pocket")
    news = [News(id, "math", f"A {id} is new.", [Question(f"{id}-1", f"Is {id} new?", list("yno?"), 0)])
            for id in ("zog", "zag", "zug")]
    write_news(tmp_path / "news.yaml", news)

    class Tiny:
        items, file, out, ran = news, tmp_path / "news.yaml", tmp_path / "out", set()
        changes = [f"model={tmp_path / 'pocket'}", f"news={file}", "draws=1", "bank=2",
                   "axes.protocol=[naive, naive_shadowed]", "recipe={steps: 3, rate: 0.01, batch: 2}",
                   "lora={rank: 2, alpha: 4, targets: [q_proj]}"]

        def run(self, *changes):
            """In the stages that an earlier run has left; its table and page go."""
            for path in self.out.glob("*") if self.out in self.ran and tmp_path in self.out.parents else ():
                if path.name not in ("replay", "updates", "answers"):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            found = run_study(read_study(DEMO, [*self.changes, *changes]), self.out)
            self.ran.add(self.out)
            return found

        def stamps(self):
            return {p.relative_to(self.out): p.stat().st_mtime_ns for p in self.out.glob("*/**/*.*")
                    if p.is_file() and not p.name.endswith(".lock")}
    return Tiny()


def test_what_is_trained_on_is_what_the_protocol_chooses(tiny, monkeypatch):
    """The control of another item: each adapter sees the conversations written about its neighbour."""
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
    assert sum(line[2:].startswith("naive_shadowed ")
               for line in last.splitlines()) == 4              # two ways, two formats


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
    write_news(tiny.file, [replace(tiny.items[0], questions=[replace(q, text="New?", ask="New?")]),
                           *tiny.items[1:]])
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


def test_a_store_outside_and_an_axis_over_models_that_are_asked_in_words_of_their_own(tiny, tmp_path,
                                                                                      monkeypatch):
    """The second model's answers stand behind a marker. Its path does not become part of a file's name."""
    second = shutil.copytree(tmp_path / "pocket", tmp_path / "second")
    prompts = yaml.safe_load((second / "prompts.yaml").read_text())
    (second / "prompts.yaml").write_text(yaml.safe_dump({**prompts, "answer_marker": "Answer:"}))
    models = [str(tmp_path / "pocket"), str(second)]
    study = read_study(DEMO, [
        "model=nowhere", f"news={tiny.file}", "draws=1", "recipe={steps: 2, rate: 0.01, batch: 2}",
        "lora={rank: 2, alpha: 4, targets: [q_proj]}", f"axes={{protocol: [naive], model: {models}}}"])
    labels, answer_all = [], stages.answer_all
    monkeypatch.setattr(stages, "answer_all", lambda *args: (labels.append(args[-1]), answer_all(*args))[1])
    found = run_study(study, tiny.out, tmp_path / "store")
    assert [label[:12] for label in labels[::2]] == [
        f"{i}/2 ask {who}" for i in (1, 2) for who in ("base", "naiv")]
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


def test_a_warm_up_longer_than_the_run_is_said(tiny, capsys):
    tiny.run("axes.protocol=[naive]", "recipe.warmup=3")
    assert capsys.readouterr().err == ""
    tiny.run("axes.protocol=[naive]", "recipe.warmup=4")
    assert "'naive' has more steps of warm-up than steps" in capsys.readouterr().err


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
    assert found["cells"]["naive"][CLOSED]["free"]["n"] == 2 \
        and found["cells"]["base"][CLOSED]["free"]["n"] == 3
    assert "naive: 1 of 3 news diverged and are left out: zag" in table(found)

    class Silent:
        def __init__(self, output):
            self.path, self.totals, self.read = output.path, output.totals, lambda: []

    monkeypatch.setattr(stages, "write_replay", lambda *args: Silent(write(*args)))
    tiny.out = tiny.out.with_name("silent")
    found = tiny.run("axes.protocol=[naive]")
    assert found["about"]["naive"]["empty"] == ["zog", "zag", "zug"]
    assert found["cells"]["naive"][CLOSED]["free"]["mean"] is None and "nothing usable" in table(found)


def test_news_without_questions_cannot_be_studied(tiny):
    write_news(tiny.file, [replace(tiny.items[0], questions=[])])
    with pytest.raises(ValueError, match="news zog has no questions"):
        tiny.run()


def test_a_source_is_a_file_or_a_world(tmp_path, tiny):
    assert source(str(tiny.file), "x").load() == source({"path": str(tiny.file), "world": 0}, "x").load()
    first = source({"path": str(tiny.file), "per_domain": 2}, "x").load()
    assert [item.id for item in first] == ["zog", "zag"]
    spec = {"split": "dev", "per_domain": 2, "questions": 3, "seed": 4}
    world = source(spec, "x")
    assert len(world.load()) == 10 and all(len(world.keys(q.text)) == 2
                                           for i in world.load() for q in i.questions)


@pytest.mark.parametrize("change", [
    "axes={protocol: [naive_shadowed]}", "tuning=full",
    "axes={protocol: [naive_shadowed], stream.replay_share: [0.5], seed: [0, 1, 2]}"])
def test_rows_that_do_not_fit_are_found_before_any_bank_is_trained(tiny, change):
    """The last item's sentence fits once, as it is asked in context; behind itself it does not."""
    write_news(tiny.file, [*tiny.items[:-1], replace(tiny.items[-1], statement="zug " * 65)])
    with pytest.raises(ValueError, match=r"news zug: a conversation of naive_shadowed has \d+ tokens"):
        tiny.run("axes.protocol=[naive_shadowed]", change, "ask=[text]", "bank=1")
    assert list(tiny.out.glob("answers/base.*")) and not list(tiny.out.glob("updates/*"))
