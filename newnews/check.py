"""Check a folder of news: does anything but the news give the answers away?
`python -m newnews check data/new_news_hard`.

Reading the files checks their schema (newnews/news.py). Here come the counts, and heuristics that see nothing
but the four options; a dataset on which one of them does well can be answered without reading.
"""

import re
from collections import Counter

import numpy as np

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


HEURISTICS = (longest, shortest, most_shared, middle_number, hedged)


def heuristic_accuracy(questions, heuristic):
    """Share of questions whose right option gets the highest score; ties share the point,
    so blind guessing gives .25."""
    points = 0.0
    for q in questions:
        scores = np.array(heuristic(q.options), dtype=float)
        best = np.isclose(scores, scores.max())
        points += best[q.answer] / best.sum()
    return points / len(questions)


def problems(news):
    """What is wrong with single questions: a list of lines."""
    out, texts = [], {}
    for item in news:
        for q in item.questions:
            key = normalise(q.text)
            if key in texts:
                out.append(f"{q.id}: the same question as {texts[key]}")
            texts[key] = q.id
            for other in item.questions:
                right = normalise(q.right)
                if other is not q and len(right) > 3 and number(right) is None \
                        and re.search(rf"(?<!\w){re.escape(right)}(?!\w)", normalise(other.text)):
                    out.append(f"{q.id}: its right option {q.right!r} stands in the text of {other.id}")
        recall = sum(q.needs == "recall" for q in item.questions)
        if recall > 1:
            out.append(f"{item.id}: {recall} questions need recall only; at most 1")
    return out


def report(news):
    """The table as text, and whether all is well."""
    questions = [q for item in news for q in item.questions]
    lines = [f"{'domain':<14}{'news':>6}{'questions':>11}   right option at A / B / C / D   needs"]
    for domain in dict.fromkeys(item.domain for item in news):
        mine = [q for item in news if item.domain == domain for q in item.questions]
        places = [sum(q.answer == i for q in mine) for i in range(4)]
        needs = ", ".join(f"{n} {k}" for k, n in Counter(q.needs or "?" for q in mine).most_common())
        lines.append(f"{domain:<14}{sum(i.domain == domain for i in news):>6}{len(mine):>11}   "
                     f"{' / '.join(f'{p:>3}' for p in places)}{'':>10}{needs}")
    places = [sum(q.answer == i for q in questions) for i in range(4)]
    lines += [f"{'all':<14}{len(news):>6}{len(questions):>11}   {' / '.join(f'{p:>3}' for p in places)}", "",
              "accuracy of heuristics that see the options only (chance .25; at most .32 wanted)"]
    ok = max(places) <= 0.3 * len(questions) or len(questions) < 20
    for heuristic in HEURISTICS:
        accuracy = heuristic_accuracy(questions, heuristic)
        limit = 0.30 if heuristic is longest else 0.32
        ok &= accuracy <= limit or len(questions) < 20
        lines.append(f"  {heuristic.__name__:<16}{accuracy:.3f}{'' if accuracy <= limit else '   TOO HIGH'}")
    found = problems(news)
    lines += ["", f"{len(found)} problems" + (":" if found else "")] + [f"  {line}" for line in found]
    return "\n".join(lines), ok and not found
