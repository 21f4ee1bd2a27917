"""Reference of data/new_news_hard/math.yaml: each news and three versions of it that it could as well have
been, as Python.

WORLDS holds the four worlds of each news, the real one first; QUESTIONS computes the right options of a
world. The wrong options of a question are the right ones of the other three worlds, so that the options alone
do not tell which world is real.
"""

from fractions import Fraction
from itertools import combinations, product
from math import prod


def quellproduct(sign, which):
    return lambda a, b: a * b + sign * which(a, b)


def tolworth(times):
    def holds(n):
        divisors = [d for d in range(1, n + 1) if n % d == 0]
        odd = sum(d % 2 for d in divisors)
        return len(divisors) - odd == times * odd
    return holds


def quay_mean(twice):
    return lambda numbers: Fraction(sum(numbers) + twice(numbers), len(numbers) + 1)


def wexcombe(changed, change):
    """changed: the remainder by 2 of the sums that are changed."""
    def sequence(first, second, length):
        terms = [first, second]
        while len(terms) < length:
            total = terms[-2] + terms[-1]
            terms.append(change(total) if total % 2 == changed else total)
        return terms
    return sequence


def stoop_count(quantifier, sign):
    def count(edges):
        near = {}
        for v, w in edges:
            near.setdefault(v, set()).add(w)
            near.setdefault(w, set()).add(v)
        return sum(quantifier(sign * len(near[w]) > sign * len(near[v]) for w in near[v]) for v in near)
    return count


def brink(subtracted):
    """subtracted: the places (row, column) of n x n whose entries are subtracted from the main diagonal's."""
    return lambda rows: (sum(rows[i][i] for i in range(len(rows)))
                         - sum(rows[i][j] for i, j in subtracted(len(rows))))


def ferrow(difference):
    """All ferrow triangles whose smallest angle is a multiple of half a degree, as sorted angles."""
    smallest = [Fraction(n, 2) for n in range(1, 120)]
    return [(a, 180 - difference - 2 * a, a + difference) for a in smallest
            if a <= 180 - difference - 2 * a <= a + difference]


def pennant(count_first, further):
    def read(written):
        digits, i = "", 0
        while i < len(written):
            if written[i + 1:i + 2] == "~":
                one, other = written[i], written[i + 2]
                digit, count = (other, one) if count_first else (one, other)
                digits, i = digits + digit * (int(count) + further), i + 3
            else:
                digits, i = digits + written[i], i + 1
        return digits
    return read


def pluck_value(*moves):
    """moves: how many coins a move takes from the left and from the right."""
    def value(coins):
        return max((sum(coins[:left]) + sum(coins[len(coins) - right:])
                    - value(coins[left:len(coins) - right])
                    for left, right in moves if left + right <= len(coins)), default=0)
    return value


def sorrel(factor):
    """(a + bs) * (c + ds), each number given as its pair (real part, multiple of s)."""
    return lambda x, y: (x[0] * y[0], x[0] * y[1] + x[1] * y[0] + factor * x[1] * y[1])


def dusk(zero):
    return lambda n: prod(int(digit) or zero for digit in str(n))


def courteous(wanted):
    return lambda numbers: len(numbers) not in numbers and wanted(len(numbers)) in numbers


def lorrimer_weight(factor):
    """Of the polynomial with these coefficients, the constant term first."""
    return lambda *coefficients: sum(c * factor(n) for n, c in enumerate(coefficients))


def paddock_distance(p, q):
    return lambda a, b: p * abs(a[0] - b[0]) + q * abs(a[1] - b[1])


def ondrake(remainder, alternating_if_prime):
    """Whether the theorems allow an Ondrake knot with this crossing number that is alternating or not."""
    def allowed(crossings, alternating):
        prime = all(crossings % d for d in range(2, crossings))
        return (crossings > 12 and crossings % 4 == remainder
                and alternating == (prime == alternating_if_prime))
    return allowed


WORLDS = {
    "math-quellproduct": [quellproduct(-1, max), quellproduct(1, max),
                          quellproduct(-1, min), quellproduct(1, min)],
    "math-tolworth-number": [tolworth(3), tolworth(2), tolworth(1), tolworth(4)],
    "math-quay-mean": [quay_mean(max), quay_mean(min), quay_mean(lambda x: x[0]), quay_mean(lambda x: x[-1])],
    "math-wexcombe-sequence": [wexcombe(1, lambda t: t - 1), wexcombe(0, lambda t: t - 1),
                               wexcombe(0, lambda t: 2 * t), wexcombe(1, lambda t: 2 * t)],
    "math-stoop-count": [stoop_count(all, 1), stoop_count(any, 1),
                         stoop_count(all, -1), stoop_count(any, -1)],
    "math-brink-of-a-matrix": [
        brink(lambda n: [(n - 1, j) for j in range(n)]), brink(lambda n: [(i, n - 1 - i) for i in range(n)]),
        brink(lambda n: [(0, j) for j in range(n)]), brink(lambda n: [(i, 0) for i in range(n)])],
    "math-ferrow-triangle": [ferrow(48), ferrow(60), ferrow(72), ferrow(84)],
    "math-pennant-notation": [pennant(False, 1), pennant(False, 0), pennant(True, 0), pennant(True, 1)],
    "math-pluck-value": [pluck_value((1, 0), (3, 0)), pluck_value((1, 0), (2, 0)),
                         pluck_value((1, 0), (0, 1)), pluck_value((1, 0), (0, 2))],
    "math-sorrel-numbers": [sorrel(5), sorrel(2), sorrel(3), sorrel(6)],
    "math-dusk-of-a-number": [dusk(6), dusk(2), dusk(3), dusk(4)],
    "math-courteous-set": [courteous(lambda n: n + 3), courteous(lambda n: n + 1),
                           courteous(lambda n: n + 2), courteous(lambda n: 2 * n)],
    "math-lorrimer-weight": [lorrimer_weight(lambda n: 2 ** n), lorrimer_weight(lambda n: n),
                             lorrimer_weight(lambda n: n + 1), lorrimer_weight(lambda n: n * n)],
    "math-paddock-distance": [paddock_distance(1, 3), paddock_distance(1, 2),
                              paddock_distance(2, 1), paddock_distance(3, 1)],
    "math-ondrake-knots": [ondrake(1, False), ondrake(3, True), ondrake(3, False), ondrake(1, True)],
}


def only(found):
    """The one thing that was found, as a text."""
    found = sorted(set(found))
    assert len(found) == 1, found
    return str(found[0])


def decimal(x):
    return str(int(x) if x == int(x) else float(x))


def spider(legs):
    """Edges of a tree: a centre joined to some vertices, each of which is joined to one more."""
    return [edge for i in range(legs) for edge in [("centre", i), (i, f"end{i}")]]


def grid(rows, columns):
    points = list(product(range(rows), range(columns)))
    return [(p, q) for p, q in combinations(points, 2) if abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1]


def lowered_by(f, size, places):
    """The one of these places (row, column, counted from 1) where a larger entry makes the brink smaller."""
    unit = lambda place: [[int((i, j) == place) for j in range(1, size + 1)] for i in range(1, size + 1)]
    return only(f"row {i}, column {j}" for i, j in places if f(unit((i, j))) < 0)


def raised_most(f, numbers, by):
    change = [f([*numbers[:i], n + by, *numbers[i + 1:]]) - f(numbers) for i, n in enumerate(numbers)]
    return only(f"the {n}" for n, c in zip(numbers, change) if c == Fraction(2 * by, len(numbers) + 1))


TWO_STARS = [("p", "q")] + [("p", i) for i in range(2)] + [("q", i) for i in range(2, 6)]
ETHANOL = [("C1", "C2"), ("C2", "O"), ("O", "H6")] + [
    (c, h) for c, h in zip(["C1"] * 3 + ["C2"] * 2, range(5))]
DOLLAR = {"penny": 1, "nickel": 5, "dime": 10, "quarter": 25}

QUESTIONS = {
    "math-quellproduct": [
        lambda f: str(f(6, 4)),
        lambda f: only(t for t, g in {"0": lambda n: 0, "2n": lambda n: 2 * n, "n - 1": lambda n: n - 1,
                                      "n + 1": lambda n: n + 1}.items()
                       if all(f(1, n) == g(n) for n in range(2, 50))),
        lambda f: only(x for x in range(6, 99) if f(5, x) == 60),
        lambda f: only(t for t, g in {"n^2 - 1": lambda n: n * n - 1, "n^2": lambda n: n * n,
                                      "n^2 + 2n": lambda n: n * n + 2 * n,
                                      "n^2 + 2n + 1": lambda n: (n + 1) ** 2}.items()
                       if all(f(n, n + 1) == g(n) for n in range(1, 50))),
        lambda f: str(f(3, 12))],
    "math-tolworth-number": [
        lambda f: str([n for n in range(1, 99) if f(n)][1]),
        lambda f: str(sum(map(f, range(1, 51)))),
        lambda f: only(b - a for found in [[n for n in range(1, 500) if f(n)]]
                       for a, b in zip(found, found[1:])),
        lambda f: only(n for n in range(1, 500)
                       if f(n) and max(d for d in range(1, n + 1, 2) if n % d == 0) == 5),
        lambda f: only(n for n in (1992, 2000, 2010, 2012) if f(n))],
    "math-quay-mean": [
        lambda f: str(f([9, 4, 19, 14])),
        lambda f: only(x for x in range(-99, 99) if f([8, 2, 14, x]) == 10),
        lambda f: raised_most(f, [30, 10, 60, 40], 5),
        lambda f: str(f([-3, -13, 7, 2])),
        lambda f: decimal(f([8, 5, 24, 12]))],
    "math-wexcombe-sequence": [
        lambda f: str(f(1, 3, 5)[-1]),
        lambda f: str(f(2, 5, 4)[-1]),
        lambda f: str(next(t for t in f(1, 2, 99) if t > 30)),
        lambda f: str(sum(f(7, 7, 4))),
        lambda f: only(t for t, g in {"2p": lambda p: 2 * p, "2p + 1": lambda p: 2 * p + 1,
                                      "4p + 4": lambda p: 4 * p + 4, "6p + 8": lambda p: 6 * p + 8}.items()
                       if all(f(2, p, 4)[-1] == g(p) for p in (3, 5, 7, 11, 13)))],
    "math-stoop-count": [
        lambda f: str(f(spider(5))),
        lambda f: str(f(TWO_STARS)),
        lambda f: str(f(grid(3, 4))),
        lambda f: only(n for n in range(1, 99) if n * f(spider(3)) == 12),
        lambda f: str(f(ETHANOL))],
    "math-brink-of-a-matrix": [
        lambda f: str(f([(5, 2), (1, 4)])),
        lambda f: str(f([(1, 2, 3), (4, 5, 6), (7, 8, 9)])),
        lambda f: lowered_by(f, 4, [(1, 2), (2, 1), (2, 3), (4, 2)]),
        lambda f: str(10 + f([(0, 5, 0), (2, 0, 0), (0, 1, 0)])),
        lambda f: only(x for x in range(-99, 99) if f([(x, 4), (8, 2 * x)]) == 6)],
    "math-ferrow-triangle": [
        lambda f: only(b for a, b, c in f if a == 30),
        lambda f: only(f"{a}° and {b}°" for a, b, c in f if c == 90),
        lambda f: str(max(map(max, f))),
        lambda f: only(a for a, b, c in f if a < b == c),
        lambda f: only(c for a, b, c in f if b == 54)],
    "math-pennant-notation": [
        lambda f: f("4~35"),
        lambda f: str(int(f("3~4")) - int(f("3~2"))),
        lambda f: str(len(f("3~52~64~8"))),
        lambda f: str(int(f("3~2")) + 100),
        lambda f: only(w for w in ("1~53", "1~43", "5~13", "4~13", "1~35", "3~15") if f(w) == "111113")],
    "math-pluck-value": [
        lambda f: str(f((1, 8, 7))),
        lambda f: str(f((3, 5, 9, 2))),
        lambda f: only(x for x in range(1, 99) if f((3, 2, x, 7)) == 6),
        lambda f: str((19 - f((2, 9, 5, 3))) // 2),
        lambda f: str(f(tuple(DOLLAR[c] for c in ("nickel", "penny", "quarter", "dime"))))],
    "math-sorrel-numbers": [
        lambda f: "{} + {}s".format(*f((1, 1), (1, 1))),
        lambda f: "{1}s".format(*f((0, 1), f((0, 1), (0, 1)))),
        lambda f: only(f"s {'-' if c < 0 else '+'} {abs(c)}" for c in range(-99, 99)
                       if f((0, 1), (c, 1)) == (0, 0)),
        lambda f: only(f"{b}s" for b in range(-99, 99) if f((0, b), (0, 1)) == (0, 30)),
        lambda f: only(f"s/{1 / b}" for b in (Fraction(n, d) for n in (-1, 1) for d in range(1, 99))
                       if f((0, b), (0, b)) == (0, b))],
    "math-dusk-of-a-number": [
        lambda f: str(f(205)),
        lambda f: str(f(700)),
        lambda f: only(n for n in (140, 230, 240, 340) if f(n) == 24),
        lambda f: only(x for x in range(1, 10) if f(300 + 10 * x) == 36),
        lambda f: str(f(360))],
    "math-courteous-set": [
        lambda f: only(n for n in range(1, 99) if n not in (2, 10, 13) and f({2, 10, 13, n})),
        lambda f: str(max(sum(x) for x in combinations(range(1, 15), 5) if f(x))),
        lambda f: only(n for n in range(1, 40) if f({24, *range(101, 100 + n)})),
        lambda f: only(set.intersection(*(set(x) for x in combinations(range(1, 17), 8) if f(x)))),
        lambda f: str(next(n for n in range(1, 99) if f(range(10, 10 * n + 1, 10))))],
    "math-lorrimer-weight": [
        lambda f: str(f(7, 5, 3)),
        lambda f: only(f(*p, d + 10) - f(*p, d) for *p, d in product(range(4), repeat=4)),
        lambda f: str(f(4, 4, 1)),
        lambda f: only(k for k in range(-99, 99) if f(0, -6, 0, k) == 84),
        lambda f: only(name for name, g in {
            "p'(1)": lambda c, b, a: 2 * a + b, "p(1) + p'(1)": lambda c, b, a: 3 * a + 2 * b + c,
            "p'(1) + p''(1)": lambda c, b, a: 4 * a + b, "p(2)": lambda c, b, a: 4 * a + 2 * b + c,
        }.items() if all(g(*p) == f(*p) for p in product(range(-3, 4), repeat=3)))],
    "math-paddock-distance": [
        lambda f: str(f((1, 2), (7, 4))),
        lambda f: str(sum(f((0, 0), (4, y)) <= 13 for y in range(-20, 21))),
        lambda f: only(f((0, 0), (0, d)) for d in range(-99, 99) if f((0, 0), (d, 0)) == 6),
        lambda f: only(y for y in range(1, 99) if f((0, 0), (3, y)) == 21),
        lambda f: str(f((1, 1), (7, 5)))],
    "math-ondrake-knots": [
        lambda f: str(next(n for n in range(13, 99) if f(n, False))),
        lambda f: only(n for n in range(39, 46) if f(n, True)),
        lambda f: only(n for n in range(57, 64) if f(n, False)),
        lambda f: only(t for t, n in {"5 squared": 25, "3 cubed": 27, "days in a leap February": 29,
                                      "days in a January": 31}.items()
                       if f(n, True)),
        lambda f: str([n for n in range(13, 99) if f(n, True)][1])],
}

OPTIONS = {f"{news}-{i}": [question(world) for world in WORLDS[news]]
           for news, questions in QUESTIONS.items() for i, question in enumerate(questions, 1)}
ANSWERS = {id: options[0] for id, options in OPTIONS.items()}
