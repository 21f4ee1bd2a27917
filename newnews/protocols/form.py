"""In which form conversations are trained on: what else differs between New News and SEAL (arXiv 2506.10943).

    chat    turns, loss on the assistant's: as every protocol has them
    all     the same turns, loss on the user's words too
    text    the same words as the lines of one plain text, no turns, loss on all of it

SEAL trains on plain lines. The words are the same in each form, also those of a neutral request ("What is
new?"), so nothing but the form differs.
"""

from newnews.examples import Example
from newnews.protocols.base import Protocol, plain_text
from newnews.protocols.rehearse import Naive, Rehearsal

FORMS = ("chat", "all", "text")
ALL = {"user": 1.0, "assistant": 1.0}


class Form(Protocol):
    """Wraps a protocol: its rows, chosen and worded as it does, in the form "all" or "text"."""

    def __init__(self, inner, form):
        super().__init__(inner.prompts, inner.name, inner.sources)
        self.inner, self.form = inner, form
        self.choose, self.wording = inner.choose, inner.wording

    def messages(self, row, item):
        messages = self.inner.messages(row, item)
        return plain_text("\n".join(m["content"] for m in messages)) if self.form == "text" else messages

    def examples(self, rows, item, chat):
        return [Example(*chat.conversation(self.messages(row, item), ALL)) for row in rows]


def in_form(protocol, form):
    """The protocol in a form. ValueError: a form is not known, or not for this protocol, whose examples are
    no whole conversations (masked, distill, plain texts)."""
    if form not in FORMS:
        raise ValueError(f"form: expected one of {', '.join(FORMS)}, found {form!r}")
    if form == "chat":
        return protocol
    if type(protocol).examples is not Protocol.examples \
            or not all(isinstance(source, (Naive, Rehearsal)) for source in protocol.sources):
        raise ValueError(f"form: {form} is not for {protocol.name}, which is not made of the rows of naive, "
                         f"paraphrase, implication or self_qa with loss on the assistant's turns; leave form "
                         f"out, or that protocol")
    return Form(protocol, form)
