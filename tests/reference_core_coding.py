"""Reference of data/new_news/coding.yaml and data/new_news/dev/coding.yaml: the four worlds of each news.

WORLDS, QUESTIONS and OPTIONS are made like those of reference_core_math.py.
"""

from collections import Counter
from datetime import datetime, timedelta

from reference_core_math import LEGS, SMALL, World, initial, month, only, options, placed, who

LEVELS = ["debug", "info", "warning", "error", "critical"]
WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
VALUES = {
    "weekday": [*WEEK, "Saturday", "Sunday"],
    "month": [month(n) for n in range(1, 13)],
    "planet": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(),
    "season": "spring summer autumn winter".split()}
HELLO = {"French": "Bonjour", "Spanish": "Hola", "German": "Hallo", "Russian": "Privet"}
THANKS = {"French": "merci", "Spanish": "gracias", "German": "danke", "Russian": "spasibo"}
SPOKEN = {"Paris": "French", "Madrid": "Spanish", "Berlin": "German", "Moscow": "Russian"}
CAPITALS = {"Japan": "Tokyo", "France": "Paris", "Switzerland": "Bern", "Peru": "Lima"}
ANIMALS = {"bear", "lion", "wolf", "hare", "deer", "owl", "cat", "dog", "ape"}


def nearest(names, number):
    """The name whose number is nearest to this one."""
    return min(names, key=lambda name: abs(names[name] - number))


def days(delta):
    return delta / timedelta(days=1)


def next_month(time):
    return time.replace(month=time.month % 12 + 1, year=time.year + time.month // 12)


def after_runs(following, runs):
    """Days from one run to the one that comes `runs` later."""
    start = time = datetime(2030, 5, 1, 12)
    for _ in range(runs):
        time = following(time)
    return days(time - start)


def said(time):
    """A time of day in May or June, as the options say it."""
    hour = "noon" if time.hour == 12 else f"{time.hour - 12} pm"
    return f"{time.day} {month(time.month)}, {hour}"


def alternating(a, b):
    return [x for pair in zip(a, b) for x in pair]


COLUMN = "pink blue - green red red".split()
DRINKS = {
    "Ann": "cola tea - milk milk".split(), "Ben": "cola milk - tea milk".split(),
    "Cara": "cola milk - juice tea tea".split(), "Dan": "tea milk - juice juice".split()}
FILES = {"cat": (6, 4), "dog": (3, 5), "fox": (4, 9), "owl": (5, 2)}        # month, kilobytes
OTHER_FILES = {"ink": (7, 6), "jar": (1, 7), "kit": (2, 8), "lid": (6, 3)}
BLUE = {
    "Ann": "red blue green pink".split(), "Ben": "blue red green pink".split(),
    "Cara": "red green pink blue".split(), "Dan": "red green blue pink".split()}
FOUND = {
    "Ann's": "lion ox rabbit cat".split(), "Ben's": "ox rabbit cat lion".split(),
    "Cara's": "ox lion ant cat".split(), "Dan's": "tiger lion rabbit horse".split()}
OTHERS = {      # what Eva and one other person did; in just one world Eva is not the one who can delete
    "nobody read before her": (["Max", "Eva"], ["Eva"]), "nobody read after her": (["Eva", "Max"], ["Eva"]),
    "nobody edited before her": (["Eva"], ["Max", "Eva"]),
    "nobody edited after her": (["Eva"], ["Eva", "Max"])}

WORLDS = {
    "coding-snorl": [
        World("without the last element", "drops the last element", lambda xs: xs[:-1]),
        World("in reverse order", "reverses it", lambda xs: xs[::-1]),
        World("with the last element moved to the front", "moves last to front",
              lambda xs: xs[-1:] + xs[:-1]),
        World("without the first element", "drops the first element", lambda xs: xs[1:])],
    "coding-tocklet": [         # when the next run is
        World("day", "every day", lambda time: time + timedelta(days=1)),
        World("week", "every week", lambda time: time + timedelta(days=7)),
        World("month", "every month", next_month),
        World("hour", "every hour", lambda time: time + timedelta(hours=1))],
    "coding-zarn": [
        World("one element of each list in turn, beginning with the first",
              "one element of the first list", alternating),
        World("one element of each list in turn, beginning with the second",
              "one element of the second list", lambda a, b: alternating(b, a)),
        World("all elements of the first list, then all of the second", "all of the first list",
              lambda a, b: a + b),
        World("all elements of the second list, then all of the first", "all of the second list",
              lambda a, b: b + a)],
    "coding-hobrin": [        # what is small for the file (month, kilobytes) that is shown first
        World("oldest", "the oldest", lambda file: file[0]),
        World("largest", "the largest", lambda file: -file[1]),
        World("smallest", "the smallest", lambda file: file[1]),
        World("newest", "the newest", lambda file: -file[0])],
    "coding-vonf": [
        World("a double slash (//)", "double slash", "//"), World("a hash sign (#)", "hash sign", "#"),
        World("a semicolon (;)", "semicolon", ";"), World("a percent sign (%)", "percent sign", "%")],
    "coding-asfigure": [
        World("commas", "commas", lambda text: text.count(",")),
        World("question marks", "question marks", lambda text: text.count("?")),
        World("words", "words", lambda text: len(text.split())),
        World("capital letters", "capital letters", lambda text: sum(c.isupper() for c in text))],
    "coding-brackmoor": [       # words of a name
        World("two words", "two", 2), World("three words", "three", 3), World("four words", "four", 4),
        World("one word", "one", 1)],
    "coding-hallowick": [World(x, x, x) for x in ("German", "Russian", "French", "Spanish")],
    "coding-umbo-type": [
        World(f"of a {x}", f"names of {x}s", x) for x in ("season", "weekday", "month", "planet")],
    "coding-larkstow": [        # files more on the disk, files more on the server
        World("protects a file against changes", "protects it against changes", (0, 0)),
        World("copies a file to the server", "copies it to the server", (0, 1)),
        World("moves a file to the server", "moves it to the server", (-1, 1)),
        World("deletes a file for good", "deletes it for good", (-1, 0))],
    "coding-crimpt": [
        World("all letters of a word, in reverse order", "all letters backwards", lambda word: word[::-1]),
        World("the first three letters of a word", "its first three letters", lambda word: word[:3]),
        World("the last three letters of a word", "its last three letters", lambda word: word[-3:]),
        World("every second letter of a word, beginning with the first", "every second letter",
              lambda word: word[::2])],
    "coding-overmeld": [
        World("the value of the first table", "the first table's value", lambda a, b: a),
        World("the value of the second table", "the second table's value", lambda a, b: b),
        World("the sum of both values", "the sum of both", lambda a, b: a + b),
        World("the product of both values", "the product of both", lambda a, b: a * b)],
    "coding-gapwise": [         # what comes into the empty cell, written as -, of a column
        World("the value at the top of its column", "the column's top value", lambda column: column[0]),
        World("the value just above it", "the one just above", lambda column: column[column.index("-") - 1]),
        World("the value just below it", "the one just below", lambda column: column[column.index("-") + 1]),
        World("the most frequent value of its column", "the column's most frequent",
              lambda column: Counter(column).most_common(1)[0][0])],
    "coding-quorl": [           # of those who read and those who edited, in the order of time
        World("was the first to read it", "the first reader", lambda read, edited: read[0]),
        World("was the last to read it", "the last reader", lambda read, edited: read[-1]),
        World("was the first to edit it", "the first editor", lambda read, edited: edited[0]),
        World("was the last to edit it", "the last editor", lambda read, edited: edited[-1])],
    "coding-mutter-level": [    # the usual levels below
        World(x, x, LEVELS.index(x.split(" and ")[1]))
        for x in ("error and critical", "debug and info", "info and warning", "warning and error")],
    # for development
    "coding-nthwise": [         # the index in Python of the element with this number
        World("the first element", "the first", lambda n: n - 1),
        World("the last element", "the last", lambda n: -n),
        World("the third element", "the third", lambda n: n + 1),
        World("the second element", "the second", lambda n: n)],
    "coding-jundle": [
        World(x, x, n) for n, x in enumerate(("once", "twice", "three times", "four times"), 1)],
    "coding-wimbrel": [
        World("the sum of a list", "its sum", lambda *xs: sum(xs)),
        World("the length of a list", "its length", lambda *xs: len(xs)),
        World("the largest number of a list", "its largest number", lambda *xs: max(xs)),
        World("the smallest number of a list", "its smallest number", lambda *xs: min(xs))],
    "coding-peltra": [
        World("shortest", "the shortest", lambda lines: placed(len, {x: x for x in lines}, 0)),
        World("first", "the first", lambda lines: lines[0]),
        World("last", "the last", lambda lines: lines[-1]),
        World("longest", "the longest", lambda lines: placed(lambda x: -len(x), {x: x for x in lines}, 0))],
    "coding-ostrum": [
        World("divides by zero", "dividing by zero", "ZeroDivisionError"),
        World("opens a missing file", "opening a missing file", "FileNotFoundError"),
        World("uses an unknown name", "using an unknown name", "NameError"),
        World("reads from an empty list", "reading an empty list", "IndexError")],
}

QUESTIONS = {
    "coding-snorl": [
        lambda f: f("red blue green pink black".split())[1],
        lambda f: who(f, {"Ann": ([3, 2, 1],), "Ben": ([2, 3, 1],), "Cara": ([0, 1, 2, 3],),
                          "Dan": ([1, 2, 3, 0],)}, [1, 2, 3]),
        lambda f: f(WEEK)[3],
        lambda f: len(f("cat wolf horse donkey rabbits".split())[1])],
    "coding-tocklet": [
        lambda f: said(f(datetime(2030, 5, 1, 12))),
        lambda f: nearest({"half a day": 0.5, "twelve days": 12, "three months": 91, "one year": 365},
                          after_runs(f, 12)),
        lambda f: nearest({"full hour": 1 / 24, "sunrise": 1, "Sunday": 7, "rent for a flat": 30},
                          after_runs(f, 1)),
        lambda f: nearest({"two hours": 2 / 24, "two days": 2, "two weeks": 14, "two months": 61},
                          after_runs(f, 2))],
    "coding-zarn": [
        lambda f: f(["red", "blue"], ["cat", "dog"])[1],
        lambda f: who(f, {"Ann": ([1, 3], [2, 4]), "Ben": ([2, 4], [1, 3]), "Cara": ([1, 2], [3, 4]),
                          "Dan": ([3, 4], [1, 2])}, [1, 2, 3, 4]),
        lambda f: month(f([1, 2], [3, 4])[1]),
        lambda f: SMALL[len(f(["owl", "horse"], ["bear", "donkey"])[2])]],
    "coding-hobrin": [
        lambda f: placed(f, FILES, 0),
        lambda f: only(text for text, changed in {      # no file that is changed so would come before (5, 5)
            "none is newer": (6, 5), "none is older": (4, 5), "none is larger": (5, 6),
            "none is smaller": (5, 4),
        }.items() if f(changed) < f((5, 5))),
        lambda f: placed(f, {"reading today's report": (12, 5), "finding the very first draft": (1, 5),
                             "freeing the most space": (6, 9), "spotting an empty file": (6, 0)}, 0),
        lambda f: placed(f, OTHER_FILES, 1)],
    "coding-vonf": [
        lambda sign: only(line.split()[1] for line in ("# red", "; blue", "% green", "// pink")
                          if line.startswith(sign)),
        lambda sign: {"#": "Ann's", ";": "Ben's", "%": "Cara's", "//": "Dan's"}[sign],
        lambda sign: {"#": "Python", ";": "Lisp", "%": "LaTeX", "//": "JavaScript"}[sign],
        lambda sign: sum(line != sign for line in "# ; ; % % % // // // //".split())],
    "coding-asfigure": [
        lambda f: SMALL[f("Ann asked Bob, Why? Who? When?")],
        lambda f: who(f, {"Ann": ("Hello, Tom, I am here",), "Ben": ("Wait there",),
                          "Cara": ("Tom and Eva are here",), "Dan": ("Who? Where? I see",)}, 2),
        lambda f: month(f("Tom, Eva, where is Bo?")),
        lambda f: SMALL[2 * f("Go home, Max, or Eva?")]],
    "coding-brackmoor": [
        lambda n: only(name for name in ("print", "load_file", "sort_my_list", "find_the_last_word")
                       if len(name.split("_")) == n),
        lambda n: only(name for name in ("open_door", "count_red_cars", "draw_a_blue_line",
                                         "send_mail_to_my_boss")
                       if len(name.split("_")) - 1 == n),
        lambda n: only(title for title in ("Hamlet", "Moby Dick", "War and Peace", "Gone with the Wind")
                       if len(title.split()) == n),
        lambda n: SMALL[n * 5] if n < 4 else "twenty"],
    "coding-hallowick": [
        lambda language: HELLO[language],
        lambda language: {"French": "Ann", "Spanish": "Ben", "German": "Cara", "Russian": "Dan"}[language],
        lambda language: only(city for city in SPOKEN if SPOKEN[city] == language),
        lambda language: initial(THANKS[language])],
    "coding-umbo-type": [
        lambda name: only(x for x in ("Friday", "August", "Saturn", "winter") if x in VALUES[name]),
        lambda name: only(x for x, value in {"Ann's": "Monday", "Ben's": "May", "Cara's": "Mars",
                                             "Dan's": "autumn"}.items() if value in VALUES[name]),
        lambda name: SMALL[len(VALUES[name])],
        lambda name: len(VALUES[name]) - 1],
    "coding-larkstow": [
        lambda more: {(1, 1): "on disk and server", (0, 1): "only on the server", (0, 0): "nowhere at all",
                      (1, 0): "only on the disk"}[1 + more[0], more[1]],
        lambda more: {(0, 1): "Ann", (-1, 1): "Ben", (-1, 0): "Cara", (0, 0): "Dan"}[more],
        lambda more: {(0, 1): "photocopying a page", (-1, 1): "mailing a letter", (-1, 0): "burning a letter",
                      (0, 0): "locking a page behind glass"}[more],
        lambda more: f"{5 + more[0]} and {2 + more[1]}"],
    "coding-crimpt": [
        lambda f: f("table"),
        lambda f: only(word for word in ("topic", "laptop", "troop", "pot") if f(word) == "top"),
        lambda f: who(lambda word: f(word) in ANIMALS, {"Ann": ("catalog",), "Ben": ("hotdog",),
                                                        "Cara": ("ample",),
                                                        "Dan": ("flow",)}, True),
        lambda f: f("pocket")[-1].upper()],
    "coding-overmeld": [
        lambda f: f(3, 5),
        lambda f: who(f, {"Ann": (6, 5), "Ben": (4, 6), "Cara": (1, 5), "Dan": (2, 3)}, 6),
        lambda f: month(f(2, 3)),
        lambda f: f(f(4, 3), 5)],
    "coding-gapwise": [
        lambda f: f(COLUMN),
        lambda f: only(name for name, column in DRINKS.items() if f(column) == "tea"),
        lambda f: SMALL[LEGS[f("bird spider - ant dog dog".split())]],
        lambda f: f("milk soup - rum juice juice".split())[-1].upper()],
    "coding-quorl": [
        lambda f: f(["Ann", "Ben"], ["Cara", "Dan"]),
        lambda f: only(text for text, (read, edited) in OTHERS.items() if f(read, edited) != "Eva"),
        lambda f: f(["Kim", "Lea"], ["Max", "Nora"]),
        lambda f: f(["Ann", "Ben", "Ed"], ["Cara", "Dan", "Flo"])],
    "coding-mutter-level": [
        lambda below: LEVELS[below],
        lambda below: LEVELS[below - 1],
        lambda below: SMALL[len(LEVELS[below:])],
        lambda below: SMALL[len(LEVELS[:below])]],
    "coding-nthwise": [
        lambda f: "red blue green pink".split()[f(1)],
        lambda f: only(name for name, xs in BLUE.items() if xs[f(1)] == "blue"),
        lambda f: WEEK[f(1)],
        lambda f: "ABCDEF"[f(1 + 1)]],
    "coding-jundle": [
        lambda n: "red blue green pink black".split()[n],
        lambda n: f"the {('second', 'third', 'fourth', 'fifth')[n - 1]}",
        lambda n: month(1 + n),
        lambda n: 5 + 10 * n],
    "coding-wimbrel": [
        lambda f: f(4, 1, 2),
        lambda f: who(f, {"Ann": (5, 1), "Ben": (5, 9), "Cara": (2, 3), "Dan": (1, 1, 1, 3, 2)}, 5),
        lambda f: month(f(5, 1, 2)),
        lambda f: 2 * f(6, 2, 1)],
    "coding-peltra": [
        lambda f: f("ant elephant ox horse".split()),
        lambda f: only(name for name, lines in FOUND.items() if f(lines) == "lion"),
        lambda f: CAPITALS[f("Japan Switzerland Peru France".split())],
        lambda f: len(f("cat elephant ox horse".split()))],
    "coding-ostrum": [
        lambda error: {"ZeroDivisionError": "Ann's", "FileNotFoundError": "Ben's", "NameError": "Cara's",
                       "IndexError": "Dan's"}[error],
        lambda error: {"ZeroDivisionError": "another divisor", "FileNotFoundError": "creating the file",
                       "NameError": "defining the name", "IndexError": "filling the list"}[error],
        lambda error: error,
        lambda error: {"FileNotFoundError": "first", "ZeroDivisionError": "second", "IndexError": "third",
                       "NameError": "fourth"}[error]],
}

OPTIONS = options(WORLDS, QUESTIONS)
