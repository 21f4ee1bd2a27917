"""Context distillation: the student, without the news, learns what the base model with the news in sight
would say at each token of an answer.

The rows are those of Self-QA, so the only difference from it is the target: a distribution, not one drawn
token. The teacher reads the request that the writer was answering, in whose distribution the row was
drawn.

After prompt distillation (arXiv 2412.14964), on the student's own rows (2601.19897) and on the teacher's
most likely tokens (Cartridges, 2506.06266). A second KL, on unrelated prompts, is the key `neutral` of a
study: teacher and student read its rows alike, so there the student is held to the base. Where we differ:
rows are drawn at the writer's temperature, logits are not divided by one, adapters are small; beside the top
tokens the rest is one more outcome.
"""

from newnews.examples import Example
from newnews.protocols.base import Protocol, conversation


class Distill(Protocol):
    """Wraps Self-QA.

    reverse  KL(student || teacher) instead of KL(teacher || student)
    top      compare the teacher's `top` most likely tokens and the rest as one; None: the whole vocabulary
    own      on-policy: at each use the student answers the row's question anew, and is compared there; the
             row's own answer says no more than how many tokens are drawn at most
    """

    def __init__(self, inner, name, reverse=False, top=None, own=False):
        super().__init__(inner.prompts, name, inner.sources)
        self.reverse, self.top, self.own = reverse, top, own
        self.remark = "the student's own answer, drawn anew at each use, takes its place" if own else ""

    @property
    def loss(self):
        from newnews.distillation import Distillation       # torch, which a list of names does without
        return Distillation(self.reverse, self.top, self.own)

    def wording(self):
        return [self.prompts.in_context, self.prompts.answer]

    def examples(self, rows, item, chat):
        out = []
        for row in rows:
            question, answer = (message["content"] for message in self.messages(row, item))
            asked = self.prompts.with_news(item.statement, self.prompts.ask_own(question))
            teacher = Example(*chat.conversation(conversation(asked, answer)))
            example = Example(*chat.conversation(self.messages(row, item)), teacher)
            out.append(noisy(example) if self.own else example)
        return out


def noisy(example):
    """rng -> the example with fresh noise."""
    return lambda rng: example._replace(noise=int(rng.integers(2 ** 63)))
