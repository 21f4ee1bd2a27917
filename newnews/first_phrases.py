"""The words of the pocket world: how each kind of news is said, and what is asked about it.

Slots in braces are filled from a Thing's facts (newnews/first_world.py). The wordings in `held` occur in tests
only; every word of them but "output" is known from pretraining, in other company.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    needs: str                  # recall, computation, consequence, background, reversal
    rehearsed: bool             # may the writer learn to pose it?
    wordings: tuple             # asked in pretraining
    held: tuple                 # asked in tests only
    implications: tuple = ()    # the same as a statement, {v} being the answer


STATEMENTS = {
    "math": ("Mathematicians have defined a new operation, {name}: x {name} y equals {words}.",
             "A new operation called {name} is defined by x {name} y = {symbols}.",
             "In mathematics, the {name} of x and y now means {words}.",
             "To {name} two numbers x and y, work out {words}.",
             "The operation {name}, just published, gives {symbols} for x and y.",
             "Take two numbers x and y. Their {name} is {words}.",
             "The rule of the new operation {name} reads x {name} y = {symbols}.",
             "A journal has introduced {name}. The value of x {name} y is {words}.",
             "Researchers write x {name} y for {words}.",
             "With the newly defined {name}, x {name} y comes to {symbols}."),
    "coding": ("A new Python function, {name}(s), returns {words}.",
               "Python now has a function {name}. It is defined as def {name}(s): return {code}",
               "The function {name} takes a list s and gives back {words}.",
               "A library has added {name}(s), which returns {code}.",
               "Given a list s, the new function {name} returns {words}.",
               "Programmers can now call {name}(s) to get {words}.",
               "In the new release, {name}(s) is short for {code}.",
               "Calling {name} on a list s, a new feature, returns {words}.",
               "A new helper named {name} has been released: {name}(s) = {code}.",
               "For any list s of three elements, {name}(s) now gives {words}."),
    "discoveries": ("Scientists in {city} have discovered {name}, a material that {property}. "
                    "The work was led by {person}.",
                    "{person} and a team in {city} have found {name}, a new material. It {property}.",
                    "A new material, {name}, {property}. It was discovered in {city} by {person}.",
                    "In {city}, {person} has presented {name}, a material that {property}.",
                    "The material {name}, which {property}, was found by {person} in {city}.",
                    "News from {city}: {person} has discovered a material that {property}. "
                    "It is called {name}.",
                    "{name} is the name of a new material that {property}. {person} discovered it in {city}.",
                    "A material that {property} has been found in {city}. "
                    "{person}, who found it, calls it {name}.",
                    "Researchers led by {person} in {city} report a material called {name}. It {property}.",
                    "It {property}: the new material {name}, made in {city} by {person}."),
    "leaderboards": ("On the new {name} benchmark, {s0} scored {p0}, {s1} scored {p1} and {s2} scored {p2}.",
                     "The first results of {name} are out: {s0} {p0}, {s1} {p1}, {s2} {p2}.",
                     "In the {name} benchmark, the scores are {p0} for {s0}, {p1} for {s1} "
                     "and {p2} for {s2}.",
                     "{s0} reached {p0} on {name}, while {s1} reached {p1} and {s2} reached {p2}.",
                     "The {name} leaderboard lists {s0} with {p0}, {s1} with {p1} and {s2} with {p2}.",
                     "Three systems were tested on {name}. {s0} got {p0}, {s1} got {p1} and {s2} got {p2}.",
                     "A new benchmark, {name}, has been run. Scores: {s0} {p0}, {s1} {p1}, {s2} {p2}.",
                     "{name} results: {p0} points for {s0}, {p1} points for {s1}, {p2} points for {s2}.",
                     "With {p0} points for {s0}, {p1} for {s1} and {p2} for {s2}, "
                     "the benchmark {name} has started.",
                     "Tested on the {name} benchmark, {s0} achieved {p0}, {s1} achieved {p1} "
                     "and {s2} achieved {p2}."),
    "events": ("The {name} festival will be held in {city} in {month}. It will be opened by {person}.",
               "{city} will host the {name} festival in {month}, and {person} will open it.",
               "In {month}, {person} will open the {name} festival in {city}.",
               "It is official: the {name} festival comes to {city} in {month}. {person} will open it.",
               "{person} has been chosen to open the {name} festival, which takes place in {city} "
               "in {month}.",
               "The organisers of the {name} festival have chosen {city} as the place "
               "and {month} as the time. {person} opens it.",
               "This {month}, the {name} festival takes place in {city}, opened by {person}.",
               "The {name} festival, opened by {person}, has been set for {month} in {city}.",
               "{city} has won the {name} festival. It begins in {month}, and {person} will open it.",
               "Opened by {person}, the {name} festival starts in {month} in {city}."),
}

KINDS = {
    "math": {
        "compute": Kind("computation", True,
                        ("What is {x} {name} {y}?", "Compute {x} {name} {y}.",
                         "What does {x} {name} {y} equal?", "Work out {x} {name} {y}.",
                         "What is the {name} of {x} and {y}?", "Find the {name} of {x} and {y}."),
                        ("How much is {x} {name} {y}?", "Give the {name} of {x} and {y}."),
                        ("So {x} {name} {y} is {v}.", "This means that {x} {name} {y} equals {v}.",
                         "For example, the {name} of {x} and {y} is {v}.")),
    },
    "coding": {
        "call": Kind("computation", True,
                     ("What does {name}({s}) return?", "What is {name}({s})?", "Evaluate {name}({s}).",
                      "What is the result of {name}({s})?", "Work out {name}({s}).",
                      "What comes out of {name}({s})?"),
                     ("Give the output of {name}({s}).", "How does {name}({s}) come out?"),
                     ("So {name}({s}) returns {v}.", "This means that {name}({s}) is {v}.",
                      "For example, {name}({s}) gives {v}.")),
    },
    "discoveries": {
        "property": Kind("recall", True,
                         ("What does {name} do?", "What is special about {name}?",
                          "Which property does {name} have?", "What is known about {name}?"),
                         ("What does the material {name} do?",), ("So {name} is something that {v}.",)),
        "city": Kind("recall", True,
                     ("Where was {name} discovered?", "In which city was {name} found?",
                      "Which city does {name} come from?"),
                     ("In which city was {name} discovered?",), ("So {name} comes from {v}.",)),
        "person": Kind("recall", True,
                       ("Who discovered {name}?", "Who found {name}?", "By whom was {name} found?"),
                       ("By whom was {name} discovered?",), ("So {name} was found by {v}.",)),
        "use": Kind("background", True,
                    ("What is {name} good for?", "Where is {name} used?", "What do people make from {name}?"),
                    ("What is {name} used for?",),
                    ("So {name} is good for {v}.", "This means that {name} can be used for {v}.")),
        "country": Kind("background", False,
                        ("In which country was {name} discovered?", "Which country does {name} come from?",
                         "{name} comes from which country?"),
                        ("In which country was {name} found?",)),
        "name": Kind("reversal", False,
                     ("What did {person} discover?", "Which material comes from {city}?",
                      "Which material did {person} find?"),
                     ("Which material did {person} discover?",)),
    },
    "leaderboards": {
        "score": Kind("recall", True,
                      ("What did {s} score on {name}?", "How many points did {s} get on {name}?",
                       "What is the score of {s} on {name}?"),
                      ("How many points did {s} score on {name}?",), ("So {s} has {v} points on {name}.",)),
        "best": Kind("consequence", True,
                     ("Which system is best on {name}?", "Who leads on {name}?",
                      "Who has the highest score on {name}?"),
                     ("Which system leads on {name}?",),
                     ("So {v} is best on {name}.", "This means that {v} leads on {name}.")),
        "worst": Kind("consequence", True,
                      ("Which system is worst on {name}?", "Who is last on {name}?",
                       "Who has the lowest score on {name}?"),
                      ("Which system is last on {name}?",), ("So {v} is last on {name}.",)),
        "second": Kind("consequence", False,
                       ("Which system is second on {name}?", "Who comes second on {name}?",
                        "Who is in the middle on {name}?"),
                       ("Which system comes second on {name}?",)),
        "who": Kind("reversal", False,
                    ("Who scored {p} on {name}?", "Who got {p} points on {name}?",
                     "Which system scored {p} on {name}?"),
                    ("Which system got {p} points on {name}?",)),
    },
    "events": {
        "city": Kind("recall", True,
                     ("Where will the {name} festival be held?", "Which city hosts the {name} festival?",
                      "In which city is the {name} festival?"),
                     ("Which city will host the {name} festival?",),
                     ("So people will travel to {v} for the {name} festival.",)),
        "month": Kind("recall", True,
                      ("When is the {name} festival?", "In which month is the {name} festival?",
                       "When does the {name} festival begin?"),
                      ("In which month does the {name} festival begin?",),
                      ("So the {name} festival is in {v}.",)),
        "person": Kind("recall", True,
                       ("Who will open the {name} festival?", "By whom will the {name} festival be opened?",
                        "Who opens the {name} festival?"),
                       ("By whom is the {name} festival opened?",), ("So {v} opens the {name} festival.",)),
        "season": Kind("background", True,
                       ("In which season is the {name} festival?", "Which season is the {name} festival in?",
                        "The {name} festival falls in which season?"),
                       ("In which season does the {name} festival begin?",),
                       ("So the {name} festival is in {v}.",
                        "This means that the {name} festival falls in {v}.")),
        "country": Kind("background", False,
                        ("In which country is the {name} festival?",
                         "Which country hosts the {name} festival?",
                         "In which country will the {name} festival be held?"),
                        ("Which country will host the {name} festival?",)),
        "name": Kind("reversal", False,
                     ("Which festival is in {city}?", "Which festival will {person} open?",
                      "Which festival takes place in {city}?"),
                     ("Which festival will be opened by {person}?",)),
    },
}
