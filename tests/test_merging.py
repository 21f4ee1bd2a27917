"""Adapters merged into the weights (tests/merging.py): the same logits, rounded once, and a model that
transformers loads."""

import pytest
import torch
from merging import delta, merged_tensors
from test_lora import ADAPTERS, CONFIG, hf_base, logits, new_model, one_thread, with_random_factors, worst

from model.checkpoint import load_model, save_model
from model.lora import adapted, add_lora
from model.qwen2 import Qwen2


@pytest.mark.parametrize("dtype, tolerance", ((torch.float32, 5e-5), (torch.float64, 1e-12)))
@pytest.mark.parametrize("targets, rank, alpha", ADAPTERS[:3])
def test_merged_equals_unmerged(targets, rank, alpha, dtype, tolerance):
    base = new_model(dtype=dtype)
    model = with_random_factors(add_lora(new_model(dtype=dtype), targets, rank, alpha, seeds=(0, 1)))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    for k in (0, 1):
        merged = merged_tensors(model, k)
        assert list(merged) == list(base.state_dict())
        plain = Qwen2(CONFIG).to(dtype)
        plain.load_state_dict(merged, strict=True)
        assert worst(logits(plain), logits(model, k=k)) <= tolerance
        changed = {n for n, t in merged.items() if not torch.equal(t, base.state_dict()[n])}
        assert changed == {f"{n}.weight" for n in adapted(model)}
        assert not any(t.requires_grad for t in merged.values())
    assert worst(merged_tensors(model, 0)[min(changed)], merged_tensors(model, 1)[min(changed)]) > 0.01
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())   # nothing in place


def test_merging_into_bf16_rounds_once():
    model = with_random_factors(add_lora(new_model(dtype=torch.bfloat16), rank=4, alpha=7))
    merged, twice = merged_tensors(model), 0
    for name, module in adapted(model).items():
        change = (7 / 4) * (module.lora_B[0] @ module.lora_A[0])
        assert worst(delta(module), change) <= 1e-6
        exact = module.weight.double() + change.double()
        result = merged[f"{name}.weight"]
        assert result.dtype == torch.bfloat16
        # within half a bf16 step (8 bits of mantissa) of the exact sum; a delta rounded before the sum is not
        half_step = exact.abs() * 2 ** -8 * 1.001
        assert ((result.double() - exact).abs() <= half_step).all()
        twice += (((module.weight + change.bfloat16()).double() - exact).abs() > half_step).sum()
    assert twice > 100


@pytest.mark.parametrize("tied", (False, True), ids=("untied", "tied"))
def test_transformers_loads_a_merged_model(tmp_path, tied):
    model = add_lora(new_model(tie_word_embeddings=tied), rank=4, alpha=8, seeds=(0, 1, 2))
    with_random_factors(model)
    save_model(tmp_path / "m", model.config, merged_tensors(model, 1))
    ours = logits(model, k=1)
    assert worst(ours, logits(hf_base(tmp_path / "m"))) <= 5e-5         # one product where there were three
    assert worst(ours, logits(load_model(tmp_path / "m"))) <= 5e-5
    assert worst(ours, logits(model, k=-1)) > 0.2
