"""What every script says the same way: errors in one line, and the settings at the start. No torch at import:
a script enters user_errors first and imports the rest inside, so that Ctrl-C is answered from the start."""

import os
import re
import signal
import sys
import time
from contextlib import contextmanager, suppress

from newnews import locks

STOPPED = "stopped; an output that had begun goes on with the same command"
MINUTE = 60
POCKET = 30 * 10 ** 6           # parameters
CPUINFO = "/proc/cpuinfo"
OVER = []                       # the study whose bar all others are parts of: newnews/studies/pace.py


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
    if hasattr(sys.stdout, "reconfigure"):  # a console that lacks a letter gets its number, and no error
        sys.stdout.reconfigure(errors="backslashreplace")
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
        if isinstance(error, ModuleNotFoundError):
            ended(f"error: {error}, which newnews needs; enter its environment first: . .venv/bin/activate "
                  f"(`make setup` makes it)", 2)
        if out_of_memory(error):
            ended(f"error: out of memory{f' ({error})' if str(error) else ''}; less is needed with a smaller "
                  f"recipe.micro_tokens or bank (train.py: --micro-tokens), or fewer processes beside it", 2)
        if not isinstance(error, (ValueError, OSError)):
            raise
        ended(f"error: {in_words(error)}", 2)
    finally:
        locks.release_all()
        for number, handler in before.items():
            signal.signal(number, handler)


def progress(total, initial, desc, unit):
    """A bar on a terminal; in a log file a line a minute; nothing from torchrun's other processes. total:
    None if nobody knows it. Within a study it is a part of the study's bar."""
    quiet = os.environ.get("RANK", "0") != "0"
    if OVER and not quiet:
        return OVER[-1].part(total, initial, desc, unit)
    if not (sys.stderr.isatty() or quiet):
        return Lines(total, initial, desc, unit)
    from tqdm import tqdm
    return tqdm(total=total, initial=initial, desc=desc, unit=unit, dynamic_ncols=True, disable=quiet)


class Lines:
    """What a bar says, as lines: none in the first minute, so that short runs stay quiet. All bars share the
    clock: a study of a hundred stages of 40 seconds says a line a minute too."""
    said = None             # when the last line was written, or the first bar began

    def __init__(self, total, initial, desc, unit):
        self.total, self.done, self.desc, self.unit, self.postfix = total, initial, desc, unit, ""
        self.began = time.monotonic(), initial
        Lines.said = time.monotonic() if Lines.said is None else Lines.said

    def set_postfix_str(self, text, refresh=True):
        self.postfix = f", {text}"

    def update(self, n=1):
        self.done += n
        if time.monotonic() - Lines.said > MINUTE:
            Lines.said = time.monotonic()
            of = "" if self.total is None else f" of {self.total}"
            print(f"  {self.desc}: {self.done}{of} {self.unit}{self.postfix}{self.left()}", file=sys.stderr,
                  flush=True)

    def left(self):
        """How long it takes yet, at the pace so far."""
        began, initial = self.began
        if self.total is None or not initial < self.done < self.total:
            return ""
        pace = (time.monotonic() - began) / (self.done - initial)
        return f", {duration(pace * (self.total - self.done))} left"

    def close(self):
        pass


def duration(seconds):
    return (f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000
            else f"{seconds / 3600:.1f} h")


def check_arguments():
    """Bytes in an argument that are no UTF-8 reach Python as half characters, which no output can hold."""
    for argument in sys.argv[1:]:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise ValueError(f"argument {ascii(argument)}: expected UTF-8 text")


def out_of_memory(error):
    """Python's own, torch's on a GPU (its allocator's, and the driver's), and torch's on a CPU."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or isinstance(error, RuntimeError) and any(words in str(error) for words in (
                "CUDA error: out of memory", "can't allocate memory")))


def ended(line, code):
    print(" ".join(line.splitlines()), file=sys.stderr)
    sys.exit(code)


def in_words(error):
    """The system's errors are put as ours are: the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        files = [str(f) for f in (error.filename, error.filename2) if f is not None]
        return f"{' -> '.join(files)}: {error.strerror}"
    return str(error) or type(error).__name__


def choose_device(device, dtype, parameters=0):
    """(device, torch dtype, the reason in words) from what a user types and the model's size."""
    import torch
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
    if parameters < POCKET:
        return device, torch.float32, f"below {POCKET // 10 ** 6}M parameters nothing is gained by bf16"
    if kind == "cuda":
        return device, torch.bfloat16, "CUDA multiplies it fast, and it takes half the memory"
    if kind == "mps":
        return device, torch.float32, "not CUDA"
    if not cpu_multiplies_bf16():
        return device, torch.float32, "this CPU has no bf16 multiplication; --dtype bf16 halves the memory"
    return device, torch.bfloat16, "this CPU multiplies it in hardware, and it takes half the memory"


def cpu_multiplies_bf16():
    """Does the CPU multiply bf16 in hardware (AMX, AVX512-BF16, Arm's bf16)? By Linux's list of its features;
    no, where that does not say so: fp32 is always right."""
    try:
        with open(CPUINFO, encoding="utf-8", errors="replace") as f:
            lines = [line for line in f if line.startswith(("flags", "Features"))]
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(lines[0].split() if lines else ()))


def say(**settings):
    """Echo the settings of a run on stderr, one aligned line each; stdout is for results."""
    if os.environ.get("RANK", "0") != "0":              # of torchrun's processes the first one speaks
        return
    width = max(map(len, settings))
    for name, value in settings.items():
        print(f"  {name.replace('_', ' '):{width}}  {value}", file=sys.stderr)
