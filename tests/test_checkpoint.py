"""Model folders on disk: ours read by transformers, theirs read by us, and back.

Covers save_model and load_model (sharded or not, tied or not, fp32 and bf16), write_folder's
whole-or-nothing, find_model, and the shard indexes of the real Qwen2.5 sizes; what is refused is in
test_checkpoint_refused.py. CPU, offline, five seconds:

    python -m pytest tests/test_checkpoint.py
"""

import json
import math
import os
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from model.checkpoint import find_model, load_config, load_model, save_model, tensor_files
from model.files import write_folder
from model.qwen2 import Qwen2, Qwen2Config

QWEN = Path(__file__).resolve().parents[2] / "shared" / "qwen2.5"
CONFIGS = sorted((QWEN / "configs").glob("*/config.json"))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {"fp32": 1e-5, "bf16": 0.05}    # of logits up to 4; both were 0 where this was written
SMALL_SHARD = 16_000                        # bytes: several shards, tensors of one layer in different files

transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny matrices gain nothing from a second thread, and on a busy machine they wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_config(**changes):
    # no setting at its default, so that a dropped or defaulted one shows in the logits
    return Qwen2Config(**{**dict(vocab_size=83, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                 num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96,
                                 rms_norm_eps=1e-3, rope_theta=700.0, tie_word_embeddings=False), **changes})


def fill_randomly(model, seed=0):
    """Every tensor random: with zero biases and unit norms a dropped bias would pass."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (1.0 if "norm" in name else 0.0))
    return model.eval()


def tiny_model(seed=0, dtype=torch.float32, **changes):
    return fill_randomly(Qwen2(tiny_config(**changes)), seed).to(dtype)


def some_ids(vocab=83):
    return torch.randint(0, vocab, (3, 19), generator=torch.Generator().manual_seed(7))


def save(folder, model, **options):
    save_model(folder, model.config, model.state_dict(), **options)
    return folder


def same_tensors(model, other):
    a, b = model.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@torch.no_grad()
def assert_same_logits(ours, theirs, tolerance):
    ids = some_ids()
    a, b = ours(ids), theirs(ids).logits
    assert a.dtype == b.dtype and b.abs().max() > 1.0           # the comparison has something to compare
    assert (a - b).abs().max().item() <= tolerance


# ---- ours to transformers, and back ------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", (False, True), ids=("untied", "tied"))
@pytest.mark.parametrize("sharded", (False, True), ids=("single", "shards"))
def test_transformers_loads_what_we_save(tmp_path, dtype, tied, sharded):
    model = tiny_model(dtype=DTYPES[dtype], tie_word_embeddings=tied)
    folder = save(tmp_path / "m", model, **({"shard_bytes": SMALL_SHARD} if sharded else {}))

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    assert type(theirs).__name__ == "Qwen2ForCausalLM"
    assert theirs.dtype == DTYPES[dtype]
    assert transformers.AutoConfig.from_pretrained(folder).dtype == DTYPES[dtype]
    assert same_tensors(model, theirs)
    assert_same_logits(model, theirs, TOLERANCE[dtype])

    again = load_model(folder)
    assert again.config == model.config and same_tensors(model, again)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert not again.training and not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", (False, True), ids=("untied", "tied"))
@pytest.mark.parametrize("sharded", (False, True), ids=("single", "shards"))
def test_we_load_what_transformers_saves(tmp_path, dtype, tied, sharded):
    config = transformers.Qwen2Config(
        vocab_size=83, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=96, rms_norm_eps=1e-3, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0})
    theirs = fill_randomly(transformers.Qwen2ForCausalLM(config)).to(DTYPES[dtype])
    theirs.save_pretrained(tmp_path, **({"max_shard_size": "16KB"} if sharded else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() == sharded
    # read again: the .to(bf16) above has rounded this instance's rotary frequencies, which are in no file
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()

    ours = load_model(tmp_path)
    assert ours.config == tiny_config(tie_word_embeddings=tied)
    assert same_tensors(ours, theirs)
    assert_same_logits(ours, theirs, TOLERANCE[dtype])


def test_dtype_converts_on_load(tmp_path):
    model = tiny_model()
    folder = save(tmp_path / "m", model)
    assert same_tensors(load_model(folder, dtype=torch.bfloat16), tiny_model(dtype=torch.bfloat16))
    assert same_tensors(load_model(folder, dtype=torch.float64), tiny_model(dtype=torch.float64))
    assert same_tensors(load_model(folder), model)


def test_shards_are_within_the_limit_and_indexed(tmp_path):
    model = tiny_model(tie_word_embeddings=True)
    folder = save(tmp_path / "m", model, shard_bytes=SMALL_SHARD)
    files = sorted(folder.glob("*.safetensors"))
    count = len(files)
    assert count >= 4
    assert [f.name for f in files] == [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    sizes = [[model.state_dict()[n].nbytes for n in load_file(f)] for f in files]
    assert all(sum(s) <= SMALL_SHARD for s in sizes)
    assert all(sum(s) + max(after) > SMALL_SHARD for s, after in zip(sizes, sizes[1:]))     # nor too many
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    stored = {name: file.name for file in files for name in load_file(file)}
    assert index["weight_map"] == stored and "lm_head.weight" not in stored         # tied: stored once
    assert index["metadata"]["total_size"] == sum(p.nbytes for p in model.parameters())
    # a layer's tensors lie in two files somewhere, as in the real Qwen2.5 shards
    assert len({f for n, f in stored.items() if n.startswith("model.layers.1.")}) > 1


def test_a_tensor_larger_than_the_limit_gets_a_shard_of_its_own(tmp_path):
    model = tiny_model()
    folder = save(tmp_path / "m", model, shard_bytes=1)
    assert len(list(folder.glob("*.safetensors"))) == len(model.state_dict())
    assert same_tensors(load_model(folder), model)


def test_tokenizer_files_come_along_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    carried = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
    for name in carried + ["config.json", "model.safetensors", "optimizer.pt", "notes.txt"]:
        (source / name).write_text(json.dumps({"source of": name}))
    folder = save(tmp_path / "m", tiny_model(), source=source)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*carried, "config.json", "model.safetensors"])
    for name in carried:
        assert (folder / name).read_text() == json.dumps({"source of": name})
    assert same_tensors(load_model(folder), tiny_model())


def test_editing_loaded_weights_leaves_the_file_alone(tmp_path):
    folder = save(tmp_path / "m", tiny_model())
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    assert same_tensors(load_model(folder), tiny_model())


# ---- whole or not at all -----------------------------------------------------------------------------------

@pytest.mark.parametrize("failure", (RuntimeError, KeyboardInterrupt))
def test_write_folder_keeps_the_old_folder_when_filling_fails(tmp_path, failure):
    folder = tmp_path / "m"

    def half(path):
        (path / "a").write_text("new")
        raise failure

    with pytest.raises(failure):
        write_folder(folder, half)
    assert not folder.exists()

    write_folder(folder, lambda path: [(path / n).write_text("old") for n in "ab"])
    with pytest.raises(failure):
        write_folder(folder, half)
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"a": "old", "b": "old"}

    # the next one that succeeds replaces all of it, and inherits nothing from the one that failed
    write_folder(folder, lambda path: (path / "c").write_text("new"))
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"c": "new"}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_write_folder_makes_the_parents(tmp_path):
    write_folder(tmp_path / "x" / "y" / "m", lambda path: (path / "a").write_text("new"))
    assert (tmp_path / "x" / "y" / "m" / "a").read_text() == "new"


def test_a_disk_that_takes_no_more_is_an_error_that_names_the_file(tmp_path):
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="model.safetensors: cannot be written .*File too large"):
            save(tmp_path / "m", tiny_model())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- find_model --------------------------------------------------------------------------------------------

def test_find_model(tmp_path, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name == "org/none":
            raise OSError("404\nmore lines")
        return str(tmp_path)

    import huggingface_hub
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "local").mkdir(parents=True)
    (tmp_path / "org" / "file").write_text("")
    assert find_model(tmp_path) == tmp_path
    assert find_model("org/local") == Path("org/local")         # a folder wins over a hub id
    for name in ("nothing", "/no/such/folder", "a/b/c", "org/file", "org/na me"):
        with pytest.raises(FileNotFoundError, match="ORG/NAME") as error:
            find_model(name)
        assert name in str(error.value)
    assert not asked                                            # none of these goes to the network
    assert find_model("Qwen/Qwen2.5-0.5B") == tmp_path
    assert asked[0][0] == "Qwen/Qwen2.5-0.5B"
    assert "*.safetensors" in asked[0][1] and not any("bin" in p or p in ("*", "*.*") for p in asked[0][1])
    with pytest.raises(FileNotFoundError, match="org/none.*OSError: 404"):
        find_model("org/none")


# ---- the real Qwen2.5 sizes --------------------------------------------------------------------------------

@pytest.mark.skipif(not CONFIGS, reason=f"no configs at {QWEN / 'configs'}")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.parent.name)
def test_every_real_index_names_exactly_our_parameters(path):
    config = load_config(path.parent)
    with torch.device("meta"):
        model = Qwen2(config)
    count = sum(math.prod(p.shape) for p in model.parameters())
    billions = float(path.parent.name.removesuffix("-Instruct").removeprefix("Qwen2.5-").removesuffix("B"))
    assert 0.85 * billions < count / 1e9 < 1.25 * billions      # the name is rounded: "14B" has 14.8
    index = path.parent / "model.safetensors.index.json"
    if not index.exists():      # 0.5B and 1.5B are one file, and of some bases there is none here
        return
    files = tensor_files(path.parent)
    assert set(files) == {name for name, _ in model.named_parameters()}
    assert len({f.parent for f in files.values()}) == 1 and files["model.norm.weight"].parent == path.parent
    assert json.loads(index.read_text())["metadata"]["total_size"] == 2 * count     # bf16
