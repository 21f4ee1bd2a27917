"""Low-rank adapters against PEFT: saved and loaded. The bank: test_lora_bank.py; merged: test_merging.py;
what is refused: test_adapter_refused.py.

Covers add_lora, remove_lora (model/lora.py) and save_adapter, load_adapter
(model/checkpoint.py): the same logits as PEFT in both directions, and how A is drawn.
CPU, offline, seven seconds:

    python -m pytest tests/test_lora.py
"""

import json
import shutil

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp, kstest
from torch import nn

from model.checkpoint import load_adapter, load_bank, load_model, save_adapter, save_model
from model.lora import PROJECTIONS, Linear, adapted, add_lora, remove_lora
from model.qwen2 import Qwen2, Qwen2Config

CONFIG = Qwen2Config(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                     rms_norm_eps=1e-5, rope_theta=900.0, tie_word_embeddings=False)
IDS = torch.randint(0, CONFIG.vocab_size, (6, 13), generator=torch.Generator().manual_seed(3))
# which projections, r, alpha: all, one, pairs across attention and MLP; scales that are no power of two
ADAPTERS = ((PROJECTIONS, 4, 8), (("q_proj", "v_proj"), 3, 7), (("down_proj",), 1, 5),
            (("k_proj", "o_proj"), 5, 3), (("gate_proj", "up_proj"), 33, 10))

transformers.utils.logging.disable_progress_bar()
# transformers warns of a name that PEFT still asks it for
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny matrices gain nothing from a second thread, and on a busy machine they wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randomly(parameters, seed, std=0.2):
    """Fill {name: tensor} with random values; norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in parameters:
        p.data.copy_(torch.randn(p.shape, generator=generator) * std + (1.0 if "norm" in name else 0.0))


def new_model(seed=0, dtype=torch.float32, **changes):
    model = Qwen2(Qwen2Config(**{**CONFIG.__dict__, "head_dim": 0, **changes}))
    randomly(model.named_parameters(), seed)
    return model.to(dtype).eval().requires_grad_(False)


def with_random_factors(model, seed=11, std=0.15):
    """B too is drawn, as if trained: with B = 0 every test of an adapter would pass."""
    randomly(((n, p) for n, p in model.named_parameters() if "lora_" in n), seed, std)
    return model


@torch.no_grad()
def logits(model, ids=IDS, k=None):
    """k: the adapter of every row, or a list with one for each."""
    if k is None:
        out = model(ids)
    else:
        out = model(ids, adapters=k if isinstance(k, list) else [k] * len(ids))
    return getattr(out, "logits", out)


def worst(a, b):
    return (a - b).abs().max().item()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The base as a Hugging Face folder, fp32."""
    path = tmp_path_factory.mktemp("lora") / "base"
    model = new_model()
    save_model(path, model.config, model.state_dict())
    return path


@pytest.fixture(scope="module")
def base_logits(folder):
    return logits(load_model(folder))


def hf_base(folder, dtype=torch.float32):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return model.eval()


def peft_adapter(folder, path, seed=5, **settings):
    """An adapter made and saved by PEFT, A and B random. Returns PEFT's logits with it."""
    config = peft.LoraConfig(**{"task_type": "CAUSAL_LM", "lora_dropout": 0.1, **settings})
    model = peft.get_peft_model(hf_base(folder), config).eval()
    randomly(((n, p) for n, p in model.named_parameters() if "lora_" in n), seed, 0.15)
    model.save_pretrained(path)
    return logits(model)


# ---- against PEFT ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("targets, rank, alpha", ADAPTERS)
def test_peft_computes_what_we_saved(folder, base_logits, tmp_path, targets, rank, alpha):
    model = with_random_factors(add_lora(load_model(folder), targets, rank, alpha))
    ours = logits(model)
    save_adapter(tmp_path / "a", model, base=folder)
    theirs = logits(peft.PeftModel.from_pretrained(hf_base(folder), tmp_path / "a").eval())
    assert worst(ours, base_logits) > 0.2                       # the adapter does something
    assert worst(ours, theirs) <= 1e-5


@pytest.mark.parametrize("targets, rank, alpha", (*ADAPTERS, ("all-linear", 2, 9)))
def test_we_compute_what_peft_saved(folder, base_logits, tmp_path, targets, rank, alpha):
    chosen = targets if isinstance(targets, str) else list(targets)
    theirs = peft_adapter(folder, tmp_path, target_modules=chosen, r=rank, lora_alpha=alpha)
    model = load_adapter(tmp_path, load_model(folder))
    assert worst(theirs, base_logits) > 0.2
    assert worst(logits(model), theirs) <= 1e-5
    names = {n.rpartition(".")[2] for n in adapted(model)}
    assert names == set(PROJECTIONS if isinstance(targets, str) else targets)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("layers", ([1, 2], [0], [0, 2]), ids=str)
def test_adapters_in_some_blocks_only(folder, base_logits, tmp_path, layers):
    """Ours in PEFT, PEFT's in ours, and a bank of two; no other block carries any."""
    model = with_random_factors(add_lora(load_model(folder), ("v_proj", "up_proj"), 3, 5, layers=layers))
    ours = logits(model)
    assert {int(name.split(".")[2]) for name in adapted(model)} == set(layers)
    save_adapter(tmp_path / "a", model, base=folder)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == layers
    theirs = logits(peft.PeftModel.from_pretrained(hf_base(folder), tmp_path / "a").eval())
    assert worst(ours, base_logits) > 0.1 and worst(ours, theirs) <= 1e-5
    # an int where it is one block: PEFT keeps what it was given
    theirs = peft_adapter(folder, tmp_path / "b", target_modules=["v_proj", "up_proj"], r=3, lora_alpha=5,
                          layers_to_transform=layers[0] if len(layers) == 1 else layers)
    assert worst(logits(load_adapter(tmp_path / "b", load_model(folder))), theirs) <= 1e-5
    bank = load_bank([tmp_path / "a", tmp_path / "b"], load_model(folder))
    assert {int(name.split(".")[2]) for name in adapted(bank)} == set(layers)
    assert worst(logits(bank, k=1), theirs) <= 1e-5


def test_a_block_that_is_not_there(folder):
    for layers in ([3], [-1, 0], []):
        with pytest.raises(ValueError, match="blocks 0 to 2"):
            add_lora(load_model(folder), layers=layers)


@pytest.mark.parametrize("init", ("gaussian", "orthogonal", True, False))
def test_initialisations_that_leave_the_base_alone_load(folder, tmp_path, init):
    theirs = peft_adapter(folder, tmp_path, target_modules=["q_proj", "up_proj"], r=4, lora_alpha=6,
                          init_lora_weights=init)
    assert worst(logits(load_adapter(tmp_path, load_model(folder))), theirs) <= 1e-5


@pytest.mark.parametrize("init", ("pissa", "olora"))
def test_initialisations_that_change_the_base_are_refused(folder, tmp_path, init):
    """With these PEFT takes the first A and B out of W, again when it loads: W is no longer the base's."""
    theirs = peft_adapter(folder, tmp_path, target_modules=["q_proj", "up_proj"], r=4, lora_alpha=6,
                          init_lora_weights=init)
    again = logits(peft.PeftModel.from_pretrained(hf_base(folder), tmp_path).eval())
    assert worst(again, theirs) <= 1e-5
    with pytest.raises(ValueError, match="init_lora_weights"):
        load_adapter(tmp_path, load_model(folder))


def test_bf16_base_is_as_near_to_the_truth_as_peft(folder, tmp_path):
    """fp32 factors on a bf16 base. The truth: the same rounded weights and fp32 factors, computed in fp64."""
    peft_adapter(folder, tmp_path, target_modules=list(PROJECTIONS), r=4, lora_alpha=8)
    model = load_adapter(tmp_path, load_model(folder, dtype=torch.bfloat16))
    for name, p in model.named_parameters():
        assert p.dtype == (torch.float32 if "lora_" in name else torch.bfloat16)
    exact = load_adapter(tmp_path, load_model(folder, dtype=torch.bfloat16).double())
    theirs = logits(peft.PeftModel.from_pretrained(hf_base(folder, torch.bfloat16), tmp_path).eval())
    ours, exact = logits(model), logits(exact)
    assert ours.dtype == theirs.dtype == torch.bfloat16 and exact.dtype == torch.float64
    error, reference = ((x.double() - exact).abs().mean().item() for x in (ours, theirs))
    assert 0 < error <= 1.5 * reference


def test_save_and_load_give_the_same_bits_back(folder, tmp_path):
    model = with_random_factors(add_lora(load_model(folder), ("v_proj", "gate_proj"), 3, 7))
    save_adapter(tmp_path / "a", model)
    again = load_adapter(tmp_path / "a", load_model(folder))
    assert list(adapted(again)) == list(adapted(model))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert torch.equal(logits(again), logits(model))


def test_adapter_of_a_bank_and_dtype_on_disk(folder, tmp_path):
    model = with_random_factors(add_lora(load_model(folder), ("q_proj", "down_proj"), 3, 7, seeds=(0, 1, 2)))
    for k in range(3):
        save_adapter(tmp_path / str(k), model, k)
        single = load_adapter(tmp_path / str(k), load_model(folder))
        for module, one in zip(adapted(model).values(), adapted(single).values()):
            assert one.lora_A.shape[0] == 1
            assert torch.equal(one.lora_A[0], module.lora_A[k])
            assert torch.equal(one.lora_B[0], module.lora_B[k])
    shutil.copytree(tmp_path / "2", tmp_path / "half")                  # as others may have stored it
    path = tmp_path / "half" / "adapter_model.safetensors"
    save_file({n: t.bfloat16() for n, t in load_file(path).items()}, path)
    half = load_adapter(tmp_path / "half", load_model(folder))
    theirs = peft.PeftModel.from_pretrained(hf_base(folder), tmp_path / "half").eval()
    assert all(m.lora_A.dtype == torch.float32 for m in adapted(half).values())
    assert worst(logits(half), logits(theirs)) <= 1e-5


# ---- how it starts -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64))
def test_a_new_adapter_is_exactly_the_base(dtype):
    base = new_model(dtype=dtype).requires_grad_(True)
    before = logits(base)
    model = add_lora(base, rank=4, alpha=8, seeds=(0, 1, 2))
    assert torch.equal(logits(model, k=[0, 0, 1, 1, 2, 2]), before) and before.dtype == dtype
    factors = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert len(factors) == 2 * 7 * CONFIG.num_hidden_layers
    # at least fp32, and the only thing that is trained
    assert {p.dtype for p in factors.values()} == {torch.promote_types(dtype, torch.float32)}
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(factors)
    assert all(p.any() for n, p in factors.items() if n.endswith("lora_A"))     # or nothing could ever learn
    assert not any(p.any() for n, p in factors.items() if n.endswith("lora_B"))


def test_the_base_loads_by_the_same_names():
    base = new_model(seed=0)
    model = add_lora(new_model(seed=1), rank=2, alpha=4)
    assert worst(logits(model), logits(base)) > 0.2
    result = model.load_state_dict(base.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert set(result.missing_keys) == {f"{n}.lora_{side}" for n in adapted(model) for side in "AB"}
    assert torch.equal(logits(model), logits(base))


def test_a_is_drawn_as_peft_draws_it(folder):
    """Uniform in +-1/sqrt(in). Seeds are fixed, so there is no false alarm; with 10,000 draws a bound of
    1/sqrt(r), or a normal of the same deviation, has a p-value far below the limit."""
    rank = 16
    ours = add_lora(load_model(folder), rank=rank, alpha=32)
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=rank, lora_alpha=32, target_modules=list(PROJECTIONS))
    theirs = dict(peft.get_peft_model(hf_base(folder), settings).named_parameters())
    scaled, reference = [], []
    for name, module in adapted(ours).items():
        A, B = (theirs[f"base_model.model.{name}.lora_{side}.default.weight"] for side in "AB")
        assert module.lora_A.shape[1:] == A.shape and module.lora_B.shape[1:] == B.shape and not B.any()
        assert 0.95 / module.in_features ** 0.5 < module.lora_A.abs().max() <= module.in_features ** -0.5
        scaled.append(module.lora_A.detach().flatten() * module.in_features ** 0.5)
        reference.append(A.detach().flatten() * module.in_features ** 0.5)
    scaled, reference = torch.cat(scaled).numpy(), torch.cat(reference).numpy()
    assert len(scaled) == len(reference) > 10_000
    assert kstest(scaled, "uniform", args=(-1, 2)).pvalue > 0.01
    assert ks_2samp(scaled, reference).pvalue > 0.01


def test_adapter_k_of_a_bank_starts_as_the_single_one_of_its_seed():
    seeds = (7, 3, 3, 11)
    bank = add_lora(new_model(), rank=3, alpha=6, seeds=seeds)
    for k, seed in enumerate(seeds):
        single = add_lora(new_model(), rank=3, alpha=6, seeds=(seed,))
        for module, one in zip(adapted(bank).values(), adapted(single).values()):
            assert torch.equal(module.lora_A[k], one.lora_A[0])
    draws = [m.lora_A[k, 0, :32] for m in adapted(bank).values() for k in (0, 1, 3)]
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])   # each its own draw


@pytest.mark.parametrize("arguments", (dict(targets=("q_proj", "lm_head")), dict(targets=()), dict(rank=0),
                                       dict(targets=("embed_tokens",))))
def test_add_lora_refuses_what_it_cannot_do(arguments):
    model = new_model()
    with pytest.raises(ValueError):
        add_lora(model, **arguments)
    assert not adapted(model)


def test_adapters_do_not_stack():
    model = add_lora(new_model(), ("q_proj",), 2, 4)
    with pytest.raises(ValueError, match="remove_lora"):
        add_lora(model, ("v_proj",), 2, 4)
    assert {n.rpartition(".")[2] for n in adapted(model)} == {"q_proj"}


def test_remove_lora_gives_the_base_back():
    model = new_model()
    before, names = logits(model), [n for n, _ in model.named_parameters()]
    addresses = [p.data_ptr() for p in model.parameters()]
    with_random_factors(add_lora(model, rank=4, alpha=8))
    assert worst(logits(model), before) > 0.2
    remove_lora(model)
    assert torch.equal(logits(model), before)
    assert [n for n, _ in model.named_parameters()] == names and not adapted(model)
    assert [p.data_ptr() for p in model.parameters()] == addresses      # the weights were never copied
    assert {type(m) for m in model.modules() if isinstance(m, nn.Linear)} == {nn.Linear, Linear}
    assert not any(p.requires_grad for p in model.parameters())
    add_lora(model, rank=2, alpha=4)                                    # and it can be adapted anew
    assert torch.equal(logits(model), before)
