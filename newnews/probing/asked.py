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
    question: list          # of each row, the index of its question
    right: list             # of each row, is it the right option
    sites: dict             # {site: (R, T) bool}

    @property
    def targets(self):
        """(N,) the tokens of the answers, in the order of rows and positions."""
        return self.ids[:, 1:][self.answer[:, :-1]]

    @property
    def real(self):
        """(R, T) bool: all but the padding."""
        return torch.stack(list(self.sites.values())).any(0)

    def only_right(self):
        """The rows of right options."""
        keep = torch.tensor(self.right, device=self.ids.device)
        return Asked(self.ids[keep], self.answer[keep],
                     [q for q, right in zip(self.question, self.right) if right], [True] * int(keep.sum()),
                     {name: mask[keep] for name, mask in self.sites.items()})


def asked(chat, prompts, item, in_context=False, device=None):
    """The Asked of an item's questions, free form, without options shown."""
    rows, codes, question, right = [], [], [], []
    for number, q in enumerate(item.questions):
        text = prompts.with_news(item.statement, q.ask) if in_context else q.ask
        prompt = chat.prompt([{"role": "user", "content": text}])
        sites = sites_of(chat, prompt, text, item, q.ask, in_context)
        for k, option in enumerate(q.options):
            answer = [*chat.answer(option), chat.im_end]
            rows.append([*prompt, *answer])
            codes.append([1 + SITES.index(site) for site in sites + ["last"] * len(answer)])
            question.append(number)
            right.append(k == q.answer)
    if not rows:
        raise ValueError(f"news {item.id} has no questions: nothing can be asked of the update")
    ids, codes = pad(rows, device), pad(codes, device)                          # (R, T), 0: padding
    masks = {site: codes == k for k, site in enumerate(SITES, 1)}
    answer = masks["last"] & masks["last"].roll(-1, 1)      # the closing <|im_end|> predicts none
    return Asked(ids, answer, question, right, {site: mask for site, mask in masks.items() if mask.any()})


def another(item, other):
    """The item's questions behind the statement of another news item: the null of reading."""
    return replace(item, statement=other.statement, subject="", worlds=[], world=0)


def sites_of(chat, prompt, text, item, ask, in_context):
    """The site of every token of a prompt whose user turn has this text."""
    header = "user\n"
    piece = chat.plain.encode(header + text, add_special_tokens=False)
    # where the turn begins, after any system message
    shift = next(i for i in range(len(prompt) - len(piece.ids), -1, -1)
                 if prompt[i:i + len(piece.ids)] == piece.ids)
    sites = ["frame"] * (len(prompt) - 1) + ["last"]

    def mark(site, start, size):
        begin, end = len(header) + start, len(header) + start + size
        for i, (a, b) in enumerate(piece.offsets):
            if a < end and b > begin:
                sites[shift + i] = site

    # a token that touches two of them belongs to the later one
    if in_context:
        mark("news", text.find(item.statement), len(item.statement))
    here = text.rfind(ask)
    mark("question", here, len(ask))
    at = ask.lower().find(item.subject.lower()) if item.subject else -1
    while at >= 0:
        mark("subject", here + at, len(item.subject))
        at = ask.lower().find(item.subject.lower(), at + 1)
    return sites


@torch.inference_mode()
def states(model, ids, names, adapter=-1):
    """{name: output of the module} of a run in which all rows of ids (B, T) use one adapter, -1: the base."""
    with capture(model, names) as seen:
        model.model(ids, adapters=[adapter] * len(ids))
    return dict(seen)


@torch.inference_mode()
def logprobs(model, batch, adapter=-1):
    """(R,) fp64: summed log-probability in nats of each row's answer; adapter: of all rows, -1: the base."""
    logits = model(batch.ids, keep=batch.answer, adapters=[adapter] * len(batch.ids))       # (N, V)
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


def measure(model, batch, adapter=-1):
    """{"log_odds": mean over questions, "accuracy": share picked right} of one state of the model."""
    sums = logprobs(model, batch, adapter)
    return {"log_odds": float(log_odds(batch, sums).mean()),
            "accuracy": float(picks_right(batch, sums).double().mean())}
