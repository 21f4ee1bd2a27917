"""Files of a folder: JSON read with an error that names the file, and folders that appear whole or not at
all. No torch here, so that reading a result stays light."""

import json
import os
import platform
import re
import reprlib
import secrets
import shutil
import stat
from hashlib import sha256
from pathlib import Path

LARGEST = 64 * 2 ** 20      # bytes of a JSON file; the largest of a model is tokenizer.json, 7 to 35 MB

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100
_short.maxlist = _short.maxdict = 20
_short.maxlevel = 3


def short(value):
    """A value as an error shows it: on one line, cut where it is long or deep."""
    text = _short.repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def read_json(path):
    """The object in a JSON file; errors name the file, also where it is larger or deeper than Python reads
    safely."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a file")
        if found.st_size > LARGEST:
            raise ValueError(f"{found.st_size:,} bytes, more than the {LARGEST:,} that any such file needs")
        found = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=once)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not found") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON for us (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found


def once(pairs):
    """For json.loads: an object whose keys differ. Of equal ones Python would keep the last, in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return found


def write_folder(folder, fill):
    """Call fill(path) on a fresh folder beside `folder`, then rename it into place: whole or not at all.

    The fresh folder, .NAME.newnews-..., has a name that nobody else uses, and the folder that was there
    before stays beside it until the new one stands. Nothing else is replaced or removed, but for what killed
    processes of this machine left under such names.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_up(folder)
    aside = folder.with_name(f".{folder.name}.newnews-{host()}-{os.getpid()}-{secrets.token_hex(4)}")
    new, old = Path(f"{aside}.new"), Path(f"{aside}.old")
    try:
        new.mkdir()
        fill(new)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        put_back(old, folder)
        if new.exists():
            shutil.rmtree(new)


def put_back(old, folder):
    """The folder that was moved away goes back if no other stands there, else it is removed."""
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    elif old.is_symlink():
        old.unlink()
    elif old.exists():
        shutil.rmtree(old)


def clear_up(folder):
    """Finish what killed processes of this machine left of a write_folder(folder)."""
    ours = re.compile(rf"\.{re.escape(folder.name)}\.newnews-{host()}-(\d{{1,9}})-[0-9a-f]{{8}}\.(new|old)")
    for name in os.listdir(folder.parent):
        match = ours.fullmatch(name)
        left = folder.parent / name
        if match and not alive(int(match[1])):
            put_back(left, folder) if match[2] == "old" else shutil.rmtree(left)


def host():
    """A name of this machine: a process number means nothing on another one that shares the disk."""
    return sha256(platform.node().encode()).hexdigest()[:8]


def alive(process):
    try:
        os.kill(process, 0)         # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
