"""Reference of data/new_news/math.yaml and data/new_news/dev/math.yaml: the four worlds of each news.

WORLDS holds the worlds of each news in the order of the file, the actual one first. A world is the piece of
its statement that the others do not share, the answer to the question for recall, and the rule itself: a
function, or the number or word that fixes everything. QUESTIONS computes from a rule the answers to the other
questions.
"""

from typing import Any, NamedTuple


class World(NamedTuple):
    words: str      # what only this world's statement says
    recall: str     # the answer to question 1
    rule: Any


MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
         "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
COMPASS = "north northeast east southeast south southwest west northwest".split()
POLYGONS = {3: "triangle", 6: "hexagon", 8: "octagon", 10: "decagon"}
LEGS = {"bird": 2, "hen": 2, "cat": 4, "dog": 4, "ant": 6, "spider": 8}


def in_words(n):
    """The English name of a number from 0 to 99."""
    return SMALL[n] if n < 20 else TENS[n // 10] + ("-" + SMALL[n % 10] if n % 10 else "")


def month(n):
    return MONTHS[n - 1]


def day(n):
    return DAYS[n - 1]


def initial(word):
    return word[0].upper()


def only(found):
    """The one thing that was found; a question with two right answers fails here."""
    found = list(found)
    assert len(found) == 1, found
    return found[0]


def who(rule, arguments, wanted):
    """The one name for whose arguments the rule gives what is wanted."""
    return only(name for name, given in arguments.items() if rule(*given) == wanted)


def named(rule, laws, inputs):
    """The one name of a law that agrees with the rule on all inputs."""
    return only(name for name, law in laws.items() if all(law(*x) == rule(*x) for x in inputs))


def placed(key, things, place):
    """The one name, of all things, that exactly `place` others come before when they are sorted by key."""
    keys = {name: key(thing) for name, thing in things.items()}
    return only(name for name in keys if sum(other < keys[name] for other in keys.values()) == place)


def sequence(first, step, length):
    terms = [first]
    while len(terms) < length:
        terms.append(step(terms[-1]))
    return terms


def turned(eighths, facing):
    """The direction after so many eighth turns to the right."""
    return COMPASS[(COMPASS.index(facing) + eighths) % 8]


def letter(places, start="A"):
    return chr(ord(start) + places)


PAIRS = [(x, y) for x in range(2, 9) for y in range(2, 9)]
NUMBERS = [(n,) for n in range(3, 9)]

WORLDS = {
    "math-trastle": [
        World("x * y + y", "adds the second number", lambda x, y: x * y + y),
        World("x * y - x", "subtracts the first number", lambda x, y: x * y - x),
        World("x * y - y", "subtracts the second number", lambda x, y: x * y - y),
        World("x * y + x", "adds the first number", lambda x, y: x * y + x)],
    "math-brenlow-order": [     # the rule: what is small for the numbers that come first
        World("last digits, and the smallest comes first", "the smallest last digit", lambda n: n % 10),
        World("last digits, and the largest comes first", "the largest last digit", lambda n: -(n % 10)),
        World("first digits, and the smallest comes first", "the smallest first digit", lambda n: n // 10),
        World("first digits, and the largest comes first", "the largest first digit", lambda n: -(n // 10))],
    "math-dorrick": [           # corners of the base
        World("hexagon", "a hexagon", 6), World("triangle", "a triangle", 3), World("square", "a square", 4),
        World("pentagon", "a pentagon", 5)],
    "math-tembel-notation": [
        World("twice", "its double", lambda n: 2 * n), World("the square of", "its square", lambda n: n * n),
        World("the negative of", "its negative", lambda n: -n), World("half", "its half", lambda n: n / 2)],
    "math-mavent": [            # whether a thing is in it that is (or is not) in A and in B
        World("in both A and B", "those in both sets", lambda a, b: a and b),
        World("in neither A nor B", "those in neither set", lambda a, b: not a and not b),
        World("in A but not in B", "those only in A", lambda a, b: a and not b),
        World("in B but not in A", "those only in B", lambda a, b: b and not a)],
    "math-kessing": [
        World("first", "the first one", lambda *x: x[0]), World("last", "the last one", lambda *x: x[-1]),
        World("largest", "the largest one", lambda *x: max(x)),
        World("smallest", "the smallest one", lambda *x: min(x))],
    "math-umbric-number": [
        World(f"letter {x}", x.upper(), lambda n, x=x: in_words(n).startswith(x)) for x in "tfsn"],
    "math-wendle-turn": [       # eighth turns to the right
        World("a quarter turn to the left", "a quarter left", -2),
        World("a quarter turn to the right", "a quarter right", 2),
        World("an eighth turn to the left", "an eighth left", -1),
        World("an eighth turn to the right", "an eighth right", 1)],
    "math-dravel": [World(SMALL[n], SMALL[n], n) for n in (4, 6, 8, 2)],
    "math-hensby-sequence": [
        World("one less than", "subtract one", lambda n: n - 1),
        World("two less than", "subtract two", lambda n: n - 2),
        World("three less than", "subtract three", lambda n: n - 3),
        World("half of", "divide by two", lambda n: n / 2)],
    "math-gelder-spinner": [World(f"are {x}", x, x) for x in ("blue", "green", "yellow", "red")],
    "math-pellam-rounding": [
        World(SMALL[d], SMALL[d], lambda price, d=d: price // 10 * 10 + d) for d in (8, 9, 0, 5)],
    "math-sibbern-numbers": [
        World("divided by", "division", lambda x, y: max(x, y) / min(x, y) == 10),
        World("plus", "addition", lambda x, y: x + y == 10),
        World("times", "multiplication", lambda x, y: x * y == 10),
        World("minus", "subtraction", lambda x, y: abs(x - y) == 10)],
    "math-querl": [
        World("its largest digit", "its largest digit", lambda n: int(max(str(n)))),
        World("its first digit", "its first digit", lambda n: int(str(n)[0])),
        World("the number of its digits", "the number of its digits", lambda n: len(str(n))),
        World("the sum of its digits", "the sum of its digits", lambda n: sum(map(int, str(n))))],
    "math-corvale": [
        World("multiply by y", "multiply by y", lambda x, y: 2 * x * y),
        World("divide by y", "divide by y", lambda x, y: 2 * x / y),
        World("add y", "add y", lambda x, y: 2 * x + y),
        World("subtract y", "subtract y", lambda x, y: 2 * x - y)],
    # for development
    "math-lubsum": [
        World("plus one", "adds one", lambda x, y: x + y + 1),
        World("minus one", "subtracts one", lambda x, y: x + y - 1),
        World("times two", "doubles the result", lambda x, y: (x + y) * 2),
        World("divided by two", "halves the result", lambda x, y: (x + y) / 2)],
    "math-yolden-order": [      # the rule: what is small for the words that come first
        World("its last letter is nearest to Z", "last letter nearest Z", lambda word: -ord(word[-1])),
        World("it is the shortest", "being the shortest", len),
        World("it is the longest", "being the longest", lambda word: -len(word)),
        World("its last letter is nearest to A", "last letter nearest A", lambda word: ord(word[-1]))],
    "math-sprindle": [          # the long side for a short side of 1
        World("four times", "four times", 4), World("five times", "five times", 5),
        World("twice", "twice", 2),
        World("three times", "three times", 3)],
    "math-ottring-sequence": [World(SMALL[n], SMALL[n], n) for n in (4, 5, 2, 3)],
    "math-jastic-bag": [World(SMALL[n], SMALL[n], n) for n in (0, 1, 5, 10)],
}

QUESTIONS = {
    "math-trastle": [
        lambda f: f(5, 2),
        lambda f: who(f, {"4 and 1": (4, 1), "1 and 4": (1, 4), "4 and 3": (4, 3), "3 and 4": (3, 4)}, 8),
        lambda f: month(f(4, 2)),
        lambda f: initial(in_words(f(2, 1)))],
    "math-brenlow-order": [
        lambda f: placed(f, {"Ann": 24, "Ben": 87, "Cara": 51, "Dan": 39}, 0),
        lambda f: only(n for n in (45, 65, 54, 56) if f(n) < f(55)),
        lambda f: placed(f, {"months in a year": 12, "squares of a chessboard": 64, "states of the USA": 50,
                               "days of a normal February": 28}, 0),
        lambda f: placed(f, {"Mia": 13, "Noah": 31, "Olga": 69, "Paul": 85}, 1)],
    "math-dorrick": [
        lambda n: n,
        lambda n: {3: "Ann", 4: "Ben", 5: "Cara", 6: "Dan"}[n],
        lambda n: {3: "slice of pizza", 4: "chessboard", 5: "Pentagon building", 6: "cell of a honeycomb"}[n],
        lambda n: in_words(n + 1)],
    "math-tembel-notation": [
        lambda f: int(f(4)),
        lambda f: who(f, {"Ann": (72,), "Ben": (18,), "Cara": (6,), "Dan": (-36,)}, 36),
        lambda f: {5: "fridge cold", 20: "room warm", 100: "boiling hot", -10: "frozen solid"}[f(10)],
        lambda f: named(lambda n: f(f(n)), {"divided by four": lambda n: n / 4,
                                            "multiplied by four": lambda n: n * 4,
                                            "its fourth power": lambda n: n ** 4,
                                            "unchanged": lambda n: n}, NUMBERS)],
    "math-mavent": [
        lambda f: only(c for c in ("red", "blue", "green", "pink")
                       if f(c in {"red", "blue"}, c in {"blue", "green"})),
        lambda f: who(f, {"only play chess": (True, False), "only sing": (False, True),
                          "both of them": (True, True),
                          "neither of them": (False, False)}, True),
        lambda f: only(x for x in ("bat", "penguin", "eagle", "horse")
                       if f(x in {"bat", "eagle"}, x in {"penguin", "eagle"})),
        lambda f: only(x for x, n in {"Ann": 12, "Ben": 7, "Cara": 4, "Dan": 15}.items()
                       if f(n % 2 == 0, n < 10))],
    "math-kessing": [
        lambda f: {5: "Monday", 9: "Tuesday", 2: "Wednesday", 7: "Thursday"}[f(5, 9, 2, 7)],
        lambda f: who(f, {"Ann": (5, 8, 3), "Ben": (8, 3, 5), "Cara": (4, 5, 3), "Dan": (8, 5, 6)}, 5),
        lambda f: only(x for x in ("dog", "spider", "bird", "ant")
                       if LEGS[x] == f(LEGS["dog"], LEGS["spider"], LEGS["bird"], LEGS["ant"])),
        lambda f: f(3, 8, 1, 6) + 10],
    "math-umbric-number": [
        lambda f: in_words(only(n for n in (3, 5, 7, 9) if f(n))),
        lambda f: who(f, {"Ann": (20,), "Ben": (40,), "Cara": (60,), "Dan": (90,)}, True),
        lambda f: who(f, {"wheels of a tricycle": (3,), "fingers of one hand": (5,), "days of a week": (7,),
                          "lives of a cat": (9,)}, True),
        lambda f: only(n for n in (20, 40, 60, 90) if f(n)) // 2],
    "math-wendle-turn": [
        lambda n: turned(n, "north"),
        lambda n: only(facing for facing in COMPASS if turned(n, facing) == "north"),
        lambda n: turned(n, "west"),
        lambda n: turned(n + 4, "north")],
    "math-dravel": [
        lambda n: in_words(5 * n),
        lambda n: in_words(120 // n),
        lambda n: only(x for x in ("hen", "cat", "ant", "spider") if LEGS[x] == n),
        lambda n: month(n + 1)],
    "math-hensby-sequence": [
        lambda f: int(sequence(12, f, 3)[2]),
        lambda f: {7: "seventh", 4: "fourth", 3: "third", 2: "second"}[sequence(12, f, 9).index(6) + 1],
        lambda f: month(int(sequence(12, f, 2)[1])),
        lambda f: POLYGONS[sequence(12, f, 3)[2]]],
    "math-gelder-spinner": [
        lambda colour: {"red": "Ann", "blue": "Ben", "green": "Cara", "yellow": "Dan"}[colour],
        lambda colour: colour,
        lambda colour: {"red": "tomato", "blue": "sky", "green": "grass", "yellow": "lemon"}[colour],
        lambda colour: {"red": "forward", "blue": "back", "green": "left", "yellow": "right"}[colour]],
    "math-pellam-rounding": [
        lambda f: f"{f(42)} cents",
        lambda f: only(name for name, price in {"Ann": 30, "Ben": 35, "Cara": 38, "Dan": 39}.items()
                       if f(price) == price),
        lambda f: {0: "legs of a snake", 5: "toes of one foot", 8: "legs of a spider",
                   9: "lives of a cat"}[f(3)],
        lambda f: "1 cent" if f(12) == 19 else f"{20 - f(12)} cents"],
    "math-sibbern-numbers": [
        lambda f: only(n for n in (5, 8, 12, 20) if f(n, 2)),
        lambda f: who(f, {"Ann": (4, 6), "Ben": (2, 5), "Cara": (3, 13), "Dan": (3, 30)}, True),
        lambda f: who(f, {"a spider's legs": (8, 2), "toes of one foot": (5, 2), "months of a year": (12, 2),
                          "fingers and toes together": (20, 2)}, True),
        lambda f: 1 + only(n for n in (2, 5, 15, 50) if f(n, 5))],
    "math-querl": [
        lambda f: f(254),
        lambda f: who(f, {"Ann": (12,), "Ben": (13,), "Cara": (38,), "Dan": (505,)}, 3),
        lambda f: month(f(142)),
        lambda f: initial(in_words(f(124)))],
    "math-corvale": [
        lambda f: int(f(6, 2)),
        lambda f: only(n for n in range(-99, 99) if f(n, 2) == 8),
        lambda f: month(int(f(3, 2))),
        lambda f: named(lambda n: f(n, n), {"three times the number": lambda n: 3 * n,
                                            "the same number": lambda n: n,
                                            "twice its square": lambda n: 2 * n * n,
                                            "always two": lambda n: 2}, NUMBERS)],
    "math-lubsum": [
        lambda f: int(f(4, 6)),
        lambda f: only(n for n in range(-99, 99) if f(5, n) == 16),
        lambda f: month(int(f(1, 3))),
        lambda f: named(lambda n: f(n, 0), {"the next number": lambda n: n + 1,
                                            "the number before": lambda n: n - 1,
                                            "the doubled number": lambda n: 2 * n,
                                            "the halved number": lambda n: n / 2}, NUMBERS)],
    "math-yolden-order": [
        lambda f: placed(f, {word: word for word in ("pig", "elephant", "zebra", "pony")}, 0),
        lambda f: only(word for word in ("cup", "sheep", "lamb", "lady") if f(word) < f("lamp")),
        lambda f: placed(f, {"fingers of two hands": in_words(10), "letters of the alphabet": in_words(26),
                               "sides of a triangle": in_words(3), "minutes of an hour": in_words(60)}, 0),
        lambda f: placed(f, {word: word for word in ("sun", "ball", "money", "rabbit")}, 1)],
    "math-sprindle": [
        lambda n: n * 10,
        lambda n: 60 // n,
        lambda n: {2: "wheels of a bicycle", 3: "wheels of a tricycle", 4: "legs of a cat",
                   5: "fingers of one hand"}[n],
        lambda n: day(n + 1)],
    "math-ottring-sequence": [
        lambda n: letter(n),
        lambda n: letter(-n, "M"),
        lambda n: only(x for x in ("cat", "dog", "elephant", "fish") if initial(x) == letter(n)),
        lambda n: letter(2 * n)],
    "math-jastic-bag": [
        lambda n: {0: "impossible", 1: "unlikely", 5: "as likely as not", 10: "certain"}[n],
        lambda n: 13 - n,
        lambda n: {0: "seven with one die", 1: "guessing one secret digit", 5: "heads with a fair coin",
                   10: "sunrise tomorrow morning"}[n],
        lambda n: 10 - n + 2],
}


def options(worlds, questions):
    """By question id, the answers in the four worlds, written as in the files."""
    computed = {}
    for news, four in worlds.items():
        computed[f"{news}-1"] = [world.recall for world in four]
        for number, ask in enumerate(questions[news], 2):
            computed[f"{news}-{number}"] = [str(ask(world.rule)) for world in four]
    return computed


OPTIONS = options(WORLDS, QUESTIONS)
