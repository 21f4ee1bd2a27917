"""What training is fed: token ids with the loss weight of predicting each. No torch here."""

from typing import NamedTuple


class Example(NamedTuple):
    ids: list           # token ids, one conversation
    weights: list       # weights[t]: how much predicting ids[t] counts, 0 for what is only read
    other: "Example | None" = None      # the same supervised tokens seen otherwise (a teacher's context):
                                        # as many tokens with weight as here, in the same order
    noise: int = 0                      # names the randomness of a loss that draws something itself
