"""Which code, libraries and machine made an output, and what is said where its code was another than this.

An unfinished output keeps the versions of the code that have worked at it, so that its manifest can name them
all: what a resumed run ends in may be two halves by two codes. No torch here: results are read without it.
"""

import functools
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from model.files import short
from newnews.console import say

TOLD = []           # which warnings about other code this process has given: of whole outputs, of unfinished


def provenance():
    """What a result depends on besides its settings: code and library versions, threads, machine."""
    torch = sys.modules.get("torch")
    return {**version(), "python": platform.python_version(), "torch": importlib.metadata.version("torch"),
            "threads": torch and torch.get_num_threads(),
            "machine": f"{platform.system()} {platform.machine()}"}


def version():
    return {"git": described(), "code": code_digest()}


@functools.cache
def described():
    """The commit in git's words. Asked once a process, which has read its code by then."""
    git = shutil.which("git") and subprocess.run(
        ["git", "-C", str(Path(__file__).parent.parent), "describe", "--always", "--dirty"],
        capture_output=True, text=True)
    return git and git.stdout.strip() or "unknown"


@functools.cache
def code_digest():
    """A short hash of this code: it tells an edit from no edit, committed or not."""
    root = Path(__file__).parent.parent
    files = [path for part in ("model", "newnews") for path in sorted((root / part).rglob("*.py"))]
    texts = [[path.relative_to(root).as_posix(), path.read_text("utf-8")] for path in files]
    return sha256(json.dumps(texts).encode()).hexdigest()[:16]


def tell_of_other_code(found, path, unfinished=False):
    """What is whole is not made again, and what is unfinished goes on, though the code was edited since: say
    so, each once a process. found: the version that made it, or began it."""
    if found.get("code", code_digest()) == code_digest() or unfinished in TOLD:
        return
    TOLD.append(unfinished)
    commit = f"other code than this (commit {found.get('git')})"
    say(warning=f"{path} was begun by {commit}, and goes on with this one; to make all of it with one code, "
                f"remove what there is of it, or write elsewhere. So may others be" if unfinished else
                f"{path} is there already, made by {commit}, and is taken as it is; to make it again, remove "
                f"it or write elsewhere. So may others be")


def worked_at(kept, note, path):
    """The versions of the code that have worked at the unfinished output `path`: those that its `note` has
    kept (older code kept none), and this one."""
    if not isinstance(kept, list) or not all(isinstance(v, dict) and isinstance(v.get("code"), str)
                                             for v in kept):
        raise ValueError(f"{note}: made_by: expected a list of {{git, code}}, found {short(kept)}; remove "
                         f"the unfinished output")
    for other in begun_by(kept).get("begun_by", ()):
        tell_of_other_code(other, path, unfinished=True)
    return kept if code_digest() in [v["code"] for v in kept] else [*kept, version()]


def begun_by(versions):
    """For a manifest: the versions among these that are not this one's; nothing where there are none."""
    others = [v for v in versions if v["code"] != code_digest()]
    return {"begun_by": others} if others else {}
