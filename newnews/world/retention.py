"""The background of the pocket world as multiple-choice questions: what an update must not cost.

One question a fact, for `evaluate.py --task choice`. With news in context (a skill) and neighbouring facts
(data/new_news*/locality) they are what `python -m newnews retain` compares.
"""

import json

import numpy as np

from newnews.outputs import write_text
from newnews.world.background import FACTS
from newnews.world.phrases import BACKGROUND
from newnews.world.things import capitalise, pick

OPTIONS = 4


def background_questions(seed=0):
    """[{"id", "category", "question", "options", "answer"}]: every fact once, its wording and the other
    options (answers about other subjects) drawn from the seed."""
    rng, rows = np.random.default_rng([seed, 5]), []
    for (kind, attribute), answers in FACTS.items():
        for subject, right in answers.items():
            others = [a for a in dict.fromkeys(answers.values()) if a != right]
            options = [right, *(others[i] for i in rng.permutation(len(others))[:OPTIONS - 1])]
            order = rng.permutation(len(options))
            question = pick(rng, BACKGROUND[kind, attribute]).replace("{0}", subject)
            rows.append({"id": f"{kind}-{attribute}-{subject}", "category": f"{kind} {attribute}",
                         "question": capitalise(question), "options": [str(options[i]) for i in order],
                         "answer": int(order.argmin())})
    return rows


def write_background(path, seed=0):
    rows = background_questions(seed)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)
