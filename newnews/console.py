"""What every script says the same way: errors in one line, and the settings at the start."""

import re
import sys
from contextlib import contextmanager

import torch

POCKET = 30 * 10 ** 6           # parameters
CPUINFO = "/proc/cpuinfo"


@contextmanager
def user_errors():
    """A user's mistake ends in one clear message and exit code 2, an interrupt in 130;
    a bug keeps its traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        print("stopped; an output that had begun goes on with the same command", file=sys.stderr)
        sys.exit(130)


def choose_device(device, dtype, parameters=0):
    """(device, torch dtype, the reason in words) from what a user types and the model's size."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = device.partition(":")
    counted = kind == "cuda" and re.fullmatch("[0-9]{1,4}", number)
    if kind not in ("cpu", "cuda", "mps") or colon and not counted:
        raise ValueError(f"--device {device}: expected auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: this PyTorch sees no CUDA device")
    if colon and int(number) >= torch.cuda.device_count():
        raise ValueError(f"--device {device}: there are {torch.cuda.device_count()} CUDA devices, "
                         f"counted from 0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: this PyTorch has no MPS device")
    if dtype not in ("auto", "fp32", "bf16"):
        raise ValueError(f"--dtype {dtype}: expected auto, fp32 or bf16")
    if dtype != "auto":
        return device, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype], "as asked"
    if kind == "cuda":
        return device, torch.bfloat16, "CUDA multiplies it fast, and it takes half the memory"
    if kind == "mps":
        return device, torch.float32, "not CUDA"
    if parameters < POCKET:
        return device, torch.float32, f"below {POCKET // 10 ** 6}M parameters a CPU gains nothing from bf16"
    if not cpu_multiplies_bf16():
        return device, torch.float32, "this CPU has no bf16 multiplication; --dtype bf16 halves the memory"
    return device, torch.bfloat16, "this CPU multiplies it in hardware, and it takes half the memory"


def cpu_multiplies_bf16():
    """Does the CPU multiply bf16 in hardware (AMX, AVX512-BF16, Arm's bf16)? By PyTorch's own word, else by
    the system's list of its features; no, where neither says so: fp32 is always right."""
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        try:
            if getattr(torch.cpu, name)():
                return True
        except (AttributeError, RuntimeError):
            continue                # names with an underscore may go
    try:
        with open(CPUINFO, encoding="utf-8", errors="replace") as f:
            lines = [line for line in f if line.startswith(("flags", "Features"))]
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(lines[0].split() if lines else ()))


def say(**settings):
    """Echo the settings of a run on stderr, one aligned line each; stdout is for results."""
    width = max(map(len, settings))
    for name, value in settings.items():
        print(f"  {name.replace('_', ' '):{width}}  {value}", file=sys.stderr)
