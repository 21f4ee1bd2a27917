"""Kills, and other ends, at random moments: the next start goes on and ends in the same bytes.

    python tests/kills.py --seed 0 --n 60

generate.py, train.py, evaluate.py and a study in turn. Each trial: the run in a process of its own, SIGKILL
after a random time (up to that of an unbroken run), the same command again, whole output compared with that of
the unbroken run, timings apart. A handful at chosen moments is in tests/test_kill.py; this is the long run.

    python tests/kills.py --ends        a full disk, a read-only folder, a vanished folder, SIGINT, SIGTERM
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from cli import ROOT, STUDY, Forks, differences, make_shared

TINY = ["--steps", 24, "--batch", 3, "--rate", 0.01, "--lora-rank", 2]


def jobs(shared):
    """{name: folder -> words}, each some seconds of work in many pieces."""
    study = shared.folder / "study.yaml"
    study.write_text(yaml.safe_dump({**STUDY, "model": str(shared.model)}))
    news = ["--model", shared.model, "--news", shared.news, "--out"]
    return {"generate": lambda f: ["generate.py", *news, f / "replay.jsonl", "--n", 10],
            "train": lambda f: ["train.py", "--model", shared.model, "--data", shared.data, *TINY, "--out",
                                f / "adapter"],
            "evaluate": lambda f: ["evaluate.py", *news, f / "answers.jsonl"],
            "study": lambda f: ["newnews", "run", study, "--out", f / "study"]}


def trial(server, words, folder, whole, after):
    """Kill after so many seconds, start again: (was it killed?, what is wrong)."""
    folder.mkdir()
    first = server.run(words(folder), folder, after=after)
    again = server.run(words(folder), folder)
    wrong = [f"exit {again.code}: {again.said[-300:]}"] if again.code else differences(folder, whole)
    shutil.rmtree(folder)
    return first.code == -9, wrong


def kills(folder, seed, n, only):
    shared, server, faults = make_shared(folder / "shared"), Forks(), []
    for name, words in jobs(shared).items():
        if name not in only:
            continue
        rng = random.Random(f"{seed} {name}")
        whole = folder / name
        whole.mkdir()
        start = time.time()
        done = server.run(words(whole), whole)
        seconds, killed = time.time() - start, 0
        assert done.code == 0, done.said
        for i in range(n // 4):
            after = rng.uniform(0.02, seconds)
            dead, wrong = trial(server, words, folder / f"{name}{i}", whole, after)
            killed += dead
            faults += [f"{name}, killed after {after:.2f} s: {wrong}"] if wrong else []
        print(f"{name}: {n // 4} trials, {killed} killed within {seconds:.1f} s", flush=True)
    server.close()
    return faults


# Other ends -------------------------------------------------------------------------------------------------

def start(words, **how):
    words = words if str(words[0]).endswith(".py") else ["-m", *words]
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **how)


def last_line(done):
    """(exit code, the lines of stderr that are not settings or a bar)."""
    err = done.communicate(timeout=300)[1]
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("  ")]
    return done.returncode, lines


def judged(name, how, done, words, folder, whole, codes=(2,), again=True):
    """One line and an exit code as expected, then the same command goes on to the same bytes."""
    code, lines = last_line(done)
    wrong = [] if code in codes and len(lines) == 1 else [f"exit {code}, {lines[-3:]}"]
    if again:
        code, lines = last_line(start(words(folder)))
        wrong += [f"then exit {code}: {lines[-3:]}"] if code else differences(folder, whole)
    print(f"{name}, {how}: {lines[-1][:150] if lines else ''} -> {wrong or 'fine'}", flush=True)
    return [f"{name}, {how}: {wrong}"] if wrong else []


def until_begun(folder):
    """Wait until a run writes its first file below folder."""
    for _ in range(600):
        time.sleep(0.05)
        if any(path.is_file() and path.suffix != ".lock" for path in folder.rglob("*")):
            return


def ends(folder, only):
    shared, faults = make_shared(folder / "shared"), []
    for name, words in jobs(shared).items():
        if name not in only:
            continue
        whole = folder / name
        whole.mkdir()
        assert last_line(start(words(whole)))[0] == 0
        size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            out = folder / f"{name}-{number.name}"
            out.mkdir()
            run = start(words(out))
            until_begun(out)
            run.send_signal(number)
            faults += judged(name, number.name, run, words, out, whole, (code,))
        for part in (0.3, 0.7):
            out = folder / f"{name}-full"
            out.mkdir()
            disk = ["mount", "-t", "tmpfs", "-o", f"size={int(size * part) // 4096 * 4 + 4}k", "tmpfs", str(out)]
            if subprocess.run(disk).returncode:
                print("no tmpfs: the full disk was not tried")
                continue
            try:
                run = start(words(out))
                code, lines = last_line(run)
                wrong = [] if code == 2 and len(lines) == 1 else [f"exit {code}, {lines[-3:]}"]
                subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
                again, more = last_line(start(words(out)))
                wrong += [f"then exit {again}: {more[-3:]}"] if again else differences(out, whole)
                print(f"{name}, full disk: {lines[-1][-120:] if lines else ''} -> {wrong or 'fine'}", flush=True)
                faults += [f"{name}, full disk: {wrong}"] if wrong else []
            finally:
                subprocess.run(["umount", str(out)])
                out.rmdir()
        out = folder / f"{name}-read-only"
        out.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(out)], check=True)
        try:
            faults += judged(name, "read-only", start(words(out)), words, out, whole, again=False)
        finally:
            subprocess.run(["umount", str(out)])
        out = folder / f"{name}-vanished"
        out.mkdir()
        run = start(words(out))
        until_begun(out)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(exist_ok=True)
        faults += judged(name, "vanished", run, words, out, whole)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--only", nargs="+", default=["generate", "train", "evaluate", "study"])
    parser.add_argument("--ends", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = (ends(Path(folder), args.only) if args.ends else
                  kills(Path(folder), args.seed, args.n, args.only))
    print("\n".join(faults))
    print(f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
