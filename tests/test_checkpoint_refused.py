"""Model folders that do not fit: tensors, shard indexes, damaged files, foreign and contradictory configs.
What fits is in test_checkpoint.py."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_checkpoint import (SMALL_SHARD, TOLERANCE, assert_same_logits, one_thread, same_tensors, save,
                             tiny_model)

from model.checkpoint import load_config, load_model, save_model, tensor_files


# ---- what does not fit -------------------------------------------------------------------------------------

@pytest.mark.parametrize("sharded", (False, True), ids=("single", "shards"))
def test_every_wrong_tensor_is_listed_in_one_error(tmp_path, sharded):
    model = tiny_model()
    tensors = dict(model.state_dict())
    del tensors["model.norm.weight"], tensors["model.layers.0.self_attn.q_proj.bias"]
    tensors["model.layers.0.self_attn.o_proj.bias"] = torch.zeros(32)
    tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(48, 32)
    tensors["model.layers.1.mlp.down_proj.weight"] = torch.zeros(48, 32)            # transposed
    tensors["model.embed_tokens.weight"] = torch.zeros(84, 32)
    folder = tmp_path / "m"
    save_model(folder, model.config, tensors, shard_bytes=SMALL_SHARD if sharded else 10 ** 9)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    first, *lines = str(error.value).splitlines()
    assert str(folder) in first
    assert sorted(" ".join(line.split()) for line in lines) == [
        "misshaped model.embed_tokens.weight [84, 32], expected [83, 32]",
        "misshaped model.layers.1.mlp.down_proj.weight [48, 32], expected [32, 48]",
        "missing model.layers.0.self_attn.q_proj.bias [32]",
        "missing model.norm.weight [32]",
        "unexpected model.layers.0.self_attn.o_proj.bias [32]",
        "unexpected model.layers.2.mlp.up_proj.weight [48, 32]"]
    assert "2 missing, 2 unexpected, 2 misshaped" in first


@pytest.mark.parametrize("place", ("../{}", "{folder}/{}", "{parent}/{}", "sub/{}", "./{}", "..", ""))
def test_an_index_that_leaves_its_folder_is_refused(tmp_path, place):
    """The files that it names do exist and hold the right tensors, so only the name can be the reason."""
    folder = save(tmp_path / "m", tiny_model(), shard_bytes=SMALL_SHARD)
    (folder / "sub").mkdir()
    for file in folder.glob("*.safetensors"):
        shutil.copyfile(file, tmp_path / file.name)
        shutil.copyfile(file, folder / "sub" / file.name)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = "model.layers.1.mlp.up_proj.weight"
    index["weight_map"][name] = place.format(index["weight_map"][name], folder=folder, parent=tmp_path)
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="not a .safetensors file of this folder") as error:
        load_model(folder)
    assert str(path) in str(error.value) and name in str(error.value)


@pytest.mark.parametrize("sharded", (False, True), ids=("single", "shards"))
def test_the_hub_cache_layout_loads(tmp_path, sharded):
    """snapshots/REVISION/NAME -> ../../blobs/DIGEST: every file is a symlink out of its folder."""
    source = save(tmp_path / "m", tiny_model(), shard_bytes=SMALL_SHARD if sharded else 10 ** 9)
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, file in enumerate(sorted(source.iterdir())):
        shutil.move(file, blobs / f"{i:040x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{i:040x}")
    assert same_tensors(load_model(snapshot), tiny_model())


def test_a_folder_without_safetensors_is_refused(tmp_path):
    folder = save(tmp_path / "m", tiny_model())
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")         # a pickle is no weights to us
    with pytest.raises(FileNotFoundError, match="no weights") as error:
        load_model(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("keep", (0, 5, 8, 200, 0.5, -1))
def test_a_file_cut_short_is_refused(tmp_path, keep):
    folder = save(tmp_path / "m", tiny_model())
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="cut short") as error:
        load_model(folder)
    assert str(path) in str(error.value)


def test_a_shard_cut_short_absent_or_poorer_than_its_index(tmp_path):
    folder = save(tmp_path / "m", tiny_model(), shard_bytes=SMALL_SHARD)
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.read_bytes()

    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="cut short") as error:
        load_model(folder)
    assert str(shard) in str(error.value)

    shard.unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_model(folder)
    assert str(shard) in str(error.value)

    shard.write_bytes(whole)
    tensors = load_file(shard)
    lost = sorted(tensors)[:2]
    save_file({n: t for n, t in tensors.items() if n not in lost}, shard)
    with pytest.raises(ValueError, match="lacks") as error:
        load_model(folder)
    assert all(f"{shard}: lacks {name}" in str(error.value) for name in lost)


@pytest.mark.parametrize("weight_map", ({}, [], None, {"a": 3}, {"a": "model.bin"}))
def test_a_useless_index_is_refused(tmp_path, weight_map):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(ValueError, match="weight_map") as error:
        tensor_files(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ("config.json", "model.safetensors.index.json"))
def test_broken_json_names_its_file(tmp_path, name):
    folder = save(tmp_path / "m", tiny_model(), shard_bytes=SMALL_SHARD)
    text = (folder / name).read_text()
    twice = text.rstrip()[:-1] + ', "vocab_size": 98, "vocab_size": 99}'
    for broken in (text[:len(text) // 2], "", b"\xff\xfe\x00", twice):
        (folder / name).write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        with pytest.raises(ValueError, match="not valid JSON") as error:
            load_model(folder)
        assert str(folder / name) in str(error.value)


@pytest.mark.parametrize("name", ("config.json", "model.safetensors.index.json"))
@pytest.mark.parametrize("text", ("[]", "null", '"qwen2"'))
def test_json_that_is_no_object_names_its_file(tmp_path, name, text):
    folder = save(tmp_path / "m", tiny_model(), shard_bytes=SMALL_SHARD)
    (folder / name).write_text(text)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(folder / name) in str(error.value)


def test_a_folder_without_config_names_it(tmp_path):
    folder = save(tmp_path / "m", tiny_model())
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_model(folder)
    assert str(folder / "config.json") in str(error.value)


@pytest.mark.parametrize("key, value", (
    ("model_type", "llama"), ("model_type", "qwen2_moe"), ("hidden_act", "gelu"),
    ("use_sliding_window", True), ("rope_scaling", {"type": "yarn", "factor": 4.0}),
    ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e6}),
    ("layer_types", ["full_attention", "sliding_attention"]), ("quantization_config", {"bits": 4}),
    ("num_key_value_heads", 3), ("num_key_value_heads", 0), ("vocab_size", None)))
def test_a_config_of_another_model_is_refused_by_name(tmp_path, key, value):
    folder = save(tmp_path / "m", tiny_model())
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(path) in str(error.value) and key in str(error.value)


def test_rope_theta_has_no_default(tmp_path):
    folder = save(tmp_path / "m", tiny_model())
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_theta"]
    path.write_text(json.dumps(config))
    assert load_config(folder).rope_theta == 700.0      # transformers 5 has it in rope_parameters only
    del config["rope_parameters"]["rope_theta"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="missing rope_theta"):
        load_model(folder)


def test_a_tied_head_that_is_stored_too_must_equal_the_embedding(tmp_path):
    model = tiny_model(tie_word_embeddings=True)
    folder = save(tmp_path / "m", model)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    embed = tensors["model.embed_tokens.weight"]

    save_file({**tensors, "lm_head.weight": embed.clone()}, path)
    loaded = load_model(folder)
    assert same_tensors(loaded, model) and loaded.lm_head.weight is loaded.model.embed_tokens.weight

    other = embed.clone()
    other[-1, -1] += 1e-3
    for head in (other, embed[:-1].clone()):
        save_file({**tensors, "lm_head.weight": head}, path)
        with pytest.raises(ValueError, match="tie_word_embeddings.*lm_head") as error:
            load_model(folder)
        assert str(folder) in str(error.value)


def test_a_tied_model_stored_under_the_head_alone_loads(tmp_path):
    """transformers loads it too."""
    model = tiny_model(tie_word_embeddings=True)
    folder = save(tmp_path / "m", model)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(folder)
    assert same_tensors(loaded, model) and loaded.lm_head.weight is loaded.model.embed_tokens.weight
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    assert_same_logits(loaded, theirs, TOLERANCE["fp32"])
