"""The dry run: nothing is written or loaded; what is counted is what the run then does, or more.

before   tokens and FLOPs are at least those of the run; equal stages are counted once
after    all is whole; rows that are there are trained on in their true length, so training is counted exactly
"""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_study import DEMO, tiny  # noqa: F401 (a fixture)

from conftest import ROOT, make_tiny
from model.chat import Chat
from model.checkpoint import load_config
from model.lora import add_lora, adapted
from model.memory import training_memory
from newnews.dryrun import Longest
from newnews.loading import DTYPES
from newnews.news import write_news
from newnews.optimizer import AdamW
from newnews.outputs import read_manifest
from newnews.prompts import read_prompts
from newnews.protocols.base import Ask
from newnews.studies import plan as module
from newnews.studies.grid import cells, read_study
from newnews.studies.plan import Plan, clock, memory, plan, short
from newnews.studies.sources import source
from newnews.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
POCKET = ROOT / "data" / "pocket"
AXES = "axes={protocol: [naive, self_qa, self_qa_shadowed], seed: [0, 1]}"


@pytest.fixture(autouse=True)
def no_probe(monkeypatch):
    monkeypatch.setattr(module, "probe", lambda *_: 1e9)


def study_of(tiny, *changes):
    return read_study(DEMO, [
        f"model={tiny.file.parent / 'pocket'}", f"news={tiny.file}", "draws=6", "bank=2", "ask=[free, text]",
        "recipe={steps: 3, rate: 0.01, batch: 2}", "lora={rank: 2, alpha: 4, targets: [q_proj]}", AXES,
        *changes])


def columns(text):
    """{row: [its three columns]}."""
    return {line[:line.index("  ")].strip() or "": re.split(r"\s{2,}", line.strip())[1:]
            for line in text.split("\n\n")[0].split("\n")[1:]}


def test_a_dry_run_writes_nothing_and_counts_what_cells_share_once(tiny):
    text = plan(study_of(tiny), tiny.out)
    assert not tiny.out.exists()
    found = columns(text)
    assert list(found) == ["base", *(f"{p} seed={s}" for p in ("naive", "self_qa", "self_qa_shadowed")
                                     for s in (0, 1)), "to do"]
    assert found["base"][:2] == ["-", "-"] and found["self_qa_shadowed seed=1"][0] == "as above"
    assert found["self_qa seed=0"][0] == found["self_qa seed=1"][0] != "as above"
    assert "by a probe" in text and "6 cells" in text and "whole" not in found["base"][2]
    assert max(map(len, text.split("\n"))) <= 120
    with pytest.raises(ValueError, match="does not say how to ask for thought"):        # as a run finds it
        plan(study_of(tiny, "ask=[reason]"), tiny.out)
    write_news(tiny.file, [replace(tiny.items[0], questions=[])])
    with pytest.raises(ValueError, match="news zog has no questions"):
        plan(study_of(tiny), tiny.out)


def test_what_is_planned_bounds_what_is_done_and_then_all_is_whole(tiny):
    changes = "axes.protocol=[naive, self_qa]", "axes.seed=[0]", "draws=40", "ask=[free, text]"
    study = study_of(tiny, *changes)
    news, every = source(study["news"], "x").load(), cells(study)
    before = Plan(tiny.out, "auto", "auto")
    guessed = {cell.protocol: before.trained(cell, news) for cell in every}
    tiny.run("recipe={steps: 3, rate: 0.01, batch: 2}", "axes={protocol: [naive, self_qa], seed: [0]}",
             *changes[2:])
    after = Plan(tiny.out, "auto", "auto")
    for cell in every:
        written, banks, update = after.trained(cell, news)
        assert update is not None and all(w.seconds is not None for w in [*written, *banks])
        done = read_manifest(written[0].key)["totals"]
        (first,), guess = written, guessed[cell.protocol]
        assert guess[2] is None and guess[0][0].flops >= first.flops == done["flops"]
        assert guess[0][0].tokens >= first.tokens == done["prompt_tokens"] + done["new_tokens"]
        for work in banks:                                  # the true rows: the mean step times the steps
            real = json.loads((work.key / "manifest.json").read_text())
            assert work.tokens == pytest.approx(real["tokens"], rel=0.3)
        assert sum(w.tokens for w in guess[1]) >= sum(w.tokens for w in banks)
        if cell.protocol == "naive":                        # one conversation: every step is the mean step
            assert [w.tokens for w in banks] == [w.tokens for w in guess[1]]
            real = [json.loads((w.key / "manifest.json").read_text()) for w in banks]
            assert [(w.tokens, w.flops) for w in banks] == [(r["tokens"], r["flops"]) for r in real]
    other = after.written(replace(every[1], seed=5), "self_qa", news)[1]
    assert other.seconds is None and other.flops == first.flops         # another seed writes as much
    stamps = tiny.stamps()
    text = plan(study, tiny.out)
    assert set(sum(columns(text).values(), [])) == {"whole", "-"} and "0 s in all" in text
    with pytest.raises(ValueError, match="holds the results of another study .differs in recipe.steps."):
        plan(study_of(tiny, *changes, "recipe.steps=4"), tiny.out)      # as a run would say
    new = tiny.out.with_name("new"), tiny.out
    more = columns(plan(study_of(tiny, *changes, "recipe.steps=4"), *new))
    assert more["naive"][0] == "whole" and more["naive"][1] != "whole" != more["naive"][2]
    assert more["base"] == ["-", "-", "whole"] and tiny.stamps() == stamps
    # banks of other cells say how fast training is here
    fresh = plan(study_of(tiny, *changes, "recipe.steps=4", "axes.protocol=[implication]"), *new)
    assert f"by 2 whole stages in {tiny.out}" in fresh.split("train: ")[1].split("\n")[0]
    for note in tiny.out.glob("updates/*/manifest.json"):               # of other weights: they say nothing
        found = json.loads(note.read_text())
        note.write_text(json.dumps({**found, "run": {**found["run"], "model": "another"}}))
    assert "train: " in (text := plan(
        study_of(tiny, *changes, "recipe.steps=4", "axes.protocol=[implication]"), *new))
    assert "by a probe" in text.split("train: ")[1].split("\n")[0]


def test_forms_and_shared_adapters_are_planned_as_they_are_trained(tiny):
    """Two news of one conversation each and a batch of two: every step is the mean step."""
    axes = "axes={protocol: [naive], form: [all, text], together: [true]}"
    study = study_of(tiny, axes)
    news, every = source(study["news"], "x").load(), cells(study)
    before = Plan(tiny.out, "auto", "auto")
    guesses = [before.trained(cell, news)[1] for cell in every]
    assert "1 adapters" in memory(before, every, 3)
    tiny.run("recipe={steps: 3, rate: 0.01, batch: 2}", "draws=6", "ask=[text]", axes)
    after = Plan(tiny.out, "auto", "auto")
    for cell, guess in zip(every, guesses):
        _, banks, update = after.trained(cell, news)
        real = [json.loads((work.key / "manifest.json").read_text()) for work in banks]
        assert [(w.tokens, w.flops) for w in banks] == [(r["tokens"], r["flops"]) for r in real]
        assert [w.tokens for w in guess] == [w.tokens for w in banks]
        assert {path.name for path in update.folders.values()} == {"together"} and len(banks) == 2


def test_memory_is_that_of_weights_and_the_adapters_side_by_side(tiny):
    study = study_of(tiny, "axes={protocol: [naive], lora.rank: [1, 3]}", "bank=9")
    line = memory(Plan(tiny.out, "auto", "auto"), cells(study), 3)
    model = make_tiny(3, vocab_size=320)
    weights = 4 * sum(p.numel() for p in model.parameters())
    add_lora(model, ["q_proj"], 3, 4, [0, 1, 2])
    state = 16 * sum(m.lora_A.numel() + m.lora_B.numel() for m in adapted(model).values())
    assert f"weights {short(weights)}B, 3 adapters" in line and f"optimizer {short(state)}B" in line
    tokens = cells(study)[0].recipe.micro_tokens
    kept = training_memory(model.config, 4, tokens, tokens, (3, ("q_proj",)))["activations"]
    assert f"activations of a micro-batch {short(kept)}B" in line


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [False, True])
def test_memory_of_a_whole_model_is_what_training_holds(dtype, tied):
    """The weights, a copy of them, and all that the optimizer has; some cells train adapters beside."""
    model = make_tiny(3, vocab_size=320, tie_word_embeddings=tied).to(DTYPES[dtype])
    reader = SimpleNamespace(model=model, about={"dtype": dtype})
    every = cells(read_study(DEMO, ["axes={protocol: [naive], tuning: [lora, full]}", "bank=1",
                                    "recipe.micro_tokens=16",
                                    "lora={rank: 1, alpha: 1, targets: [q_proj]}"]))
    line = memory(SimpleNamespace(reader=lambda name: reader), every, 3)
    weights = sum(p.nbytes for p in model.parameters())
    optimizer = AdamW(dict(model.named_parameters()), Recipe(steps=1, rate=1.0), False)
    held = [*model.parameters(), *optimizer.tensors().values(), *optimizer.grads.values()]
    held = sum({x.data_ptr(): x.nbytes for x in held}.values())
    before = sum(x.nbytes for x in model.state_dict().values())         # as train_whole clones it
    assert f"weights {short(weights)}B, 1 whole models" in line
    assert f"optimizer {short(held + before - weights)}B" in line


def test_a_dry_run_writes_as_long_as_a_protocol_allows():
    """entigraph's documents may be longer than other replies; no text is there twice."""
    prompts = read_prompts(ROOT / "configs" / "prompts" / "qwen.yaml")
    chat, long = Chat(POCKET), prompts.document_tokens
    writer = Longest(load_config(POCKET), chat, prompts, 4)
    for limit, tokens in ((None, prompts.max_new_tokens), (long, long)):
        ask = Ask(["What is Zog?"] * 3, "s/1", list("abc"), 1.0, limit)
        cost = {0: dict.fromkeys(("prompt_tokens", "new_tokens", "flops"), 0)}
        texts = writer.answer({0: ask}, 1.0, cost)[0]
        assert cost[0]["new_tokens"] == 3 * tokens and len(set(texts)) == 3
        assert all(abs(len(chat.encode(text)) - tokens) < tokens / 10 for text in texts)
    assert long > prompts.max_new_tokens


def test_amounts_are_short():
    assert [short(x) for x in (0, 950, 1200, 34_567, 5.6e9, 1.23e12, 4e16)] == [
        "0", "950", "1.2k", "35k", "5.6G", "1.2T", "40P"]
    assert [clock(x) for x in (3.4, 99, 600, 7200)] == ["3 s", "99 s", "10 min", "2.0 h"]
