"""Figures as HTML and SVG that we draw ourselves: crisp at any size, light or dark by CSS.

A chart is a grid of lines: a label, a strip, a value. Positions in a strip are percent of its width, so it
stretches with the page while its letters keep their size. A tooltip says each line's numbers.
"""

import math
from html import escape
from typing import NamedTuple


class Scale(NamedTuple):
    """From numbers to places across a strip."""
    low: float
    high: float
    ticks: tuple

    def percent(self, x):
        return 100 * (min(max(x, self.low), self.high) - self.low) / (self.high - self.low)

    def at(self, x):
        return f"{self.percent(x):.2f}%"


SHARES = Scale(0, 1, (0, 0.25, 0.5, 0.75, 1))


def scale_over(numbers, least=0.1, most=2.0):
    """A scale that holds 0, `least` and the numbers, as far as they lie within +-most; few ticks, for narrow
    screens."""
    numbers = [0.0, least, *(min(max(x, -most), most) for x in numbers if x is not None)]
    low, high = min(numbers), max(numbers)
    step = next((s for s in (0.05, 0.1, 0.2, 0.25, 0.5) if (high - low) / s <= 4.5), 1.0)
    edge = 0.03 * (high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low - edge, high + edge, tuple(round(i * step, 2) for i in range(first, last + 1)))


def colour(i):
    """Of protocol number i; 0 is the base."""
    return f"var(--c{i if i == 0 else 1 + (i - 1) % 9})"


# ---- marks in a strip ----

def line(kind, x1, x2, y1, y2):
    return f'<line class="{kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'


def rule(scale, x, kind):
    """From top to bottom: "grid", "zero", "dashed", "dotted"."""
    return "" if x is None else line(kind, scale.at(x), scale.at(x), 0, "100%")


def band(scale, low, high):
    left, right = scale.percent(low), scale.percent(high)
    return f'<rect class="band" x="{left:.2f}%" width="{right - left:.2f}%" height="100%"/>'


def bar(x, fill):
    """Of a share."""
    return f'<rect class="bar" y="20%" width="{SHARES.at(x)}" height="60%" fill="{fill}"/>'


def dot(scale, x, fill):
    return f'<circle cx="{scale.at(x)}" cy="50%" r="5" fill="{fill}"/>'


def ring(scale, x):
    return "" if x is None else f'<circle class="ring" cx="{scale.at(x)}" cy="50%" r="4.5"/>'


def whisker(scale, low, high):
    """The interval. A limit that is None or beyond the scale has no end stroke: it goes on."""
    ends = [x for x in (low, high) if x is not None and scale.low <= x <= scale.high]
    left, right = scale.low if low is None else low, scale.high if high is None else high
    return (line("whisker", scale.at(left), scale.at(right), "50%", "50%")
            + "".join(line("whisker", scale.at(x), scale.at(x), "38%", "62%") for x in ends))


def strip(scale, marks, title):
    grid = "".join(rule(scale, x, "grid") for x in scale.ticks)
    return f'<svg class="strip" role="img"><title>{escape(title)}</title>{grid}{marks}</svg>'


def axis(scale):
    ticks = "".join(f'<text x="{scale.at(x)}" y="1em" text-anchor="middle">{x:g}</text>' for x in scale.ticks)
    return f'<svg class="axis" aria-hidden="true">{ticks}</svg>'


# ---- figures ----

def chart(scale, lines):
    """lines: [(label, marks, value, title)]"""
    made = "".join(f'<span class="label" title="{escape(label)}">{escape(label)}</span>'
                   f'{strip(scale, marks, title)}<span class="value">{escape(value)}</span>'
                   for label, marks, value, title in lines)
    return f'<div class="chart">{made}<span class="label"></span>{axis(scale)}<span></span></div>'


def legend(*entries):
    """entries: (marks in a place 28 wide and 14 high, words)"""
    made = "".join(f'<span><svg aria-hidden="true">{marks}</svg>{escape(words)}</span>'
                   for marks, words in entries)
    return f'<div class="legend">{made}</div>'


def spot(fill):
    return f'<circle cx="14" cy="7" r="5" fill="{fill}"/>'


BAR = (f'<rect class="bar" y="2" width="22" height="10" fill="{colour(1)}"/>' + line("whisker", 14, 28, 7, 7),
       "closed book, 95% interval")
RING = '<circle class="ring" cx="14" cy="7" r="4.5"/>', "same model, news in context"
DASHED = line("dashed", 14, 14, -2, 16), "base, news in context"
DOTTED = line("dotted", 14, 14, -2, 16), "chance"
INTERVAL = line("whisker", 2, 26, 7, 7) + spot(colour(1)), "difference, 95% interval"
BAND = '<rect class="band" width="28" height="14"/>', "what a claim of no difference allows"

HIGH = 300                  # pixels of a scatter
WIDTH, LETTER = 640, 6.5    # pixels of a scatter on a page of 1,000, and of a letter of its labels
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def power(x):
    """2e14 as 2·10¹⁴ and 1e-5 as 10⁻⁵, for an axis; 200 as it is."""
    if 0.00099 < x < 99_999:
        return f"{x:g}"
    exponent = math.floor(math.log10(x) + 1e-9)
    first = round(x / 10 ** exponent)
    return ("" if first == 1 else f"{first}·") + "10" + str(exponent).translate(SUPERSCRIPT)


def log_scale(numbers):
    """Of logarithms, base 10. Ticks are 1, 2 and 5 times powers of ten, or powers only."""
    low, high = math.log10(min(numbers)) - 0.15, math.log10(max(numbers)) + 0.15
    steps = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [math.log10(s) + e for e in range(math.floor(low), math.ceil(high) + 1) for s in steps]
    return Scale(low, high, tuple(x for x in ticks if low <= x <= high))


def scatter(points, lines, key, across, up, joined=False, ticks=()):
    """Shares over numbers > 0. points: [(label, x, (mean, low, high), colour)]; lines: [(label, share,
    kind)]; key: (colour, words) pairs. joined: points of one colour are a curve, and have no labels. ticks:
    the numbers written below; powers of ten without.

    A label stands above its interval. Where one would cover another or a point, and on narrow screens, a
    legend of the colours takes their place. Curves that share a number stand 4 pixels apart.
    """
    scale, y_of = log_scale([x for _, x, _, _ in points]), lambda share: round(HIGH * (1 - share), 1)
    made = []
    for y in SHARES.ticks:
        made.append(line("grid", 0, "100%", y_of(y), y_of(y)) + f'<text y="{y_of(y)}" dx="-8" dy=".35em" '
                    f'text-anchor="end">{y:g}</text>')
    for x in map(math.log10, ticks) if ticks else scale.ticks:
        made.append(f'<text x="{scale.at(x)}" y="{HIGH + 16}" text-anchor="middle">{power(10 ** x)}</text>')
    heights = []                                            # of the lines so far
    for label, y, kind in lines:
        if y is not None:                                   # names of lines that are near stand side by side
            near = sum(abs(y_of(y) - other) < 14 for other in heights)
            aside = 100 - 32 * (near and 1 + (near - 1) % 2)
            kept = ' class="aside"' * (aside < 100)         # from narrow screens
            heights.append(y_of(y))
            made.append(line(kind, 0, "100%", y_of(y), y_of(y)) + f'<text{kept} x="{aside}%" '
                        f'y="{y_of(y) - 4}" text-anchor="end">{escape(label)}</text>')
    fills = list(dict.fromkeys(p[3] for p in points))
    apart = 4 * (joined and len({x for _, x, _, _ in points}) < len(points))
    shift = {fill: f' transform="translate({apart * (i - (len(fills) - 1) / 2):g})"' * bool(apart)
             for i, fill in enumerate(fills)}
    for fill in fills if joined else ():
        curve = sorted((x, mean) for _, x, (mean, *_), its in points if its == fill)
        ends = [(scale.at(math.log10(x)), y_of(mean)) for x, mean in curve]
        made.append(f'<g stroke="{fill}" stroke-width="2"{shift[fill]}>'
                    + "".join(line("", a[0], b[0], a[1], b[1]) for a, b in zip(ends, ends[1:])) + "</g>")
    named, names, marks = len(points) <= 12 and not joined, [], []
    for label, x, (mean, low, top), fill in points:
        percent, at = scale.percent(math.log10(x)), y_of(top) - 7
        place, anchor = f"{percent:.2f}%", "start" if percent < 8 else "end" if percent > 92 else "middle"
        made.append(f'<g stroke="{fill}" stroke-width="2"{shift[fill]}><title>{escape(label)}: {mean:.2f} '
                    f'[{low:.2f}, {top:.2f}], {x:.3g}</title>{line("", place, place, y_of(low), y_of(top))}'
                    f'<circle cx="{place}" cy="{y_of(mean)}" r="5" fill="{fill}"/></g>')
        names.append(f'<text class="name" x="{place}" y="{at}" text-anchor="{anchor}">{escape(label)}</text>')
        long, px = LETTER * len(label), WIDTH * percent / 100
        left = px - {"start": 0, "middle": long / 2, "end": long}[anchor]
        marks.append(((left, at - 12, left + long, at + 2), (px - 6, y_of(top), px + 6, y_of(low))))
    named = named and not any(overlap(mine, box) for i, (mine, _) in enumerate(marks)
                              for j, other in enumerate(marks) if i != j for box in other)
    made += names * named
    made.append(f'<text x="100%" y="{HIGH + 32}" text-anchor="end">{escape(across)}</text>')
    return (f'<div class="small">{escape(up)}</div><div class="scatter{" named" * named}"><svg role="img">'
            f'{"".join(made)}</svg></div>' + legend(*((spot(fill), words) for fill, words in key)))


def overlap(a, b):
    """Do two boxes (left, top, right, bottom) share a point?"""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def curves(series, up, across="step", shares=False):
    """Numbers over steps, upwards on a log scale (then > 0), or shares. series: [(label, [(step, number or
    None)], colour)]."""
    kept = [(label, [(x, y) for x, y in points if y is not None and (y > 0 or shares)], fill)
            for label, points, fill in series]
    known = [y for _, points, _ in kept for _, y in points]
    if not known:
        return ""
    scale, last = SHARES if shares else log_scale(known), max(1, *(x for _, some, _ in kept for x, _ in some))
    made = []

    def place(x, y):
        y = y if shares else math.log10(y)
        return f"{100 * x / last:.2f}%", round(HIGH * (1 - scale.percent(y) / 100), 1)

    for tick in scale.ticks:
        tick, words = (tick, f"{tick:g}") if shares else (10 ** tick, power(10 ** tick))
        y = place(0, tick)[1]
        made.append(line("grid", 0, "100%", y, y)
                    + f'<text y="{y}" dx="-8" dy=".35em" text-anchor="end">{words}</text>')
    for label, points, fill in kept:
        drawn = [(place(x, y), x, y) for x, y in points]
        ends = "".join(line("", a[0], b[0], a[1], b[1]) for (a, *_), (b, *_) in zip(drawn, drawn[1:]))
        dots = "".join(f'<circle cx="{at[0]}" cy="{at[1]}" r="2.5" fill="{fill}"><title>{escape(label)}, '
                       f"{across} {x}: {y:.3g}</title></circle>" for at, x, y in drawn)
        made.append(f'<g stroke="{fill}" stroke-width="2">{ends}</g>{dots}')
    for x, anchor in ((0, "start"), (last // 2, "middle"), (last, "end")):
        words = f"{across} {x}" if x == last else x
        made.append(f'<text x="{100 * x / last:.2f}%" y="{HIGH + 16}" text-anchor="{anchor}">{words}</text>')
    return (f'<div class="small">{escape(up)}</div><div class="scatter"><svg role="img">{"".join(made)}</svg>'
            "</div>")
