"""Check news: does anything but the news give the answers away?
`python -m newnews check data/new_news data/new_news/dev data/new_news_hard`.

Reading the files checks their schema (newnews/news.py). Here come the counts, and heuristics that see nothing
but the options; a dataset on which one of them does well can be answered without reading. News with worlds
(the core set) have rules of their own: option w is the answer in world w, so a heuristic is right in every
world or in none, and each of the four worlds is looked at.
"""

import calendar
import re
from collections import Counter
from functools import lru_cache

import numpy as np

from newnews.news import check_unique, read_locality, read_news
from newnews.tasks.judge import normalise
from newnews.words import letters

HEDGES = ("may", "might", "could", "usually", "often", "generally", "typically", "likely", "probably", "some",
          "sometimes", "partly", "about", "roughly", "depends", "unless", "only if", "at least", "at most",
          "mostly", "tends")


def words(text):
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def number(text):
    found = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
    return float(found[0]) if found else None


def longest(options):
    return [len(o) for o in options]


def shortest(options):
    return [-len(o) for o in options]


def most_shared(options):
    """Words shared with the other options: wrong options are often variations of the right one."""
    return [sum(len(words(o) & words(p)) for p in options if p is not o) for o in options]


def middle_number(options):
    """Closeness to the middle of the numbers: wrong numbers are often put on both sides of the right one."""
    values = [number(o) for o in options]
    if None in values:
        return [0] * len(options)
    return [-abs(v - float(np.median(values))) for v in values]


def hedged(options):
    return [sum(bool(re.search(rf"\b{h}\b", o.lower())) for h in HEDGES) for o in options]


HEURISTICS = (longest, shortest, most_shared, middle_number, hedged)
# A heuristic's accuracy in a world other than the actual one, at most. A study may make any world the actual
# one (news.world), so it is held as tight as chance lets us: on dev's 125 questions a share of .25 has a
# standard error of .04, and of some twenty such shares one lies 2.8 of them above by luck.
FEW = 20            # questions, under which no share is judged
COUNTER_WORLD = 0.36


def heuristic_accuracy(questions, heuristic, world=None):
    """Share of questions whose right option (or that of a world) gets the highest score; ties share the
    point, so blind guessing gives .25 with four options."""
    return accuracy([(heuristic(q.options), q.answer if world is None else world) for q in questions])


def accuracy(scored):
    """[(scores of the options, the right one)] -> share of points, ties shared."""
    points = 0.0
    for scores, right in scored:
        best = np.isclose(scores, np.max(scores))
        points += best[right] / best.sum()
    return points / len(scored)


def contains(text, part):
    """Whether a text has the part as whole words, both normalised; 3 is no part of 1.3 or 3.5."""
    return bool(re.search(rf"(?<!\w)(?<!\d\.){re.escape(plain(part))}(?!\w|\.\d)", plain(text)))


@lru_cache(maxsize=None)
def plain(text):
    return normalise(text)          # kept: each text is looked through for dozens of others


def mentions(item, question):
    """mentions[w][k]: whether the statement of world w has the words of option k."""
    return [[contains(statement, option) for option in question.options] for statement in item.statements]


def siblings(item, question):
    """For each option, how many of the item's other questions name it in their text."""
    texts = [q.text for q in item.questions if q is not question]
    return [sum(contains(text, option) for text in texts) for option in question.options]


def problems(news):
    """What is wrong with single questions: a list of lines.

    No question's text may name the right option of a sibling question; one that names all four of them, as
    "Which of the colours red, blue, green and pink ...?" does, gives nothing away.
    """
    out, texts = [], {}
    for item in news:
        for q in item.questions:
            key = normalise(q.text)
            if key in texts:
                out.append(f"{q.id}: the same question as {texts[key]}")
            texts[key] = q.id
            right = normalise(q.right)
            for other in item.questions if len(right) > 3 and number(right) is None else ():
                named = [contains(other.text, option) for option in q.options]
                if other is not q and named[q.answer] and not all(named):
                    out.append(f"{q.id}: its right option {q.right!r} stands in the text of {other.id}")
        recall = sum(q.needs == "recall" for q in item.questions)
        if recall > 1:
            out.append(f"{item.id}: {recall} questions need recall only; at most 1")
    return out


# ---- rules of news with worlds ----

NEEDS = ("recall", "application", "reversal", "background", "two_steps")
PARTS = {"worlds": 3, "restatements": 3, "questions": 5, "cloze": 2, "spoils": 2}      # how many of each
LONGEST_STATEMENT = 45          # words
ALIKE = 0.5                     # share of words that another world's statement has in common, at least
# Accuracy of looking for the options in the statement, recall apart, at most. The question that goes back
# from the answer asks for a detail that the statement names: one in four, 1/4 + 3/4 * .25 = .44.
MENTIONED = 0.45
DIGITS = 1 / 3                  # share of a domain's keys that hold a digit, at most


def world_problems(item):
    """What is wrong with one news item that has worlds: a list of lines."""
    out = [f"{name}: expected {count}, found {len(getattr(item, name))}"
           for name, count in PARTS.items() if len(getattr(item, name)) != count]
    out += [f"{name}: is missing" for name in ("headline", "subject", "reversed", "silent")
            if not getattr(item, name)]
    actual = text_words(item.statement)
    for w, statement in enumerate(item.statements):
        mine = text_words(statement)
        shared = sum((Counter(mine) & Counter(actual)).values()) / max(len(mine), len(actual))
        if len(mine) > LONGEST_STATEMENT:
            out.append(f"world {w}: {len(mine)} words; at most {LONGEST_STATEMENT}")
        if item.subject not in statement:
            out.append(f"world {w}: lacks the subject {item.subject!r}")
        if shared < ALIKE:
            out.append(f"world {w}: no minimal pair, it shares {shared:.0%} of the actual world's words")
    if len({normalise(s) for s in item.statements}) < len(item.statements):
        out.append("worlds: two statements are the same")
    needs = tuple(q.needs for q in item.questions)
    if needs != NEEDS:
        out.append(f"questions: expected the needs {', '.join(NEEDS)}; found {', '.join(needs)}")
    out = [f"{item.id}: {line}" for line in out]
    for q in item.questions:
        out += [f"{q.id}: {line}" for line in option_problems(q) + mention_problems(mentions(item, q))]
    return out


def text_words(text):
    return text.lower().split()


def option_problems(question):
    """Options that a judge could take for each other."""
    out, ways = [], [{normalise(way) for way in question.ways(k)} for k in range(len(question.options))]
    for i, option in enumerate(question.options):
        if "" in ways[i]:
            out.append(f"option {option!r} has a form of punctuation only, which the judge does not see")
        for k, other in enumerate(question.options):
            if i < k and ways[i] & ways[k]:
                out.append(f"{option!r} and {other!r} can be said in the same way: "
                           f"{', '.join(sorted(ways[i] & ways[k]))}")
            elif i != k and contains(other, option):
                out.append(f"option {option!r} is contained in {other!r}")
    return out


def mention_problems(mentioned):
    """An option in the statement gives the answer away, unless in each world the right one is there."""
    lacking = [str(w) for w in range(len(mentioned)) if not mentioned[w][w]]
    if not any(mentioned[0]) or not lacking:
        return []
    return [f"an option is mentioned in the statement of world 0, but the right one not in that of world "
            f"{', '.join(lacking)}"]


def domain_problems(news):
    """At most a third of a domain's keys may hold digits: numbers are easy to copy and hard to make equally
    plausible."""
    out = []
    for domain in dict.fromkeys(item.domain for item in news):
        keys = [q.right for item in news if item.domain == domain for q in item.questions]
        digits = sum(any(c.isdigit() for c in key) for key in keys)
        if digits > DIGITS * len(keys):
            out.append(f"{domain}: {digits} of {len(keys)} right options hold digits; at most a third")
    return out


def name_problems(news):
    """Subjects that two news share, or that another's statements mention."""
    out = []
    for i, item in enumerate(news):
        for other in news if item.subject else ():
            texts = [other.subject, *other.statements, *(q.text for q in other.questions)]
            if other is not item and any(contains(text, item.subject) for text in texts):
                out.append(f"{item.id}: its subject {item.subject!r} is named in {other.id} too")
    return out


def shared_names(news):
    """Names (capital letter within a sentence) that two news have, months and days of the week apart; real
    places may be among them."""
    where, known = {}, {*calendar.month_name, *calendar.day_name}
    for item in news:
        text = " ".join(item.statements)
        for name in set(re.findall(r"(?<=[a-z,] )[A-Z][\w'-]{2,}", text)) - known:
            where.setdefault(name, []).append(item.id)
    return {name: ids for name, ids in sorted(where.items()) if len(ids) > 1}


# ---- the report ----

def report(news):
    """The table as text, and whether all is well."""
    questions = [q for item in news for q in item.questions]
    worlds = [item for item in news if item.worlds]
    most = max((len(q.options) for q in questions), default=4)
    head = f"right option at {' / '.join(letters(most))}"
    lines = [f"{'domain':<14}{'news':>6}{'questions':>11}   {head}   needs"]
    for domain in dict.fromkeys(item.domain for item in news):
        mine = [q for item in news if item.domain == domain for q in item.questions]
        places = [sum(q.answer == i for q in mine) for i in range(most)]
        needs = ", ".join(f"{n} {k}" for k, n in Counter(q.needs or "?" for q in mine).most_common())
        lines.append(f"{domain:<14}{sum(i.domain == domain for i in news):>6}{len(mine):>11}   "
                     f"{' / '.join(f'{p:>3}' for p in places):<{len(head)}}   {needs}")
    places = [sum(q.answer == i for q in questions) for i in range(most)]
    lines += [f"{'all':<14}{len(news):>6}{len(questions):>11}   {' / '.join(f'{p:>3}' for p in places)}", ""]
    ok = True
    if questions and worlds:
        lines += [f"{len(worlds)} news have worlds: their options are shown in an order drawn when asked", ""]
    elif questions:
        ok = max(places) <= 0.3 * len(questions) or len(questions) < FEW
    if questions:
        table, fine = heuristic_table(news, worlds)
        lines, ok = lines + table, ok and fine
    found = problems(news) + [line for item in worlds for line in world_problems(item)]
    found += domain_problems(worlds) + (name_problems(news) if worlds else [])
    lines += ["", f"{len(found)} problems" + (":" if found else "")] + [f"  {line}" for line in found]
    return "\n".join(lines), ok and not found


def heuristic_table(news, worlds):
    """How well heuristics do, in each world where there are worlds: (lines, whether all is well)."""
    questions, ok = [q for item in news for q in item.questions], True
    numbers = sorted({w for item in worlds for w in range(len(item.worlds) + 1)}) or [None]
    chance, few = sum(1 / len(q.options) for q in questions) / len(questions), len(questions) < FEW
    lines = [f"accuracy of heuristics that see the options only (chance {chance:.2f}; at most .32 wanted)"
             + f"; fewer than {FEW} questions: not judged" * few]
    if worlds:
        lines[0] += f" in world {', '.join(map(str, numbers))}; at most {COUNTER_WORLD} in a counter-world"
    rows = [(h.__name__, 0.30 if h is longest else 0.32,
             [heuristic_accuracy(questions, h, world) for world in numbers]) for h in HEURISTICS]
    # this one sees the item's other questions
    named = [(siblings(item, q), q.answer) for item in news for q in item.questions]
    rows.append(("siblings", 0.32,
                 [accuracy([(s, a if w is None else w) for s, a in named]) for w in numbers]))
    # this one sees the statement too, but only looks for the options in it; recall may be answered so
    asked = [mentions(item, q) for item in worlds for q in item.questions if q.needs != "recall"]
    if asked:
        rows.append(("mentioned", MENTIONED, [accuracy([(m[w], w) for m in asked]) for w in numbers]))
    for name, limit, shares in rows:
        high = shares[0] > limit or max(shares) > max(limit, COUNTER_WORLD)     # world 0 is the actual one
        high = high and not few
        ok &= not high
        lines.append(f"  {name:<16}{'  '.join(f'{s:.3f}' for s in shares)}{'   TOO HIGH' if high else ''}")
    return lines, ok


def check(paths):
    """The report of each file or folder of news, then what they share: (text, whether all is well)."""
    sets, parts, ok = [read_news(path) for path in paths], [], True
    for path, news in zip(paths, sets):
        text, fine = report(news)
        ok &= fine
        parts += [f"{path}\n\n{text}\n{len(read_locality(path))} locality questions"]
    everything = [item for news in sets for item in news]
    if len(paths) > 1:
        check_unique(everything)
        found = name_problems(everything)
        ok &= not found
        parts.append("\n".join([f"{len(found)} names of one in another", *(f"  {line}" for line in found)]))
    names = shared_names(everything)
    parts.append("\n".join([f"{len(names)} words with a capital letter in two news (real places are fine)",
                            *(f"  {name}: {', '.join(ids)}" for name, ids in names.items())]))
    return "\n\n".join(parts), ok
