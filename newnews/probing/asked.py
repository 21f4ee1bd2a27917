"""The questions of a news item as one batch of forced answers, with the places in it by name.

A row is a prompt and one option behind it, closed by <|im_end|> as ask scores it. Sites, disjoint:

    news       the statement, where it stands before the question (in context only)
    subject    the words that name the new thing, in the question
    question   the rest of the question's text
    frame      roles, control tokens and newlines, the system message
    last       the prompt's last token and the answer's: where the next token of the answer is predicted
"""

from dataclasses import replace
from typing import NamedTuple

import torch

from model.capture import capture
from model.sampling import pad

SITES = ("news", "subject", "question", "frame", "last")


class Asked(NamedTuple):
    """R rows of T tokens: every option of Q questions, a question's options side by side."""
    ids: torch.Tensor       # (R, T), zeros on the right
    answer: torch.Tensor    # (R, T) bool: the positions that predict a token of the answer
    targets: torch.Tensor   # (N,) those tokens, in the order of rows and positions
    question: list          # of each row, the index of its question
    right: list             # of each row, is it the right option
    sites: dict             # {site: (R, T) bool}

    @property
    def real(self):
        """(R, T) bool: all but the padding."""
        return torch.stack(list(self.sites.values())).any(0)

    def only_right(self):
        """The rows of right options."""
        keep = torch.tensor(self.right, device=self.ids.device)
        return Asked(self.ids[keep], self.answer[keep], self.ids[keep][:, 1:][self.answer[keep][:, :-1]],
                     [q for q, right in zip(self.question, self.right) if right], [True] * int(keep.sum()),
                     {name: mask[keep] for name, mask in self.sites.items()})


def asked(chat, prompts, item, in_context=False, device=None):
    """The Asked of an item's questions, free form, without options shown."""
    rows, starts, question, right, spans = [], [], [], [], []
    for number, q in enumerate(item.questions):
        text = prompts.with_news(item.statement, q.ask) if in_context else q.ask
        prompt = chat.prompt([{"role": "user", "content": text}])
        found = spans_of(chat, prompt, text, item, q.ask, in_context)
        for k, option in enumerate(q.options):
            rows.append([*prompt, *chat.answer(option), chat.im_end])
            starts.append(len(prompt))
            question.append(number)
            right.append(k == q.answer)
            spans.append(found)
    if not rows:
        raise ValueError(f"news {item.id} has no questions: nothing can be asked of the update")
    ids = pad(rows, device)                                                     # (R, T)
    place = torch.arange(ids.shape[1], device=ids.device)
    first = torch.tensor(starts, device=ids.device)[:, None]
    end = torch.tensor([len(row) for row in rows], device=ids.device)[:, None]
    answer = (place >= first - 1) & (place < end - 1)
    sites = {name: torch.zeros(ids.shape, dtype=torch.bool, device=ids.device) for name in SITES}
    for row, found in enumerate(spans):
        for name, tokens in found.items():
            sites[name][row, tokens] = True
    sites["last"] = (place >= first - 1) & (place < end)
    taken = torch.stack([sites[name] for name in SITES]).any(0)
    sites["frame"] = (place < end) & ~taken
    return Asked(ids, answer, ids[:, 1:][answer[:, :-1]], question, right,
                 {name: mask for name, mask in sites.items() if mask.any()})


def another(item, other):
    """The item's questions behind the statement of another news item: the null of reading."""
    return replace(item, statement=other.statement, subject="", worlds=[], world=0)


def spans_of(chat, prompt, text, item, ask, in_context):
    """{"news", "subject", "question": token places in the prompt} of a user turn with this text."""
    header = "user\n"
    piece = chat.plain.encode(header + text, add_special_tokens=False)
    # where the turn begins, after any system message
    shift = next(i for i in range(len(prompt) - len(piece.ids), -1, -1)
                 if prompt[i:i + len(piece.ids)] == piece.ids)

    def tokens(start, size):
        begin, end = len(header) + start, len(header) + start + size
        return {shift + i for i, (a, b) in enumerate(piece.offsets) if a < end and b > begin}

    here = text.rfind(ask)
    whole, subject = tokens(here, len(ask)), set()
    at = ask.lower().find(item.subject.lower()) if item.subject else -1
    while at >= 0:
        subject |= tokens(here + at, len(item.subject))
        at = ask.lower().find(item.subject.lower(), at + 1)
    news = tokens(text.find(item.statement), len(item.statement)) - whole if in_context else set()
    return {"news": sorted(news), "subject": sorted(subject), "question": sorted(whole - subject)}


@torch.inference_mode()
def states(model, ids, names, adapter=-1):
    """{name: output of the module} of a run in which all rows of ids (B, T) use one adapter, -1: the base."""
    with capture(model, names) as seen:
        model.model(ids, adapters=[adapter] * len(ids))
    return dict(seen)


@torch.inference_mode()
def logprobs(model, batch, adapter=None):
    """(R,) fp64: summed log-probability in nats of each row's answer; adapter: of all rows, None: adapter 0
    if the model carries one, -1: the base."""
    adapters = None if adapter is None else [adapter] * len(batch.ids)
    logits = model(batch.ids, keep=batch.answer, adapters=adapters)             # (N, V)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    each = logits.log_softmax(-1).gather(1, batch.targets[:, None])[:, 0].cpu().double()
    rows = batch.answer.nonzero()[:, 0].cpu()
    return torch.zeros(len(batch.ids), dtype=torch.float64).index_add(0, rows, each)


def by_question(batch):
    """[(the rows of a question, which of them is right: bool)], tensors."""
    question, right = torch.tensor(batch.question), torch.tensor(batch.right)
    return [(rows, right[rows]) for rows in (question == q for q in dict.fromkeys(batch.question))]


def log_odds(batch, sums):
    """(Q,): log p(right) - log sum p(wrong) of each question, in nats, whatever the number of tokens."""
    return torch.stack([sums[rows][right].sum() - sums[rows][~right].logsumexp(0)
                        for rows, right in by_question(batch)])


def picks_right(batch, sums):
    """(Q,) bool: the right option has the highest summed log-probability."""
    return torch.stack([right[sums[rows].argmax()] for rows, right in by_question(batch)])


def measure(model, batch, adapter=None):
    """{"log_odds": mean over questions, "accuracy": share picked right} of one state of the model."""
    sums = logprobs(model, batch, adapter)
    return {"log_odds": float(log_odds(batch, sums).mean()),
            "accuracy": float(picks_right(batch, sums).double().mean())}
