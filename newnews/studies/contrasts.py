"""Claims: contrasts between cells, named in a study's YAML before the run, and what became of each. No torch.

    contrasts:
      - name: rehearsal
        a: self_qa                  a cell; a group, that is cells that differ in their seed alone; or "base".
        b: naive                    NAME.in_context, or another way: this side is asked in its own way
        way: closed_book            the way of sides that do not say their own; closed_book if left out; or
                                    in_context, or one of the study's `also`
        format: free                one of the study's `ask`; of the way kl: kl, of the way cloze: cloze
        direction: ">"              a lies above b; "<": below; "=": at most SIZE apart
        needs: reversal             only questions that need this (newnews/news.py: Question); all if left out
        says: Self-QA teaches more than the text of the news.

The difference a - b is paired over questions (those that no self-play rehearsed, and that both sides were
asked under every seed), its interval clustered by news with seeds crossed (stats.paired), its sign-flip p
Holm-corrected over the study's list. What became of the claim:

    held    > and <: Holm's p is under .05 and the interval lies on the named side of zero (p is about other
            news under these seeds, the interval about other seeds too)
            =: the whole interval lies within SIZE of zero (of kl: .1 nats a token)
    not     the interval excludes the claim at a size that matters: for > it ends below SIZE, for < it begins
            above -SIZE, for = it lies beyond SIZE
    too small to tell       neither: more news or seeds are needed; `smallest` says which difference a test
            like this one (before Holm) finds in four of five studies; None: none can, since of so few news
            the least sign-flip p, 2 / 2^news, is not under .05 after Holm
"""

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import numpy as np

from newnews.reading import meant, record
from newnews.studies.stats import holm, paired, smallest_effect
from newnews.studies.ways import EVERY, KL, WAYS, formats_of

SIZE = 0.1              # a difference in accuracy that matters
SEED = re.compile(r" seed=(\d+)(?= |$)")        # in the names that newnews/studies/grid.py gives to cells
HELD, NOT, UNCLEAR = "held", "not", "too small to tell"


@dataclass(frozen=True)
class Contrast:
    name: str
    a: str
    b: str
    format: str
    direction: Literal[">", "<", "="]
    says: str
    way: str = WAYS[0]
    needs: str = ""

    def side(self, text):
        """(name of a cell or group, way)."""
        name, dot, way = text.rpartition(".")
        return (name, way) if way in EVERY else (text, self.way)


def base_names(models):
    """{model: the name of its row}: a base model is a row too; where there are several, names say which."""
    return {model: "base" if len(models) == 1 else f"base {model}" for model in models}


def groups(names):
    """{group: its cells}: cells that differ in their seed alone."""
    out = {}
    for name in names:
        out.setdefault(SEED.sub("", name), []).append(name)
    return out


def members(names):
    """{what a contrast may name: {seed: cell}}; the seed is None where the study has no axis of seeds, and of
    base models."""
    def seed(cell):
        found = SEED.search(cell)
        return found and found[1]

    out = {group: {seed(cell): cell for cell in cells} for group, cells in groups(names).items()}
    return {**out, **{cell: {seed(cell): cell} for cell in names}}


def matched(a, b):
    """[(cell of a, cell of b)], a pair a seed that both have; a side without seeds goes with every one."""
    if None in a or None in b:
        return [(x, y) for x in a.values() for y in b.values()]
    return [(a[seed], b[seed]) for seed in a if seed in b]


def read_contrasts(rows, names, formats, where, news=list, ways=WAYS):
    """[Contrast] of a study's list. names: of all cells, base models too. news(): the news, read if a
    contrast says what its questions need. A name that is not there, a format, a way or a kind of question
    that is not asked, or two sides that cannot be compared is a ValueError."""
    known, out, news = members(names), [], cache(news)
    for i, row in enumerate(rows, 1):
        place = f"{where}: contrasts: entry {i}"
        contrast = record(Contrast, row, place)
        a, b = contrast.side(contrast.a), contrast.side(contrast.b)
        for name, _ in (a, b):
            if name not in known:
                raise ValueError(f"{place} ({contrast.name}): no cell or group {name!r}{meant(name, known)}; "
                                 f"a study of other cells needs other contrasts, or none: "
                                 f"--set contrasts=[]")
        for _, way in (a, b):
            if way not in ways:
                raise ValueError(f"{place} ({contrast.name}): way: expected one of {', '.join(ways)}, in "
                                 f"which is asked; found {way!r}")
            if contrast.format not in (asked := formats_of(way, formats)):
                raise ValueError(f"{place} ({contrast.name}): format: expected one of {', '.join(asked)}, "
                                 f"which are asked {EVERY[way].title}; found {contrast.format!r}")
        kinds = sorted({q.needs for item in news() for q in item.questions}) if contrast.needs else [""]
        if contrast.needs not in kinds:
            raise ValueError(f"{place} ({contrast.name}): needs: expected one of {', '.join(kinds)}, which "
                             f"the questions of these news need; found {contrast.needs!r}")
        pairs = matched(known[a[0]], known[b[0]])
        same = a[1] == b[1] and any(x == y for x, y in pairs)
        if same or not pairs:
            raise ValueError(f"{place} ({contrast.name}): {contrast.a} and {contrast.b} "
                             + ("are the same" if same else "have no seed in common"))
        if contrast.name in [other.name for other in out]:
            raise ValueError(f"{place}: a second contrast {contrast.name!r}")
        out.append(contrast)
    return out


def answered(lists, field="right"):
    """(values (S, n), rows): a field of the verdicts under S seeds, of the n questions that are in all lists,
    and these questions' rows in the first list. One may be asked about several news (of other things)."""
    tables = [{(row["news"], row["question"]): row for row in rows} for rows in lists]
    shared = [q for q in tables[0] if all(q in table for table in tables)]
    values = np.array([[table[q][field] for q in shared] for table in tables], float)
    return values.reshape(len(lists), len(shared)), [tables[0][q] for q in shared]


def contrasted(contrasts, names, rows):
    """The claims as the summary has them. rows(cell, way, format): the verdicts that count."""
    known, out = members(names), []
    for c in contrasts:
        (a, a_way), (b, b_way) = c.side(c.a), c.side(c.b)
        pairs = matched(known[a], known[b])
        lists = [rows(x, a_way, c.format) for x, _ in pairs] + [rows(y, b_way, c.format) for _, y in pairs]
        values, common = answered([[row for row in mine if c.needs in ("", row["needs"])] for mine in lists])
        found = paired(*np.split(values, 2), [row["news"] for row in common], c.format != KL)
        C, sd, quantile = found["clusters"], found["sd"], found["quantile"]
        out.append({**asdict(c), "difference": found["mean"], "low": found["low"], "high": found["high"],
                    "p": found["p"], "holm": None, "n": found["n"], "news": C, "seeds": len(pairs),
                    "smallest": smallest_effect(C, sd, quantile) if C > 1 else None})
    tested = [row for row in out if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested])):
        row["holm"] = p
        if row["direction"] != "=" and len(tested) * 2 ** (1 - row["news"]) >= 0.05:
            row["smallest"] = None
    return [{**row, "verdict": verdict(row)} for row in out]


def verdict(row):
    """What became of a claim, by the rule above."""
    low, high = row["low"], row["high"]
    if low is None:
        return UNCLEAR                  # one news item, or none
    if row["direction"] == "=":
        inside, beyond = -SIZE < low and high < SIZE, low >= SIZE or high <= -SIZE
        return HELD if inside else NOT if beyond else UNCLEAR
    if row["direction"] == "<":
        low, high = -high, -low
    if row["holm"] < 0.05 and low > 0:
        return HELD
    return NOT if high < SIZE else UNCLEAR
