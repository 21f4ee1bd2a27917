"""Measuring: time and peak memory of a call, two sides in turns, and the peaks of the machine."""

import ctypes
import gc
import math
import platform
import time
import traceback
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median

import torch
import torch.nn.functional as F

WORDS = {torch.float32: "fp32", torch.bfloat16: "bf16"}


@dataclass
class Done:
    """What a side brings back of a call."""
    amount: float                       # how many of Work.unit were done
    output: object = None               # of the same kind on both sides: tests compare it
    flops: float = 0                    # arithmetic that this needs at least (model/flops.py); 0: no roof
    bytes: float = 0                    # weights that have to be read for it
    kept: int = 0                       # memory that is not to count: gradients, states of the optimizer
    extra: dict = field(default_factory=dict)       # more numbers for the JSON line, and for bars


@dataclass
class Work:
    unit: str
    dtype: torch.dtype
    ours: object                        # () -> Done
    theirs: dict                        # {how: () -> Done}; the fastest of them is what we are held against
    gap: object = None                  # (our output, theirs) -> how far apart they are, if they should agree
    warm: dict | None = None            # {how: a shorter call that warms a GPU up as well}; None: theirs


@dataclass
class Row:
    make: object                        # (models, **size) -> Work
    bars: dict                          # {"ratio", "memory", "roof" or a key of Done.extra: ">= 4", "<= .6"}
    full: dict | None                   # the size; None: the row is not run at this size
    quick: dict | None                  # what two slow cores do in a minute
    tiny: dict                          # for tests, and to warm up
    repeats: int = 2
    gpu: dict | None = None             # what one GPU does in some seconds
    gpu_bars: dict = field(default_factory=dict)    # {shape: its bars}
    gpu_repeats: int = 2


@dataclass
class Run:
    seconds: float
    cpu: float                          # seconds of all threads: tells more than time beside other jobs
    peak: int | None                    # bytes over what was resident before; None: the system does not say
    done: Done

    @property
    def rate(self):
        return self.done.amount / self.seconds


# [one call] -------------------------------------------------------------------------------------------------

def measure(call):
    counted = settle()
    before = memory("VmRSS") if counted else 0
    start, cpu = time.perf_counter(), time.process_time()
    done = call()
    finish()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Run(seconds, cpu, memory("VmHWM") - before - done.kept if counted else None, done)


def finish():
    """Wait for a GPU that was given work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def on_gpu():
    """Not merely there: transformers looks for one in a bench of the CPU too."""
    return torch.cuda.is_initialized() and torch.cuda.max_memory_allocated() > 0


def memory(name):
    """Now (VmRSS) or at the peak (VmHWM), in bytes: the GPU's tensors where one is used."""
    if on_gpu():
        return torch.cuda.memory_allocated() if name == "VmRSS" else torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(name))


def settle():
    """Give free memory back to the system and start its peak anew; False where that cannot be done."""
    gc.collect()
    if on_gpu():
        finish()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        return True
    except (OSError, AttributeError):
        return False


# [two sides] ------------------------------------------------------------------------------------------------

def take_turns(work, repeats):
    """(our Runs, {how: their Runs}, {how: why it failed}): ours, theirs, ours, theirs. The first turn tries
    all that the other side can do; the fastest of it goes on. What fails is left out; if nothing is left, the
    row fails."""
    ours, theirs, failed, sides = [], {how: [] for how in work.theirs}, {}, list(work.theirs)
    for _ in range(repeats):
        ours.append(measure(work.ours))
        for how in list(sides):
            try:
                theirs[how].append(measure(work.theirs[how]))
            except Exception as error:
                sides.remove(how)
                if not sides:
                    raise
                traceback.print_exc()
                del theirs[how]
                failed[how] = in_words(error)
        sides = sorted(sides, key=lambda how: theirs[how][0].rate)[-1:]
    return ours, theirs, failed


def in_words(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


def result(name, size, row, work, ours, theirs, failed, machine):
    """The row's line of JSON."""
    line = {"row": name, "size": size, "sizes": getattr(row, size), "dtype": WORDS[work.dtype],
            "unit": f"{work.unit}/s", "ours": side(ours)}
    values = dict(line["ours"])
    if theirs:
        how = max(theirs, key=lambda how: (len(theirs[how]), theirs[how][0].rate))
        line["theirs"] = {"how": how, **side(theirs[how])}
        line["tried"] = {how: round(runs[0].rate, 4) for how, runs in theirs.items()}
        if failed:
            line["failed"] = failed
        pairs = list(zip(ours, theirs[how], strict=True))
        line["ratio"] = spread([a.rate / b.rate for a, b in pairs])
        line["cpu_ratio"] = spread([a.done.amount / a.cpu * b.cpu / b.done.amount for a, b in pairs])
        values["ratio"] = line["ratio"]["mean"]
        if work.gap:
            found = work.gap(ours[0].done.output, theirs[how][0].done.output)
            values["gap"] = line["gap"] = float(f"{found:.2g}")
        if ours[0].peak is not None:
            mine, other = (max(1, median(run.peak for run in runs)) for runs in (ours, theirs[how]))
            values["memory"] = line["memory"] = round(mine / other, 3)
    if ours[0].done.flops:
        line["roof"] = roof(ours, machine, WORDS[work.dtype])
        values["roof"] = line["roof"]["share"]
    bars = row.gpu_bars.get(machine["shape"], {}) if size == "gpu" else row.bars
    line["bars"] = {key: {"bar": bar, "met": meets(values.get(key), bar)} for key, bar in bars.items()}
    return line


def side(runs):
    """Medians."""
    peaks = [run.peak for run in runs if run.peak is not None]
    return {"rate": round(median(run.rate for run in runs), 4), "amount": round(runs[0].done.amount, 1),
            "seconds": [round(run.seconds, 3) for run in runs], "cpu": [round(run.cpu, 3) for run in runs],
            "peak_mb": round(median(peaks) / 1e6, 1) if peaks else None,
            **{key: round(median(run.done.extra[key] for run in runs), 3) for key in runs[0].done.extra}}


def spread(ratios):
    """Geometric mean, and range."""
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return {"mean": round(mean, 3), "low": round(min(ratios), 3), "high": round(max(ratios), 3)}


def roof(runs, machine, dtype):
    """The least time that the machine could do it in, over the time that was taken; and what bounds it."""
    shares = []
    for run in runs:
        needs = {"matrix": run.done.flops / machine[f"{dtype}_gflops"] / 1e9,
                 "copy": run.done.bytes / machine["copy_gb"] / 1e9}
        by = max(needs, key=needs.get)
        shares.append(needs[by] / run.seconds)
    return {"by": by, "share": round(median(shares), 3)}


def meets(value, bar):
    """None: not measured here."""
    sign, number = bar.split()
    return None if value is None else value >= float(number) if sign == ">=" else value <= float(number)


# [the machine] ----------------------------------------------------------------------------------------------

def describe(size, dtypes, device="cpu", shape="0.5b"):
    """The first line of JSON: what the numbers were measured on, and its peaks (tiny: badly, but at once)."""
    try:
        with open("/proc/cpuinfo") as f:
            name = next(line.partition(":")[2].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    if device != "cpu":
        name = torch.cuda.get_device_name(device)
    how = "tiny" if size == "tiny" else device.partition(":")[0]
    return {"row": "machine", "date": time.strftime("%Y-%m-%d"), "cpu": name, "size": size,
            "shape": shape, "threads": torch.get_num_threads(),
            **{name: version(name) for name in ("torch", "transformers", "peft")},
            **{f"{WORDS[d]}_gflops": matrix_peak(d, how, device) for d in dtypes},
            "copy_gb": copy_peak(how, device)}


def fastest(call):
    times = [time.perf_counter()]
    for _ in range(6):
        call()
        finish()
        times.append(time.perf_counter())
    return min(b - a for a, b in zip(times, times[1:]))


@torch.inference_mode()
def matrix_peak(dtype, how, device):
    """GFLOP/s of the best of some products; on a CPU two of them with the 0.5B shape's MLP."""
    found = []
    for T, D, E in {"tiny": ((64, 64, 64),), "cuda": ((8192, 8192, 8192), (16384, 4096, 4096)),
                    "cpu": ((2048, 896, 4864), (2048, 4864, 896), (2048, 2048, 2048))}[how]:
        x, W = torch.randn(T, D, device=device).to(dtype), torch.randn(E, D, device=device).to(dtype)
        found.append(2 * T * D * E / fastest(lambda: F.linear(x, W)) / 1e9)
    return round(max(found), 1)


@torch.inference_mode()
def copy_peak(how, device):
    """GB/s that a copy of 256 MB (GPU: 4 GB) reads and writes together."""
    x = torch.ones(2 ** {"tiny": 12, "cpu": 26, "cuda": 30}[how], device=device)
    y = torch.empty_like(x)
    return round(2 * x.nbytes / fastest(lambda: y.copy_(x)) / 1e9, 2)
