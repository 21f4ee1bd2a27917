"""Files of a folder: JSON read with an error that names the file, and folders that appear whole or not at
all. No torch here, so that reading a result stays light."""

import json
import os
import reprlib
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

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
    """Call fill(path) on a fresh folder beside `folder`, then rename it into place, over one that is there:
    whole or not at all. A kill between the two renames leaves the old one in a hidden folder beside it."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.newnews-") as aside:
        new, old = Path(aside) / "new", Path(aside) / "old"
        new.mkdir()
        fill(new)
        try:
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
        except BaseException:               # Ctrl-C too: what is in `aside` goes
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            raise


def alive(pid):
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:             # somebody else's process
        return True
    return True
