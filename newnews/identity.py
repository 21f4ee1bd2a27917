"""Which model was it? A hash of every byte of a model or adapter folder, cheap enough for 15 GB.

The sha256 of a large file is kept in the user's cache directory ($XDG_CACHE_HOME or ~/.cache, newnews/sha256)
in a file whose name is a hash of the stamp: path, device, inode, size, mtime and ctime. While the stamp is
the same the large file is not read again, so an unchanged model costs a few lookups.

What is trusted: that the system changes ctime whenever a file's bytes, size or mtime change. An edit that
puts mtime back (touch -d, cp -p, rsync -t) is seen, since no program can set ctime; turning the clock back,
or writing to the disk under the file system, is not. Within two seconds of a change a stamp proves nothing
(two edits may fall into one tick of the clock), so such a file is read every time.
"""

import hashlib
import json
import os
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
    """The sha256 of a file; of a large one from the cache, if it is kept there under the stamp of now."""
    found = os.stat(path)
    if found.st_size < SMALL:
        return read_sha256(path)
    note, settled = note_of(path, found), time.time_ns() - found.st_ctime_ns > SETTLED
    if settled:
        with suppress(OSError, ValueError):         # a cache that cannot be read is none
            kept = note.read_text(encoding="ascii")
            if re.fullmatch("[0-9a-f]{64}", kept):
                return kept
    sha256 = read_sha256(path)
    if settled and note_of(path, os.stat(path)) == note:        # nobody wrote to it while it was read
        remember(note, sha256)
    return sha256


def note_of(path, found):
    """Where the cache keeps the sha256 of a file as os.stat found it."""
    stamp = (os.path.realpath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns,
             found.st_ctime_ns)
    return cache_folder() / hashlib.sha256(repr(stamp).encode()).hexdigest()


def read_sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):                     # the XDG rule: a relative path is ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "newnews" / "sha256"


def remember(note, sha256):
    """Keep it if that is possible: a cache that cannot be written costs a second reading, no more."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=note.parent, prefix=note.name)
        with open(handle, "w", encoding="ascii") as f:
            f.write(sha256)
        os.replace(aside, note)
    except OSError:
        pass
