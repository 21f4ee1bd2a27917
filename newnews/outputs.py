"""Output files that appear whole or not at all, survive a kill, and say where they came from.

A long output grows in NAME.part. Beside it NAME.progress.json holds what the run is, how many chunks are
whole and how many bytes they take; it is replaced after every chunk. A second start cuts NAME.part back to
the last whole chunk and goes on. At the end come NAME.manifest.json, then NAME itself.

Another run's output is refused, never overwritten; only what carries our own mark (that progress file, or
run.json in OUT.part) is ever replaced or removed. While one process writes an output, others are refused
(newnews/locks.py). No torch here: results are read without it.
"""

import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from model.files import read_json
from newnews import locks
from newnews.provenance import begun_by, provenance, tell_of_other_code, version, worked_at
from newnews.reading import read_jsonl


@contextmanager
def disk(path):
    """An error of the disk names the file; "no space left" by itself does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path, data):
    """Write aside, then rename: a reader sees the old file or the new one."""
    aside = Path(f"{path}.part")
    with disk(path):
        aside.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(aside, path)


def digest(*parts):
    """A short hash of texts and JSON-able data."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def check_out(out, kind):
    """The path of an output, a new "file" or "folder", or one of that kind that is there already."""
    path = Path(out)
    if path.name in ("", "..") or kind == "file" and str(out).endswith(("/", os.sep)):
        raise ValueError(f"{str(out)!r}: expected the path of a {kind} to write")
    if path.exists() and not (path.is_file() if kind == "file" else path.is_dir()):
        found = "a folder" if path.is_dir() else "a file" if path.is_file() else "a device"
        raise ValueError(f"{out}: expected a {kind} to write, found {found}")
    return path


def check_new(out):
    """The path of a file to write that is not there yet."""
    path = check_out(out, "file")
    if path.exists():
        raise ValueError(f"{out}: is there already; remove it, or write elsewhere")
    return path


def write_text(path, text):
    """A text file, whole or not at all. The file aside has a name that is only ours."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.newnews-part")
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def write_picture(path, figure):
    """A figure of matplotlib as PNG, whole or not at all."""
    aside = Path(path).with_name(f".{Path(path).name}.newnews-part")
    with disk(path):
        try:
            figure.savefig(aside, dpi=130, format="png")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def refuse_other(found, run, path, what):
    if found != run:
        found = found if isinstance(found, dict) else {}
        why = f"differs in {', '.join(differing(found, run))}" if found else "it has no manifest"
        raise ValueError(f"{path}: {what} of another run is there already ({why}); remove it, or write "
                         f"elsewhere")


def differing(found, run):
    """The keys whose values differ, of a record within by their own: ["data", "recipe.steps"]."""
    out = []
    for key in {**run, **found}:
        one, other = found.get(key), run.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            out += [f"{key}.{inner}" for inner in {**other, **one} if one.get(inner) != other.get(inner)]
        elif one != other:
            out.append(key)
    return out


def refuse_lost(out):
    """For a folder that was removed, or moved, under a running process."""
    if not locks.holds(out):
        raise OSError(f"{out}: its folder was removed or replaced while it was being written; start again")


# ---- folders ----

def build_folder(out, run, fill):
    """Make the folder `out` by fill(work, result): whole or not at all, resumable, marked with what it is.

    fill may keep state in `work` (OUT.part, which stays after a kill) and writes the finished files to
    `result`; what it returns goes into OUT/manifest.json beside run. Returns that manifest; if the very same
    run is there already, only that.
    """
    out, run = check_out(out, "folder"), json.loads(json.dumps(run))
    work = out.with_name(out.name + ".part")
    if out.exists():
        found = whole_folder(out, run)
        if work.exists() or Path(locks.lock_of(out)).exists():      # left by a kill between the last steps
            with suppress(ValueError):                              # or another process is at them
                locks.hold(out)
                if marked(work) in ({}, run):
                    remove_work(work)
                locks.release(out)
        return found
    with disk(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        locks.hold(out)
    try:
        if out.exists():                                            # made since
            return whole_folder(out, run)
        versions = start_work(work, run)
        result = work / "result"
        shutil.rmtree(result, ignore_errors=True)
        with disk(out):
            made = fill(work, result)
        if (work / "metrics.jsonl").is_file() and not (result / "metrics.jsonl").exists():
            shutil.copyfile(work / "metrics.jsonl", result / "metrics.jsonl")
        refuse_lost(out)
        write_json(result / "manifest.json", {"run": run, **made, **provenance(), **begun_by(versions)})
        os.replace(result, out)
        remove_work(work)
        return read_json(out / "manifest.json")
    finally:
        locks.release(out)


def whole_folder(out, run):
    """The manifest of a finished folder of the very same run; any other is refused."""
    manifest = out / "manifest.json"
    found = read_json(manifest) if manifest.is_file() else {}
    refuse_other(found.get("run"), run, out, "the output")
    tell_of_other_code(found, out)
    return found


def marked(work):
    """The run that an unfinished folder belongs to; {} if it is empty, our first and last step; None if it is
    not ours."""
    if (work / "run.json").is_file():
        return read_json(work / "run.json")
    return {} if work.is_dir() and {p.name for p in work.iterdir()} <= {"run.json.part"} else None


def start_work(work, run):
    """Begin an unfinished folder, or go on in the one of the same run. Returns the versions of the code that
    have worked at it."""
    found = marked(work)
    if found:
        refuse_other(found, run, work, "the unfinished output")
    elif found is None and work.exists():
        raise ValueError(f"{work}: is needed for the unfinished output, but is there and not ours (without "
                         f"run.json); move it away, or write elsewhere")
    else:
        work.mkdir(exist_ok=True)
        write_json(work / "run.json", run)
    note = work / "made_by.json"        # after our mark; run.json is compared whole and has no place for it
    kept = read_json(note).get("made_by") if note.is_file() else []
    versions = worked_at(kept, note, work)
    if versions != kept:
        write_json(note, {"made_by": versions})
    return versions


def remove_work(work):
    """Remove an unfinished folder of ours, its mark last, so that a kill leaves it removable."""
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "run.json":
            path.unlink()
    (work / "run.json").unlink(missing_ok=True)
    work.rmdir()


# ---- files ----

class Rows:
    """A JSONL file written in whole chunks. run: what identifies the run, JSON-able.

    whole      True if the file is there already, from the very same run
    chunks     how many chunks are whole
    totals     numbers summed over chunks (tokens, flops, seconds, counts), kept for the manifest
    versions   of the code that has worked at it, {"git", "code"} each
    """

    def __init__(self, path, run):
        self.path, self.run = check_out(path, "file"), json.loads(json.dumps(run))
        self.part, self.progress = Path(f"{self.path}.part"), Path(f"{self.path}.progress.json")
        self.manifest = manifest_of(self.path)
        self.chunks, self.bytes, self.totals, self.whole, self.versions = 0, 0, {}, False, []
        if self.path.exists():
            self.open_whole()
            return
        with disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            locks.hold(self.path)
        try:
            if self.path.exists():                      # finished since
                self.open_whole()
            else:
                self.open_unfinished()
        except BaseException:
            locks.release(self.path)
            raise

    def open_whole(self):
        found = read_manifest(self.path) if self.manifest.is_file() else {}
        refuse_other(found.get("run"), self.run, self.path, "the output")
        tell_of_other_code(found, self.path)
        self.whole, self.totals = True, found["totals"]
        if "code" in found:
            self.versions = [*found.get("begun_by", []), {key: found.get(key) for key in ("git", "code")}]
        # left by a kill between the last steps of finish; or another process is at them
        with suppress(ValueError):
            if self.progress.exists() or Path(locks.lock_of(self.path)).exists():
                locks.hold(self.path)
                self.progress.unlink(missing_ok=True)
                locks.release(self.path)

    def open_unfinished(self):
        """Go on from the last whole chunk, or find the place free."""
        if self.manifest.exists() and "run" not in read_json(self.manifest):
            raise ValueError(f"{self.manifest}: is needed, but is there and not ours; move it away, or write "
                             f"elsewhere")
        if not self.progress.exists():
            if self.part.exists():
                raise ValueError(f"{self.part}: is needed for the unfinished output, but is there and not "
                                 f"ours (without {self.progress.name}); move it away, or write elsewhere")
            self.versions = [version()]
            return
        kept = read_json(self.progress)
        refuse_other(kept.get("run"), self.run, self.path, "the unfinished output")
        if type(kept.get("chunks")) is not int or type(kept.get("bytes")) is not int \
                or not isinstance(kept.get("totals"), dict):
            raise ValueError(f"{self.progress}: expected chunks, bytes and totals; remove it and {self.part}")
        self.versions = worked_at(kept.get("made_by", []), self.progress, self.path)
        self.chunks, self.bytes, self.totals = kept["chunks"], kept["bytes"], kept["totals"]
        size = self.part.stat().st_size if self.part.is_file() else 0
        if size < self.bytes:
            raise ValueError(f"{self.part}: holds {size} bytes, {self.progress} says {self.bytes}; "
                             f"remove both")
        if self.chunks:
            os.truncate(self.part, self.bytes)

    def keep(self):
        write_json(self.progress, {"run": self.run, "chunks": self.chunks, "bytes": self.bytes,
                                   "totals": self.totals, "made_by": self.versions})

    def add(self, rows, /, **totals):
        """Append one chunk."""
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        refuse_lost(self.path)
        if not self.chunks:
            self.keep()                                 # our mark, before there is a part file
        with disk(self.part), open(self.part, "r+b" if self.chunks else "wb") as f:
            self.check_size(f.seek(0, os.SEEK_END))
            f.write(data)
        self.chunks, self.bytes = self.chunks + 1, self.bytes + len(data)
        for name, value in totals.items():
            self.totals[name] = self.totals.get(name, 0) + value
        self.keep()

    def check_size(self, size):
        if size != self.bytes:
            raise OSError(f"{self.part}: holds {size} bytes, expected {self.bytes}: it was changed while it "
                          f"was being written; remove it and {self.progress}")

    def finish(self):
        refuse_lost(self.path)
        if not self.chunks:                             # nothing was to be written
            self.add([])
        self.check_size(self.part.stat().st_size)
        if self.path.exists():
            raise OSError(f"{self.path}: somebody else wrote it in the meantime; the rows are in {self.part}")
        write_json(self.manifest, {"run": self.run, "totals": self.totals, "bytes": self.bytes,
                                   **provenance(), **begun_by(self.versions),
                                   "finished": time.strftime("%Y-%m-%d %H:%M:%S")})
        os.replace(self.part, self.path)
        self.progress.unlink(missing_ok=True)
        locks.release(self.path)
        self.whole = True

    def read(self):
        return read_rows(self.path)


def manifest_of(path):
    return Path(f"{path}.manifest.json")


def read_manifest(path):
    """The manifest of a finished JSONL file, which must still be as long as it was then."""
    found, size = read_json(manifest_of(path)), Path(path).stat().st_size
    if "run" not in found or not isinstance(found.get("totals"), dict):
        raise ValueError(f"{manifest_of(path)}: expected a manifest with run and totals")
    if found.get("bytes", size) != size:
        raise ValueError(f"{path}: holds {size} bytes, its manifest says {found['bytes']}: it was changed "
                         f"since; remove both, and the same command makes it again")
    return found


def read_rows(path):
    """The rows of a finished JSONL file; an unfinished or changed one is an error."""
    read_manifest(path)
    return read_jsonl(path)
