"""Model folders that are odd, edited or contradict themselves, and what is said and kept of them.

Covers model/settings.py, the checks of model/checkpoint.py across files, and model/files.py; identity,
devices and loading are in test_identity.py. The reference for a saved folder is transformers. CPU, offline,
ten seconds:

    python -m pytest tests/test_folders.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import make_ids, make_tiny
from safetensors.torch import load_file, save_file

from model import files
from model.checkpoint import load_adapter, load_config, load_model, save_adapter, save_model
from model.files import alive, read_json, short, write_folder
from model.lora import add_lora
from newnews.outputs import build_folder

POCKET = Path(__file__).resolve().parent.parent / "data" / "pocket"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test writes to the user's cache."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path / "newnews" / "sha256"


@pytest.fixture
def folder(tmp_path):
    model = make_tiny(tie_word_embeddings=True)
    save_model(tmp_path / "m", model.config, model.state_dict())
    return tmp_path / "m"


def edit(path, *drop, **changes):
    settings = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({k: v for k, v in {**settings, **changes}.items() if k not in drop}))
    return path


def one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text and len(text) < 800, text
    for part in parts:
        assert str(part) in text, (part, text)


# ---- values ------------------------------------------------------------------------------------------------

ODD = ([1], {"a": 1}, "8", True, 1.5, float("nan"), float("inf"), 0, -1, 10 ** 12, "x" * 10 ** 6)
COUNTS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "max_position_embeddings", "head_dim", "rms_norm_eps", "rope_theta",
          "initializer_range")


@pytest.mark.parametrize("key", COUNTS)
def test_every_number_of_a_config_is_checked(folder, key):
    path = folder / "config.json"
    for value in ODD:
        edit(path, "rope_parameters", **{key: value})
        start = time.time()
        with pytest.raises(ValueError) as error:
            load_config(folder)
        one_line(error, path, f"{key}: found", "expected a")
        assert time.time() - start < 2


@pytest.mark.parametrize("key, values", (
    ("tie_word_embeddings", (1, "true", [True])), ("use_sliding_window", ("no", 0)),
    ("layer_types", ("full_attention", [["full_attention"]], [3], {})), ("rope_parameters", ([], "x", 3)),
    ("rope_parameters", ({"rope_theta": "x"}, {"rope_theta": 0}, {"rope_theta": True})),
    ("num_hidden_layers", (10 ** 9,)), ("eos_token_id", (-1, True, "2", [1.5], 97, [2, 10 ** 9])),
    ("model_type", ("x" * 10 ** 6, [], {})), ("hidden_act", (["silu"], 3))))
def test_other_settings_of_a_config(folder, key, values):
    path, before = folder / "config.json", (folder / "config.json").read_text()
    for value in values:
        path.write_text(before)
        edit(path, **{key: value})
        with pytest.raises(ValueError) as error:
            load_model(folder)
        one_line(error, path, "rope_theta" if isinstance(value, dict) and value else key)


def deep(n):
    return '{"a": ' + "[" * n + "]" * n + "}"


@pytest.mark.parametrize("name", ("config.json", "generation_config.json", "model.safetensors.index.json"))
def test_deep_and_large_json(folder, name, monkeypatch):
    for text, said in ((deep(100_000), "nested too deeply"), ('{"a": "' + "x" * 10 ** 7, "not valid JSON"),
                       ('{"a": ' + "9" * 10_000 + "}", "not valid JSON"), ("\ufeff{}", "not valid JSON")):
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match=said) as error:
            load_model(folder)
        one_line(error, folder / name)
    monkeypatch.setattr(files, "LARGEST", 1000)
    (folder / name).write_text(" " * 1001)
    with pytest.raises(ValueError, match="more than the 1,000"):
        load_model(folder)


def test_json_from_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")                # reading it would wait for ever
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="not a file"):
            read_json(path)


def test_short():
    assert short("a" * 10 ** 6) == "'" + "a" * 47 + "..." + "a" * 48 + "'"
    assert len(short([["x" * 1000] * 1000] * 1000)) == 203 and short([1, None]) == "[1, None]"


@pytest.mark.parametrize("key, value", [(key, value) for key in ("r", "lora_alpha") for value in (*ODD, None)
                                        if (key, value) != ("lora_alpha", 1.5)]
                         + [("target_modules", v) for v in ([["q_proj"]], [{}], 3, True, [None])]
                         + [("lora_dropout", "x"), ("lora_dropout", 2), ("peft_type", ["LORA"]),
                            ("init_lora_weights", ["x" * 10 ** 6]), ("use_dora", "x" * 10 ** 6)],
                         ids=lambda v: short(v)[:20])
def test_every_number_of_an_adapter_config_is_checked(folder, tmp_path, key, value):
    save_adapter(tmp_path / "a", add_lora(load_model(folder), rank=2, alpha=4))
    path = edit(tmp_path / "a" / "adapter_config.json", **{key: value})
    with pytest.raises(ValueError, match="not supported") as error:
        load_adapter(tmp_path / "a", load_model(folder))
    one_line(error, path, f"{key} = ")


# ---- two places, two values --------------------------------------------------------------------------------

def test_rope_theta_in_two_places(folder):
    path = edit(folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    with pytest.raises(ValueError) as error:
        load_config(folder)
    one_line(error, path, "10000.0 at the top", "1000000.0 in rope_parameters")
    edit(path, rope_parameters={"rope_type": "default", "rope_theta": 10000})
    assert load_config(folder).rope_theta == 10000
    edit(path, "rope_theta")
    assert load_config(folder).rope_theta == 10000


def test_an_index_left_over_beside_one_file(folder, tmp_path):
    model = make_tiny(seed=1, tie_word_embeddings=True)
    save_model(tmp_path / "shards", model.config, model.state_dict(), shard_bytes=8000)
    for path in (tmp_path / "shards").glob("model*"):
        shutil.copyfile(path, folder / path.name)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    one_line(error, folder / "model.safetensors.index.json", f"{folder / 'model.safetensors'} are both there",
             "left over")
    (folder / "model.safetensors").unlink()
    assert torch.equal(load_model(folder).lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("one, other, fine", (
    (5, [5, 3], True), ([5, 3], 5, True), (None, 5, True), (5, None, True), ([5, 4], [4, 3], True),
    (5, 3, False), ([5, 4], [3], False)))
def test_ends_in_two_places(folder, one, other, fine):
    config = edit(folder / "config.json", eos_token_id=one)
    generation = edit(folder / "generation_config.json", eos_token_id=other)
    if fine:
        load_config(folder)
        return
    with pytest.raises(ValueError) as error:
        load_config(folder)
    one_line(error, config, generation, "disagree", short(one), short(other))


@pytest.mark.parametrize("eos", (97, [2, 10 ** 9], -1, True))
def test_ends_beyond_the_vocabulary(folder, eos):
    path = edit(folder / "generation_config.json", eos_token_id=eos)
    with pytest.raises(ValueError) as error:
        load_config(folder)
    one_line(error, path, "eos_token_id: found")


# ---- tensors -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", (torch.bool, torch.int8, torch.int64, torch.complex64, torch.float8_e4m3fn))
def test_tensors_that_are_no_weights(folder, tmp_path, kind):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_adapter(tmp_path / "a", add_lora(load_model(folder), rank=2))
    save_file({**tensors, "model.norm.weight": torch.zeros(24).to(kind)}, path)
    with pytest.raises(ValueError, match="1 tensors of a type") as error:
        load_model(folder)
    assert str(path) in str(error.value) and "model.norm.weight" in str(error.value)
    save_file(tensors, path)
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file({n: t.to(kind) for n, t in load_file(path).items()}, path)
    with pytest.raises(ValueError, match="28 tensors of a type") as error:
        load_adapter(tmp_path / "a", load_model(folder))
    assert len(str(error.value).splitlines()) == 12 and str(error.value).endswith("and 18 more")


def test_a_long_list_of_tensors_is_cut(folder):
    edit(folder / "config.json", num_hidden_layers=40)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    first, *lines, last = str(error.value).splitlines()
    assert f"{folder}: the tensors are not this model's: 456 missing" in first
    assert len(lines) == 10 and last == "  and 446 more"


def test_rotary_buffers_of_old_checkpoints(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    old = "model.layers.{}.self_attn.rotary_emb.inv_freq"
    buffers = {old.format(0): torch.ones(3), old.format(1): torch.ones(3, dtype=torch.int64)}
    save_file({**tensors, **buffers}, path)
    loaded = load_model(folder)
    assert loaded.note.startswith(f"{folder}: 2 stored rotary buffers (inv_freq)")
    ids = make_ids(2, 9)
    assert torch.equal(loaded(ids), make_tiny(tie_word_embeddings=True)(ids))
    save_file({**tensors, "model.layers.0.rotary_emb.inv_freq": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="1 unexpected"):
        load_model(folder)


# ---- what is saved loses nothing ---------------------------------------------------------------------------

def test_saving_keeps_what_the_source_says(folder, tmp_path):
    """The ids that end an answer above all: transformers' generate goes by them."""
    transformers = pytest.importorskip("transformers")
    model, ids = load_model(folder), make_ids(1, 5)

    def generated(path):
        theirs = transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
        return theirs.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=0)[0].tolist()

    endless = generated(folder)
    end = endless[5 + 3]
    assert len(endless) == 25
    edit(folder / "config.json", eos_token_id=end, bos_token_id=1, max_window_layers=2, note="mine",
         dtype="float32")
    short_one = generated(folder)
    assert len(short_one) < 25 and short_one[-1] == end
    save_model(tmp_path / "tuned", model.config, model.state_dict(), source=folder)
    assert generated(tmp_path / "tuned") == short_one
    before, after = (json.loads((p / "config.json").read_text()) for p in (folder, tmp_path / "tuned"))
    assert after == before
    half = {n: t.bfloat16() for n, t in model.state_dict().items()}
    save_model(tmp_path / "half", model.config, half, source=folder)
    after = json.loads((tmp_path / "half" / "config.json").read_text())
    assert after == {**before, "dtype": "bfloat16", "torch_dtype": "bfloat16"}


def test_a_folder_that_is_there_is_not_written_to(folder, tmp_path):
    model = load_model(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for save in (lambda path: save_model(path, model.config, model.state_dict()),
                 lambda path: save_adapter(path, add_lora(load_model(folder)))):
        with pytest.raises(FileExistsError, match=re.escape(str(folder))):
            save(folder)
        with pytest.raises(FileExistsError):
            save(folder / "config.json")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before and len(list(tmp_path.iterdir())) == 1


def test_folders_with_neighbouring_names(tmp_path):
    """x.old, x.part and x are three folders of three people."""
    for name in ("x.old", "x.part", "x", "x", "x.old"):
        write_folder(tmp_path / name, lambda path, name=name: (path / "mine").write_text(name))
    assert {p.name: (p / "mine").read_text() for p in tmp_path.iterdir()} == \
        {"x.old": "x.old", "x.part": "x.part", "x": "x"}


def test_which_processes_are_alive():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(os.getpid()) and alive(os.getppid()) and alive(child.pid)
    child.communicate()
    assert not alive(child.pid) and not alive(2 ** 22 + 1)      # above any process number of Linux


def test_somebody_elses_process_is_alive(monkeypatch):
    def refuse(pid, signal):
        raise PermissionError
    monkeypatch.setattr(os, "kill", refuse)
    assert alive(1)


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    write_folder(tmp_path / "x", lambda path: (path / "a").write_text("old"))
    replace, calls = os.replace, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", second_fails)
    with pytest.raises(OSError, match="no"):
        write_folder(tmp_path / "x", lambda path: (path / "a").write_text("new"))
    assert (tmp_path / "x" / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_part_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "thesis").write_text("mine")
    with pytest.raises(ValueError, match="out.part"):
        build_folder(tmp_path / "out", {"seed": 1}, lambda work, result: result.mkdir() or {})
    assert (tmp_path / "out.part" / "thesis").read_text() == "mine"
    (tmp_path / "out.part" / "thesis").unlink()
    build_folder(tmp_path / "out", {"seed": 1}, lambda work, result: result.mkdir() or {})
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "thesis").write_text("mine")
    build_folder(tmp_path / "out", {"seed": 1}, lambda work, result: {})       # whole: the other folder stays
    assert (tmp_path / "out.part" / "thesis").read_text() == "mine"
