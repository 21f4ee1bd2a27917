"""What a pocket model can do: reading fresh dev news, the background, writing; as one text.

About 3 minutes on one core for 8 news a domain.
"""

from collections import Counter

import numpy as np

from model.drawing import Sampling
from model.sampling import generate
from newnews.ask import ask
from newnews.loading import load
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.selfplay import Writer
from newnews.tasks.judge import normalise
from newnews.tasks.news import NewsTask
from newnews.world.background import FACTS
from newnews.world.oracle import grade_rows, table, things_of
from newnews.world.phrases import BACKGROUND
from newnews.world.things import capitalise, make_news, pick

WAYS = (("free form, news in context", True, "free"), ("option text, news in context", True, "text"),
        ("free form, closed book", False, "free"))


def skills(name, per_domain=8, seed=1000, draws=8, device="auto"):
    """The skills of the model `name` (folder or hub id) as text: accuracies by domain and kind, the
    background, and `draws` self-written texts a news item and protocol, graded by the oracle."""
    model, chat, about = load(name, device=device)
    prompts, news = prompts_for(about["folder"]), make_news("dev", per_domain, seed)
    right, asked = Counter(), Counter()         # (way, group), group: a domain or "domain: kind"
    for way, known, format in WAYS:
        task = NewsTask(prompts, known, seed, (format,))
        for item in news:
            kinds, requests = [q.why.partition(":")[0] for q in item.questions], task.requests(item)
            found = ask(model, chat, [(item.id, request) for request in requests])
            for kind, request, response in zip(kinds, requests, found):
                for group in (item.domain, f"{item.domain}: {kind}", "all"):
                    asked[group] += way == WAYS[0][0]
                    right[way, group] += task.judge(item, request, response)["right"]
    lines = [f"{'':<30}{'n':>5}" + "".join(f"{way:>32}" for way, *_ in WAYS)]
    for group, n in sorted(asked.items(), key=lambda pair: (pair[0] == "all", pair)):
        lines.append(f"{group:<30}{n:>5}" + "".join(f"{right[way, group] / n:>32.2f}" for way, *_ in WAYS))
    lines += ["", "background, closed book: " + background_skill(model, chat, prompts, seed), ""]
    writer, rows = Writer(model, chat, prompts, seed), []
    for protocol in ("paraphrase", "implication", "self_qa"):
        for mine, _ in writer.write([protocols(prompts)[protocol].write(item, draws) for item in news]):
            rows += mine
    return "\n".join([*lines, f"self-written, {draws} draws a news item, duplicates dropped:",
                      table(grade_rows(rows, things_of(news)))])


def background_skill(model, chat, prompts, seed):
    """Every fact of the background asked once, free form."""
    rng = np.random.default_rng([seed, 5])
    facts = [(key, subject, answer) for key, answers in FACTS.items() for subject, answer in answers.items()]
    asked = [prompts.ask_free(capitalise(pick(rng, BACKGROUND[key]).replace("{0}", subject)))
             for key, subject, _ in facts]
    asked = [chat.prompt([{"role": "user", "content": text}]) for text in asked]
    done = generate(model, asked, chat.stop_ids, Sampling(max_new_tokens=16, temperature=0))
    right, total = Counter(), Counter()
    for (key, _, answer), completion in zip(facts, done):
        total[key] += 1
        right[key] += normalise(chat.decode(completion.ids)) == normalise(answer)
    parts = ", ".join(f"{' '.join(key)} {right[key] / total[key]:.2f}" for key in total)
    return f"{right.total()} of {total.total()} ({parts})"
