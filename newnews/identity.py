"""Which model was it? A hash of every byte of a model or adapter folder, cheap enough for 15 GB.

The sha256 of a large file is kept in the user's cache directory ($XDG_CACHE_HOME or ~/.cache, newnews/sha256)
beside the file's stamp: device, inode, size, mtime and ctime. While the stamp is the same the file is not
read again, so an unchanged model costs a few lookups.

What is trusted: that the system changes ctime whenever a file's bytes, size or mtime change. An edit that
puts mtime back (touch -d, cp -p, rsync -t) is seen, since no program can set ctime; turning the clock back,
or writing to the disk under the file system, is not. Within two seconds of a change a stamp proves nothing
(two edits may fall into one tick of the clock), so such a file is read every time.
"""

import hashlib
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUFFIXES = (".json", ".jinja", ".safetensors")
NOT_IDENTITY = ("manifest.json",)       # holds timings
SMALL = 2 ** 20                         # bytes; below it, reading is cheaper than asking the cache
SETTLED = 2 * 10 ** 9                   # nanoseconds


def model_digest(folder):
    """16 hex digits from the names and all the bytes of a folder's configs, tokenizer and weights."""
    paths = sorted(p for p in Path(folder).iterdir()
                   if p.suffix in SUFFIXES and p.name not in NOT_IDENTITY and p.is_file())
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:       # hashlib lets go of the interpreter
        hashes = list(pool.map(file_sha256, paths))
    listing = json.dumps([[path.name, found] for path, found in zip(paths, hashes)])
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def file_sha256(path):
    """The sha256 of a file, from the cache if its stamp there is the one that it has now."""
    stamp = stamp_of(path)
    if stamp["size"] < SMALL:
        return read_sha256(path)
    note = cache_folder() / f"{hashlib.sha256(os.path.realpath(path).encode()).hexdigest()}.json"
    settled = time.time_ns() - stamp["ctime"] > SETTLED
    kept = recall(note) if settled else {}
    if kept.get("stamp") == stamp and isinstance(kept.get("sha256"), str):
        return kept["sha256"]
    found = read_sha256(path)
    if settled and stamp_of(path) == stamp:         # nobody wrote to it while it was read
        remember(note, {"path": os.path.realpath(path), "stamp": stamp, "sha256": found})
    return found


def stamp_of(path):
    s = os.stat(path)
    return {"device": s.st_dev, "inode": s.st_ino, "size": s.st_size, "mtime": s.st_mtime_ns,
            "ctime": s.st_ctime_ns}


def read_sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):                     # the XDG rule: a relative path is ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "newnews" / "sha256"


def recall(note):
    """What the cache says; nothing, where it cannot be read."""
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def remember(note, kept):
    """Keep it if that is possible: a cache that cannot be written costs a second reading, no more."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=note.parent, prefix=note.name)
        with open(handle, "w", encoding="utf-8") as f:
            json.dump(kept, f)
        os.replace(aside, note)
    except OSError:
        pass
