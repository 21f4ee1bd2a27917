"""One process at a time writes an output: a lock file beside it, held until it is whole or the process ends.

The lock is the kernel's (flock on the open file), so a kill frees it; the file left then binds nobody. In it
stands who holds it, for the message that the second one gets. Where there is no flock (some network disks)
that entry is the lock: it binds while its process runs, as far as this machine can tell.
"""

import atexit
import errno
import fcntl
import json
import os
import platform
import time

from model import files

HELD = {}               # real path of a lock file -> its open file; a process may ask again for what it holds
SETTLE_SECONDS = 0.2    # without flock: longer than from reading the entry to writing one's own


def hold(output):
    """Lock the output at this path for this process, until release(output) or its end. ValueError names the
    process that has it."""
    lock = lock_of(output)
    while lock not in HELD:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            owner, free = read_owner(fd, lock), flocked(fd)
            if free is False or free is None and alive(owner):
                raise taken(output, owner)
            if same_file(fd, lock):             # else its holder has just removed it: once more
                write_owner(fd)
                if free is None:                # of several who found it free, the last to write has it
                    time.sleep(SETTLE_SECONDS)
                    owner = read_owner(fd, lock)
                    if (owner["pid"], owner["host"]) != (os.getpid(), platform.node()):
                        raise taken(output, owner)
                HELD[lock] = fd
        finally:
            if HELD.get(lock) != fd:
                os.close(fd)


def flocked(fd):
    """True if the kernel gave the lock, False if another process has it, None if it has none to give."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise


class Taken(ValueError):
    """Another process is writing it."""


def taken(output, owner):
    by = (f"process {owner['pid']} on {owner['host']} has been writing it since {owner['since']}" if owner
          else "another process has just begun to write it")
    return Taken(f"{output}: {by}; wait until it has ended, or stop it")


def release(output):
    """Let go of the lock, if this process has it, and remove its file."""
    lock = lock_of(output)
    fd = HELD.pop(lock, None)
    if fd is None:
        return
    if same_file(fd, lock):                 # first remove, then let go: nobody can hold a file that is gone
        os.unlink(lock)
    os.close(fd)


@atexit.register
def release_all():
    for lock in list(HELD):
        release(lock.removesuffix(".lock"))


def holds(output):
    """Whether the lock that this process took is still the file at its path. Not so if somebody removed the
    folder: another process may be writing there by now."""
    lock = lock_of(output)
    return lock in HELD and same_file(HELD[lock], lock)


def lock_of(output):
    return os.path.realpath(output) + ".lock"


def same_file(fd, path):
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(fd)
    return (mine.st_ino, mine.st_dev) == (there.st_ino, there.st_dev)


def write_owner(fd):
    text = json.dumps({"pid": os.getpid(), "host": platform.node(),
                       "since": time.strftime("%Y-%m-%d %H:%M:%S")}).encode()
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, text)
    os.ftruncate(fd, len(text))


def read_owner(fd, lock):
    """What its holder wrote: {} in the instant before it does, or after a kill in that instant."""
    os.lseek(fd, 0, os.SEEK_SET)
    text = os.read(fd, 4096)
    if not text:
        return {}
    try:
        owner = json.loads(text)
        return {"pid": int(owner["pid"]), "host": str(owner["host"]), "since": str(owner["since"])}
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"{lock}: expected a lock file of ours, found another file; "
                         f"remove it, or write elsewhere") from None


def alive(owner):
    """Whether the process that wrote itself into the lock file runs; one of another machine may."""
    if not owner or owner["host"] != platform.node():
        return bool(owner)
    # our own number, used again: this process knows what it holds
    return owner["pid"] != os.getpid() and files.alive(owner["pid"])
