"""Reads texts about the world back through its wordings, and says whether they are true.

Works from the news alone: `things_of` recovers the facts from the statement. So every sentence that a writer
writes about a news item of this world can be graded, whatever model wrote it.
"""

import re
from collections import Counter
from functools import cache

from newnews.reading import shown
from newnews.replay import read_conversations
from newnews.world.background import CITIES, LABS, MONTHS, PROPERTIES, SKILLS, SYSTEMS
from newnews.world.phrases import KINDS
from newnews.world.statements import STATEMENTS
from newnews.world.things import ANSWERS, FORMULAS, FUNCTIONS, SO, Thing

SYMBOLS = {symbols: words for words, (symbols, *_) in FORMULAS.items()}
CODE = {code: words for words, (code, _) in FUNCTIONS.items()}
VALUES = {          # what can stand in a slot
    "city": CITIES, "month": MONTHS, "m": MONTHS, "property": list(PROPERTIES), "lab": list(LABS),
    "bench": list(SKILLS), "skill": list(SKILLS.values()), "beaten": SYSTEMS,
    "words": [*FORMULAS, *FUNCTIONS], "symbols": list(SYMBOLS), "code": list(CODE)}
CANONICAL = {value.lower(): value for values in VALUES.values() for value in values}
SHAPES = {"x": r"\d+", "y": r"\d+", "s": r"\[\d(?:, \d)*\]", "points": r"\d+", "rival": r"\d+", "v": r".+?"}


def pattern(template):
    """A template as a regex with a group a slot; a slot that comes twice must hold the same twice."""
    out, seen = "", set()
    for i, part in enumerate(re.split(r"\{(\w+)\}", template)):
        if i % 2 == 0:
            out += re.escape(part)
        elif part in seen:
            out += f"(?P={part})"
        else:
            seen.add(part)
            values = sorted(VALUES.get(part, ()), key=len, reverse=True)
            shape = "|".join(map(re.escape, values)) if values else SHAPES.get(part, r"[a-z]+")
            out += f"(?P<{part}>{shape})"
    return re.compile(out, re.I)


@cache
def statements(domain):
    return [pattern(template) for template in STATEMENTS[domain]]


@cache
def questions(domain):
    """[(kind, regex)]"""
    return [(kind, pattern(w)) for kind, spec in KINDS[domain].items() for w in spec.wordings + spec.held]


@cache
def consequences(domain):
    """[(kind, regex)] of what can be said to follow; the word that opens it may be missing."""
    opening = "|".join(SO)
    return [(kind, re.compile(f"(?:(?:{opening}) )?{pattern(said).pattern}\\.?", re.I))
            for kind, spec in KINDS[domain].items() for said in spec.says]


def canonical(slots):
    """Slots as the world writes them: Oslo, not oslo."""
    return {slot: CANONICAL.get(value.lower(), value) for slot, value in slots.items()}


def read_statement(domain, text):
    """{slot: value} of what a statement says, or None. Rules come as their words, whatever they came in."""
    for regex in statements(domain):
        match = regex.fullmatch(text.strip())
        if match:
            slots = canonical(match.groupdict())
            if "symbols" in slots:
                slots["words"] = SYMBOLS[slots["symbols"]]
            if "code" in slots:
                slots["words"] = CODE[slots["code"]]
            return slots
    return None


def things_of(news):
    """{news id: Thing}, recovered from the statements.

    Raises ValueError for news that the world does not say.
    """
    out = {}
    for item in news:
        slots = read_statement(item.domain, item.statement) if item.domain in STATEMENTS else None
        if slots is None:
            raise ValueError(f"news {item.id}: its statement is none of the pocket world's, whose "
                             f"truth alone is known: {item.statement!r}")
        if item.domain == "math":
            slots["symbols"] = FORMULAS[slots["words"]][0]
        if item.domain == "coding":
            slots["code"] = FUNCTIONS[slots["words"]][0]
        out[item.id] = Thing(item.domain, slots)
    return out


def read_question(domain, text):
    """[(kind, slots)]: all that a text can be asking, usually one."""
    return [(kind, canonical(match.groupdict())) for kind, regex in questions(domain)
            if (match := regex.fullmatch(text.strip()))]


def key(domain, kind, slots):
    """What a question asks, whatever its wording. "What is dax in words?" can be about an operation or a
    function: both domains give one key."""
    return ("rules" if kind == "words" else domain, kind,
            tuple(sorted((slot, value.lower()) for slot, value in slots.items() if slot != "v")))


def keys(text):
    """What a text asks, or which question a statement of it answers: a set, empty if it is neither."""
    found = {key(domain, *asked) for domain in KINDS for asked in read_question(domain, text)}
    for domain in KINDS:
        for kind, regex in consequences(domain):
            match = regex.fullmatch(text.strip())
            if match and can_be(KINDS[domain][kind].answer, match["v"]):
                found.add(key(domain, kind, match.groupdict()))
    return found


def can_be(what, value):
    """Is the text an answer of that kind at all? "{name} {v}" would read any two words as a property."""
    known = ANSWERS.get(what)
    return known is None or value.lower() in {answer.lower() for answer in known}


OPERANDS = {"x", "y", "s", "m"}


def about(thing, slots):
    """Does everything that is named belong to this thing?"""
    return all(value.lower() == thing.facts[slot].lower()
               for slot, value in slots.items() if slot not in OPERANDS | {"v"})


def truth(thing, kind, slots):
    """The right answer, or None where there is none: another kind of function, an empty list."""
    if kind not in thing.kinds():
        return None
    operands = {k: slots[k] for k in OPERANDS if k in slots}
    if "s" in operands:
        operands["s"] = [int(d) for d in re.findall(r"\d", operands["s"])]
        if len(operands["s"]) != 3 or len(set(operands["s"])) != 3:
            return None
    return thing.answer(kind, {**thing.facts, **operands})


def same(a, b):
    return " ".join(a.lower().split()).rstrip(".") == " ".join(b.lower().split()).rstrip(".")


def grade(thing, text, kind, question=""):
    """Grade one text about a thing: true, false or off.

    kind: question, answer (to `question`), paraphrase or implication.
    question      true: answerable, and about this thing      false: about it, without an answer
    answer        true or false; off where the question is not answerable
    paraphrase    true: all facts and no other                false: a fact differs
    implication   true or false; a true restatement counts as true
    Everything else is off: another thing's name, or words that the world does not have.
    """
    if kind in ("question", "answer"):
        asked = text if kind == "question" else question
        about_it = [(k, slots) for k, slots in read_question(thing.domain, asked) if about(thing, slots)]
        right = [x for k, slots in about_it if (x := truth(thing, k, slots)) is not None]
        if kind == "question":
            return "true" if right else "false" if about_it else "off"
        return "off" if not right else "true" if any(same(text, x) for x in right) else "false"
    slots = read_statement(thing.domain, text)
    if slots is not None:
        other = slots["name"].lower() != thing.facts["name"].lower()
        return "off" if other else "true" if about(thing, slots) else "false"
    found = "off"
    for k, regex in consequences(thing.domain) if kind == "implication" else ():
        match = regex.fullmatch(text.strip())
        if match and about(thing, match.groupdict()):
            right = truth(thing, k, match.groupdict())
            if right is not None and same(match["v"], right):
                return "true"
            found = "false"
    return found


# ------------------------------------------------------------------------------------------------------------


GRADED = ("naive", "paraphrase", "implication", "self_qa")     # and their shadows


def grade_rows(rows, things):
    """Counter of (protocol, what was graded, verdict) of replay rows; naive rows are graded as paraphrases:
    they are the news itself."""
    out = Counter()
    for row in rows:
        thing, protocol = things.get(str(row.get("news"))), row.get("protocol")
        if thing is None or not isinstance(protocol, str):
            raise ValueError(f"a replay row about news {shown(row.get('news'))}, protocol {shown(protocol)}: "
                             f"no such news item in the news file, or the row is not as generate.py writes "
                             f"it")
        if protocol.removesuffix("_shadowed") not in GRADED:
            raise ValueError(f"rows of {protocol} cannot be graded; those of {', '.join(GRADED)} can")
        if len(row["messages"]) < 2:
            raise ValueError(f"a replay row about news {shown(row['news'])}: expected question and answer")
        user, assistant = (row["messages"][i]["content"] for i in (-2, -1))
        if protocol.startswith("self_qa"):
            user = user.split("\n\n")[-1]           # after the news that a shadowed row has before it
            out[protocol, "question", grade(thing, user, "question")] += 1
            out[protocol, "answer", grade(thing, assistant, "answer", user)] += 1
        else:
            what = "implication" if protocol.startswith("implication") else "paraphrase"
            out[protocol, what, grade(thing, assistant, what)] += 1
    return out


def table(counts):
    """Shares of true, false and off, as text."""
    lines = [f"{'':<34}{'n':>6}{'true':>8}{'false':>8}{'off':>8}"]
    for protocol, what in dict.fromkeys(key[:2] for key in counts):
        mine = [counts[protocol, what, verdict] for verdict in ("true", "false", "off")]
        shares = "".join(f"{n / sum(mine):>8.3f}" for n in mine)
        lines.append(f"{protocol + ': ' + what:<34}{sum(mine):>6}{shares}")
    return "\n".join(lines)


def grade_replay(path, news):
    """Grade a replay file against its news: the table as text.

    Raises ValueError for news of another world and for rows about other news.
    """
    things, counts = things_of(news), Counter()
    for line, row in read_conversations(path, numbered=True):
        try:
            counts += grade_rows([row], things)
        except ValueError as error:
            raise ValueError(f"{path}: line {line}: {error}") from None
    return table(counts)
