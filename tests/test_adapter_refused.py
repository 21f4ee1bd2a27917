"""What load_adapter refuses, by name: settings that we do not compute, another model's shapes, damaged
folders."""

import json
import shutil
from pathlib import Path

import peft
import pytest

from model.checkpoint import load_adapter, load_model
from model.lora import adapted
from test_lora import folder, new_model, peft_adapter      # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def whole_adapter(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("peft") / "a"
    peft_adapter(folder, path, target_modules=["q_proj", "down_proj"], r=2, lora_alpha=4)
    return path


@pytest.fixture
def adapter(folder, whole_adapter, tmp_path):
    """A copy of a folder that PEFT wrote; it loads, until a test spoils it."""
    load_adapter(whole_adapter, load_model(folder))
    return Path(shutil.copytree(whole_adapter, tmp_path / "a"))


def edit(adapter, **changes):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


@pytest.mark.parametrize("key, value", (
    ("use_rslora", True), ("use_dora", True), ("rank_pattern", {"q_proj": 3}),
    ("alpha_pattern", {"q_proj": 3}), ("modules_to_save", ["lm_head"]),
    ("bias", "all"), ("bias", "lora_only"),
    ("layers_to_transform", [0, 3]), ("layers_to_transform", -1), ("layers_to_transform", "1"),
    ("layers_pattern", "h"), ("layer_replication", [[0, 2], [1, 3]]),
    ("lora_bias", True), ("fan_in_fan_out", True),
    ("trainable_token_indices", [1]), ("target_parameters", ["x"]), ("exclude_modules", ["k_proj"]),
    ("target_modules", r".*\.(q|down)_proj"), ("target_modules", []), ("target_modules", None),
    ("target_modules", ["q_proj", "lm_head"]), ("target_modules", ["model.layers.0.self_attn.q_proj"]),
    ("peft_type", "IA3"), ("peft_type", None), ("r", 0), ("r", "4"), ("lora_alpha", None)))
def test_what_we_do_not_compute_is_refused_by_name(folder, adapter, key, value):
    assert hasattr(peft.LoraConfig(), key)                      # the key is spelt as PEFT spells it
    model = load_model(folder)
    path = edit(adapter, **{key: value})
    with pytest.raises(ValueError, match="not supported") as error:
        load_adapter(adapter, model)
    assert f"{key} = {value!r}" in str(error.value) and str(path) in str(error.value)
    assert not adapted(model)


def test_refusals_come_together(folder, adapter):
    edit(adapter, use_dora=True, bias="all", peft_type="LOHA", some_new_setting=3)
    with pytest.raises(ValueError) as error:
        load_adapter(adapter, load_model(folder))
    for part in ("use_dora = True", "bias = 'all'", "peft_type = 'LOHA'", "some_new_setting = 3"):
        assert part in str(error.value)


def test_an_adapter_for_another_width(folder, adapter):
    model = new_model(hidden_size=16, intermediate_size=24)
    with pytest.raises(ValueError, match="another model") as error:
        load_adapter(adapter, model)
    text = str(error.value)
    assert str(adapter) in text and "12 misshaped" in text and "missing" not in text
    assert "model.layers.1.mlp.down_proj.lora_A.weight [2, 48], expected [2, 24]" in text
    assert text.endswith("and 2 more")
    assert not adapted(model)


def test_an_adapter_for_another_depth(folder, adapter):
    for layers, kind, block in ((2, "unexpected", 2), (4, "missing", 3)):
        model = new_model(num_hidden_layers=layers)
        with pytest.raises(ValueError, match="another model") as error:
            load_adapter(adapter, model)
        lines = str(error.value).splitlines()[1:]
        assert len(lines) == 4 and all(kind in line and f"model.layers.{block}." in line for line in lines)
        assert not adapted(model)


def test_damaged_adapter_folders(folder, adapter):
    path = adapter / "adapter_model.safetensors"
    whole = path.read_bytes()
    for keep in (0, len(whole) // 2, -1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match="cut short") as error:
            load_adapter(adapter, load_model(folder))
        assert str(path) in str(error.value)
    path.rename(adapter / "adapter_model.bin")                  # a pickle is no adapter to us
    with pytest.raises(FileNotFoundError) as error:
        load_adapter(adapter, load_model(folder))
    assert str(path) in str(error.value)

    config = adapter / "adapter_config.json"
    config.write_text(config.read_text()[:-20])
    with pytest.raises(ValueError, match="not valid JSON") as error:
        load_adapter(adapter, load_model(folder))
    assert str(config) in str(error.value)
    config.unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_adapter(adapter, load_model(folder))
    assert str(config) in str(error.value)


def test_an_adapter_config_that_is_no_object_names_its_file(folder, adapter):
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(ValueError) as error:
        load_adapter(adapter, load_model(folder))
    assert "adapter_config.json" in str(error.value)
