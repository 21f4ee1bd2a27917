"""Figures as HTML and SVG that we draw ourselves: crisp at any size, light or dark by CSS.

A chart is a grid of lines: a label, a strip, a value. Positions in a strip are percent of its width, heights are
pixels, so it stretches with the page while its letters keep their size. A tooltip says each line's numbers.
"""

import math
from html import escape
from typing import NamedTuple


class Scale(NamedTuple):
    """From numbers to places across a strip."""
    low: float
    high: float
    ticks: tuple

    def at(self, x):
        return f"{100 * (min(max(x, self.low), self.high) - self.low) / (self.high - self.low):.2f}%"


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
    """Of cell number i; 0 is the base."""
    return f"var(--c{i if i == 0 else 1 + (i - 1) % 8})"


# ---- marks in a strip ----

def rule(scale, x, kind):
    """A line from top to bottom: "grid", "zero", "dashed", "dotted"."""
    return "" if x is None else f'<line class="{kind}" x1="{scale.at(x)}" x2="{scale.at(x)}" y1="0" y2="100%"/>'


def bar(scale, x, fill):
    return f'<rect class="bar" x="{scale.at(0)}" y="20%" width="{scale.at(x)}" height="60%" fill="{fill}"/>'


def dot(scale, x, fill):
    return f'<circle cx="{scale.at(x)}" cy="50%" r="5" fill="{fill}"/>'


def ring(scale, x):
    return "" if x is None else f'<circle class="ring" cx="{scale.at(x)}" cy="50%" r="4.5"/>'


def whisker(scale, low, high):
    """The interval; None: it is open there. Where it goes on beyond the scale, it has no end stroke."""
    left, right = scale.low if low is None else low, scale.high if high is None else high
    ends = [x for x, limit in ((left, low), (right, high)) if limit is not None and scale.low <= x <= scale.high]
    lines = [f'<line class="whisker" x1="{scale.at(left)}" x2="{scale.at(right)}" y1="50%" y2="50%"/>']
    lines += [f'<line class="whisker" x1="{scale.at(x)}" x2="{scale.at(x)}" y1="38%" y2="62%"/>' for x in ends]
    return "".join(lines)


def strip(scale, marks, title):
    grid = "".join(rule(scale, x, "grid") for x in scale.ticks)
    return f'<svg class="strip" role="img"><title>{escape(title)}</title>{grid}{marks}</svg>'


def axis(scale):
    ticks = "".join(f'<text x="{scale.at(x)}" y="1em" text-anchor="middle">{x:g}</text>' for x in scale.ticks)
    return f'<svg class="axis" aria-hidden="true">{ticks}</svg>'


# ---- figures ----

def chart(scale, lines):
    """lines: [(label, marks, value, title)]"""
    made = "".join(f'<span class="label" title="{escape(label)}">{escape(label)}</span>{strip(scale, marks, title)}'
                   f'<span class="value">{escape(value)}</span>' for label, marks, value, title in lines)
    return f'<div class="chart">{made}<span></span>{axis(scale)}<span></span></div>'


def legend(*entries):
    """entries: (marks on a strip of width 28, height 14; words)"""
    return ('<div class="legend">' + "".join(f"<span><svg aria-hidden='true'>{marks}</svg>{escape(words)}</span>"
                                             for marks, words in entries) + "</div>")


LEGEND = {
    "bar": ('<rect class="bar" x="0" y="2" width="22" height="10" fill="var(--c1)"/><line class="whisker" x1="14" '
            'x2="28" y1="7" y2="7"/>', "closed book, 95% interval"),
    "ring": ('<circle class="ring" cx="14" cy="7" r="4.5"/>', "same model, news in context"),
    "dashed": ('<line class="dashed" x1="14" x2="14" y1="-2" y2="16"/>', "base, news in context"),
    "dotted": ('<line class="dotted" x1="14" x2="14" y1="-2" y2="16"/>', "chance"),
    "interval": ('<line class="whisker" x1="2" x2="26" y1="7" y2="7"/><circle cx="14" cy="7" r="4.5" '
                 'fill="var(--c1)"/>', "difference, 95% interval"),
    "band": ('<rect class="band" x="0" y="0" width="28" height="14"/>', "smaller than so many news can show"),
}

SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(x):
    """2e+14 as 2·10¹⁴, for an axis."""
    exponent = math.floor(math.log10(x) + 1e-9)
    first = round(x / 10 ** exponent)
    return ("" if first == 1 else f"{first}·") + "10" + str(exponent).translate(SUPERSCRIPT)


def log_scale(numbers):
    """A scale of logarithms (base 10) whose ticks are 1, 2 and 5 times powers of ten, or powers only."""
    low, high = math.log10(min(numbers)) - 0.15, math.log10(max(numbers)) + 0.15
    steps = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [math.log10(s) + e for e in range(math.floor(low), math.ceil(high) + 1) for s in steps]
    return Scale(low, high, tuple(x for x in ticks if low <= x <= high))


def scatter(points, lines, across, up):
    """Shares over costs. points: [(label, x, (mean, low, high), colour)]; lines: [(label, share, kind)].
    A label stands above its interval, higher where another stands there; a legend takes the labels' place
    beyond 12 points and on narrow screens."""
    high, scale, named = 300, log_scale([x for _, x, _, _ in points]), len(points) <= 12
    y_of = lambda share: round(high * (1 - share), 1)
    made = [f'<line class="grid" x1="0" x2="100%" y1="{y_of(y)}" y2="{y_of(y)}"/><text x="0" y="{y_of(y)}" dx="-8" '
            f'dy=".35em" text-anchor="end">{y:g}</text>' for y in SHARES.ticks]
    made += [f'<text x="{scale.at(x)}" y="{high + 16}" text-anchor="middle">{power(10 ** x)}</text>'
             for x in scale.ticks]
    made += [f'<line class="{kind}" x1="0" x2="100%" y1="{y_of(y)}" y2="{y_of(y)}"/><text x="4" y="{y_of(y) - 4}">'
             f"{escape(label)}</text>" for label, y, kind in lines if y is not None]
    names, taken = [], []                                   # taken: (percent, y) of the labels so far
    for label, x, (mean, low, top), fill in sorted(points, key=lambda p: -p[2][2]):
        place, at = scale.at(math.log10(x)), y_of(top) - 7
        percent = float(place[:-1])
        made.append(f'<g><title>{escape(label)}: {mean:.2f} [{low:.2f}, {top:.2f}], {x:.3g}</title><line x1="{place}" '
                    f'x2="{place}" y1="{y_of(low)}" y2="{y_of(top)}" stroke="{fill}" stroke-width="2"/>'
                    f'<circle cx="{place}" cy="{y_of(mean)}" r="5.5" fill="{fill}"/></g>')
        while any(abs(percent - p) < 18 and abs(at - t) < 15 for p, t in taken):
            at -= 1
        taken.append((percent, at))
        anchor = "start" if percent < 15 else "end" if percent > 85 else "middle"
        names.append(f'<text class="name" x="{place}" y="{at}" text-anchor="{anchor}">{escape(label)}</text>')
    made += names * named
    made.append(f'<text x="100%" y="{high + 32}" text-anchor="end">{escape(across)}</text>')
    key = legend(*((f'<circle cx="14" cy="7" r="5" fill="{fill}"/>', label) for label, _, _, fill in points))
    return (f'<div class="small">{escape(up)}</div><div class="scatter{" named" * named}"><svg role="img">'
            f'{"".join(made)}</svg></div>{key}')
