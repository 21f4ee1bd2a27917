"""What every script says the same way: errors in one line, and the settings at the start."""

import sys
from contextlib import contextmanager

import torch


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


def choose_device(device, dtype):
    """("auto", "auto") -> (device, torch dtype, the reason in words)."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device {device}: expected auto, cpu, cuda, cuda:N or mps")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: this PyTorch sees no CUDA device")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: this PyTorch has no MPS device")
    if dtype not in ("auto", "fp32", "bf16"):
        raise ValueError(f"--dtype {dtype}: expected auto, fp32 or bf16")
    if dtype != "auto":
        return device, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype], "as asked"
    if device.startswith("cuda"):
        return device, torch.bfloat16, "CUDA: tensor cores, half the memory"
    return device, torch.float32, "not CUDA: never slow; --dtype bf16 halves the memory"


def say(**settings):
    """Echo the settings of a run on stderr, one aligned line each; stdout is for results."""
    width = max(map(len, settings))
    for name, value in settings.items():
        print(f"  {name.replace('_', ' '):{width}}  {value}", file=sys.stderr)
