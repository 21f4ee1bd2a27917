"""Sampling and scoring with a bank of adapters: rows that leave take their adapter along; base, one and
several side by side; no false sharing."""

import pytest
import torch

from model.drawing import Sampling
from model.lora import adapted, add_lora
from model.sampling import generate, generate_naive, prefill, score
from test_sampling import GREEDY, exact, family, prompts_of     # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def bank(exact):
    """Three adapters with large random factors: no two rows with different adapters say the same."""
    add_lora(exact, rank=3, alpha=6, seeds=(0, 1, 2))
    generator = torch.Generator().manual_seed(44)
    for module in adapted(exact).values():
        for factor in (module.lora_A, module.lora_B):
            factor.data.copy_(torch.randn(factor.shape, generator=generator, dtype=torch.float64) * 0.4)
    return exact


ADAPTERS = ([2, 2, 0, 0, 1, 1, -1, -1], [0, 1, 2, -1, 0, 1, 2, -1], [-1] * 8, [1] * 8, [1, -1] * 4)


@pytest.mark.parametrize("adapters", ADAPTERS, ids=str)
@pytest.mark.parametrize("prompts", [family() + prompts_of(2, 9, 4, seed=7), prompts_of(6) * 8],
                         ids=["different", "equal"])
def test_a_row_keeps_its_adapter_when_others_leave(bank, adapters, prompts):
    """Rows stop apart; those that stay must go on with their own adapter, not with a leaver's."""
    sampling = Sampling(temperature=0.8, max_new_tokens=14, seed=7)

    def alone(i, stops):
        return generate_naive(bank, prompts[i], stops, sampling, i, adapters[i])

    free = [alone(i, ()).ids for i in range(8)]
    assert len(set(map(tuple, free))) == 8
    stops = {free[0][1], free[3][4], free[6][7]}
    expected = [alone(i, stops) for i in range(8)]
    assert sum(c.stopped for c in expected) >= 3
    assert generate(bank, prompts, stops, sampling, adapters=adapters) == expected
    assert generate(bank, prompts, stops, sampling, adapters=torch.tensor(adapters), rows=3) == expected


def test_equal_prompts_of_different_adapters_are_not_shared(bank):
    """One pass a prompt and adapter: a prefix row for each adapter, then each pair once."""
    prompt, shapes = prompts_of(6)[0], []
    bank.model.register_forward_hook(lambda module, args, out: shapes.append(tuple(args[0].shape)))
    with torch.no_grad():
        cache, logits = prefill(bank, [prompt] * 5, 1, [0, -1, 0, 2, -1])
        assert shapes == [(3, 5), (3, 1)]
        for row, k in enumerate([0, -1, 0, 2, -1]):
            whole = bank(torch.tensor([prompt]), adapters=[k])[0, -1]
            assert (logits[row] - whole).abs().max() < 1e-12
        shapes.clear()
        prefill(bank, [prompt, prompt[:3] + [1, 2], prompt], 1, [0, 1, 1])
        assert shapes == [(2, 5), (3, 3)]                   # each adapter its own longest prefix


@pytest.mark.parametrize("adapters", ADAPTERS, ids=str)
def test_score_with_adapters(bank, adapters):
    prompts, continuations = family(seed=13) + prompts_of(3, 4, 8, seed=20), prompts_of(*range(1, 9), seed=14)
    found = score(bank, prompts, continuations, adapters)
    for prompt, continuation, k, ours in zip(prompts, continuations, adapters, found, strict=True):
        with torch.no_grad():
            table = bank(torch.tensor([prompt + continuation]), adapters=[k])[0].log_softmax(-1)
        expected = [float(table[len(prompt) + i - 1, token]) for i, token in enumerate(continuation)]
        assert ours == pytest.approx(expected, abs=2e-6)


def test_adapters_must_be_named_for_each_prompt(bank):
    for ask in (lambda **kw: generate(bank, [[1], [2]], (), GREEDY, **kw),
                lambda **kw: score(bank, [[1], [2]], [[3], [4]], **kw)):
        with pytest.raises(ValueError, match="carries 3 adapters"):
            ask()
        with pytest.raises(ValueError, match="2 prompts, but adapters for 3"):
            ask(adapters=[0, 1, 2])
        with pytest.raises(ValueError, match="adapter 3 is not on the model"):
            ask(adapters=[0, 3])
