"""Masked fine-tuning (arXiv 2510.09885): the text with holes in sight, the whole text to be written.

    user       the text, each of its tokens replaced by the mask with probability t; a request to restore it
    assistant  a fixed line without loss, then the text itself, which carries the loss: all of it

Each use of a row draws t and the holes anew. So a token is predicted from what stands before and behind it in
the user's turn; plain training only ever predicts from what stands before.

Where we differ: there t is drawn once a batch, the mask of Qwen is the token [] (a rare one), and all weights
learn; here t is drawn for each row and use, and adapters learn. train.py --masked does the same with a file
of any texts, also with all weights.
"""

from newnews.examples import Example
from newnews.protocols.base import Protocol, conversation

MASKS = "<|fim_pad|>", "<|endoftext|>"      # the first that the tokenizer has: Qwen2.5's reserved filler, or
                                            # what every ChatML tokenizer has and no turn contains
FRACTION = 0.05, 0.95                       # the method's range of t


class Masked(Protocol):
    """Wraps a protocol whose rows are texts: the news itself, or what was written about it.

    fraction     t, or (low, high) to draw t from at each use
    random_fill  a hole is filled with any ordinary token, not with the mask
    """

    def __init__(self, inner, name, fraction=FRACTION, random_fill=False):
        super().__init__(inner.prompts, name, inner.sources)
        self.fraction, self.random_fill = fraction, random_fill
        self.remark = "the holes are drawn anew at each use" if fraction else ""

    def wording(self):
        return [self.prompts.restore, self.prompts.restored]

    def messages(self, row, item):
        """The conversation without holes."""
        return whole(row["messages"][-1]["content"], self.prompts)

    def examples(self, rows, item, chat):
        return [masked(row["messages"][-1]["content"], self.prompts, chat, self.fraction, self.random_fill)
                for row in rows]


def whole(text, prompts):
    return conversation(f"{text}\n{prompts.restore}", f"{prompts.restored}\n{text}")


def masked(text, prompts, chat, fraction, random_fill=False):
    """rng -> the Example that restores the text from what its holes leave. fraction 0: the Example, no
    holes."""
    # 1. What a hole is filled with: ids, never text, so nothing that a text says is taken for one.
    fill = [next(chat.added[name] for name in MASKS if name in chat.added)]
    if random_fill:
        fill = sorted(set(chat.tokenizer.get_vocab().values()) - set(chat.added.values()))
    # 2. Where the text stands in the user's turn, and in the assistant's, where it carries loss.
    messages, begin = whole(text, prompts), len(f"{prompts.restored}\n")
    ids, there = chat.conversation(messages, {"user": lambda start: float(start < len(text))})
    _, weights = chat.conversation(messages, {"assistant": lambda start: float(start >= begin)})
    places, example = [place for place, inside in enumerate(there) if inside], Example(ids, weights)

    def draw(rng):
        t = rng.uniform(*fraction) if isinstance(fraction, tuple) else fraction
        ids = list(example.ids)
        for place, u in zip(places, rng.random(len(places))):
            if u < t:
                ids[place] = fill[rng.integers(len(fill))]
        return example._replace(ids=ids)

    return draw if fraction else example
