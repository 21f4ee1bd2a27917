"""Model folders that are odd, edited or contradict themselves, and what is said and kept of them.

Covers model/settings.py and the checks of model/checkpoint.py across files, model/files.py,
newnews/identity.py, choose_device (newnews/console.py) and load (newnews/loading.py). The reference for a
saved folder is transformers. CPU, offline, ten seconds:

    python -m pytest tests/test_folders.py
"""

import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import make_config, make_ids, make_tiny
from safetensors.torch import load_file, save_file

from model import files
from model.checkpoint import load_adapter, load_config, load_model, save_adapter, save_model
from model.files import read_json, short, write_folder
from model.lora import add_lora
from newnews import console, identity
from newnews.console import choose_device
from newnews.identity import file_sha256, model_digest
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


def test_rotary_buffers_of_old_checkpoints(folder, capsys):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    old = "model.layers.{}.self_attn.rotary_emb.inv_freq"
    buffers = {old.format(0): torch.ones(3), old.format(1): torch.ones(3, dtype=torch.int64)}
    save_file({**tensors, **buffers}, path)
    loaded = load_model(folder)
    assert capsys.readouterr().err.count("inv_freq") == 1
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


@pytest.mark.parametrize("name", ("notes.txt", "code/", "README.md"))
def test_a_folder_with_other_things_is_not_replaced(folder, tmp_path, name):
    model = load_model(folder)
    (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("mine")
    before = sorted(p.name for p in folder.iterdir())
    for save in (lambda: save_model(folder, model.config, model.state_dict()),
                 lambda: save_adapter(folder, add_lora(model))):
        with pytest.raises(ValueError, match=re.escape(name.strip("/"))) as error:
            save()
        one_line(error, folder)
    assert sorted(p.name for p in folder.iterdir()) == before and len(list(tmp_path.iterdir())) == 1


def test_folders_with_neighbouring_names(tmp_path):
    """x.old, x.part and x are three folders of three people."""
    for name in ("x.old", "x.part", "x", "x", "x.old"):
        write_folder(tmp_path / name, lambda path, name=name: (path / "mine").write_text(name))
    assert {p.name: (p / "mine").read_text() for p in tmp_path.iterdir()} == \
        {"x.old": "x.old", "x.part": "x.part", "x": "x"}


def test_what_a_killed_save_left(tmp_path):
    """What carries our mark, of a process that is gone, is cleared; a folder on its way out comes back."""
    gone = 2 ** 22 + 1                                      # above any process number of Linux
    mark = f".x.newnews-{files.host()}"
    left = [f"{mark}-{gone}-0123abcd.old", f"{mark}-{gone}-0123abcd.new"]
    kept = [f"{mark}-{os.getpid()}-0123abcd.old", f".x.newnews-01234567-{gone}-0123abcd.old",
            f"{mark}-{gone}-0123abcd.old".replace(".x", ".y"), ".x.newnews", ".x.old", "x.part"]
    for name in (*left, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)

    def failing(path):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_folder(tmp_path / "x", failing)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "x"])
    assert (tmp_path / "x" / "weights").read_text() == left[0]


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


# ---- identity ----------------------------------------------------------------------------------------------



@pytest.fixture
def later(monkeypatch):
    """As if a minute had gone by since the files were written."""
    now = time.time_ns
    monkeypatch.setattr(identity.time, "time_ns", lambda: now() + 60 * 10 ** 9)


@pytest.fixture
def reads(monkeypatch):
    """The files that were really read."""
    seen, read = [], identity.read_sha256
    monkeypatch.setattr(identity, "read_sha256", lambda path: seen.append(Path(path).name) or read(path))
    return seen


@pytest.fixture
def large(tmp_path):
    """A folder with weights of 5 MiB."""
    path = tmp_path / "large"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(random.Random(0).randbytes(5 * 2 ** 20 + 11))
    return path


def test_an_unchanged_file_is_read_once(large, later, reads, own_cache):
    first = model_digest(large)
    assert sorted(reads) == ["config.json", "model.safetensors"] and len(list(own_cache.iterdir())) == 1
    assert model_digest(large) == first and reads.count("model.safetensors") == 1
    for note in own_cache.iterdir():                                # a broken cache is no cache
        for text in ("{", "[]", '{"stamp": 3}', deep(100_000), "\0"):
            note.write_text(text)
            assert model_digest(large) == first
    assert reads.count("model.safetensors") == 6


@pytest.mark.parametrize("place", (0, 1, 2 ** 20, 2 ** 21 + 7, 3_333_333, 5 * 2 ** 20 + 10))
@pytest.mark.parametrize("restore", (False, True), ids=("touched", "mtime put back"))
def test_no_edit_of_a_byte_escapes(large, later, place, restore):
    path = large / "model.safetensors"
    before, stat = model_digest(large), path.stat()
    with open(path, "r+b") as f:
        f.seek(place)
        byte = f.read(1)[0]
        f.seek(place)
        f.write(bytes([byte ^ 1]))
    if restore:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_mtime_ns == stat.st_mtime_ns and path.stat().st_size == stat.st_size
    assert model_digest(large) != before
    with open(path, "r+b") as f:
        f.seek(place)
        f.write(bytes([byte]))
    assert model_digest(large) == before


def test_a_file_of_the_last_two_seconds_is_always_read(large, reads, own_cache):
    for _ in range(3):
        model_digest(large)
    assert reads.count("model.safetensors") == 3 and not own_cache.exists()


def test_two_large_files_and_a_swap(large, later):
    shutil.copyfile(large / "model.safetensors", large / "other.safetensors")
    with open(large / "other.safetensors", "r+b") as f:
        f.write(b"x")
    before = model_digest(large)
    os.rename(large / "model.safetensors", large / "third")
    os.rename(large / "other.safetensors", large / "model.safetensors")
    os.rename(large / "third", large / "other.safetensors")
    assert model_digest(large) != before


@pytest.mark.parametrize("cache", ("a file", "read only", "relative", "unset"))
def test_a_cache_that_cannot_be_used(large, later, tmp_path, monkeypatch, cache):
    wanted = model_digest(large)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    if cache == "a file":
        (tmp_path / "f").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "f"))
    elif cache == "read only":
        def denied(**_):
            raise PermissionError("no")

        monkeypatch.setattr(identity.tempfile, "mkstemp", denied)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    elif cache == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "here")
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
    assert model_digest(large) == wanted == model_digest(large)
    assert (home / ".cache" / "newnews" / "sha256").exists() == (cache in ("relative", "unset"))


def test_the_file_hash_is_sha256sums(large, later):
    import hashlib
    path = large / "model.safetensors"
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest() == file_sha256(path)


# ---- device and dtype --------------------------------------------------------------------------------------

@pytest.mark.parametrize("device", ("cpu:5", "cpu:x", "cpu:", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2",
                                    "mps:0", "tpu", "", "CPU", "cuda:\u0663"))
def test_odd_devices(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="expected auto, cpu, cuda") as error:
        choose_device(device, "auto")
    one_line(error, f"--device {device}")


def test_a_cuda_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no CUDA device"):
        choose_device("cuda:0", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="there are 2 CUDA devices, counted from 0"):
        choose_device("cuda:99", "auto")
    assert choose_device("cuda:1", "auto", 3 * 10 ** 7)[:2] == ("cuda:1", torch.bfloat16)
    assert choose_device("cuda:1", "auto", 10 ** 6)[:2] == ("cuda:1", torch.float32)     # the pocket's numbers
    assert choose_device("auto", "fp32")[:2] == ("cuda", torch.float32)


@pytest.mark.parametrize("hardware", (False, True))
def test_dtype_auto_on_a_cpu(monkeypatch, hardware):
    monkeypatch.setattr(console, "cpu_multiplies_bf16", lambda: hardware)
    for count in (0, 10 ** 6, 3 * 10 ** 7 - 1):
        assert choose_device("cpu", "auto", count)[1] == torch.float32
    for count in (3 * 10 ** 7, 494_032_768):
        device, dtype, reason = choose_device("cpu", "auto", count)
        assert dtype == (torch.bfloat16 if hardware else torch.float32) and "CPU" in reason
    assert choose_device("cpu", "bf16", 1) == ("cpu", torch.bfloat16, "as asked")
    assert choose_device("cpu", "fp32", 10 ** 9)[1] == torch.float32
    with pytest.raises(ValueError, match="--dtype half"):
        choose_device("cpu", "half")


def test_what_the_cpu_can_do(monkeypatch, tmp_path):
    """PyTorch's word where it has one; else the list of features, on x86 and Arm; else no."""
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(console, "CPUINFO", str(info))
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not console.cpu_multiplies_bf16()                        # no such file
    for text, found in (("", False), ("model name: bf16\n", False),
                        ("flags\t\t: fpu avx512f avx512_vnni\n", False),
                        ("flags\t\t: fpu avx512_bf16\n", True), ("flags : amx_bf16\n", True),
                        ("Features\t: fp asimd bf16 i8mm\n", True),
                        ("Features\t: fp asimd svebf16\n", False)):
        info.write_text(text)
        assert console.cpu_multiplies_bf16() == found, text
    info.write_text("")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert console.cpu_multiplies_bf16()
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert not console.cpu_multiplies_bf16()


# ---- load --------------------------------------------------------------------------------------------------

def test_what_is_said_about_a_model():
    from newnews.loading import load
    _, _, about = load(POCKET, device="cpu")
    assert about["dtype"] == "fp32" and "below 30M" in about["dtype_reason"]
    _, _, about = load(POCKET, device="cpu", dtype="bf16")
    assert about["dtype"] == "bf16" and about["dtype_reason"] == "as asked"
    assert about["digest"] == model_digest(POCKET)


def test_a_vocabulary_larger_than_the_model(tmp_path):
    from newnews.loading import load
    shutil.copytree(POCKET, tmp_path / "m")
    edit(tmp_path / "m" / "config.json", vocab_size=1000)
    with pytest.raises(ValueError, match="ids up to 1023.*vocab_size 1000"):
        load(tmp_path / "m")
    assert make_config().vocab_size == 97
