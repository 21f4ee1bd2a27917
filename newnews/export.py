"""News as JSONL for other people's programs: `python -m newnews export data/new_news --out DIR`.

One row a question, one file a split, and a README.md whose YAML header a dataset hub reads. The folder is
loaded by `datasets.load_dataset("DIR")`, or by any reader of JSON lines. Splits: test, the news of PATH, and
validation, those of PATH/dev where there are any (for choosing, never for results). The card names CC BY 4.0,
the licence of the sets in data/; put your own there for other news.
"""

import json
import re
from pathlib import Path

from model.files import write_folder
from newnews.news import read_news
from newnews.outputs import check_out
from newnews.tasks.news import shown_order

MARK = "newnews-export"         # in the card: a folder that is ours may be replaced
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))

CARD = """---
license: cc-by-4.0
language:
- en
pretty_name: New News
task_categories:
- multiple-choice
- question-answering
size_categories:
- {size}
tags:
- {mark}
configs:
- config_name: default
  data_files:
{files}
---

# {title}

Hypothetical news and questions about them: can a model that was trained on a piece of news reason with it as
well as one that reads it? None of the news is true. Written by `python -m newnews export`.

{counts}

A row is a question. `statement` is the news, `counter_statements` its other versions, equally plausible
beforehand; `world_answers[0]` is the answer if `statement` is true, `world_answers[1]` if
`counter_statements[0]` is, and so on. `question` is asked with `options`: `options[answer]` is right, and
their order is that in which `evaluate.py --seed 0` shows them. `ask` is asked without options, and every text
in `accept` is right; `forms[i]` are the other ways to say `options[i]`. `needs` is the kind of question,
`steps` the steps of thought.
{canary}"""


def rows(news):
    """One dict a question, in the order of the news. Every key is in every row, so that a reader that takes
    the types from the first row finds them in all."""
    for item in news:
        for q in item.questions:
            order = shown_order(q, 0)
            others = [option for w, option in enumerate(q.options) if w != item.world]
            yield {"id": q.id, "news": item.id, "domain": item.domain, "headline": item.headline,
                   "subject": item.subject, "statement": item.statement, "counter_statements": item.worlds,
                   "question": q.text, "options": [q.options[i] for i in order],
                   "answer": order.index(q.answer), "ask": q.ask, "accept": q.accept,
                   "forms": [q.forms[i] for i in order], "needs": q.needs, "steps": q.steps, "why": q.why,
                   "world_answers": [q.right, *others] if item.worlds else []}


def splits(path):
    """{name: its news}; PATH/dev is the validation split of a folder."""
    found = {"test": read_news(path)}
    if (Path(path) / "dev").is_dir():
        found["validation"] = read_news(Path(path) / "dev")
    return found


def canary_of(path):
    """The line with the canary string of a folder's own card, so that it goes wherever the rows go."""
    readme = Path(path) / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    found = re.search(r"newnews-canary [0-9a-f-]{36}", text)
    return f"\n{found[0]}: text with this string should not be in training corpora.\n" if found else ""


def card(title, counts, canary=""):
    """README.md: counts is {split: (news, questions)}."""
    total = sum(questions for _, questions in counts.values())
    size = next((name for limit, name in SIZES if total < limit), "n>100K")
    files = "\n".join(f"  - split: {name}\n    path: {name}.jsonl" for name in counts)
    lines = "\n".join(f"- `{name}`: {news} news, {questions} questions" for name, (news, questions)
                      in counts.items())
    return CARD.format(size=size, mark=MARK, files=files, title=title, counts=lines, canary=canary)


def export(path, out):
    """Write the splits of a file or folder of news to the folder `out`, whole or not at all; a folder that is
    there is replaced only if it is an earlier export. Returns {split: (news, questions)}.

    Raises ValueError for a folder that is not ours and for news without questions.
    """
    out, found = check_out(out, "folder"), splits(path)
    if out.exists() and not is_ours(out):
        raise ValueError(f"{out}: is there already and no export of ours (its README.md has no tag {MARK}); "
                         f"remove it, or write elsewhere")
    counts = {name: (len(news), sum(len(item.questions) for item in news)) for name, news in found.items()}
    empty = [name for name, (_, questions) in counts.items() if not questions]
    if empty:
        raise ValueError(f"{path}: the news for {', '.join(empty)} have no questions; expected at least one "
                         f"to export")

    def fill(folder):
        for name, news in found.items():
            with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as f:
                f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(news))
        (folder / "README.md").write_text(card(Path(path).name, counts, canary_of(path)), encoding="utf-8")

    write_folder(out, fill)
    return counts


def is_ours(folder):
    """Whether a folder is an export: its card has our mark, and nothing but the card and splits is there."""
    names = {path.name for path in folder.iterdir()}
    readme = folder / "README.md"
    return (names <= {"README.md", "test.jsonl", "validation.jsonl"} and readme.is_file()
            and f"- {MARK}\n" in readme.read_text(encoding="utf-8", errors="replace"))
