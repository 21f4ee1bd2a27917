"""Lens and patching between runs, with planted differences; what is too long for a run."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import make_tiny
from probing import CHAT, ITEM, PROMPTS, add_random, small_effects  # noqa: F401 (a fixture)

from model.capture import capture, edit
from model.lora import adapted
from newnews.probing import command, lens, patch
from newnews.probing.asked import asked, log_odds, logprobs
from newnews.probing.report_runs import run_shadow

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def closed():
    return asked(CHAT, PROMPTS, ITEM)


@pytest.fixture(scope="module")
def context():
    return asked(CHAT, PROMPTS, ITEM, in_context=True)


def make(keep=""):
    """Three layers; the adapter is zero but for modules with `keep` in their name."""
    model = add_random(make_tiny(seed=8, dtype=torch.float64, vocab_size=1024, num_hidden_layers=3))
    for name, module in adapted(model).items():
        if keep not in name:
            module.lora_B.data.zero_()
    return model


def test_what_does_not_fit_the_context_is_refused():
    """The news before a question, and before a replay element; without it both fit."""
    model, long = make(), replace(ITEM, id="long", statement=ITEM.statement + " And it is new." * 200)
    here = SimpleNamespace(model=model, chat=CHAT, prompts=PROMPTS, item=ITEM, device="cpu", replay=None)
    ask = lambda *how: command.Probe.asked(here, *how)
    assert ask(True).right and ask(False, long).right
    with pytest.raises(ValueError, match=r"^news n: .* behind the statement of news long take \d+ .* 512$"):
        ask(True, long)
    here.item = long
    assert ask(False).right
    with pytest.raises(ValueError, match=r"^news long: .* of news long take \d+ tokens"):
        ask(True)
    with pytest.raises(ValueError, match=r"^long: an element .* has \d+ tokens, which do not fit .* of 512$"):
        run_shadow(here)


def test_the_last_layer_of_the_lens_is_the_model(closed, context):
    model = make()
    for batch, k in ((closed, -1), (closed, 0), (context, -1)):
        right = batch.only_right()
        sums = logprobs(model, right, k)
        rows = lens.rows(model, {"run": (batch, k)})
        last = [r for r in rows if r["layer"] == 2 and r["site"] == "last"][0]
        assert last["logprob"] == pytest.approx(float(sums.mean()), abs=1e-9)
        assert last["probability"] == pytest.approx(float(sums.exp().mean()))
        logits = model(right.ids, adapters=[k] * 2).double()
        _, rank = lens.lens(model, right, k)[2]
        expected = (logits > logits.gather(2, lens.wanted(right)[..., None])).sum(2)
        assert torch.equal(rank, expected)


def test_a_planted_answer_is_seen_from_its_layer_on(closed):
    """From layer 1 on the residual stream is the head's row of the token that comes next."""
    model = make()
    model.model.norm.weight.data.fill_(1)
    model.lm_head.weight.data /= model.lm_head.weight.data.norm(dim=1, keepdim=True)
    right = closed.only_right()
    planted = 1000 * model.lm_head.weight[lens.wanted(right)]
    with edit(model, {"layers.1.resid_post": lambda x: planted}):
        rows = lens.rows(model, {"run": (closed, -1)})
    found = {(r["layer"], r["site"]): r for r in rows}
    assert found[1, "last"]["first"] == found[2, "last"]["first"] == found[1, "subject"]["first"] == 1
    assert found[1, "last"]["rank"] == 0 and found[0, "last"]["first"] == 0 and found[0, "last"]["rank"] > 20


def test_an_answer_of_which_one_token_is_the_first_choice_is_not(closed):
    model, right = make(), closed.only_right()
    model.model.norm.weight.data.fill_(1)
    model.lm_head.weight.data /= model.lm_head.weight.data.norm(dim=1, keepdim=True)
    wanted = lens.wanted(right)
    later = right.answer & right.answer.roll(1, 1)                  # of every answer all but its first token
    assert later.any(1).all()
    planted = 1000 * model.lm_head.weight[wanted]
    planted[later] *= -1
    with edit(model, {"layers.1.resid_post": lambda x: planted}):
        rows = lens.rows(model, {"run": (closed, -1)})
    last = next(r for r in rows if (r["layer"], r["site"]) == (1, "last"))
    assert last["first"] == 0 and last["rank"] > 20


def test_rows_of_two_lengths_are_matched_from_the_end(closed, context):
    where, source = patch.aligned(closed, context)
    for row in range(5):
        mine = closed.ids[row][where[row]]
        assert torch.equal(mine, context.ids[row][source[row][where[row]]]) and len(mine) > 8
    assert bool(where[closed.sites["subject"]].all()) and bool(where[closed.sites["last"]].all())
    assert not bool(where[:, 0].any())                              # <|im_start|>user stands before the news
    same, source = patch.aligned(closed, closed)
    assert torch.equal(same, torch.stack(list(closed.sites.values())).any(0))
    assert torch.equal(source[0], torch.arange(source.shape[1]))


def test_a_difference_in_one_layer_is_recovered_there_and_nowhere_before(closed):
    model = make("layers.1.mlp")
    rows = patch.rows(model, {"tuned into base": ((closed, -1), (closed, 0))})
    found = {(r["output"], r["site"], r["layer"]): r["recovered"] for r in rows}
    assert found["mlp", "all", 1] == pytest.approx(1, abs=1e-9)
    for layer in (0, 1):
        assert found["attention", "all", layer] == pytest.approx(0, abs=1e-9)
    assert found["mlp", "all", 0] == found["residual", "all", 0] == pytest.approx(0, abs=1e-9)
    assert found["residual", "all", 1] == found["residual", "all", 2] == pytest.approx(1, abs=1e-9)
    assert found["residual", "last", 2] == pytest.approx(1, abs=1e-9)
    assert found["residual", "subject", 2] == pytest.approx(0, abs=1e-9)
    part = found["mlp", "subject", 1]
    assert abs(part) > 0.001 and part != pytest.approx(1, abs=1e-3)


def test_a_site_that_no_question_has_gets_no_rows(closed):
    """Zeros would read as: nothing sits there."""
    bare = closed._replace(sites={site: at for site, at in closed.sites.items() if site != "subject"})
    rows = patch.rows(make(), {"tuned into base": ((bare, -1), (bare, 0))}, [0])
    assert {row["site"] for row in rows} == {"all", "last"}


def test_a_difference_in_one_head_is_recovered_there_and_nowhere_else(closed):
    """Planted: the adapter changes the queries of head 2 in layer 1, so where that head looks."""
    model = make("layers.1.self_attn.q_proj")
    Dh = model.config.head_dim
    B = model.model.layers[1].self_attn.q_proj.lora_B.data                  # (1, H Dh, r)
    B[:, :2 * Dh] = B[:, 3 * Dh:] = 0
    pairs = {"tuned into base": ((closed, -1), (closed, 0))}
    rows = patch.rows(model, pairs, [0, 1], ["all", "last"], ["head"])
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        if (row["layer"], row["head"]) != (1, 2):
            assert row["recovered"] == pytest.approx(0, abs=1e-9)
        elif row["site"] == "all":
            assert row["recovered"] == pytest.approx(1, abs=1e-9)
        else:
            assert abs(row["recovered"]) > 1e-3


def test_patching_is_that_of_hand_written_hooks(closed, context):
    """The residual of the run in context at the last site of layer 1, put in row by row by hand."""
    model = make()
    row, = [r for r in patch.rows(model, {"p": ((closed, 0), (context, -1))}, [1], ["last"], ["residual"])]
    sums = []
    for i in range(5):
        mine, its = (b.ids[i][torch.stack([m[i] for m in b.sites.values()]).any(0)]
                     for b in (closed, context))
        with capture(model, ["layers.1.resid_post"]) as seen:
            model(its[None], adapters=[-1])
        state, n = seen["layers.1.resid_post"], int(closed.sites["last"][i].sum())
        with edit(model, {"layers.1.resid_post": lambda x: torch.cat([x[:, :-n], state[:, -n:]], 1)}):
            logits = model(mine[None], adapters=[0])[0].log_softmax(-1)
        sums.append(sum(logits[t, mine[t + 1]] for t in range(len(mine) - n, len(mine) - 1)))
    by_hand = log_odds(closed, torch.stack(sums).detach()).mean()
    assert row["log_odds"] == pytest.approx(float(by_hand), abs=1e-6)
    assert row["donor"] != row["recipient"] and 0 != row["recovered"] != 1
