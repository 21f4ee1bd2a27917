r"""GSM8K (arXiv 2110.14168): is the number at the end of the reasoning the right one?

    right    the number where instruct models put it: in \boxed{}, behind ####, behind "answer is", "Answer:"
             or a line's "A:"; else the last number of the reply. Compared as numbers: 18.00 is 18
    strict   upstream's rule: the number behind the first ####, without commas, equals the gold text

{"question", "answer"}: a line of the data; the answer is the worked solution, its last line "#### 18".
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from newnews.reading import read_jsonl
from newnews.tasks.base import Request
from newnews.tasks.benchmark import Benchmark, before_next_question, unlike

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."     # as Qwen asks

NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|-?\.\d+"
SAID = (re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}"), re.compile(r"####([^\n]*)"),
        re.compile(r"(?:[Aa]nswer\W{0,3}(?:\s+is\b|:)|^A:)((?:(?![Aa]nswer)[^\n])*)", re.MULTILINE))
UPSTREAM = re.compile(r"#### (-?[0-9.,]+)")


@dataclass(frozen=True)
class Item:
    id: str
    question: str
    answer: str         # the worked solution


def read_items(path):
    """The questions of a file, numbered by their lines from 0."""
    items = []

    def add(row):
        if not all(isinstance(row.get(key), str) for key in ("question", "answer")):
            raise ValueError("expected question and answer, both texts")
        if not numbers(gold(row["answer"]) or ""):
            raise ValueError(f"answer: expected a last line '#### NUMBER', found {row['answer'][-40:]!r}")
        items.append(Item(str(len(items)), row["question"], row["answer"]))

    read_jsonl(path, add, "GSM8K file")
    return unlike(items, path)


def gold(solution):
    """The text behind the first ####, without commas, or None: upstream's rule."""
    found = UPSTREAM.search(solution)
    return found[1].replace(",", "") if found else None


def numbers(text):
    r"""The numbers in a text. LaTeX's spaces and commas go ("10{,}000", "10\,000"), and so does a dollar sign
    between minus and number; "5-3" has 5 and 3."""
    text = re.sub(r"\{,\}|\\[,!]", ",", text)
    text = re.sub(r"-\s?\\?\$", "-", text)
    text = re.sub(r"(?<=[\d)])\s?-(?=\d)", " - ", text)
    return [Decimal(found.replace(",", "")) for found in re.findall(NUMBER, text)]


def final_number(text):
    """The number that a reply gives as its answer, or None. Of several places of one kind the last counts; in
    an equation ("3 * 6 = $18 a day") the first number behind the last "="."""
    for place in SAID:
        for said in reversed(place.findall(text)):
            found = numbers(said.rpartition("=")[2]) or numbers(said)
            if found:
                return found[0]
    found = numbers(text)
    return found[-1] if found else None


class GSM8K(Benchmark):
    name, version = "gsm8k", 1
    columns = {"right": "right", "strict": "strict, ####"}
    max_new_tokens = 512
    items = examples = staticmethod(read_items)

    def asked(self, item):
        return f"Question: {item.question}\nAnswer:"

    def requests(self, item):
        """Without examples a chat model is told how to end; the examples show it."""
        shots = [(self.asked(shot), f" {shot.answer}")
                 for shot in self.chosen(lambda shot: shot.question != item.question)]
        asked = self.asked(item) if shots or self.plain else f"{item.question}\n{INSTRUCTION}"
        return [Request(item.id, self.conversation(shots, asked), max_new_tokens=self.max_new_tokens)]

    def judge(self, item, request, response):
        (text, cut), wanted = before_next_question(response), gold(item.answer)
        found = final_number(text)
        return {"item": item.id, "right": found == numbers(wanted)[0],
                "strict": gold(text) == wanted, "answer": None if found is None else str(found),
                "cut": cut}
