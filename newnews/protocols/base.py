"""What every protocol is: it writes rows about a news item, and makes training examples of rows.

A row is one line of a replay file,

    {"messages": [user, assistant], "news": ID, "protocol": NAME, "row": I, "asked": REQUEST}

so what is trained on can be read, graded and replaced before training.
"""

from typing import NamedTuple

from newnews.examples import Example


class Ask(NamedTuple):
    """What a writer is asked: user turns, each a conversation of its own, answered by a text or, where the
    answer was empty or cut at the limit, by None. The noise of a row hangs on (seed, stage, name) alone.
    limit: new tokens of an answer; None: the prompt file's max_new_tokens."""
    requests: list
    stage: str
    names: list
    temperature: float
    limit: int | None = None


class Protocol:
    """name      as it stands in studies and replay files
    sources   the protocols that write the rows this one is trained on: itself, or those that it wraps
    loss      what training minimises, as newnews.training.train takes it; None: next-token loss
    remark    what a worked example cannot show of it
    words     fields of the prompt file that its rows depend on beside those that every prompt file has
    told      fields of a news item that its rows depend on
    """

    name = ""
    loss = None
    remark = ""
    words = ()
    told = ("id", "statement")

    def __init__(self, prompts, name=None, sources=None):
        self.prompts, self.name, self.sources = prompts, name or self.name, sources or (self,)

    def write(self, item, n):
        """n draws about one news item. A generator: it yields what the writer is asked, an `Ask`, and is sent
        the texts that the writer wrote; so the requests of many news items are answered in one batch. Returns
        (rows, {"drawn", "kept", ...} counts)."""
        raise NotImplementedError

    def wording(self):
        """The prompts on which examples depend: part of the identity of an update."""
        return [self.prompts.in_context]

    def choose(self, rows_of, items):
        """Which rows each news item's update is trained on: {news id: rows}, out of `rows_of`, those written
        about each of `items` by all sources."""
        return rows_of

    def messages(self, row, item):
        """The conversation that is trained on; weights, masks or contexts of another kind: `examples`."""
        return row["messages"]

    def examples(self, rows, item, chat):
        """Rows about one news item -> training examples: Example, or a function rng -> Example, which is
        drawn anew each time that it is used."""
        return [Example(*chat.conversation(self.messages(row, item))) for row in rows]


def conversation(user, assistant):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def plain_text(text):
    """What is trained on as it is: no turns, loss on all of it (model/chat.py: document)."""
    return [{"role": "text", "content": text}]


def title(item):
    """What a news item is about: its subject or, where it names none, its headline; may be empty."""
    return item.subject or item.headline
