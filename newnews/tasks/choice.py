"""Any multiple-choice file, scored by the summed log-likelihood of each option as the answer.

    right       the largest sum wins
    per_char    sum over the letters of the option: long ones are not punished; per_byte over its UTF-8 bytes
    minus       sum minus that of the option without the question: what the question adds (Brown et al. 2020)

With the chat template an option is the whole reply, <|im_end|> included, so "6" does not win by being the
beginning of "64". Without it the option goes on in the text behind "Answer: ", and nothing closes it, as
lm-eval-harness does.

{"question" and/or "context", "options" or "choices", "answer", "id"?, "category"?}: a line of the data. The
answer is an option's index from 0, its letter, or its text (refused where the two differ). A context alone is
a text to be continued.
Or a folder of news: the questions about neighbouring facts in its locality/.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from newnews.news import read_locality
from newnews.reading import read_jsonl, shown
from newnews.tasks.base import Request
from newnews.tasks.benchmark import Benchmark, check_category, item_id, unlike
from newnews.words import letters


@dataclass(frozen=True)
class Item:
    id: str
    group: str
    context: str        # "" if there is none; so with the question, but not both
    question: str
    options: list
    answer: int         # index


def read_items(path):
    """The questions of a file, one without an id called by its place, counted from 0; or the locality
    questions of a folder of news."""
    if Path(path).is_dir():
        return unlike([Item(q.id, "", "", q.ask, q.options, q.answer) for q in read_locality(path)], path)
    items = []

    def add(row):
        context, question = row.get("context", ""), row.get("question", "")
        if not isinstance(context, str) or not isinstance(question, str) or not context + question:
            raise ValueError("expected a question or a context, as a text")
        options = row.get("options", row.get("choices"))
        if not isinstance(options, list) or not 2 <= len(options) <= 26 \
                or not all(isinstance(option, str) and option.strip() for option in options):
            raise ValueError(f"options: expected a list of 2 to 26 texts, found {shown(options)}")
        check_category(row.get("category", ""))
        items.append(Item(item_id(row.get("id", row.get("question_id", len(items)))), row.get("category", ""),
                          context, question, options, index_of(row.get("answer"), options)))

    read_jsonl(path, add, "file of multiple-choice questions")
    return unlike(items, path)


def index_of(answer, options):
    if type(answer) is int and 0 <= answer < len(options):
        return answer
    found = {"text": [i for i, option in enumerate(options) if option == answer],
             "letter": [i for i, letter in enumerate(letters(len(options))) if letter == answer]}
    means = set(sum(found.values(), []))
    if len(means) == 1:
        return means.pop()
    if means:
        said = [f"option {i} by its {how}" for how, numbers in found.items() for i in numbers]
        raise ValueError(f"answer: {shown(answer)} can be {' or '.join(said)}, counted from 0; "
                         f"give its index")
    raise ValueError(f"answer: expected an index from 0, a letter or the text of one of {len(options)} "
                     f"options, found {shown(answer)}")


class Choice(Benchmark):
    name, version = "choice", 1
    columns = {"right": "raw", "per_char": "by characters", "per_byte": "by bytes",
               "minus": "less unconditional"}
    items = examples = staticmethod(read_items)

    def requests(self, item):
        shots = [(self.asked(shot), self.answer(self.asked(shot), shot.options[shot.answer]))
                 for shot in self.chosen(lambda s: (s.context, s.question) != (item.context, item.question))]
        asked = self.conversation(shots, self.asked(item))
        return [self.request(item.id, asked, item),
                self.request(f"{item.id}/alone", self.conversation([], ""), item)]

    def request(self, name, messages, item):
        if not self.plain:
            return Request(name, messages, item.options)
        return Request(name, messages, [self.answer(self.asked(item), o) for o in item.options], end=False)

    def asked(self, item):
        """A few words frame the question where it stands in a text; a turn of its own needs none."""
        framed = self.plain or self.n_shots and not self.turns
        question = f"Question: {item.question}\nAnswer:" if item.question and framed else item.question
        return f"{item.context}\n{question}" if item.context and question else item.context + question

    def answer(self, asked, option):
        """The option with the space that parts it from what stands before it."""
        return option if asked[-1:].isspace() or option[0].isspace() else f" {option}"

    def judge(self, item, request, response):
        sums = response["logprobs"]
        if request.id != item.id:
            return {"item": item.id, "alone": sums}
        by_char = np.divide(sums, [len(option) for option in item.options])
        by_byte = np.divide(sums, [len(option.encode()) for option in item.options])
        return {"item": item.id, "group": item.group, "gold": item.answer, "logprobs": sums,
                "right": pick(sums) == item.answer, "per_char": pick(by_char) == item.answer,
                "per_byte": pick(by_byte) == item.answer}

    def merged(self, verdicts):
        """The question's verdict, with what the options alone say."""
        alone = {row["item"]: row["alone"] for row in verdicts if "alone" in row}
        return [{**row, "minus": pick(np.subtract(row["logprobs"], alone[row["item"]])) == row["gold"]}
                for row in verdicts if "alone" not in row]


def pick(scores):
    return int(np.argmax(scores))
