"""Files of a folder: JSON read with an error that names the file, and folders that appear whole or not at all.
No torch here, so that reading a result stays light."""

import glob
import json
import os
import reprlib
import shutil
import socket
import stat
import tempfile
from pathlib import Path

LARGEST = 64 * 2 ** 20      # bytes of a JSON file; the largest of a model folder is a tokenizer.json, 7 to 35 MB
MARK = "put-aside-by-newnews"

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100
_short.maxlist = _short.maxdict = 20
_short.maxlevel = 3


def short(value):
    """A value as an error shows it: on one line, cut where it is long or deep."""
    text = _short.repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def read_json(path):
    """The object in a JSON file; errors name the file. Nothing in it may be larger or deeper than Python reads
    safely."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a file")
        if found.st_size > LARGEST:
            raise ValueError(f"{found.st_size:,} bytes, more than the {LARGEST:,} that any such file needs")
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not found") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON for us (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(found).__name__}")
    return found


def write_folder(folder, fill):
    """Call fill(path) on a fresh folder beside `folder`, then move it into place: whole or not at all.

    The fresh folder has a name that nobody else uses, and the folder that was there before stays beside it
    until the new one stands. Nothing else is replaced or removed, but for what a killed call of this function
    left behind: that carries a mark.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_up(folder)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    new, old = aside / "new", aside / "old"
    try:
        (aside / MARK).write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        new.mkdir()
        fill(new)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        restore(aside, folder)


def restore(aside, folder):
    """Remove what was put aside; if `folder` is gone, the old one goes back first."""
    if (aside / "old").exists() and not folder.exists():
        os.replace(aside / "old", folder)
    shutil.rmtree(aside, ignore_errors=True)


def clear_up(folder):
    """Remove what killed processes of this machine put aside for `folder`."""
    for aside in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        try:
            mark = read_json(aside / MARK)
            if mark["host"] == socket.gethostname() and not alive(int(mark["process"])):
                restore(aside, folder)
        except (OSError, ValueError, KeyError, TypeError):
            continue                # no mark of ours, so no business of ours


def alive(process):
    try:
        os.kill(process, 0)         # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
