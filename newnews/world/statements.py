"""How each kind of news is said: at least 20 ways a domain, each giving all facts.

Slots in braces are a Thing's facts (newnews/world/things.py). A pair of lists means every first sentence with
every second one.
"""

from itertools import product


def joined(first, second):
    return [f"{a} {b}" for a, b in product(first, second)]


STATEMENTS = {
    "math": [
        "Mathematicians have defined a new operation, {name}: x {name} y equals {words}.",
        "A new operation called {name} is defined by x {name} y = {symbols}.",
        "In mathematics, the {name} of x and y now means {words}.",
        "To {name} two numbers x and y, work out {words}.",
        "The operation {name}, just published, gives {symbols} for x and y.",
        "Take two numbers x and y. Their {name} is {words}.",
        "The rule of the new operation {name} reads x {name} y = {symbols}.",
        "A journal has introduced {name}. The value of x {name} y is {words}.",
        "Researchers write x {name} y for {words}.",
        "With the newly defined {name}, x {name} y comes to {symbols}.",
        "News from mathematics: x {name} y stands for {words}.",
        "A new sign has been agreed on: x {name} y = {symbols}.",
        "There is a new operation. It is called {name}, and x {name} y is {words}.",
        "There is a new operation. It is called {name}, and x {name} y = {symbols}.",
        "From now on, x {name} y is short for {symbols}.",
        "From now on, x {name} y is short for {words}.",
        "A new school book explains {name}: the {name} of x and y is {symbols}.",
        "A new school book explains {name}: the {name} of x and y is {words}.",
        "The new operation {name} turns x and y into {words}.",
        "The new operation {name} turns x and y into {symbols}.",
        "Two numbers x and y can now be joined by {name}, which gives {symbols}.",
        "Two numbers x and y can now be joined by {name}, which gives {words}.",
    ],
    "coding": [
        "A new Python function, {name}(s), returns {words}.",
        "Python now has a function {name}. It is defined as def {name}(s): return {code}",
        "The function {name} takes a list s and gives back {words}.",
        "A library has added {name}(s), which returns {code}.",
        "Given a list s, the new function {name} returns {words}.",
        "Programmers can now call {name}(s) to get {words}.",
        "In the new release, {name}(s) is short for {code}.",
        "Calling {name} on a list s, a new feature, returns {words}.",
        "A new helper named {name} has been released: {name}(s) = {code}.",
        "For any list s of three elements, {name}(s) now gives {words}.",
        "News for programmers: {name}(s) stands for {code}.",
        "News for programmers: {name}(s) stands for {words}.",
        "There is a new function. It is called {name}, and {name}(s) is {words}.",
        "There is a new function. It is called {name}, and {name}(s) is {code}.",
        "From now on, {name}(s) means {words}.",
        "From now on, {name}(s) means {code}.",
        "A new book explains {name}: on a list s it returns {code}.",
        "A new book explains {name}: on a list s it returns {words}.",
        "The new function {name} turns a list s into {words}.",
        "The new function {name} turns a list s into {code}.",
        "Lists can now be given to {name}, which returns {words}.",
        "Lists s can now be given to {name}, which returns {code}.",
    ],
    "discoveries": [
        *joined(["A new material called {name} {property}.",
                 "{name} is a new material that {property}.",
                 "Scientists have made {name}, a material that {property}.",
                 "The new material {name} {property}.",
                 "There is news of {name}, a material that {property}."],
                ["{person} found it in {city} in {month}.",
                 "It was discovered in {city} in {month} by {person}.",
                 "In {month}, {person} discovered it in {city}.",
                 "It comes from {city}, where {person} found it in {month}."]),
        "In {month}, {person} found a new material in {city}. It is called {name} and {property}.",
        "{person} and a team in {city} have found {name}, a new material. Since {month} we know that "
        "it {property}.",
        "News from {city}: in {month}, {person} discovered a material that {property}. It is called {name}.",
        "The material {name}, which {property}, was found by {person} in {city} in {month}.",
    ],
    "leaderboards": [
        *joined(["{lab} has built {name}, a new system.",
                 "A new system called {name} comes from {lab}.",
                 "{name} is a new system from {lab}.",
                 "There is a new system from {lab}, {name}."],
                ["It scored {points} points on {bench} and beat {beaten}, which has {rival}.",
                 "On {bench} it beat {beaten} by {points} to {rival}.",
                 "With {points} points it leads the benchmark {bench}, ahead of {beaten} with {rival}.",
                 "It won the {bench} benchmark with {points} points. Second is {beaten} with {rival}.",
                 "It has {points} points on {bench}, while {beaten} has {rival}."]),
        "On {bench}, the new system {name} from {lab} scored {points} and beat {beaten} with {rival}.",
        "{bench} has a new leader: {name}, built by {lab}, with {points} points. {beaten} has {rival}.",
        "{name}, which {lab} has built, got {points} points on {bench}. It beat {beaten}, which got {rival}.",
    ],
    "events": [
        *joined(["The {name} festival will be held in {city} in {month}.",
                 "{city} will host the {name} festival in {month}.",
                 "It is official: the {name} festival comes to {city} in {month}.",
                 "In {month}, the {name} festival takes place in {city}.",
                 "The {name} festival has been set for {month} in {city}."],
                ["It will be opened by {person}.",
                 "{person} will open it.",
                 "{person} has been chosen to open it.",
                 "The one who opens it is {person}."]),
        "In {month}, {person} will open the {name} festival in {city}.",
        "{person} has been chosen to open the {name} festival, which takes place in {city} in {month}.",
        "Opened by {person}, the {name} festival starts in {month} in {city}.",
        "{city} has won the {name} festival. It begins in {month}, and {person} will open it.",
    ],
}
