"""python -m bench: this code against what a careful user would otherwise write, on the same weights, tokens
and machine, in turns. bench/README.md says what the other side is. One JSON line a row, then a table."""

import argparse
import gc
import json
import sys
import time
from contextlib import nullcontext

VERDICTS = {True: "met", False: "missed", None: "not measured here"}


def arguments():
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these rows (default: all)")
    parser.add_argument("--size", default="quick", choices=("quick", "full", "tiny"),
                        help="quick: at most 15 minutes on 2 slow cores; full: hours there; tiny: seconds, "
                             "for tests: its numbers mean nothing (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch, on both sides (default: one a core)")
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "bf16"),
                        help="of the 0.5B shape; auto: bf16 if this CPU multiplies it (default: %(default)s)")
    parser.add_argument("--out", help="file for the JSON lines, written anew, row by row (default: stdout)")
    return parser.parse_args()


def chosen(rows, only, size):
    unknown = sorted(set(only) - set(rows))
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: no such row; there are {', '.join(rows)}")
    return {name: row for name, row in rows.items() if (not only or name in only) and getattr(row, size)}


def run(name, row, size, models, tiny, machine):
    """Both sides once on the tiny model, for what is slow the first time only; then in turns."""
    from bench.tools import result, take_turns
    if size != "tiny":
        take_turns(row.make(tiny, **row.tiny), 1)
    work = row.make(models, **getattr(row, size))
    return result(name, size, row, work, *take_turns(work, row.repeats), machine)


def table(machine, lines):
    """In 80 columns; three lines a row: the numbers, its size and what we were held against, the bars."""
    peaks = [f"{value:.0f} GFLOP/s {key.removesuffix('_gflops')}" for key, value in machine.items()
             if key.endswith("_gflops")]
    out = [f"{machine['date']}  {machine['cpu']}, {machine['threads']} threads; size {machine['size']}",
           f"torch {machine['torch']}, transformers {machine['transformers']}, peft {machine['peft']}",
           f"peaks: {', '.join(peaks)}, {machine['copy_gb']:.1f} GB/s copied", "",
           f"{'':12}{'ours':>9}{'theirs':>9} {'':11}{'ratio':>6} {'low..high':12}{'memory':>6}  roof"]
    for line in lines:
        theirs, ratio, roof = (line.get(key) for key in ("theirs", "ratio", "roof"))
        cells = [f"{line['row']:12}{line['ours']['rate']:9.4g}",
                 f"{theirs['rate']:9.4g}" if theirs else " " * 9,
                 f" {line['unit']:11}", f"{ratio['mean']:6.2f}" if ratio else " " * 6,
                 f" {ratio['low']:.3g}..{ratio['high']:.3g}".ljust(13) if ratio else " " * 13,
                 f"{line['memory']:6.3g}" if "memory" in line else " " * 6,
                 f" {roof['share']:4.0%} {roof['by']}" if roof else ""]
        bars = "; ".join(f"{key} {b['bar']}: {VERDICTS[b['met']]}" for key, b in line["bars"].items())
        sizes = ", ".join(f"{key} {value}" for key, value in line["sizes"].items())
        against = f"; against {theirs['how']}" if theirs else ""
        out += ["".join(cells).rstrip(), f"  {sizes}{against}", f"  {bars}"]
    return "\n".join(out)


def main(args):
    import torch
    try:
        from bench import finetune, scoring, selfplay
        from bench.models import Models
        from bench.tools import describe
    except ImportError as error:
        raise ValueError(f"bench needs transformers and peft, which are in the extra `test`: "
                         f"pip install -e '.[test]' ({error})") from None
    rows = chosen({**selfplay.ROWS, **finetune.ROWS, **scoring.ROWS}, args.only, args.size)
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
    gc.freeze()             # what imports made is not searched again before every call
    models, tiny = Models(args.size, args.dtype), Models("tiny", args.dtype)
    dtypes = list(dict.fromkeys((torch.float32, models.dtype)))
    machine, lines = describe(args.size, dtypes, tiny=args.size == "tiny"), []
    with open(args.out, "w") if args.out else nullcontext(sys.stdout) as file:
        print(json.dumps(machine), file=file, flush=True)
        for name, row in rows.items():
            start = time.perf_counter()
            lines.append(run(name, row, args.size, models, tiny, machine))
            lines[-1]["took"] = round(time.perf_counter() - start, 2)
            print(json.dumps(lines[-1]), file=file, flush=True)
    print(table(machine, lines), file=sys.stdout if args.out else sys.stderr)


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        main(arguments)
