"""The per-token gate on an adapter's output: all on is the adapter and none the base, bit for bit."""

import pytest
import torch

from model.cache import KVCache
from model.lora import adapted, add_lora, gated

pytestmark = pytest.mark.usefixtures("one_thread")


def with_random_B(model):
    for i, module in enumerate(adapted(model).values()):
        generator = torch.Generator().manual_seed(i)
        module.lora_B.data.copy_(0.3 * torch.randn(module.lora_B.shape, generator=generator))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_gates_on_are_the_adapter_and_none_the_base_bit_for_bit(tiny, ids, dtype):
    model, x = with_random_B(add_lora(tiny(dtype=dtype), rank=3, seeds=(0, 1))), ids(3, 9)
    adapters = [1, -1, 0]
    on, off = model(x, adapters=adapters), model(x, adapters=[-1] * 3)
    assert not torch.equal(on, off)
    for gate, expected in ((torch.ones(3, 9), on), (torch.ones(1, 1), on), (torch.zeros(3, 9), off)):
        with gated(model, dict.fromkeys(adapted(model), gate)):
            assert torch.equal(model(x, adapters=adapters), expected)
    assert torch.equal(model(x, adapters=adapters), on)


def test_a_gate_acts_on_its_tokens_and_modules_alone(tiny, ids):
    model, x = with_random_B(add_lora(tiny(dtype=torch.float64), rank=3)), ids(2, 9)
    on, off = model(x), model(x, adapters=[-1, -1])
    gate = torch.zeros(2, 9)
    gate[0, 4:] = 1
    with gated(model, dict.fromkeys(adapted(model), gate)):
        found = model(x)
    assert torch.equal(found[0, :4], off[0, :4]) and torch.equal(found[1], off[1])
    assert not torch.isclose(found[0, 4:], off[0, 4:]).all(-1).any()
    # not the adapter's either: earlier keys and values are the base's
    assert not torch.isclose(found[0, 4:], on[0, 4:]).all(-1).any()
    name = "model.layers.1.mlp.down_proj"
    with gated(model, {n: torch.zeros(1, 1) for n in adapted(model) if n != name}):
        one = model(x)
    for n, module in adapted(model).items():
        if n != name:
            module.lora_B.data.zero_()
    assert torch.equal(one, model(x))


def test_a_gate_behind_a_cache_is_the_gate_of_one_pass(tiny, ids):
    model, x = with_random_B(add_lora(tiny(dtype=torch.float64), rank=3)), ids(2, 9)
    gate = (torch.arange(18).view(2, 9) % 3 == 0).double()
    with gated(model, dict.fromkeys(adapted(model), gate)):
        whole = model(x)
    cache, parts = KVCache(model.config, 2, 9, dtype=torch.float64), []
    for part in (slice(0, 5), slice(5, 6), slice(6, 9)):
        with gated(model, dict.fromkeys(adapted(model), gate[:, part])):
            parts.append(model(x[:, part], cache))
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-12)


def test_a_gate_is_gone_after_an_error_and_refuses_strangers(tiny, ids):
    model = with_random_B(add_lora(tiny(), ["q_proj"]))
    with pytest.raises(ValueError, match="no adapter on model.layers.0.mlp.up_proj; they are on"):
        with gated(model, {"model.layers.0.mlp.up_proj": torch.ones(1, 1)}):
            pass
    with pytest.raises(RuntimeError, match="stop"):
        with gated(model, {"model.layers.0.self_attn.q_proj": torch.zeros(1, 1)}):
            raise RuntimeError("stop")
    assert all(module.gate is None for module in adapted(model).values())


def test_each_row_has_its_own_gate_also_where_others_use_the_base(tiny, ids):
    model, x = with_random_B(add_lora(tiny(dtype=torch.float64), rank=3, seeds=(0, 1))), ids(3, 9)
    gate, adapters = torch.rand(3, 9, generator=torch.Generator().manual_seed(0)), [-1, 1, 0]
    with gated(model, dict.fromkeys(adapted(model), gate)):
        together = model(x, adapters=adapters)
    for row, k in enumerate(adapters):
        with gated(model, dict.fromkeys(adapted(model), gate[row:row + 1])):
            assert torch.allclose(model(x[row:row + 1], adapters=[k])[0], together[row], atol=1e-12)
