"""Kills, and other ends, at random moments: the next start goes on and ends in the same bytes.

    python tests/kills.py --seed 0 --n 60

generate.py, train.py, evaluate.py and a study in turn. Each trial: the run in a process of its own, SIGKILL
after a random time (up to that of an unbroken run), the same command again, the whole output compared with
that of the unbroken run, timings apart. A handful at chosen moments is in tests/test_kill.py; this is the
long run.

    python tests/kills.py --ends        a full disk, a read-only folder, a vanished folder, SIGINT, SIGTERM
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from cli import STUDY, Forks, differences, make_shared

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


def unbroken(server, words, folder):
    """(its folder, the seconds that it takes once the server is there)"""
    for out in (folder.with_name(f"{folder.name}-first"), folder):
        out.mkdir()
        start = time.time()
        done = server.run(words(out), out)
        assert done.code == 0, done.said
    return folder, time.time() - start


def chosen(folder, server, seed, only):
    """(name, words, random numbers, the folder of an unbroken run, its seconds) of each job."""
    for name, words in jobs(make_shared(folder / "shared")).items():
        if name in only:
            yield name, words, random.Random(f"{seed} {name}"), *unbroken(server, words, folder / name)


def kills(folder, seed, n, only):
    server, faults = Forks(), []
    for name, words, rng, whole, seconds in chosen(folder, server, seed, only):
        trials, killed = 0, 0
        while killed < n // 4 and trials < n:       # a machine busy at times ends some before their kill
            after = rng.uniform(0.02, seconds)
            dead, wrong = trial(server, words, folder / f"{name}{trials}", whole, after)
            killed, trials = killed + dead, trials + 1
            faults += [f"{name}, killed after {after:.2f} s: {wrong}"] if wrong else []
            print(f"{name}: {killed} killed in {trials} trials, run of {seconds:.1f} s, {len(faults)} faults",
                  flush=True)
    server.close()
    return faults


# Other ends -------------------------------------------------------------------------------------------------

def mounted(folder, options):
    """A small tmpfs at `folder`; False where that is not allowed."""
    folder.mkdir()
    return not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]).returncode


def unmount(folder):
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


def vanish(folder):
    """Remove what a run has begun to write, as soon as there is a file, if only a lock."""
    for _ in range(30000):
        time.sleep(0.002)
        if any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(exist_ok=True)
            return


def ends(folder, seed, only):
    server, faults = Forks(), []
    for name, words, rng, whole, seconds in chosen(folder, server, seed, only):
        size = sum(p.stat().st_size for p in whole.rglob("*") if p.is_file())

        def judged(how, done, out, code=2, again=True):
            """One line, the exit code, and the same bytes after another start."""
            lines = [line for line in done.said.splitlines() if line.strip() and not line.startswith("  ")]
            # a run may end before its signal: then it says what it made, which is no line of an error
            told = len(lines) == 1 if done.code else len(lines) <= 1
            wrong = [] if done.code in (code, 0) and told else [f"exit {done.code}: {lines[-3:]}"]
            if again:
                after = server.run(words(out), out)
                wrong += ([f"then exit {after.code}: {after.said[-300:]}"] if after.code
                          else differences(out, whole))
            said = lines[-1][-140:] if lines else ""
            print(f"{name}, {how}: exit {done.code}, {said} -> {wrong or 'fine'}", flush=True)
            faults.extend([f"{name}, {how}: {wrong}"] if wrong else [])

        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)) * 2:
            out = folder / f"{name}-{rng.random()}"
            out.mkdir()
            done = server.run(words(out), out, after=rng.uniform(0.5, 0.9) * seconds, number=number)
            judged(number.name, done, out, code)
        out = folder / f"{name}-full"
        for part in (0.3, 0.6, 0.9):
            if mounted(out, f"size={int(size * part) // 4096 * 4 + 4}k"):
                done = server.run(words(out), out)
                subprocess.run(["mount", "-o", "remount,size=64m", out], check=True)
                judged(f"disk of {part:.0%}", done, out)
                unmount(out)
        if mounted(out, "ro,size=1m"):
            judged("read-only", server.run(words(out), out), out, again=False)
            unmount(out)
        out = folder / f"{name}-vanished"
        out.mkdir()
        thread = threading.Thread(target=vanish, args=(out,))
        thread.start()
        done = server.run(words(out), out)
        thread.join()
        judged("vanished", done, out)
    server.close()
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--only", nargs="+", default=["generate", "train", "evaluate", "study"])
    parser.add_argument("--ends", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)        # a shell's "&" and nohup turn it off
    with tempfile.TemporaryDirectory() as folder:
        faults = (ends(Path(folder), args.seed, args.only) if args.ends else
                  kills(Path(folder), args.seed, args.n, args.only))
    print("\n".join(faults))
    print(f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
