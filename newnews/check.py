"""Check news: does anything but the news give the answers away?
`python -m newnews check data/new_news data/new_news/dev data/new_news_hard`.

Reading the files checks their schema (newnews/news.py). Here come the counts, and heuristics that see nothing
but the options; a dataset on which one of them does well can be answered without reading. In news with worlds
(the core set) option w is the answer in world w, and a study may make any world the actual one: each of them
is looked at. Where some news have worlds, the heuristics are counted on these alone.
"""

import re
from collections import Counter
from functools import lru_cache

import numpy as np

from newnews.news import check_unique, read_locality, read_news
from newnews.tasks.judge import normalise

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


def chance(options):
    """Nothing is seen: all options look alike."""
    return [0] * len(options)


HEURISTICS = (chance, longest, shortest, most_shared, middle_number, hedged)
FEW = 20                # questions, under which no share is judged
# How far above chance a heuristic's accuracy may lie, with four options at .32.
ABOVE = 0.07
# The question that goes back from the answer asks for a detail that the statement names: one in four, and
# 1/4 + 3/4 * .25 = .44.
ABOVES = {"longest": 0.05, "mentioned": 0.20}
# In a world other than the actual one, at least so far. It is held as tight as chance lets us: on dev's 125
# questions a share of .25 has a standard error of .04, and of some twenty such shares one lies 2.8 of them
# above by luck.
COUNTER_WORLD = 0.11


def accuracy(scored):
    """[(scores of the options, the right one)] -> share of points; ties share the point, so blind guessing
    gives .25 with four options."""
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
    return out


# ---- of news with worlds ----

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


def name_problems(news):
    """Subjects that two news share, or that another's statements mention."""
    out = []
    for item in news:
        for other in news if item.subject else ():
            texts = [other.subject, *other.statements, *(q.text for q in other.questions)]
            if other is not item and any(contains(text, item.subject) for text in texts):
                out.append(f"{item.id}: its subject {item.subject!r} is named in {other.id} too")
    return out


# ---- the report ----

def report(news):
    """The table as text, and whether all is well."""
    questions = [q for item in news for q in item.questions]
    worlds = [item for item in news if item.worlds]
    lines = [f"{'domain':<14}{'news':>6}{'questions':>11}   needs"]
    for domain in dict.fromkeys(item.domain for item in news):
        mine = [q for item in news if item.domain == domain for q in item.questions]
        needs = ", ".join(f"{n} {k}" for k, n in Counter(q.needs or "?" for q in mine).most_common())
        lines.append(f"{domain:<14}{sum(i.domain == domain for i in news):>6}{len(mine):>11}   {needs}")
    lines += [f"{'all':<14}{len(news):>6}{len(questions):>11}", ""]
    ok = True
    if questions:
        table, ok = heuristic_table(news)
        lines += table
    found = problems(news) + [f"{q.id}: {line}" for item in worlds for q in item.questions
                              for line in option_problems(q) + mention_problems(mentions(item, q))]
    found += name_problems(news) if worlds else []
    lines += ["", f"{len(found)} problems" + (":" if found else "")] + [f"  {line}" for line in found]
    return "\n".join(lines), ok and not found


def heuristic_table(news):
    """How well heuristics do, in each world where there are worlds: (lines, whether all is well)."""
    asked, ok = [item for item in news if item.questions], True
    counted = [item for item in asked if item.worlds] or asked
    found = in_worlds(counted)
    where, wanted = "", f"at most {ABOVE:.2f} above chance, longest {ABOVES['longest']:.2f}"
    if found[1:]:
        where = f" in world {', '.join(map(str, range(len(found))))}"
        wanted += f"; in a counter-world {COUNTER_WORLD:.2f}; mentioned {ABOVES['mentioned']:.2f} in each"
    lines = [f"accuracy of heuristics that see the options only{where}",
             f"wanted: {wanted}; shares of fewer than {FEW} questions are not judged"]
    if len(counted) < len(asked):
        lines.append(f"not counted: {len(asked) - len(counted)} news without worlds")
    for name in found[0]:
        shares, high = [], False
        for world, scored in enumerate(found):
            some, above = scored[name], ABOVES.get(name, ABOVE)
            if some:                # of few worlds, or only recall, there may be none
                shares.append(accuracy(some))
                limit = accuracy([(chance(s), k) for s, k in some])
                limit += max(above, COUNTER_WORLD) if world else above
                high |= shares[-1] > limit and len(some) >= FEW
        ok &= not high
        lines.append(f"  {name:<16}{'  '.join(f'{s:.3f}' for s in shares)}{'   TOO HIGH' if high else ''}")
    return lines, ok


def in_worlds(items):
    """[{heuristic: [(scores of the options, the right one)]}], one a world: option w is right in world w, of
    the questions that have one. News without worlds have their own right options, as if in one world."""
    asked = [(item, q) for item in items for q in item.questions]
    scored = {h.__name__: [(h(q.options), q.answer) for _, q in asked] for h in HEURISTICS}
    scored["siblings"] = [(siblings(item, q), q.answer) for item, q in asked]   # sees the others' texts
    if not items[0].worlds:
        return [scored]
    # sees the statement too, but only looks for the options in it; recall may be answered so
    named = [mentions(item, q) for item, q in asked if q.needs != "recall"]
    return [{**{name: [(s, w) for s, _ in some if w < len(s)] for name, some in scored.items()},
             "mentioned": [(m[w], w) for m in named if w < len(m)]}
            for w in range(max(len(item.statements) for item in items))]


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
    return "\n\n".join(parts), ok
