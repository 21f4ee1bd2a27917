"""python -m bench: this code against what a careful user would otherwise write, on the same weights, tokens
and machine, in turns. bench/README.md says what the other side is. One JSON line a row, then a table. A row
that fails leaves its error there, and the others go on; the exit code is then 1."""

import argparse
import gc
import json
import sys
import time
import traceback
from contextlib import nullcontext
from dataclasses import replace

VERDICTS = {True: "met", False: "missed", None: "not measured here"}


def arguments():
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these rows (default: all)")
    parser.add_argument("--size", default="quick", choices=("quick", "full", "gpu", "tiny"),
                        help="quick: at most 15 minutes on 2 slow cores; full: hours there; gpu: what one "
                             "GPU does in minutes; tiny: seconds, for tests: its numbers mean nothing "
                             "(default: %(default)s)")
    parser.add_argument("--shape", default="0.5b", choices=("0.5b", "1.5b", "7b"),
                        help="the Qwen2.5 shape of the large model (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch, on both sides (default: one a core)")
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "bf16"),
                        help="of the large model; auto: bf16 where the device multiplies it "
                             "(default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="(default: %(default)s)")
    parser.add_argument("--out", help="file for the JSON lines, written anew, row by row (default: stdout)")
    return parser.parse_args()


def chosen(rows, only, size):
    unknown = sorted(set(only) - set(rows))
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: no such row; there are {', '.join(rows)}")
    return {name: row for name, row in rows.items() if (not only or name in only) and getattr(row, size)}


def run(name, row, size, models, tiny, machine):
    """Both sides once on the tiny model, for what is slow the first time only; on a GPU, which chooses and
    compiles kernels by their shapes, on the large one too; then in turns."""
    from bench.tools import result, take_turns
    if size != "tiny":
        take_turns(row.make(tiny, **row.tiny), 1)
    work = row.make(models, **getattr(row, size))
    if models.on_gpu:
        take_turns(replace(work, theirs=work.warm or work.theirs), 1)
    repeats = row.gpu_repeats if size == "gpu" else row.repeats
    return result(name, size, row, work, *take_turns(work, repeats), machine)


def table(machine, lines):
    """The table as docs/performance.md keeps it."""
    peaks = [f"{value:.0f} GFLOP/s {key.removesuffix('_gflops')}" for key, value in machine.items()
             if key.endswith("_gflops")]
    out = [f"{machine['date']}, {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, "
           f"transformers {machine['transformers']}, peft {machine['peft']}, size {machine['size']}, shape "
           f"{machine['shape']}; peaks: {', '.join(peaks)}, {machine['copy_gb']:.1f} GB/s copied.", "",
           "| row | ours | ratio by the clock [low, high] | ratio of CPU seconds "
           "| peak memory, ours / theirs | share of the roof | bars | against |", "|---" * 8 + "|"]
    for line in lines:
        if "error" in line:
            out.append(f"| {line['row']} | {line['error'].replace('|', '/')} |" + " |" * 6)
            continue
        ratio, busy, roof = (line.get(key) for key in ("ratio", "cpu_ratio", "roof"))
        sizes = ", ".join(f"{key} {value}" for key, value in line["sizes"].items())
        cells = [f"{line['row']}: {line['dtype']}, {sizes}", f"{line['ours']['rate']:.4g} {line['unit']}",
                 f"{ratio['mean']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "",
                 f"{busy['mean']:.2f}" if busy else "", f"{line['memory']:.2f}" if "memory" in line else "",
                 f"{roof['share']:.0%}, {roof['by']}" if roof else "",
                 "; ".join(f"{key} {b['bar']}: {VERDICTS[b['met']]}" for key, b in line["bars"].items()),
                 line.get("theirs", {}).get("how", "")]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def main(args):
    import torch
    try:
        from bench import finetune, scoring, selfplay
        from bench.models import Models
        from bench.tools import describe, in_words
    except ImportError as error:
        raise ValueError(f"bench needs transformers and peft, which are in the extra `test`: "
                         f"pip install -e '.[test]' ({error})") from None
    rows = chosen({**selfplay.ROWS, **finetune.ROWS, **scoring.ROWS}, args.only, args.size)
    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
    gc.freeze()             # what imports made is not searched again before every call
    models, tiny = (Models(size, args.dtype, args.device, args.shape) for size in (args.size, "tiny"))
    dtypes = list(dict.fromkeys((torch.float32, models.dtype)))
    machine, lines = describe(args.size, dtypes, models.device, args.shape), []
    with open(args.out, "w") if args.out else nullcontext(sys.stdout) as file:
        print(json.dumps(machine), file=file, flush=True)
        for name, row in rows.items():
            start = time.perf_counter()
            try:
                lines.append(run(name, row, args.size, models, tiny, machine))
            except Exception as error:
                traceback.print_exc()
                lines.append({"row": name, "error": in_words(error)})
                # what the row left on its models (adapters, say) is not the next one's
                models, tiny = (Models(size, args.dtype, args.device, args.shape)
                                for size in (args.size, "tiny"))
            lines[-1]["took"] = round(time.perf_counter() - start, 2)
            print(json.dumps(lines[-1]), file=file, flush=True)
    print(table(machine, lines), file=sys.stdout if args.out else sys.stderr)
    return int(any("error" in line for line in lines))


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        sys.exit(main(arguments))
