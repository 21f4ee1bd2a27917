"""Decoding in strides (model/strides.py) says what decoding token by token says. Here on the CPU, where a
step is run and not captured; tests/test_cuda.py has the graphs."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model import sampling as sampling_module
from model import strides as strides_module
from model.cache import KVCache
from model.capture import capture
from model.drawing import Sampling, pick
from model.lora import adapted, add_lora
from model.sampling import Completion, generate, generate_naive, prefill
from model.strides import STRIDE, Strides, in_strides

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def exact(tiny):
    """Four adapters with large random factors, in fp64."""
    model = add_lora(tiny(seed=35, dtype=torch.float64), rank=3, alpha=6, seeds=(0, 1, 2, 3))
    generator = torch.Generator().manual_seed(45)
    for module in adapted(model).values():
        for factor in (module.lora_A, module.lora_B):
            factor.data.copy_(torch.randn(factor.shape, generator=generator, dtype=torch.float64) * 0.4)
    return model


@pytest.fixture
def strides(monkeypatch):
    """Turns strides on; gives how many steps each took."""
    taken, take = [], Strides.take

    def counted(self, streams, ages, room):
        out = take(self, streams, ages, room)
        taken.append(len(out))
        return out

    monkeypatch.setattr(sampling_module, "in_strides", lambda model: True)
    monkeypatch.setattr(Strides, "take", counted)
    return taken


def prompts_of(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(97, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("rows", [None, 5], ids=["all at once", "5 at a time"])
@pytest.mark.parametrize("new", [3, STRIDE, 21])
@pytest.mark.parametrize("sampling", [
    dict(temperature=0.0), dict(),
    dict(temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=4)],
    ids=["greedy", "plain", "everything"])
def test_strides_are_the_naive_loop(exact, strides, sampling, new, rows):
    """Rows of unequal prompts and adapters, which end apart; others take their places in the middle."""
    prompts = prompts_of(5, 2, 9, 3, 4, 8, 2, 6, 7, 3, 5, 4, seed=23)
    adapters, sampling = [0, 1, -1, 3, 2, 2, 0, -1, 1, 3, 0, 1], Sampling(**sampling, max_new_tokens=new)

    def alone(stops):
        return [generate_naive(exact, p, stops, sampling, i, k)
                for i, (p, k) in enumerate(zip(prompts, adapters))]

    stops = {c.ids[min(2 * i, new - 1)] for i, c in enumerate(alone(())[:4])}
    expected = alone(stops)
    assert len({len(c.ids) for c in expected}) > 2
    assert generate(exact, prompts, stops, sampling, adapters=adapters, rows=rows) == expected
    assert max(strides) == min(STRIDE, new) and (new <= STRIDE or min(strides) < STRIDE)


def test_what_a_row_draws_behind_its_end_is_not_seen(exact, strides):
    prompts, sampling = prompts_of(4, 6, seed=3), Sampling(max_new_tokens=12, seed=9)
    free = generate(exact, prompts, (), sampling, adapters=[0, 1])
    stop = free[0].ids[2]
    first = generate(exact, prompts, {stop}, sampling, adapters=[0, 1])[0]
    assert first == Completion(free[0].ids[:free[0].ids.index(stop)], True)


def test_rows_that_are_all_on_the_base(exact, strides):
    prompts, sampling = prompts_of(4, 6, seed=3), Sampling(max_new_tokens=12, seed=9)
    wanted = [generate_naive(exact, prompt, (), sampling, i, -1) for i, prompt in enumerate(prompts)]
    assert generate(exact, prompts, (), sampling, adapters=[-1, -1]) == wanted


@torch.inference_mode()
def test_a_stride_leaves_the_cache_as_single_steps_do(exact):
    prompts, sampling, streams = prompts_of(3, 5, seed=8), Sampling(seed=2), np.arange(2)
    ages = np.zeros(2, np.uint64)
    (cache, logits), (other, start) = (prefill(exact, prompts, 9, adapters=[2, 0]) for _ in range(2))
    drawn = Strides(exact, other, start, None, [2, 0], sampling).take(streams, ages, 5)
    for i in range(5):
        tokens = pick(logits, sampling, streams, i)
        assert torch.equal(tokens, drawn[i])
        logits = exact(tokens[:, None], cache, adapters=[2, 0])[:, -1]
    assert cache.width == other.width and torch.equal(cache.lengths, other.lengths)
    for row, length in enumerate(cache.lengths.tolist()):
        for ours, theirs in ((cache.keys, other.keys), (cache.values, other.values)):
            torch.testing.assert_close(ours[:, row, :, :length], theirs[:, row, :, :length],
                                       rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, start, rtol=0, atol=1e-11)


def test_a_graph_is_gone_before_the_rows_change(exact, strides, monkeypatch):
    """What it holds would stand beside the new rows' caches."""
    alive, joined = weakref.WeakSet(), []

    def noted(self, *args, init=Strides.__init__):
        init(self, *args)
        alive.add(self)

    def apart(of, name):
        real = getattr(of, name)

        def wrapped(*args, **more):
            joined.append(name)
            assert not alive, name
            return real(*args, **more)
        monkeypatch.setattr(of, name, wrapped)

    monkeypatch.setattr(Strides, "__init__", noted)
    apart(sampling_module, "prefill")
    apart(KVCache, "join")
    apart(KVCache, "select")
    prompts, sampling = prompts_of(5, 2, 9, 3, 4, 8, 2, 6, seed=23), Sampling(max_new_tokens=21, seed=9)
    free = generate(exact, prompts, (), sampling, adapters=[0] * 8)
    generate(exact, prompts, {free[1].ids[3], free[2].ids[12]}, sampling, adapters=[0] * 8, rows=4)
    assert {"prefill", "join", "select"} <= set(joined) and not alive


def test_the_second_step_is_recorded_and_replayed_from_then_on(monkeypatch):
    done = []
    graph = SimpleNamespace(replay=lambda: done.append("replay"))
    monkeypatch.setattr(strides_module, "record", lambda step, device: done.append("record") or graph)
    for on_gpu, wanted in ((True, ["step", "record", "replay", "replay"]), (False, ["step"] * 3)):
        some = object.__new__(Strides)
        some.graph, some.begun, some.step = None, False, lambda: done.append("step")
        some.logits = SimpleNamespace(is_cuda=on_gpu, device="cuda:1")
        for _ in range(3):
            some.advance()
        assert done == wanted
        done.clear()


def test_a_model_with_hooks_decodes_without_graphs(exact):
    on_gpu = SimpleNamespace(lm_head=SimpleNamespace(weight=SimpleNamespace(is_cuda=True)),
                             modules=exact.modules)
    assert in_strides(on_gpu) and not in_strides(exact)         # this one is on the CPU
    with capture(exact, ["model.layers.0.resid_post"]):
        assert not in_strides(on_gpu)
    assert in_strides(on_gpu)
