"""What is asked about news, in which words.

A wording is a frame ("Which language is spoken in {it}?") with a reference put in for {it} ("the city of the
{name} festival"). Each kind has three or four frames and three references; where the numbers of frame and
reference agree modulo 3, the wording is held: it occurs in tests only, while each of its halves is known from
lessons in other company. So a kind has 6 or 8 wordings for lessons and 3 or 4 for tests.

The same frames ask about the background, with what everybody knows as the reference ("Oslo").
"""

from dataclasses import dataclass

from newnews.words import fill
from newnews.world.background import FACTS


@dataclass(frozen=True)
class Kind:
    answer: str             # the fact that answers it, or: compute, call, twice, after, months
    needs: str              # recall, computation, background (one or two facts of it), reversal
    steps: int              # what has to be done besides reading
    rehearsed: bool         # may the writer learn to pose it?
    wordings: tuple         # asked in lessons
    held: tuple             # asked in tests only
    says: tuple = ()        # the same as a statement, {v} being the answer; only of rehearsed kinds
    tested: bool = True


def kind(answer, needs, steps, frames, references, says=(), tested=True):
    """A kind of question; the writer may pose it if it can also be said."""
    lessons, held = (tuple(fill(frame, it=it) for i, frame in enumerate(frames)
                           for j, it in enumerate(references) if (i % 3 == j) == h) for h in (False, True))
    return Kind(answer, needs, steps, bool(says), lessons, held, tuple(says), tested)


# ------------------------------------------------------------------------------------------------------------
# Frames that ask for what is in the background

ATTRIBUTES = {
    "country": ("In which country is {it}?", "Which country is {it} in?", "{it} lies in which country?"),
    "language": ("Which language is spoken in {it}?", "What language do people speak in {it}?",
                 "Which language do you hear in {it}?"),
    "currency": ("Which currency is used in {it}?", "What is the currency of {it}?",
                 "Which money do people use in {it}?"),
    "continent": ("On which continent is {it}?", "Which continent is {it} on?",
                  "{it} lies on which continent?"),
    "season": ("In which season is {it}?", "Which season is {it} in?", "{it} falls in which season?"),
    "days": ("How many days does {it} have?", "How many days are in {it}?",
             "What is the number of days in {it}?"),
    "next": ("Which month comes after {it}?", "What month follows {it}?", "What is the month after {it}?"),
    "previous": ("Which month comes before {it}?", "What month is just before {it}?",
                 "What is the month before {it}?"),
    "use": ("What is {it} good for?", "Where is {it} used?", "What do people make from {it}?"),
    "user": ("Who needs {it}?", "Who works with {it}?", "Who asks for {it}?"),
    "opposite": ("What does the opposite of {it} do?", "What would the opposite of {it} do?",
                 "What is the opposite of {it}?"),
    "skill": ("What does {it} test?", "Which skill does {it} measure?", "What is {it} about?"),
}
BETWEEN = ("How many months after {m} is {it}?", "How many months is it from {m} to {it}?",
           "How many months lie between {m} and {it}?")
KNOWN = {           # references to what everybody knows, {0} being the subject
    "city": ("{0}", "the city of {0}", "the city {0}"),
    "month": ("{0}", "the month of {0}", "the month {0}"),
    "property": ("something that {0}", "a thing that {0}", "a material that {0}"),
    "lab": ("{0}", "the lab {0}", "the lab of {0}"),
    "bench": ("{0}", "the benchmark {0}", "the {0} benchmark"),
}
NAME = ("What is the name of the {noun} {it}?", "Name the {noun} {it}.", "Which is the {noun} {it}?")
POINTS = ("How many points did {it} score?", "What is the score of {it}?", "How many points does {it} have?")
IN_WORDS = ("What is {it} in words?", "Say {it} in words.", "How is {it} said in words?")
IN_SYMBOLS = ("What is {it} in symbols?", "Write {it} in symbols.", "How is {it} written in symbols?")
IN_CODE = ("What is {it} in code?", "Write {it} in code.", "How is {it} written in code?")
WORK_OUT = ("What is {it}?", "Compute {it}.", "Work out {it}.", "Find {it}.")
AFTER = ("Which number comes after {it}?", "What number follows {it}?", "What is the number after {it}?")

# ------------------------------------------------------------------------------------------------------------
# References to the new things and to their parts

OPERATION = ("{name}", "the operation {name}", "the new operation {name}")
APPLIED = ("{x} {name} {y}", "the {name} of {x} and {y}", "{name} of {x} and {y}")
FUNCTION = ("{name}", "the function {name}", "the new function {name}")
CALLED = ("{name}({s})", "the value of {name}({s})", "the result of {name}({s})")
TWICE = ("{name}({name}({s}))", "the value of {name}({name}({s}))", "the result of {name}({name}({s}))")
MATERIAL = ("{name}", "the material {name}", "the new material {name}")
FOUND_CITY = ("the city where {name} was found", "the city that {name} comes from", "the home of {name}")
FOUND_MONTH = ("the month when {name} was found", "the month of the discovery of {name}",
               "the month that {name} was found in")
SYSTEM = ("{name}", "the system {name}", "the new system {name}")
ITS_LAB = ("the lab of {name}", "the lab that built {name}", "the lab behind {name}")
ITS_BENCH = ("the benchmark of {name}", "the benchmark that {name} leads", "the benchmark that {name} won")
LOSER = ("the system that {name} beat", "the system that lost to {name}", "the system behind {name}")
BENCH = ("{bench}", "the benchmark {bench}", "the {bench} benchmark")
FESTIVAL = ("the {name} festival", "the festival called {name}", "the festival named {name}")
ITS_CITY = ("the city of the {name} festival", "the city that hosts the {name} festival",
            "the home of the {name} festival")
ITS_MONTH = ("the month of the {name} festival", "the month when the {name} festival begins",
             "the month that the {name} festival is in")


def attribute(name, references, says=(), steps=1, tested=True):
    return kind(name, "background", steps, ATTRIBUTES[name], references, says, tested)


def reversal(noun, *references, steps=1):
    """From a fact back to the new thing's name."""
    return kind("name", "reversal", steps, [fill(frame, noun=noun) for frame in NAME], references)


KINDS = {
    "math": {
        "compute": kind("compute", "computation", 1, WORK_OUT, APPLIED,
                        ["{x} {name} {y} is {v}", "{x} {name} {y} equals {v}",
                         "the {name} of {x} and {y} is {v}"]),
        "words": kind("words", "background", 1, IN_WORDS, OPERATION,
                      ["{name} stands for {v}", "the operation {name} gives {v}"]),
        "symbols": kind("symbols", "background", 1, IN_SYMBOLS, OPERATION),
        "after": kind("after", "computation", 2, AFTER, APPLIED),
        "name_words": reversal("operation", "that gives {words}", "that stands for {words}",
                               "that means {words}"),
        "name_symbols": reversal("operation", "that gives {symbols}", "that stands for {symbols}",
                                 "that means {symbols}"),
    },
    "coding": {
        "call": kind("call", "computation", 1, (*WORK_OUT[:2], "Evaluate {it}.", "Work out {it}."), CALLED,
                     ["{name}({s}) returns {v}", "{name}({s}) is {v}", "{name}({s}) gives {v}"]),
        "words": kind("words", "background", 1, IN_WORDS, FUNCTION,
                      ["{name} returns {v}", "the function {name} gives {v}"]),
        "code": kind("code", "background", 1, IN_CODE, FUNCTION),
        "after": kind("after", "computation", 2, AFTER, CALLED),        # of functions that give a number
        "twice": kind("twice", "computation", 2, WORK_OUT, TWICE),      # of functions that give a list
        "name_words": reversal("function", "that returns {words}", "that gives {words}",
                               "that stands for {words}"),
        "name_code": reversal("function", "that returns {code}", "that gives {code}",
                              "that stands for {code}"),
    },
    "discoveries": {
        "city": kind("city", "recall", 0, ("Where was {it} found?", "In which city was {it} discovered?",
                                           "Which city does {it} come from?"), MATERIAL,
                     ["{name} comes from {v}", "{name} was found in {v}"]),
        "month": kind("month", "recall", 0, ("When was {it} found?", "In which month was {it} found?",
                                             "In which month was {it} discovered?"), MATERIAL,
                      ["{name} was found in {v}", "the discovery of {name} was in {v}"]),
        "person": kind("person", "recall", 0, ("Who found {it}?", "Who discovered {it}?",
                                               "By whom was {it} found?"), MATERIAL,
                       ["{name} was found by {v}", "{v} found {name}"]),
        "property": kind("property", "recall", 0, ("What does {it} do?", "What is special about {it}?",
                                                   "Which property does {it} have?"), MATERIAL,
                         ["{name} is something that {v}", "{name} {v}"]),
        "use": attribute("use", MATERIAL, ["{name} is good for {v}", "{name} can be used for {v}"]),
        "country": attribute("country", FOUND_CITY, ["{name} comes from a city in {v}",
                                                     "the home of {name} is in {v}"]),
        "season": attribute("season", FOUND_MONTH, ["{name} was found in the {v}",
                                                    "the discovery of {name} fell in the {v}"]),
        "user": attribute("user", MATERIAL),
        "opposite": attribute("opposite", MATERIAL),
        "language": attribute("language", FOUND_CITY),
        "currency": attribute("currency", FOUND_CITY),
        "continent": attribute("continent", FOUND_CITY, steps=2),
        "next": attribute("next", FOUND_MONTH),
        "previous": attribute("previous", FOUND_MONTH),
        "days": attribute("days", FOUND_MONTH, tested=False),
        "name_city": reversal("material", "from {city}", "found in {city}", "that comes from {city}"),
        "name_person": reversal("material", "found by {person}", "that {person} found",
                                "discovered by {person}"),
        "name_property": reversal("material", "that {property}", "which {property}",
                                  "of which we know that it {property}"),
    },
    "leaderboards": {
        "lab": kind("lab", "recall", 0, ("Which lab built {it}?", "Who built {it}?",
                                         "From which lab is {it}?"), SYSTEM,
                    ["{name} was built by {v}", "{v} built {name}"]),
        "points": kind("points", "recall", 0, POINTS, SYSTEM, ["{name} has {v} points",
                                                               "{name} scored {v} points"]),
        "beaten": kind("beaten", "recall", 0, ("Which system did {it} beat?", "Which system lost to {it}?",
                                               "Which system is behind {it}?"), SYSTEM,
                       ["{name} is ahead of {v}", "{v} lost to {name}"]),
        "rival": kind("rival", "recall", 0, POINTS, LOSER, ["the system behind {name} has {v} points",
                                                            "the system that lost to {name} has {v} points"]),
        "bench": kind("bench", "recall", 0, ("Which benchmark does {it} lead?",
                                             "Which benchmark did {it} win?",
                                             "On which benchmark is {it} best?"), SYSTEM,
                      ["{name} leads {v}", "{name} is best on {v}"]),
        "country": attribute("country", ITS_LAB, ["{name} comes from a lab in {v}",
                                                  "the lab of {name} is in {v}"]),
        "skill": attribute("skill", ITS_BENCH, ["{name} is good at {v}", "{name} is best at {v}"]),
        "margin": kind("margin", "computation", 1, ("By how many points did {it} win?",
                                                    "How large is the lead of {it}?",
                                                    "How many points is {it} ahead?"), SYSTEM),
        "language": attribute("language", ITS_LAB, steps=2),
        "continent": attribute("continent", ITS_LAB, steps=2),
        "leader": kind("lab", "reversal", 2, ("Which lab leads {it}?", "Which lab is on top of {it}?",
                                              "Which lab won {it}?"), BENCH),
        "second": kind("beaten", "reversal", 1, ("Which system is second on {it}?",
                                                 "Which system comes second on {it}?",
                                                 "Which system is just behind the top of {it}?"), BENCH),
        "name_lab": reversal("new system", "from {lab}", "built by {lab}", "that {lab} built"),
        "name_beaten": reversal("new system", "that beat {beaten}", "ahead of {beaten}",
                                "that is ahead of {beaten}"),
        "name_points": reversal("new system", "with {points} points", "that scored {points} points",
                                "that has {points} points"),
        "name_bench": reversal("new system", "on top of {bench}", "that leads {bench}", "that won {bench}"),
        "name_skill": reversal("new system", "best at {skill}", "that is best at {skill}",
                               "that is good at {skill}", steps=2),
    },
    "events": {
        "city": kind("city", "recall", 0, ("Where is {it} held?", "Which city hosts {it}?",
                                           "In which city is {it}?"), FESTIVAL,
                     ["the {name} festival is in {v}", "{v} hosts the {name} festival"]),
        "month": kind("month", "recall", 0, ("When is {it}?", "In which month is {it}?",
                                             "In which month does {it} begin?"), FESTIVAL,
                      ["the {name} festival is in {v}", "the {name} festival begins in {v}"]),
        "person": kind("person", "recall", 0, ("Who opens {it}?", "Who will open {it}?",
                                               "By whom is {it} opened?"), FESTIVAL,
                       ["{v} opens the {name} festival", "the {name} festival is opened by {v}"]),
        "country": attribute("country", ITS_CITY, ["the {name} festival is in a city in {v}",
                                                   "the home of the {name} festival is in {v}"]),
        "season": attribute("season", ITS_MONTH, ["the {name} festival is in the {v}",
                                                  "the {name} festival falls in the {v}"]),
        "next": attribute("next", ITS_MONTH, ["the month after the {name} festival is {v}",
                                              "{v} comes after the month of the {name} festival"]),
        "language": attribute("language", ITS_CITY),
        "currency": attribute("currency", ITS_CITY),
        "continent": attribute("continent", ITS_CITY, steps=2),
        "previous": attribute("previous", ITS_MONTH),
        "days": attribute("days", ITS_MONTH, tested=False),
        "months": kind("months", "computation", 1, BETWEEN, ITS_MONTH),
        "name_city": reversal("festival", "in {city}", "held in {city}", "that {city} hosts"),
        "name_month": reversal("festival", "in {month}", "held in {month}", "that begins in {month}"),
        "name_person": reversal("festival", "opened by {person}", "that {person} opens",
                                "that {person} will open"),
    },
}
BACKGROUND = {      # wordings of closed-book questions; all are asked in lessons
    (subject, name): [fill(frame, it=it) for frame in ATTRIBUTES[name] for it in KNOWN[subject]]
    for subject, name in FACTS}
