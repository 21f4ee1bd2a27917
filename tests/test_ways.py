"""What a study asks beside its news: other versions of them, what everybody knows, other news, drift.

news       other versions checked by the oracle and by the core set's worlds; whose question an adapter gets
all weights     a whole model a news item, or one for all: asked as its folder is, and the base as it was
drift      KL against a slow twin: one example at a time, merged weights, all logits
a study    its files, table, page and claims; the ways change no name of a plain study's files
mistakes   refused before any work
"""

import json

import numpy as np
import pytest
import torch
from cli import script
from conftest import ROOT, make_tiny
from merging import merged_tensors
from test_news import POCKET as PROMPTS
from test_study import DEMO, tiny  # noqa: F401 (a fixture)

from model.lora import add_lora, adapted
from model.qwen2 import Qwen2
from newnews.examples import Example
from newnews.ask import ask
from newnews.loading import load
from newnews.news import Asked, News, Question, read_locality, write_news
from newnews.prompts import prompts_for, read_prompts
from newnews.studies import sections, ways
from newnews.studies.drift import drift
from newnews.studies.grid import read_study
from newnews.studies.page import write_report
from newnews.studies.plan import plan
from newnews.studies.report import table
from newnews.studies.sources import source
from newnews.studies.stats import paired
from newnews.studies.summary import Finished, summarise
from newnews.tasks.news import WAYS, NewsTask
from newnews.tasks.settings import requests_digest
from newnews.world import oracle
from newnews.world.background import FACTS

pytestmark = pytest.mark.usefixtures("one_thread")
POCKET = source({"split": "dev", "per_domain": 6, "questions": 12, "seed": 3}, "here")
CORE = source(str(ROOT / "data" / "new_news"), "here")


# ---- news ----

def test_the_page_has_a_sentence_for_every_way():
    assert set(sections.KEPT) == set(ways.EVERY) - {ways.CLOSED}


def test_another_version_in_the_pocket_world_is_told_and_answered_otherwise():
    news, kept = POCKET.load(), 0
    for item, other, stuck in zip(news, ways.versions(POCKET, news), ways.insisting(POCKET, news),
                                  strict=True):
        before, after = (oracle.read_statement(i.domain, i.statement) for i in (item, other))
        assert all((before[slot] == after[slot]) == (slot == "name") for slot in before) \
            and before.keys() == after.keys()
        new, asked = oracle.things_of([other])[item.id], {q.id: q for q in item.questions}
        assert (other.id, other.domain, len(other.questions)) == (item.id, item.domain, len(stuck.questions))
        for q, s in zip(other.questions, stuck.questions):
            old = asked[q.id]
            assert (q.text, q.options, s.right) == (old.text, s.options, old.right) and q.right != old.right
            assert oracle.grade(new, q.right, "answer", q.text) == "true"
            assert oracle.grade(new, old.right, "answer", q.text) == "false"
            assert len(set(q.options) - set(old.options)) <= 1 and q.needs != "reversal"
        kept += len(other.questions)
    assert kept > len(news) * 12 / 2
    assert ways.versions(POCKET, news) == ways.versions(POCKET, news)


def test_other_versions_of_the_core_set_are_its_worlds():
    news = CORE.load()
    for item, other, stuck in zip(news, ways.versions(CORE, news), ways.insisting(CORE, news), strict=True):
        assert other.statement == item.worlds[0] and len(other.questions) == len(item.questions)
        assert all((q.answer, s.answer, q.options) == (1, 0, s.options)
                   for q, s in zip(other.questions, stuck.questions))


def test_insisting_is_the_same_asking_judged_by_the_news():
    news = CORE.load()[:2]
    prompts = read_prompts(ROOT / "configs" / "prompts" / "qwen.yaml")
    task, (one, _), (two, _) = (
        NewsTask(prompts, True, 0, ["text"]), ways.versions(CORE, news), ways.insisting(CORE, news))
    assert requests_digest(task, [one]) == requests_digest(task, [two])
    assert ways.EVERY["counterfactual"].file == ways.EVERY["insists"].file
    for pick in range(4):
        response = {"logprobs": [-1.0 if k == pick else -5.0 for k in range(4)]}
        said = [task.judge(item, task.requests(item)[0], response)["right"] for item in (one, two)]
        assert said == [pick == 1, pick == 0]


def test_background_is_true_and_no_two_news_get_the_same():
    news, true = POCKET.load(), {
        f"{kind}-{what}-{subject}": str(answer)
        for (kind, what), known in FACTS.items() for subject, answer in known.items()}
    found = ways.with_background(POCKET, news)
    assert all(q.right == true[q.id] for item in found for q in item.questions)
    sets = {frozenset(q.id for q in item.questions) for item in found}
    assert len(sets) == len(news) and {len(ids) for ids in sets} == {ways.FACTS}
    assert [(i.id, i.statement) for i in found] == [(i.id, i.statement) for i in news]
    local = ways.with_background(CORE, CORE.load()[:3])
    assert {len(item.questions) for item in local} == {20} and all(
        q in read_locality(ROOT / "data" / "new_news") for item in local for q in item.questions)


def test_truth_is_the_share_of_what_was_stated_or_answered():
    news = POCKET.load()[-1:]
    festival, = news
    said = oracle.read_statement("events", festival.statement)
    rows = [("naive", "What is new?", festival.statement),
            ("self_qa", f"Where is the {said['name']} festival held?", said["city"]),
            ("self_qa", f"Where is the {said['name']} festival held?", "Nowhere"),
            ("entigraph", "?", "Not to be graded.")]
    rows = [{"news": festival.id, "protocol": p, "messages": [{"role": "user", "content": a},
                                                              {"role": "assistant", "content": b}]}
            for p, a, b in rows]
    assert POCKET.truth(rows, news) == 2 / 3 and POCKET.truth(rows[3:], news) is None \
        and CORE.truth(rows, news) is None


def test_others_are_asked_about_the_next_item():
    news = POCKET.load()
    found = ways.others(POCKET, news)
    for item, other, asked in zip(news, [*news[1:], news[0]], found, strict=True):
        assert (asked.id, asked.domain) == (item.id, item.domain)
        assert (asked.statement, asked.questions) == (other.statement, other.questions)


def test_a_cloze_has_the_news_in_other_words_and_three_texts_with_one_fact_changed():
    news = POCKET.load()
    for item, asked in zip(news, ways.clozes(POCKET, news), strict=True):
        thing = oracle.things_of([item])[item.id]
        for q in asked.questions:
            verdicts = [oracle.grade(thing, option, "paraphrase") for option in q.options]
            assert verdicts == ["true", *["false"] * 3] and q.right != item.statement
            read = [oracle.read_statement(item.domain, option) for option in q.options]
            changed = {slot for other in read[1:] for slot in other if other[slot] != read[0][slot]}
            assert changed <= {"words", "symbols", "code"} or changed == {"points", "rival"} \
                or len(changed) == 1
            assert all(int(r["points"]) > int(r["rival"]) for r in read if "rival" in r)
        assert len(asked.questions) == {"math": 1, "coding": 1, "events": 3}.get(item.domain, 4)
    core = CORE.load()[:4]
    assert [q.options[q.answer] for item in ways.clozes(CORE, core) for q in item.questions] == [
        i.statement for i in core]
    task = NewsTask(PROMPTS, False, 0, [ways.CLOZE])
    request, = task.requests(ways.clozes(CORE, core)[0])
    assert request.messages == [{"role": "user", "content": PROMPTS.naive}] \
        and request.continuations == core[0].statements
    picks = [task.judge(ways.clozes(CORE, core)[0], request, {"logprobs": sums})["right"]
             for sums in ([-5.0, -9.0, -9.0, -9.0], [-9.0, -5.0, -9.0, -9.0])]
    assert picks == [True, False]


def test_from_the_properties_to_the_name():
    news = CORE.load()
    for item, asked in zip(news, ways.backwards(CORE, news), strict=True):
        q, = asked.questions
        assert (q.ask, q.accept) == (item.reversed.ask, item.reversed.accept) and len(q.options) == 4
        assert {other.domain for other in news if other.reversed.accept[0] in q.options} == {item.domain}


# ---- drift ----

def test_drift_is_the_divergence_of_all_logits_at_the_supervised_places():
    model = make_tiny(2).eval()
    add_lora(model, ["q_proj", "down_proj"], 2, 4, [0])
    for module in adapted(model).values():
        torch.nn.init.normal_(module.lora_B, std=0.3)
    rng = np.random.default_rng(0)
    some = [Example(rng.integers(0, model.config.vocab_size, n).tolist(), [0.0] * 2 + [1.0] * (n - 2))
            for n in (9, 5, 12)]
    found = drift(model, some, "cpu")
    merged = Qwen2(model.config)
    merged.load_state_dict(merged_tensors(model))
    plain = make_tiny(2).eval()
    for example, nats in zip(some, found, strict=True):
        ids = torch.tensor([example.ids])
        with torch.no_grad():
            p, q = (m(ids)[0, 1:-1].log_softmax(-1) for m in (plain, merged.eval()))
        assert nats == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-4) and nats > 1e-3


def test_numbers_that_are_no_shares_are_not_treated_as_shares():
    values, zeros, clusters = [0.01, 0.012, 0.011, 0.009], [0.0] * 4, list("abcd")
    by_hand = 3.182446 * np.std(values, ddof=1) / 2
    found = paired(values, zeros, clusters, shares=False)
    assert found["high"] - found["mean"] == pytest.approx(by_hand, rel=1e-4)
    assert paired(values, zeros, clusters)["high"] > 10 * found["high"]


# ---- a study ----

ALL = "also=[counterfactual, insists, background, others, others_in_context, cloze, reversed, kl]"
NEUTRAL = "neutral={share: 0, source: lessons}"
CLAIMS = ("contrasts=[{name: a, a: naive.insists, b: base.counterfactual, format: text, direction: '<', "
          "says: A.}, {name: b, a: naive, b: base, way: kl, format: kl, direction: '=', says: B.}]")


@pytest.fixture
def folder(tiny):  # noqa: F811
    """The tiny study's news with another world each, and questions about what they do not change."""
    folder = tiny.file.with_name("worlds")
    (folder / "locality").mkdir(parents=True)
    news = [News(item.id, "math", f"A {item.id} is new.",
                 [Question(f"{item.id}-1", f"Is {item.id} new?", ["yes", "no"], 0)],
                 worlds=[f"A {item.id} is old."], reversed=Asked("What is new?", [item.id]))
            for item in tiny.items]
    write_news(folder / "news.yaml", news)
    (folder / "locality" / "l.yaml").write_text(
        '- {id: l-1, text: "Is it wet?", options: ["yes", "no"], answer: 1}\n')
    return folder


def test_a_study_asks_beside_its_news(tiny, folder):  # noqa: F811
    found = tiny.run(f"news={folder}", "axes.protocol=[naive]", ALL, NEUTRAL, CLAIMS)
    names = {path.name.rpartition("-")[0] for path in tiny.out.glob("answers/*.jsonl")}
    assert names == {f"{who}.{way.file}" for who in ("base", "naive") for way in ways.EVERY.values()}
    for cell in found["groups"].values():
        assert cell["background"]["free"]["n"] == cell["others"]["text"]["n"] == \
            cell["counterfactual"]["text"]["n"] == 3
        # of two options one is picked
        picked = cell["counterfactual"]["text"]["mean"] + cell["insists"]["text"]["mean"]
        assert picked == 1 and cell["cloze"]["cloze"]["n"] == 3 and cell["kl"]["kl"]["n"] == 3 * ways.TEXTS
    assert found["groups"]["base"]["kl"]["kl"]["mean"] == 0 < found["groups"]["naive"]["kl"]["kl"]["mean"]
    first, second = found["contrasts"]
    assert second["difference"] == pytest.approx(found["groups"]["naive"]["kl"]["kl"]["mean"])
    assert first["difference"] == pytest.approx(found["groups"]["naive"]["insists"]["text"]["mean"]
                                                - found["groups"]["base"]["counterfactual"]["text"]["mean"])
    said = table(found)
    assert "naive - base, KL, nats:" in said \
        and "naive.insists - base.counterfactual, multiple choice:" in said
    assert any(
        line.split()[:2] == ["naive", f"{found['groups']['naive']['counterfactual']['free']['mean']:.2f}"]
        for line in said.split("other version   ")[1].split("\n"))
    done = Finished(tiny.out)
    asked = {way for _, way, *_ in done.walk("zog-1")}
    assert asked == {*WAYS, "counterfactual", "others", "others_in_context"}
    said = script("newnews", "answers", tiny.out, "zog-1").out.split("\n")
    assert said[1].split() == ["right", "yes"] and said[2].split()[-1] == "no"
    assert sum(line[2:].startswith("naive ") and " other version " in line for line in said) == 2
    write_report(done, summarise(done))
    page = (tiny.out / "report.html").read_text()
    assert "<h3>KL, nats</h3>" in page and "<h3>Insists on the news</h3>" in page
    kept = (tiny.out / "figures" / "kept.csv").read_text().split("\n")
    assert len(kept) == 2 + 7 * 2 + 2   # the head, the last end, seven ways of two formats, two of their own
    before = {path: stamp for path, stamp in tiny.stamps().items() if path.parts[0] != "figures"}
    plain = tiny.run(f"news={folder}", "axes.protocol=[naive]")
    assert tiny.stamps() == before \
        and plain["groups"]["naive"]["closed_book"] == found["groups"]["naive"]["closed_book"]


def test_other_news_are_read_in_the_context_of_the_adapter_of_this_one(tiny, folder):  # noqa: F811
    tiny.run(f"news={folder}", "axes.protocol=[naive]", "also=[others_in_context]")
    rows = [json.loads(line) for path in tiny.out.glob("answers/naive.others_in_context-*.jsonl")
            for line in path.read_text().splitlines()]
    assert [(row["item"], row["id"]) for row in rows if row["id"].endswith("text")] == [
        ("zog", "zag-1/text"), ("zag", "zug-1/text"), ("zug", "zog-1/text")]


# ---- all weights ----

def test_a_whole_model_a_news_item_is_asked_and_leaves_the_base_as_it_was(tiny, tmp_path):  # noqa: F811
    """Its answers are those of the model loaded from its folder; adapters trained after it are those
    without it."""
    found = tiny.run("axes={protocol: [naive], tuning: [full, lora]}")
    assert list(found["groups"]) == ["base", "naive tuning=full", "naive tuning=lora"]
    folders = {path.parent.name: path.parent for path in tiny.out.glob("updates/*/*/config.json")}
    assert set(folders) == {"zog", "zag", "zug"} \
        and len({p.joinpath("model.safetensors").read_bytes() for p in folders.values()}) == 3
    cells = json.loads((tiny.out / "study.json").read_text())["cells"]
    rows = [json.loads(line)
            for line in (tiny.out / cells[0]["answers"]["closed_book"]).read_text().splitlines()]
    for item in tiny.items:
        model, chat, about = load(str(folders[item.id]))
        task = NewsTask(prompts_for(about["folder"]), False, 0, ["free", "text"])
        again = ask(model, chat, [(item.id, request) for request in task.requests(item)])
        assert again == [row for row in rows if row["item"] == item.id]
    adapters = {path.relative_to(tiny.out): path.read_bytes()
                for path in tiny.out.rglob("adapter_model.safetensors")}
    tiny.out = tmp_path / "plain"
    tiny.run("axes.protocol=[naive]")
    assert adapters == {path.relative_to(tiny.out): path.read_bytes()
                        for path in tiny.out.rglob("adapter_model.safetensors")}


def test_all_news_in_one_whole_model(tiny):  # noqa: F811
    study = ["axes.protocol=[naive]", "tuning=full", "together=true", "bank=9"]
    tiny.run(*study)
    assert [path.parent.name for path in tiny.out.glob("updates/*/*/config.json")] == ["together"]
    text = plan(read_study(DEMO, [*tiny.changes, *study]), tiny.out)
    assert "1 whole models" in text and text.split("naive  ")[1].split("\n")[0].split() == ["whole"] * 3


# ---- mistakes ----

@pytest.mark.parametrize("changes, said", [
    (["also=[song]"], "also: expected some of counterfactual, .*'song'"), (["also=[kl, kl]"], "once each"),
    (["also=[kl]"], "also: kl reads neutral texts"),
    (["also=[others]", "together=true"], "others: where news share"),
    (["also=[]"], "also: expected a list, not empty; found"),
    (["tuning=half"], "tuning: expected lora or full"), (["tuning=full", "scale=2"], "cannot be scaled"),
    (["tuning=full", "axes.protocol=[distill]"], "distill's loss"),
    (["tuning=full", "also=[kl]", NEUTRAL], "kl compares adapters"),
    ([CLAIMS.replace("insists", "others")], "way: expected one of closed_book, in_context"),
    ([ALL, NEUTRAL, CLAIMS.replace("format: kl", "format: text")],
     "expected one of kl, which are asked KL, nats"),
    ([ALL, NEUTRAL, CLAIMS.replace("way: kl", "way: others")], "format: expected one of")])
def test_mistakes_in_what_is_asked_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        read_study(DEMO, changes)


@pytest.mark.parametrize("also, said", [("counterfactual", "news zog has no other version"),
                                        ("cloze", "news zog has no other version"),
                                        ("reversed", "news zog has no reversed question"),
                                        ("background", "no questions about what no news changes")])
def test_news_that_cannot_be_asked_so_are_refused_before_any_work(also, said, tiny):  # noqa: F811
    with pytest.raises(ValueError, match=f"also: {also}: .*{said}"):
        tiny.run(f"also=[{also}]")
    assert not tiny.out.exists()
    write_news(tiny.file, tiny.items[:1])
    with pytest.raises(ValueError, match="^also: others: one news item has no next one"):
        tiny.run("also=[others]")
