"""Reference of data/new_news_hard/coding.yaml: QUESTIONS computes the right options of a world from the
functions of reference_hard_coding_worlds.py.

The wrong options of a question are the right ones of the other three worlds, so that the options alone do not
tell which world is real.
"""

from functools import cmp_to_key
from itertools import permutations, product

from reference_hard_coding_worlds import SOURCES, WORLDS


def mardle_runs(decorator, numbers, calls):
    """How often the function really runs under a stack of mardle(n), the innermost n first."""
    done = []
    function = done.append
    for n in numbers:
        function = decorator(n)(function)
    for i in range(calls):
        function(i)
    return str(len(done))


def installed(admits, requirement, versions):
    admitted = [v for v in versions.split() if admits(requirement, v)]
    return max(admitted, key=lambda v: (int(v.split(".")[2]), -int(v.split(".")[1])))


def in_order(compare, texts):
    return sorted(texts.split(), key=cmp_to_key(compare))


def only(found):
    """The one thing that was found, as a text."""
    found = sorted(set(found))
    assert len(found) == 1, found
    return str(found[0])


def smallest(f, lines):
    """The smallest n for which a program that begins with the declaration a#n is accepted."""
    return str(next(n for n in range(1, 99) if min(f([("let", "a", n), *lines]).values()) >= 0))


PARAMETERS = ["a, b, c, d=0", "a, b, c=0, d=0", "a, b=0, c=0", "a, b=0"]
METHODS = {"__init__": "self, a, b", "scale_by": "self, k, origin=None",
           "turn_left_by": "self, angle, unit=None", "draw_all_points": "self, style, size=1",
           "save_now": "self, path=None, mode=None"}
COMMITS = [(m, a) for m, a in zip("init parse print test docs".split(), "Ada Ben Cem Dia Eve".split())]
LETTERS = [(letter, "") for letter in "abcdefghijklmnopqrstuvwxyz"]
NUMBERED = [(n, n) for n in range(1, 41)]
KINDS = [("warning, warning, test", 2, 1, 0), ("test, test, warning", 1, 2, 0),
         ("test, test, file", 0, 2, 1), ("file, file, warning", 1, 0, 2)]
DECLARED = {"p#4": [("loop", "p"), ("loop", "p")], "q#3": [("loop", "q")],
            "r#9": [("loop", "r"), ("loop", "r"), ("read", "r")],
            "s#7": [("loop", "s"), ("read", "s"), ("read", "s")]}

QUESTIONS = {
    "coding-brindle": [
        lambda f: str(f([3, 8, 6, 7])),
        lambda f: str(sum(f([3, 1, 2, 4]))),
        lambda f: str(f(f([4, 2, 5]))[-1]),
        lambda f: only(x for x in range(1, 99) if sum(f([2, x, 1])) == 15),
        lambda f: str(max(f([4, 9, 7])))],
    "coding-tarsel": [
        lambda f: str(f(7 + 6)),
        lambda f: str(f(2 - 9)),
        lambda f: f"{f(f(8 + 5) - 6)} and {f(8 + f(5 - 6))}",
        lambda f: str(f(f(9 + 4) - 4)),
        lambda f: str(sum(f(x + 7) >= 5 for x in range(11)))],
    "coding-plimsoll": [
        lambda f: str(f(429, 503, 503, 200)),
        lambda f: str(f(503, 500, 503, 200)),
        lambda f: str(4 * 2 + f(500, 429, 500, 200)),
        lambda f: str(f(500, 500, 503, 500, 500)),
        lambda f: only(", ".join(map(str, s))
                       for s in [(500, 500, 503), (500, 500, 429), (503, 503, 503), (429, 429, 429)]
                       if f(*s, 200) == 12)],
    "coding-sallow": [
        lambda f: only(f("fig oat pea nut fig elm".split())[1]),
        lambda f: ", ".join(f("fig oat pea nut elm".split())[0]),
        lambda f: ", ".join(map(str, f(range(1, 101))[0])),
        lambda f: f("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())[1][-1],
        lambda f: only(", ".join(reads)
                       for reads in [("fig", "oat", "pea"), ("nut", "oat", "pea"), ("oat", "nut", "pea"),
                                     ("oat", "pea", "nut")]
                       if f(["fig", "oat", "pea", "nut", *reads, "elm"])[1] == ["nut"])],
    "coding-wexel": [
        lambda f: str(f("i2t4d").count("t")),
        lambda f: str(f("i7t3d").count("t")),
        lambda f: only(header for header in ("i3td", "i2td", "it3d", "it2d") if f(header) == "itttd"),
        lambda f: only(header for header in ("3i2td", "2i1td", "i3t2d", "i2t1d") if f(header) == "iiittd"),
        lambda f: str(f("i2t5d").index("d") + 2)],
    "coding-p417": [
        lambda f: only(f"({p})" for p in PARAMETERS if f("cut_line_at_end", p)),
        lambda f: only(name for name in ["merge_both", "merge_both_sides", "merge_both_sides_now",
                                         "merge_both_sides_now_twice"]
                       if f(name, "self, other, strict=True, deep=False")),
        lambda f: only(n for n in range(9)
                       if f("fit_and_plot_the_new_curve", ", ".join([*"abcdefghi"[:n], "y=0", "z=0"]))),
        lambda f: only(n + 3 for n in range(9)
                       if f("load_old_data_file_now", ", ".join([*"abcdefghi"[:n], "x=0", "y=0", "z=0"]))),
        lambda f: str(sum(not f(*method) for method in METHODS.items()))],
    "coding-mardle": [
        lambda f: str([sq(x) for sq in [f(3)(lambda x: x * x)] for x in range(1, 9)][-1]),
        lambda f: mardle_runs(f, [3], 20),
        lambda f: mardle_runs(f, [3, 2], 31),
        lambda f: str([double(x, fresh=x == 2)
                       for double in [f(3)(lambda x: 2 * x)] for x in range(1, 9)][-1]),
        lambda f: str([same(x) for same in [f(3)(lambda x: x)] for x in (1, 2, 3, 4)])],
    "coding-skelder": [
        lambda f: str(f(warnings=2, tests=1)),
        lambda f: only(text for text, *counts in KINDS if f(*counts) == 12),
        lambda f: str(f(warnings=1, files=2)),
        lambda f: str(next(n for n in range(99) if f(warnings=n, files=1) > 250)),
        lambda f: only(f(a + 1, b - 1, c) for a, b, c in product(range(5), repeat=3)
                       if b and f(a, b, c) == 60)],
    "coding-vennel": [
        lambda f: f("red", "blue", "green", "gold"),
        lambda f: f"{f('north', 'north', 'south', 'south')} and {f('80', '90', '80', '90')}",
        lambda f: only(f"the {source.replace('_', ' ')}'s entry" for i, source in enumerate(SOURCES)
                       if f(*(None if j == i else value for j, value in enumerate("wxyz"))) == "built-in"),
        lambda f: f"{f('4', '4', '8', '8')}, then {f('4', '8', '4', '8')}",
        lambda f: " and ".join(f(*held, built_in="auto")
                               for held in [("on", "off", None, None), (None, None, "on", "off")])],
    "coding-hobnail": [
        lambda f: installed(f, "2.3.4", "2.1.1 2.1.7 2.2.1 2.5.2 2.5.6 2.6.2"),
        lambda f: only(v for v in ("1.6.7", "1.6.2", "1.2.7", "1.2.2") if f("1.4.4", v)),
        lambda f: "% " + only(r for r in ("3.1.2", "3.1.5", "3.4.2", "3.4.5") if all(
            f(r, v) == (f("3.1.5", v) and f("3.4.2", v))
            for v in (f"3.{b}.{c}" for b in range(9) for c in range(9)))),
        lambda f: "% " + only(r for r in ("1.2.2", "1.2.6", "1.6.2", "1.6.6") if f(r, "1.4.4")),
        lambda f: str(sum(f("5.4.2", f"5.{b}.{c}") for b in range(6) for c in range(6)))],
    "coding-corvish": [
        lambda f: only(w for w in (f"tale-{''.join(end)}.txt" for end in permutations("tale"))
                       if f("*-&.txt", w)),
        lambda f: only(w for w in ("pittip", "pitpit", "pititp", "pittpi") if f("*&", w)),
        lambda f: only(w for w in ("ab_mole_elom", "ab_mole_mole", "ab_mole_olem", "ab_mole_emol")
                       if f("*_*_&", w)),
        lambda f: str(sum(f("*&", w) for w in ("noon", "tippti", "pannpa", "sununs", "kayak"))),
        lambda f: only(w for w in map("".join, permutations("lamp")) if f("*-&", f"{w}-lamp"))],
    "coding-oxbow": [
        lambda f: ", ".join(in_order(f, "anna bert cora dirk")),
        lambda f: in_order(f, "sugar beer rice ash")[1],
        lambda f: in_order(f, "apple pizza zinc honey")[0],
        lambda f: only(b for order in [in_order(f, "sugar tea iris pear sea")]
                       for a, b in zip(order, order[1:]) if a == "sugar"),
        lambda f: str(sum(f(w, "oat") < 0 for w in "lily goat daisy tea lime corn fir".split()))],
    "coding-tine": [
        lambda f: f"{f(5, 2)[3]}:00",
        lambda f: str(7 * len(f(0, 2))),
        lambda f: f"{f(0, 1)[-1]}:00",
        lambda f: only(f"tine {h} {s}" for h, s in product(range(24), range(1, 24))
                       if f(h, s)[1:3] == [8, 14]),
        lambda f: str(max(b - a for starts in [f(6, 5)]
                          for a, b in zip(starts, [*starts[1:], starts[0] + 24])))],
    "coding-plash": [
        lambda f: str(f(NUMBERED, 2)[2][0]),
        lambda f: ", ".join(message for message, _ in f(COMMITS)),
        lambda f: " and ".join(author for _, author in f(COMMITS, 2)),
        lambda f: "{} and {}".format(*f(NUMBERED)[3]),
        lambda f: ", ".join(message for message, _ in f(LETTERS)[:3])],
    "coding-counted": [
        lambda f: smallest(f, [("loop", "a")]),
        lambda f: str(f([("let", "x", 20), ("read", "x"), ("loop", "x"), ("loop", "x")])["x"]),
        lambda f: smallest(f, [("read", "a"), ("loop", "a"), ("loop", "a"), ("let", "b", "a"),
                               ("read", "b")]),
        lambda f: str(f([("let", "a", 6), ("loop", "a"), ("let", "b", "a")])["b"]),
        lambda f: only(name for name, reads in DECLARED.items()
                       if f([("let", name[0], int(name[2])), *reads])[name[0]] == 0)],
}

OPTIONS = {f"{news}-{i}": [question(world) for world in WORLDS[news]]
           for news, questions in QUESTIONS.items() for i, question in enumerate(questions, 1)}
ANSWERS = {id: options[0] for id, options in OPTIONS.items()}
