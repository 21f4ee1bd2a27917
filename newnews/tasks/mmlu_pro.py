"""MMLU-Pro (arXiv 2406.01574): multiple choice with up to ten options, answered after a chain of thought.

    right   the letter that upstream's chain of rules reads is the right one: "answer is (X)"; else
            "Answer: X"; else the last letter A to J that stands alone
    first   the first of these rules alone, which upstream's leaderboard was counted with

A reply in which no letter is found is wrong. (Upstream draws an option at random.)

{"question_id", "category", "question", "options", "answer"}: a line of the data; examples also have
"cot_content", their worked answer.
"""

import re
from dataclasses import dataclass

from newnews.reading import read_jsonl
from newnews.tasks.base import Request
from newnews.tasks.benchmark import Benchmark, before_next_question, check_category, item_id, unlike

LETTERS = "ABCDEFGHIJ"
HEAD = ('The following are multiple choice questions (with answers) about {}. Think step by step and then '
        'finish your answer with "the answer is (X)" where X is the correct letter choice.\n\n\n\n')
STEPS = "Answer: Let's think step by step."

FIRST = re.compile(r"answer is \(?([A-J])")
SECOND = re.compile(r".*[aA]nswer:\s*([A-J])")
ALONE = re.compile(r"\b[A-J]\b")


@dataclass(frozen=True)
class Item:
    id: str
    category: str
    question: str
    options: list
    answer: str             # a letter
    worked: str = ""        # of an example: its chain of thought and answer


def read_items(path, worked=False):
    """The questions of a file. worked: they must be examples, with their worked answers."""
    items = []

    def add(row):
        check_category(row.get("category"))
        for key in ("question", "answer", *(["cot_content"] if worked else [])):
            if not isinstance(row.get(key), str):
                raise ValueError(f"{key}: expected a text, found {row.get(key)!r}")
        options = row.get("options")
        if not isinstance(options, list) or len(options) > len(LETTERS) \
                or not all(isinstance(option, str) for option in options):
            raise ValueError(f"options: expected a list of at most {len(LETTERS)} texts")
        options = [option for option in options if option != "N/A"]       # upstream's filling
        if row["answer"] not in list(LETTERS[:len(options)]):
            raise ValueError(f"answer: expected a letter of {len(options)} options, found {row['answer']!r}")
        name = item_id(row.get("question_id", len(items)))
        items.append(Item(name, row["category"], row["question"], options, row["answer"],
                          row["cot_content"] if worked else ""))

    read_jsonl(path, add, "MMLU-Pro file")
    return unlike(items, path)


def asked(item):
    options = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, item.options))
    return f"Question:\n{item.question}\nOptions:\n{options}"


def first_rule(text):
    """The letter behind the first "answer is", or None."""
    found = FIRST.search(text)
    return found and found[1]


def chain_rule(text):
    found = FIRST.search(text) or SECOND.search(text)
    if found:
        return found[1]
    alone = ALONE.findall(text)
    return alone[-1] if alone else None


class MMLUPro(Benchmark):
    name, version = "mmlu_pro", 1
    columns = {"right": "chain rule", "first": "first rule"}
    max_new_tokens = 2048       # upstream's
    items = staticmethod(read_items)

    def examples(self, path):
        return read_items(path, worked=True)

    def requests(self, item):
        """Upstream's one text, examples of the question's own category first; as turns, its head stands in
        the first of them."""
        chosen = self.chosen(lambda s: s.category == item.category and s.question != item.question)
        shots = [(asked(shot), shot.worked.replace("A: Let's think step by step.", STEPS)) for shot in chosen]
        head = HEAD.format(item.category)
        question = asked(item) + STEPS
        if shots:
            shots[0] = (head + shots[0][0], shots[0][1])
        else:
            question = head + question
        return [Request(item.id, self.conversation(shots, question), max_new_tokens=self.max_new_tokens)]

    def judge(self, item, request, response):
        text, cut = before_next_question(response)      # as upstream, which stops at "Question:"
        chain, first = chain_rule(text), first_rule(text)
        return {"item": item.id, "group": item.category, "right": chain == item.answer,
                "first": first == item.answer, "answer": chain, "cut": cut}
