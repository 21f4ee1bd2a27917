"""Reads texts about the world back through its wordings, and says whether they are true.

Works from the news alone: `things_of` recovers the facts from the statement. So every sentence that a writer
writes about a news item of this world can be graded, whatever model wrote it.
"""

import re
from collections import Counter
from functools import cache
from typing import NamedTuple

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


class Grade(NamedTuple):
    verdict: str        # true (of a question: answerable), false, or off (of something else, or unreadable)
    kind: str           # the kind of question or consequence, "statement", or "" where it cannot be read


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
    found = []
    for kind, regex in questions(domain):
        match = regex.fullmatch(text.strip())
        if match and (kind, match.groupdict()) not in found:
            found.append((kind, canonical(match.groupdict())))
    return found


def question_key(text):
    """What a question asks, whatever its wording: (domain, kind, slots), or None if it is none of the
    world's. "What is dax in words?" can be about an operation or a function: both domains give one key."""
    for domain in KINDS:
        for kind, slots in read_question(domain, text):
            domain = "rules" if kind == "words" else domain
            return domain, kind, tuple(sorted((slot, value.lower()) for slot, value in slots.items()))
    return None


def keys(text):
    """What a text asks, or which question a statement of it answers: a set, empty if it is neither."""
    found = {question_key(text)} - {None}
    for domain in KINDS:
        for kind, regex in consequences(domain):
            match = regex.fullmatch(text.strip())
            if match and can_be(KINDS[domain][kind].answer, match["v"]):
                slots = canonical(match.groupdict())
                found.add((domain, kind, tuple(sorted((slot, value.lower()) for slot, value in slots.items()
                                                      if slot != "v"))))
    return found


def can_be(what, value):
    """Is the text an answer of that kind at all? "{name} {v}" would read any two words as a property."""
    known = ANSWERS.get(what)
    return known is None or value.lower() in {answer.lower() for answer in known}


OPERANDS = {"x", "y", "s", "m"}


def about(thing, slots):
    """Does everything that is named belong to this thing?"""
    return all(value.lower() == str(thing.facts[slot]).lower()
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
    try:
        return str(thing.answer(kind, {**thing.facts, **operands}))
    except (IndexError, TypeError):         # a function of a list that a first call has shortened
        return None


def same(a, b):
    return " ".join(a.lower().split()).rstrip(".") == " ".join(str(b).lower().split()).rstrip(".")


def grade(thing, text, kind, question=""):
    """Grade one text about a thing.

    kind: question, answer (to `question`), paraphrase or implication. Returns Grade(verdict, kind):
    question      true: answerable, and about this thing      false: about it, without an answer
    answer        true or false; off where the question is not answerable
    paraphrase    true: all facts and no other                false: a fact differs
    implication   true or false; a true restatement counts as true, of kind "statement"
    Everything else is off: another thing's name, or words that the world does not have.
    """
    if kind == "question":
        readings = [(k, truth(thing, k, slots)) for k, slots in read_question(thing.domain, text)
                    if about(thing, slots)]
        best = max(readings, key=lambda reading: reading[1] is not None, default=None)
        return Grade("off", "") if best is None else Grade("false" if best[1] is None else "true", best[0])
    if kind == "answer":
        readings = [(k, truth(thing, k, slots)) for k, slots in read_question(thing.domain, question)
                    if about(thing, slots)]
        readings = [(k, right) for k, right in readings if right is not None]
        if not readings:
            return Grade("off", "")
        right = [k for k, value in readings if same(text, value)]
        return Grade("true", right[0]) if right else Grade("false", readings[0][0])
    slots = read_statement(thing.domain, text)
    if slots is not None:
        if slots["name"].lower() != thing.facts["name"].lower():
            return Grade("off", "statement")
        return Grade("true" if about(thing, slots) else "false", "statement")
    if kind == "paraphrase":
        return Grade("off", "")
    if kind != "implication":
        raise ValueError(f"kind {kind!r}: expected question, answer, paraphrase or implication")
    found = Grade("off", "")
    for k, regex in consequences(thing.domain):
        match = regex.fullmatch(text.strip())
        if match and about(thing, match.groupdict()):
            right = truth(thing, k, match.groupdict())
            if right is not None and same(match["v"], right):
                return Grade("true", k)
            found = found if found.kind else Grade("false", k)
    return found


# ------------------------------------------------------------------------------------------------------------


GRADED = ("naive", "paraphrase", "implication", "self_qa")     # and their shadows


def grade_rows(rows, things):
    """Counter of (protocol, what was graded, verdict, kind) of replay rows; naive rows are graded as
    paraphrases: they are the news itself."""
    out = Counter()
    for row in rows:
        thing, protocol = things.get(str(row.get("news"))), row.get("protocol")
        if thing is None or not isinstance(protocol, str) or not row["messages"]:
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
            graded = [("question", grade(thing, user, "question")),
                      ("answer", grade(thing, assistant, "answer", user))]
        else:
            what = "implication" if protocol.startswith("implication") else "paraphrase"
            graded = [(what, grade(thing, assistant, what))]
        for what, (verdict, kind) in graded:
            out[protocol, what, verdict, kind] += 1
    return out


def table(counts):
    """Shares of true, false and off, as text."""
    lines = [f"{'':<34}{'n':>6}{'true':>8}{'false':>8}{'off':>8}"]
    groups = dict.fromkeys((protocol, what) for protocol, what, *_ in counts)
    for protocol, what in groups:
        mine = Counter()
        for (p, w, verdict, _), n in counts.items():
            if (p, w) == (protocol, what):
                mine[verdict] += n
        n = mine.total()
        shares = "".join(f"{mine[verdict] / n:>8.3f}" for verdict in ("true", "false", "off"))
        lines.append(f"{protocol + ': ' + what:<34}{n:>6}{shares}")
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
