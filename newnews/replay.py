"""Conversations on disk: what self-play writes, what training reads, and anybody may write. No torch here."""

from model.chat import TEXT, check_messages
from newnews.reading import read_jsonl


def read_conversations(path):
    """The rows of a JSONL file of conversations, {"messages": [{"role", "content"}, ...], ...} a line. A
    message of the role "text", alone, is a plain text, trained on without a template."""
    def check(row):
        if not isinstance(row, dict) or "messages" not in row:
            raise ValueError('expected an object with "messages"')
        check_messages(row["messages"])
        if not any(m["role"] in ("assistant", TEXT) for m in row["messages"]):
            raise ValueError("no assistant turn, so nothing to learn")

    rows = read_jsonl(path, check, "data file")
    if not rows:
        raise ValueError(f"{path}: holds no conversations")
    return rows
