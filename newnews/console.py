"""What every script says the same way: errors in one line, and the settings at the start. No torch at import:
a script enters user_errors first and imports the rest inside, so that Ctrl-C is answered from the start."""

import os
import signal
import sys
from contextlib import contextmanager, suppress

from newnews import locks

STOPPED = "stopped; an output that had begun goes on with the same command"


@contextmanager
def user_errors():
    """A user's mistake ends in one clear line and exit code 2, Ctrl-C in 130, SIGTERM in 143; a bug keeps its
    traceback. Locks are let go."""
    caught = []                             # signals; a library may turn the interrupt into its own error

    def stop(number, frame):
        caught.append(number)
        if locks.HELD:
            raise KeyboardInterrupt
        # no output has begun: end here and now, for an exception within the import of torch would abort
        with suppress(Exception):
            print(STOPPED, file=sys.stderr)
            sys.stdout.flush()
        os._exit(128 + number)

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:       # as nohup wants it
            signal.signal(number, stop)
    try:
        check_arguments()
        yield
    except SystemExit:
        raise
    except BaseException as error:
        if caught or isinstance(error, KeyboardInterrupt):
            ended(STOPPED, 128 + (caught or [signal.SIGINT])[0])
        if isinstance(error, BrokenPipeError):          # of "| head", which has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(141)
        if out_of_memory(error):
            ended(f"error: out of memory{f' ({error})' if str(error) else ''}", 2)
        if not isinstance(error, (ValueError, OSError)):
            raise
        ended(f"error: {in_words(error)}", 2)
    finally:
        locks.release_all()
        for number, handler in before.items():
            signal.signal(number, handler)


def check_arguments():
    """Bytes in an argument that are no UTF-8 reach Python as half characters, which no output can hold."""
    for argument in sys.argv[1:]:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise ValueError(f"argument {ascii(argument)}: expected UTF-8 text")


def out_of_memory(error):
    """Python's own, torch's on a GPU, and torch's on a CPU."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def ended(line, code):
    print(" ".join(line.splitlines()), file=sys.stderr)
    sys.exit(code)


def in_words(error):
    """The system's errors are put as ours are: the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        files = [str(f) for f in (error.filename, error.filename2) if f is not None]
        return f"{' -> '.join(files)}: {error.strerror}"
    return str(error) or type(error).__name__


def choose_device(device, dtype):
    """("auto", "auto") -> (device, torch dtype, the reason in words)."""
    import torch
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
