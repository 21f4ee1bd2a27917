"""Ask a model the questions of news items, closed book or in context, in three formats.

    letter   the four options are shown, in an order drawn per question from the seed; the letter with the
             highest log-probability as the first token of the answer is the pick
    text     no options are shown; each option is scored as the whole answer, <|im_end|> included
             (so "6" does not win by being the beginning of "64"): summed log-probability, and the same
             per byte of the option
    free     greedy answer under a stated instruction, compared after normalisation with the accepted ones
             (newnews/tasks/judge.py)
"""

import time
from contextlib import nullcontext

import numpy as np
from tqdm import tqdm

from model.sampling import Sampling, generate, score
from newnews.prompts import LETTERS
from newnews.selfplay import stream
from newnews.studies.stats import share
from newnews.tasks.judge import extract, normalise

FREE_TOKENS = 32        # a free-form answer that has not ended by then counts as no answer


def shown_order(question, seed):
    """The order in which a question's options are shown: shown place -> index of the option."""
    return np.random.default_rng([seed, stream("options", question.id)]).permutation(4).tolist()


def ask(model, chat, prompts, item, in_context, seed, formats=("letter", "text", "free")):
    """One row a question of the news item `item`, with what was answered in each format
    and whether it was right."""
    def prompt(text):
        return chat.prompt([{"role": "user",
                             "content": prompts.with_news(item.statement, text) if in_context else text}])

    rows = [{"news": item.id, "domain": item.domain, "question": q.id, "needs": q.needs,
             "in_context": in_context} for q in item.questions]
    if "letter" in formats:
        letters = [chat.answer(letter) for letter in LETTERS]
        if any(len(ids) != 1 for ids in letters):
            raise ValueError(f"the tokenizer does not write the letters {LETTERS} as one token each")
        orders = [shown_order(q, seed) for q in item.questions]
        asked = [prompt(prompts.ask_choice(q.text, [q.options[i] for i in order]))
                 for q, order in zip(item.questions, orders) for _ in LETTERS]
        logprobs = [lp[0] for lp in score(model, asked, letters * len(rows))]
        for i, (row, q, order) in enumerate(zip(rows, item.questions, orders)):
            mine = logprobs[4 * i:4 * i + 4]
            pick = order[int(np.argmax(mine))]
            row["letter"] = {"order": order, "logprobs": mine, "pick": pick, "right": pick == q.answer}
    if "text" in formats:
        asked = [prompt(q.ask) for q in item.questions for _ in q.options]
        options = [option for q in item.questions for option in q.options]
        sums = [sum(lp) for lp in score(model, asked, [[*chat.answer(o), chat.im_end] for o in options])]
        for i, (row, q) in enumerate(zip(rows, item.questions)):
            mine, size = sums[4 * i:4 * i + 4], [len(o.encode()) for o in q.options]
            pick, per_byte = int(np.argmax(mine)), int(np.argmax(np.divide(mine, size)))
            row["text"] = {"logprobs": mine, "bytes": size, "pick": pick, "right": pick == q.answer,
                           "pick_per_byte": per_byte, "right_per_byte": per_byte == q.answer}
    if "free" in formats:
        sampling = Sampling(max_new_tokens=FREE_TOKENS, temperature=0)
        done = generate(model, [prompt(prompts.ask_free(q.ask)) for q in item.questions], chat.stop_ids,
                        sampling)
        for row, q, completion in zip(rows, item.questions, done):
            text = chat.decode(completion.ids)
            answer = extract(text, prompts.answer_marker, completion.stopped)
            right = answer is not None and normalise(answer) in {normalise(a) for a in q.accept}
            row["free"] = {"text": text, "answer": answer, "right": right}
    return rows


def answer_all(output, model, chat, prompts, news, in_context, seed, adapter_of=None, label="ask"):
    """Fill `output` (newnews.outputs.Rows) with the answers about each news item, one chunk an item. Resumes.

    adapter_of(item) -> a context manager that turns on the adapter trained on that item, where the model
    carries a bank.
    """
    if output.whole:
        return output
    bar = tqdm(total=len(news), initial=output.chunks, desc=label, unit="news", disable=None,
               dynamic_ncols=True)
    for item in news[output.chunks:]:
        start = time.time()
        try:
            with adapter_of(item) if adapter_of else nullcontext():
                rows = ask(model, chat, prompts, item, in_context, seed)
        except ValueError as error:
            raise ValueError(f"news {item.id}: {error}") from None
        output.add(rows, seconds=round(time.time() - start, 3))
        bar.update()
    bar.close()
    output.finish()
    return output


def verdicts(rows, format):
    """[(news id, right?)] of the rows in one format: letter, text, text_per_byte or free."""
    name, _, field = format.partition("_")
    return [(row["news"], row[name]["right_per_byte" if field else "right"]) for row in rows]


def table(rows):
    """The accuracies of answer rows by domain and format, as text."""
    domains = [*dict.fromkeys(row["domain"] for row in rows), "all"]
    formats = [("free", "free form"), ("letter", "letter"),
               ("text", "option text"), ("text_per_byte", "text per byte")]
    lines = [f"{'':<14}{'n':>6}" + "".join(f"{title:>22}" for _, title in formats)]
    for domain in domains:
        mine = [row for row in rows if domain in (row["domain"], "all")]
        cells = [f"{domain:<14}{len(mine):>6}"]
        for format, _ in formats:
            clusters, right = zip(*verdicts(mine, format))
            s = share(right, clusters)
            cells.append(f"{s['mean']:>9.3f} [{s['low']:.2f}, {s['high']:.2f}]")
        lines.append("".join(cells))
    failed = sum(row["free"]["answer"] is None for row in rows)
    lines.append(f"free form: no answer found in {failed} of {len(rows)} replies")
    return "\n".join(lines)
