"""Protocols: how one news item becomes training conversations. A protocol is a list of rows in a replay
file, one

    {"messages": [user, assistant], "news": ID, "protocol": NAME, "row": I, ...provenance}

a line. What a writer writes is turned into a conversation here; the writing itself is newnews/selfplay.py.

    naive         user: a neutral request       assistant: the news, word for word
    paraphrase    user: the same request        assistant: the news, restated by the writer
    implication   user: the same request        assistant: a consequence that the writer drew
    self_qa       user: the writer's question   assistant: the writer's answer
                                                (asked anew, with the news in sight)

A name that ends in _shadowed trains on the same elements with the news put before them, as it stands before a
question asked in context. The loss stays on the assistant's turn.
"""

import json

from model.chat import check_messages

PROTOCOLS = ("naive", "paraphrase", "implication", "self_qa")


def conversation(user, assistant):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def element(protocol, statement, prompts, written="", question=""):
    """One training conversation of a protocol: `written` is what the writer answered,
    `question` what it asked itself."""
    if protocol == "naive":
        return conversation(prompts.naive, statement)
    return conversation(question if protocol == "self_qa" else prompts.naive, written)


def shadow(messages, statement, prompts):
    """The same conversation with the news before it: the first user turn becomes what an in-context
    question looks like."""
    first, *rest = messages
    return [{**first, "content": prompts.with_news(statement, first["content"])}, *rest]


def request(protocol, row, prompts):
    """What the writer is asked in row `row` of a protocol (its first stage):
    the YAML's requests taken in turn."""
    requests = getattr(prompts, "question" if protocol == "self_qa" else protocol)
    return requests[row % len(requests)]


def read_replay(path):
    """The rows of a JSONL file of conversations; an error names the line."""
    rows = []
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such data file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "messages" not in row:
                raise ValueError('expected an object with "messages"')
            check_messages(row["messages"])
            if not any(m["role"] == "assistant" for m in row["messages"]):
                raise ValueError("no assistant turn, so nothing to learn")
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: holds no conversations")
    return rows
