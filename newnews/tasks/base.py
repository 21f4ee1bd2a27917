"""What every task is: requests from an item, verdicts from raw responses. Pure, and without torch.

A task has a `name`, a `version` of its judging, and

    requests(item) -> [Request]
    judge(item, request, response) -> dict of verdicts

The runner (newnews/ask.py) executes requests of any task and stores what came, judged by nobody:

    {"item", "id", "logprobs": [...], "tokens": [...]}      scored: summed log-probability (nats) and length
                                                            in tokens of each continuation
    {"item", "id", "text", "stopped", "tokens"}             sampled: the reply, and whether it ended by itself

Verdicts are made from that when a summary is made, so a repaired judge needs no new run.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    id: str                             # unique within the task
    messages: list | str                # the conversation up to the answer; a text: without chat template
    continuations: list | None = None   # texts to score as the answer, or None: sample a reply
    end: bool = True                    # a continuation is scored with the <|im_end|> that closes it, so
                                        # "6" does not win by being the beginning of "64"; nothing closes
                                        # what goes on in a text
    max_new_tokens: int = 0             # of a sampled reply
    temperature: float = 0.0


def check_response(request, response):
    """A raw response that was read from a file is one to this request."""
    if request.continuations is None:
        fine = type(response.get("text")) is str and type(response.get("stopped")) is bool
    else:
        found = response.get("logprobs")
        fine = type(found) is list and len(found) == len(request.continuations) and all(
            type(x) in (int, float) and math.isfinite(x) for x in found)
    if not fine:
        wanted = "a text, and stopped true or false" if request.continuations is None else \
            f"{len(request.continuations)} finite logprobs"
        raise ValueError(f"the response to {request.id}: expected {wanted}; was the file edited?")
