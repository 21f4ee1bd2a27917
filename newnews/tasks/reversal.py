"""Facts asked forwards and backwards (arXiv 2510.09885, github.com/xup5/masked_arLLM): which share of the
answer's words does a reply hold?

    recall   ROUGE-1 recall without stop words and punctuation: of the answer's distinct words, those in the
             reply. Capitals count, as upstream has it
    right    all of them are

{"group", "task", "question", "answer"}: a line of the data. "forward" asks in the order in which the fact was
stated. An interval of recall takes its values for rights and wrongs, which makes it wide rather than wrong.
"""

import string
from dataclasses import dataclass

from newnews.reading import read_jsonl
from newnews.tasks.base import Request
from newnews.tasks.benchmark import Benchmark, unlike

STOP = frozenset("a of the and is are be to new on in at an for".split())
FORWARD = {("NameIsDescription", "N2D"), ("DescriptionIsName", "D2N"), ("", "N2D"), ("", "forward")}
FIRST = {"N2D", "forward"}      # which task stands first among the questions about one fact
BACKWARD = {("NameIsDescription", "D2N"), ("DescriptionIsName", "N2D"), ("", "D2N"), ("", "backward")}


@dataclass(frozen=True)
class Item:
    """What is asked about one fact in one direction. Its questions stand or fall together, so intervals are
    clustered by it."""
    id: str             # number of the fact and direction: "0 forward"
    group: str          # "forward NameIsDescription", ...
    rows: list          # the lines of the data

    @property
    def fact(self):
        return int(self.id.split()[0])

    @property
    def pairs(self):
        """[(question, answer)]."""
        return [(row["question"], row["answer"]) for row in self.rows]


def read_items(path):
    """The facts of a file, numbered from 0. A fact's questions follow each other, one direction after the
    other; a new one begins where the file goes back to the first direction."""
    found, facts, last = {}, -1, None

    def add(row):
        nonlocal facts, last
        if not all(isinstance(row.get(key), str) for key in ("group", "task", "question", "answer")):
            raise ValueError("expected group, task, question and answer, all texts")
        kind = row["group"], row["task"]
        if kind not in FORWARD | BACKWARD:
            raise ValueError(f"group and task: expected one of "
                             f"{', '.join(map(str, sorted(FORWARD | BACKWARD)))}; found {kind}")
        if not words(row["answer"]):
            raise ValueError(f"answer: expected words other than stop words, found {row['answer']!r}")
        facts += row["task"] in FIRST and row["task"] != last
        last = row["task"]
        way = "forward" if kind in FORWARD else "backward"
        item = Item(f"{facts} {way}", " ".join(filter(None, (way, kind[0]))), [])
        found.setdefault(item.id, item).rows.append(row)

    read_jsonl(path, add, "file of forward and backward questions")
    return unlike(list(found.values()), path)


def words(text):
    """The distinct words of a text, punctuation deleted, without stop words."""
    text = text.strip().translate(str.maketrans("", "", string.punctuation))
    return {word for word in text.split() if word.lower() not in STOP}


def recall(answer, reply):
    """ROUGE-1 recall of the answer's words; a reply without words holds none."""
    wanted = words(answer)
    return len(wanted & words(reply)) / len(wanted)


class Reversal(Benchmark):
    name, version = "reversal", 1
    columns = {"right": "all words", "recall": "ROUGE-1 recall"}
    max_new_tokens = 128

    items = staticmethod(read_items)

    def requests(self, item):
        return [Request(f"{item.id} {i}", self.conversation([], question),
                        max_new_tokens=self.max_new_tokens) for i, (question, _) in enumerate(item.pairs)]

    def judge(self, item, request, response):
        _, answer = item.pairs[int(request.id.rpartition(" ")[2])]
        found = recall(answer, response["text"])
        return {"item": item.id, "group": item.group, "right": found == 1.0, "recall": found}

    def merged(self, verdicts):
        rows = {}
        for verdict in verdicts:
            row = rows.setdefault(verdict["item"], {**verdict, **{field: [] for field in self.columns}})
            for field in self.columns:
                row[field].append(verdict[field])
        return list(rows.values())
