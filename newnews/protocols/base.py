"""What every protocol is: it writes rows about a news item, and makes training examples of rows.

A row is one line of a replay file,

    {"messages": [user, assistant], "news": ID, "protocol": NAME, "row": I, "asked": REQUEST}

so what is trained on can be read, graded and replaced before training.
"""

from newnews.examples import Example


class Protocol:
    """name      as it stands in studies and replay files
    sources   the protocols that write the rows this one is trained on: itself, or those that it wraps
    loss      what training minimises, as newnews.training.train takes it; None: next-token loss
    """

    name = ""
    loss = None

    def __init__(self, prompts):
        self.prompts = prompts
        self.sources = (self,)

    def write(self, writer, item, n):
        """n draws about one news item -> (rows, {"drawn", "kept", ...} counts). `writer`: selfplay.Writer."""
        raise NotImplementedError

    def messages(self, row, item):
        """The conversation that is trained on; weights, masks or contexts of another kind: `examples`."""
        return row["messages"]

    def examples(self, rows, item, chat):
        """Rows about one news item -> training examples: Example, or a function rng -> Example, which is
        drawn anew each time that it is used."""
        return [Example(*chat.conversation(self.messages(row, item))) for row in rows]


def conversation(user, assistant):
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
