"""Output files that appear whole or not at all, survive a kill, and say where they came from.

A long output grows in NAME.part. Beside it NAME.progress.json holds what the run is, how many chunks are
whole and how many bytes they take; it is replaced after every chunk. A second start cuts NAME.part back to
the last whole chunk and goes on. At the end come NAME.manifest.json, then NAME itself. Another run's output
is refused, never overwritten.
"""

import json
import os
import platform
import shutil
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import torch

from model.files import read_json


def write_json(path, data):
    """Write aside, then rename: a reader sees the old file or the new one."""
    aside = Path(f"{path}.part")
    aside.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def digest(*parts):
    """A short hash of texts and JSON-able data."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def provenance():
    """What a result depends on besides its settings: code and library versions, threads, machine."""
    root = Path(__file__).parent.parent
    git = shutil.which("git") and subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty"],
                         capture_output=True, text=True)
    return {"git": git and git.stdout.strip() or "unknown", "python": platform.python_version(),
            "torch": torch.__version__, "threads": torch.get_num_threads(),
            "machine": f"{platform.system()} {platform.machine()}"}


def build_folder(out, run, fill):
    """Make the folder `out` by fill(work, result): whole or not at all, resumable, marked with what it is.

    fill may keep state in `work` (OUT.part, which stays after a kill) and writes the finished files to
    `result`; what it returns goes into OUT/manifest.json beside run. Returns that manifest; if the very same
    run is there already, only that.
    """
    out, run = Path(out), json.loads(json.dumps(run))
    work = out.with_name(out.name + ".part")
    result, manifest, start = work / "result", out / "manifest.json", work / "run.json"
    if work.exists() and not start.is_file() and (not work.is_dir() or {p.name for p in work.iterdir()} -
                                                  {"run.json.part"}):
        raise ValueError(f"{work}: it is there already and no unfinished output (no run.json is in it); this "
                         f"run would use and remove that name: move it, or write elsewhere")
    if out.exists():
        found = read_json(manifest) if manifest.is_file() else {}
        refuse_other(found.get("run"), run, out, "the output")
        remove_work(work)
        return found
    work.mkdir(parents=True, exist_ok=True)
    if start.is_file():
        refuse_other(read_json(start), run, out, "the unfinished output")
    else:
        write_json(start, run)
    shutil.rmtree(result, ignore_errors=True)
    made = fill(work, result)
    if (work / "metrics.jsonl").is_file() and not (result / "metrics.jsonl").exists():
        shutil.copyfile(work / "metrics.jsonl", result / "metrics.jsonl")
    write_json(result / "manifest.json", {"run": run, **made, **provenance()})
    os.replace(result, out)
    remove_work(work)
    return read_json(manifest)


def remove_work(work):
    """run.json, which says that the folder is ours, goes last: a kill in between leaves nothing unknown."""
    for path in work.iterdir() if work.exists() else ():
        if path.name != "run.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(work, ignore_errors=True)


def refuse_other(found, run, path, what):
    if found != run:
        found = found if isinstance(found, dict) else {}
        differs = [k for k in {**run, **found} if found.get(k) != run.get(k)]
        raise ValueError(f"{path}: {what} of another run is there already "
                         f"({'differs in ' + ', '.join(differs) if found else 'it has no manifest'}); "
                         f"remove it, or write elsewhere")


class Rows:
    """A JSONL file written in whole chunks. run: what identifies the run, JSON-able.

    whole    True if the file is there already, from the very same run
    chunks   how many chunks are whole
    totals   numbers summed over chunks (tokens, flops, seconds, counts), kept for the manifest
    """

    def __init__(self, path, run):
        self.path, self.run = Path(path), json.loads(json.dumps(run))
        self.part, self.progress = Path(f"{path}.part"), Path(f"{path}.progress.json")
        self.manifest = Path(f"{path}.manifest.json")
        self.chunks, self.bytes, self.totals, self.whole = 0, 0, {}, False
        if self.path.exists():
            found = read_json(self.manifest) if self.manifest.is_file() else {}
            refuse_other(found.get("run"), self.run, path, "the output")
            self.whole, self.totals = True, found["totals"]
            self.progress.unlink(missing_ok=True)       # left by a kill between the last two steps of finish
        elif self.progress.is_file():
            kept = read_json(self.progress)
            refuse_other(kept.get("run"), self.run, path, "the unfinished output")
            self.chunks, self.bytes, self.totals = kept["chunks"], kept["bytes"], kept["totals"]
            size = self.part.stat().st_size if self.part.is_file() else 0
            if size < self.bytes:
                raise ValueError(f"{self.part}: holds {size} bytes, {self.progress} says {self.bytes}; "
                                 f"remove both")
            os.truncate(self.part, self.bytes)

    def keep(self):
        write_json(self.progress, {"run": self.run, "chunks": self.chunks, "bytes": self.bytes,
                                   "totals": self.totals})

    def add(self, rows, /, **totals):
        """Append one chunk."""
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.part, "ab" if self.chunks else "wb") as f:
            f.write(data)
        self.chunks, self.bytes = self.chunks + 1, self.bytes + len(data)
        for name, value in totals.items():
            self.totals[name] = self.totals.get(name, 0) + value
        self.keep()

    def finish(self, **more):
        write_json(self.manifest, {"run": self.run, "totals": self.totals, **more, **provenance(),
                                   "finished": time.strftime("%Y-%m-%d %H:%M:%S")})
        os.replace(self.part, self.path)
        self.progress.unlink()
        self.whole = True

    def read(self):
        with open(self.path, encoding="utf-8") as f:
            return [json.loads(line) for line in f]
