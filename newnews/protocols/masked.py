"""Masked fine-tuning (arXiv 2510.09885): the text with holes in sight, the whole text to be written.

    user       the text, each of its tokens replaced by the mask with probability t; a request to restore it
    assistant  a fixed line without loss, then the text itself, which carries the loss: all of it

Each use of a row draws t and the holes anew. So a token is predicted from what stands before and behind it in
the user's turn; plain training only ever predicts from what stands before.

Where we differ: there t is drawn once a batch, the mask of Qwen is the token [] (a rare one), and all weights
learn; here t is drawn for each row and use, and adapters learn.
"""

from newnews.examples import Example
from newnews.protocols.base import Protocol, conversation

MASKS = "<|fim_pad|>", "<|endoftext|>"      # the first that the tokenizer has: Qwen2.5's reserved filler, or
                                            # what every ChatML tokenizer has and no turn contains


class Masked(Protocol):
    """Wraps a protocol whose rows are texts: the news itself, or what was written about it.

    fraction     t, or (low, high) to draw t from at each use. The method's is (.05, .95)
    random_fill  a hole is filled with any ordinary token, not with the mask
    """

    def __init__(self, inner, name, fraction=(0.05, 0.95), random_fill=False):
        super().__init__(inner.prompts)
        self.inner, self.name, self.sources = inner, name, inner.sources
        self.fraction, self.random_fill = fraction, random_fill
        self.remark = "the holes are drawn anew at each use" if fraction else ""

    def wording(self):
        return [self.prompts.restore, self.prompts.restored]

    def messages(self, row, item):
        """The conversation without holes."""
        text = self.inner.messages(row, item)[-1]["content"]
        return conversation(f"{text}\n{self.prompts.restore}", f"{self.prompts.restored}\n{text}")

    def examples(self, rows, item, chat):
        # 1. What a hole is filled with: ids, never text, so nothing that a news item says is taken for one.
        fill = [next(chat.added[name] for name in MASKS if name in chat.added)]
        if self.random_fill:
            fill = sorted(set(chat.tokenizer.get_vocab().values()) - set(chat.added.values()))
        out = []
        for row in rows:
            user, assistant = messages = self.messages(row, item)
            # 2. Where the text stands in the user's turn, and in the assistant's, where it carries loss.
            end = len(user["content"]) - len(f"\n{self.prompts.restore}")
            begin = len(f"{self.prompts.restored}\n")
            ids, there = chat.conversation(messages, {"user": lambda start: float(start < end)})
            _, weights = chat.conversation(messages, {"assistant": lambda start: float(start >= begin)})
            holes = [place for place, inside in enumerate(there) if inside]
            example = Example(ids, weights)
            out.append(self.drawn(example, holes, fill) if self.fraction else example)
        return out

    def drawn(self, example, places, fill):
        """rng -> the example with holes."""
        def draw(rng):
            t = rng.uniform(*self.fraction) if isinstance(self.fraction, tuple) else self.fraction
            ids = list(example.ids)
            for place, u in zip(places, rng.random(len(places))):
                if u < t:
                    ids[place] = fill[rng.integers(len(fill))]
            return example._replace(ids=ids)
        return draw
