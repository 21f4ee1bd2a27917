"""Outputs that several processes make together: the files of newnews/outputs.py, to the byte.
The processes of several machines need a disk in common."""

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

from model.files import read_json
from newnews import locks
from newnews.distributed import rank, told, wait, world
from newnews.locks import Taken
from newnews.outputs import Rows, build_folder

WAITING = 60        # seconds between two lines about a lock that another process holds


def build_together(out, run, fill):
    """newnews.outputs.build_folder for a group of processes: rank 0 makes the folder; if it calls fill(work,
    result), all others call fill(work, None). The manifest at rank 0, None elsewhere."""
    if world() == 1:
        return build_folder(out, run, fill)
    if rank() > 0:
        work = told()
        return None if work is None else fill(Path(work), None) and None
    begun = []

    def first(work, result):
        begun.append(told(str(work)))
        return fill(work, result)

    try:
        return build_folder(out, run, first)
    finally:
        if not begun:                       # it is there already, or refused
            told(None)


class Part(Rows):
    """The chunks that one process writes: a line each, with its totals, so that they can be added again."""

    def add(self, rows, /, **totals):
        super().add([{"rows": list(rows), "totals": totals}])


def write_together(path, run, size, fill):
    """newnews.outputs.Rows filled by all processes: whole at rank 0, None elsewhere.

    fill(output, (r, n)) adds the chunks of the groups r, r + n, ... of `size` chunks each. Every process has
    a file of its own, with its own lock and progress; rank 0 joins them, in the chunks and bytes of a single
    process, and removes them.
    """
    if world() == 1:
        output = fill(Rows(path, run), (0, 1))
        remove_shares(output)
        return output
    output, go = None, False
    try:
        if rank() == 0:
            output = Rows(path, run)
            go = not output.whole
    finally:
        go = told(go)
    if not go:
        if output:                          # whole: a kill may have left the parts that it was joined from
            remove_shares(output)
        return output
    names = [f"{path}.{r}of{world()}" for r in range(world())]
    fill(Part(names[rank()], {**run, "share": [rank(), world()]}), (rank(), world()))
    wait()                                  # until all are whole
    if rank() == 0:
        parts = [Part(n, {**run, "share": [r, world()]}) for r, n in enumerate(names)]
        output.versions += [v for some in parts for v in some.versions if v not in output.versions]
        chunks, c = [iter(some.read()) for some in parts], 0
        while (chunk := next(chunks[c // size % world()], None)) is not None:
            if c >= output.chunks:
                output.add(chunk["rows"], **chunk["totals"])
            c += 1
        output.finish()
        remove_shares(output)
    wait()                                  # until they are joined
    return output


def remove_shares(output):
    """Remove the parts that a whole output was joined from, and those of a job of another number of processes
    that was stopped and did not go on: what a note beside them says to be of the same run."""
    name = re.compile(re.escape(output.path.name) + r"\.(\d+)of(\d+)\.(manifest|progress)\.json")
    for note in sorted(output.path.parent.iterdir()):
        if not (found := name.fullmatch(note.name)):
            continue
        part = output.path.with_name(f"{output.path.name}.{found[1]}of{found[2]}")
        with suppress(ValueError, FileNotFoundError):       # no note of ours, or a process is at it
            if read_json(note).get("run") == {**output.run, "share": [int(found[1]), int(found[2])]}:
                locks.hold(part)
                Path(f"{part}.part" if found[3] == "progress" else part).unlink(missing_ok=True)
                Path(f"{note}.part").unlink(missing_ok=True)
                note.unlink(missing_ok=True)        # last, so that a kill leaves them removable
                locks.release(part)


def work_off(jobs):
    """Do `jobs`, which every process that torchrun started is given, so that each is done once. False if this
    is one of them but not rank 0. Without torchrun nothing is done here.

    A job makes whole outputs and finds at once what is there. One that meets an output that another process
    is making (locks.Taken) is left for later. No group is needed, nor the same number of steps a process.
    """
    me, all_of_us = (int(os.environ.get(*pair)) for pair in (("RANK", 0), ("WORLD_SIZE", 1)))
    if all_of_us == 1:
        return True
    first, said = me * len(jobs) // all_of_us, time.monotonic()         # each begins elsewhere
    jobs = jobs[first:] + jobs[:first]
    while jobs:
        left = []
        for job in jobs:
            try:
                job()
            except Taken as taken:
                left.append(job)
                why = taken
        if len(left) == len(jobs):
            time.sleep(0.5)
            if time.monotonic() - said > WAITING:
                said = time.monotonic()
                print(f"  process {me} waits: {why}", file=sys.stderr, flush=True)
        jobs = left
    return me == 0
