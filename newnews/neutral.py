"""Neutral examples among those about a news item: replay against forgetting.

Each use of a training example is, with the probability `share`, that of a neutral example instead, drawn
anew: so EntiGraph mixes its corpus with RedPajama (arXiv 2409.07431, share .1). A news item with one example
only gets its share too.
"""

from newnews.examples import Example
from newnews.outputs import digest
from newnews.replay import read_conversations
from newnews.world.lessons import Lessons

LESSONS = "lessons"
KNOWN = 0           # the seed of the pocket model's pretraining: which things it has heard of


class Neutral:
    """draw(rng) -> Example. source: a JSONL file of conversations or plain texts; or "lessons": exchanges of
    the pocket world's pretraining, about things that are no news of any split."""

    def __init__(self, source, chat, prompts, most):
        self.chat = chat
        self.lessons = Lessons(chat, prompts, 1, KNOWN, 1) if source == LESSONS else None
        self.rows = [] if self.lessons else [row["messages"] for row in read_conversations(source)]
        # lessons are worded by the model's prompts
        self.digest = digest([LESSONS, prompts.writing(), prompts.free] if self.lessons else self.rows)
        for i, messages in enumerate(self.rows, 1):
            if len(chat.conversation(messages)[0]) > most:
                raise ValueError(f"{source}: conversation {i} is longer than the model's context, {most}")

    def draw(self, rng):
        """One row of the file; or the first exchange of a lesson, about as long as a replay element."""
        messages = self.lessons.lesson(rng, 0.03, 0.15)[:2] if self.lessons \
            else self.rows[rng.integers(len(self.rows))]
        return Example(*self.chat.conversation(messages))


def mixed(examples, share, draw):
    """The examples, each now a function rng -> Example that is draw(rng), a neutral one, with the probability
    `share`."""
    def use(example):
        def drawn(rng):
            neutral_now = rng.random() < share
            found = example(rng) if callable(example) else example
            if not neutral_now:
                return found
            other = draw(rng)
            # a teacher sees it as it is, or as it has it; a student that answers it anew draws as at this use
            return other._replace(other=other.other or other, noise=found.noise) if found.other else other
        return drawn

    return [use(example) for example in examples]
