"""Conversations on disk: what self-play writes, what training reads, and anybody may write. No torch here.

A line is a JSON object (docs/files.md):

    messages    [{"role", "content"}, ...]: the conversation. role: system, user or assistant. On a turn of
                the assistant "weight": 0 or "train": false: read, but not learnt. One message of the role
                text, alone, is a plain text, trained on without a template

Other keys are the writer's own (id, source, news, ...) and are not read, but for those that would change what
is learnt, which are refused: NOT_READ here, and model.chat.NOT_READ in a message.
"""

from model.chat import TEXT, check_messages, learnt
from model.files import short
from newnews.reading import read_jsonl

NOT_READ = ("tools", "functions", "tool_choice", "documents", "images", "videos", "audios", "system",
            "weight", "train", "chosen", "rejected", "chat_template", "chat_template_kwargs")


def read_conversations(path, numbered=False):
    """The rows of a JSONL file of conversations; numbered: [(number of the line, row)]."""
    def check(row):
        if "messages" not in row:
            raise ValueError('expected an object with "messages"')
        for key in NOT_READ:
            if row.get(key) not in (None, "", [], {}):
                raise ValueError(f"{key}: found {short(row[key])}, which this code does not read; expected "
                                 f"messages alone (weight and train stand in a turn of the assistant)")
        check_messages(row["messages"])
        if not any(m["role"] in ("assistant", TEXT) and learnt(m) for m in row["messages"]):
            raise ValueError("no assistant turn that is learnt, so nothing to learn")

    rows = read_jsonl(path, check, "data file", numbered)
    if not rows:
        raise ValueError(f"{path}: holds no conversations")
    return rows
