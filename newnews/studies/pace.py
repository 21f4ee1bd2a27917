"""One bar for a whole study: which stage is at work, and how long all that is left will take. No torch.

Work is counted in draws, conversations trained on, and questions asked. Each kind costs what it has cost so
far in this run; one that was not met yet, the mean of the others. Stages that are whole, or that cells share,
count as work until their cell is reached. So it is a guess, as good as cells are alike.
"""

import os
import sys
import time
from collections import Counter
from contextlib import contextmanager

from newnews import console
from newnews.protocols import protocols
from newnews.protocols.rehearse import Naive
from newnews.studies.ways import EVERY, formats_of

SHOWN = 0.1         # seconds between two drawings of the bar
COPIED = f"write {Naive.name}"      # the bar of a stage that costs nothing: the news are copied


def asking(study, news):
    """(items, questions an item) of a model's answers in all ways. news: {way: items}."""
    files = {EVERY[way].file: (way, items) for way, items in news.items()}
    asked = sum(len(formats_of(way, study["ask"])) * len(item.questions)
                for way, items in files.values() for item in items)
    items = sum(len(items) for _, items in files.values())
    return items, asked / items


def work_of(cell, study, news, items):
    """{unit of its bars: (how often they tick, what a tick weighs)} of a cell. items: the number of news."""
    written = [s for s in protocols(None)[cell.protocol].sources if not isinstance(s, Naive)]
    ticks, weight = asking(study, news)
    if cell.stream is not None:
        banks = width = items                           # one adapter, a bank an arrival; after the last
        ticks += items * (items - 1) // 2               # it is asked as those of all cells are
    else:
        size = 1 if cell.full and not cell.together else cell.bank
        banks = -(-items // size)
        width = banks if cell.together else items
    return {"news": (len(written) * items, cell.draws), "item": (ticks, weight),
            "step": (banks * cell.recipe.steps, cell.recipe.batch * width / banks)}


class Pace:
    """What is done of a list of cells, each {unit: (ticks, weight)}. sharing: the number of processes that
    work on them."""

    def __init__(self, cells, sharing=1):
        self.cells, self.sharing = cells, sharing
        self.at, self.ticked, self.spent = 0, Counter(), {}     # spent: {unit: (seconds, work)}
        self.bar, self.since, self.shown = None, 0.0, 0.0

    def start(self, at):
        """Cell number `at` is at work, and all before it are done."""
        if at != self.at:
            self.at, self.ticked = at, Counter()

    def tick(self, unit, n):
        """n more of the bar of a stage, since its last tick."""
        now, (seconds, work) = time.monotonic(), self.spent.get(unit, (0.0, 0.0))
        ticks, weight = self.cells[self.at].get(unit, (0, 0))
        if ticks:
            self.spent[unit] = seconds + now - self.since, work + n * weight
            self.ticked[unit] += n
        self.since = now

    def left(self):
        """Seconds, at the pace so far; None before the first tick."""
        seconds, work = map(sum, zip(*self.spent.values())) if self.spent else (0, 0)
        if not work:
            return None
        cost = {unit: some / of for unit, (some, of) in self.spent.items() if of}
        left = 0.0
        for i, cell in enumerate(self.cells[self.at:]):
            for unit, (ticks, weight) in cell.items():
                more = max(ticks - self.ticked[unit] * (i == 0), 0)
                left += more * weight * cost.get(unit, seconds / work)
        return left / self.sharing

    def part(self, total, initial, desc, unit):
        """The bar of a stage, as newnews.console.progress makes one."""
        self.since = time.monotonic()
        kind = Drawn if sys.stderr.isatty() else Said
        return kind(self, total, initial, desc, "copies" if desc == COPIED else unit)


class Said(console.Lines):
    """A stage in a log file: its own line, and what is left of the study."""

    def __init__(self, pace, *bar):
        super().__init__(*bar)
        self.pace = pace

    def update(self, n=1):
        self.pace.tick(self.unit, n)
        super().update(n)

    def left(self):
        whole = self.pace.left()
        return super().left() + ("" if whole is None else f"; the study: {console.duration(whole)} left")


class Drawn:
    """A stage on a terminal: a name on the study's bar."""

    def __init__(self, pace, total, initial, desc, unit):
        from tqdm import tqdm
        self.pace, self.unit, self.total, self.done = pace, unit, total, initial
        self.desc, self.postfix = desc, ""
        if pace.bar is None:
            pace.bar = tqdm(total=1.0, desc=desc, dynamic_ncols=True, leave=False,
                            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}")
        self.draw()

    def set_postfix_str(self, text, refresh=True):
        self.postfix = text

    def update(self, n=1):
        self.pace.tick(self.unit, n)
        self.done += n
        if time.monotonic() - self.pace.shown > SHOWN:
            self.draw()

    def draw(self):
        bar, left, self.pace.shown = self.pace.bar, self.pace.left(), time.monotonic()
        bar.set_description_str(f"{self.desc} {self.done}/{self.total}", refresh=False)
        if left is not None:
            gone = sum(seconds for seconds, _ in self.pace.spent.values())
            bar.n = gone / (gone + left) if gone + left else 1.0
            postfix = f"{console.duration(left)} left"
            bar.set_postfix_str(f"{postfix}, {self.postfix}" if self.postfix else postfix, refresh=False)
        bar.refresh()

    def close(self):
        self.draw()


@contextmanager
def paced(study, cells, news, items):
    """The Pace of a study's cells, while all bars are parts of its one. news: {way: items}."""
    works, (ticks, weight) = [work_of(cell, study, news, items) for cell in cells], asking(study, news)
    for first in {cell.model: i for i, cell in reversed(list(enumerate(cells)))}.values():
        works[first]["item"] = works[first]["item"][0] + ticks, weight          # the base model's answers
    pace = Pace(works, int(os.environ.get("WORLD_SIZE", 1)))
    console.OVER.append(pace)
    try:
        yield pace
    finally:
        console.OVER.remove(pace)
        if pace.bar is not None:
            pace.bar.close()
