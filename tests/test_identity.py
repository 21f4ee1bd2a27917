"""Identity of a model folder by content, devices and dtypes, and what is said of a model that is loaded."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import make_config
from test_folders import POCKET, deep, edit, one_line, own_cache

from newnews import console, identity
from newnews.console import choose_device
from newnews.identity import file_sha256, model_digest


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
        for text in ("", "a" * 63, "A" * 64, deep(100_000), "\u0661" * 64):
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


def test_a_file_that_changes_while_it_is_read_is_not_kept(large, later, own_cache, monkeypatch):
    read = identity.read_sha256

    def read_late(path):
        with open(path, "ab") as f:
            f.write(b"more")
        return read(path)

    monkeypatch.setattr(identity, "read_sha256", read_late)
    file_sha256(large / "model.safetensors")
    assert not own_cache.exists() or not list(own_cache.iterdir())


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
    assert choose_device("cuda:1", "auto", 10 ** 6)[:2] == ("cuda:1", torch.float32)    # the pocket's numbers
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
    """The system's list of features, on x86 and Arm; without one, no."""
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(console, "CPUINFO", str(info))
    assert not console.cpu_multiplies_bf16()                        # no such file
    for text, found in (("", False), ("model name: bf16\n", False),
                        ("flags\t\t: fpu avx512f avx512_vnni\n", False),
                        ("flags\t\t: fpu avx512_bf16\n", True), ("flags : amx_bf16\n", True),
                        ("Features\t: fp asimd bf16 i8mm\n", True),
                        ("Features\t: fp asimd svebf16\n", False)):
        info.write_text(text)
        assert console.cpu_multiplies_bf16() == found, text


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
