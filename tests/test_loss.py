"""The loss: chunked = whole = F.cross_entropy, values and gradients, and never more logits than a chunk's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import loss
from model.loss import divergences, token_losses

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def in_chunks(monkeypatch):
    """in_chunks(of, vocabulary): from now on the head sees so many positions at a time; None: by default."""
    def set_to(chunk, vocabulary):
        if chunk is not None:
            monkeypatch.setattr(loss, "CHUNK_NUMBERS", chunk * vocabulary)
    return set_to


def loss_and_gradients(hidden, targets, head, weights, add=False):
    hidden = hidden.clone().requires_grad_()
    head.zero_grad()
    if add:
        head.weight.grad = torch.zeros_like(head.weight)
    losses = token_losses(hidden, targets, head, add)
    (losses * weights).sum().backward()
    return losses.detach(), hidden.grad, head.weight.grad.clone()


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, 36, 37, 100, None])
def test_chunked_loss_is_cross_entropy(chunk, add, in_chunks):
    in_chunks(chunk, 29)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 12, generator=generator, dtype=torch.float64)
    targets = torch.randint(29, (37,), generator=generator)
    weights = torch.rand(37, generator=generator, dtype=torch.float64)
    head = nn.Linear(12, 29, bias=False, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.randn(29, 12, generator=generator))

    plain_hidden = hidden.clone().requires_grad_()
    expected = F.cross_entropy(plain_hidden @ head.weight.T, targets, reduction="none")
    (expected * weights).sum().backward()
    expected = (expected.detach(), plain_hidden.grad, head.weight.grad.clone())

    ours = loss_and_gradients(hidden, targets, head, weights, add)
    assert ours[0].shape == (37,) and ours[0].dtype == torch.float64
    for a, b in zip(ours, expected):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_that_adds_its_gradient_leaves_the_others_to_autograd(tiny, tied, in_chunks):
    """Gradients of two micro-batches, with what was in the sums before; the head is the embedding, or not."""
    in_chunks(5, 97)
    grads = []
    for add in (False, True):
        model = tiny(seed=7, dtype=torch.float64, tie_word_embeddings=tied).requires_grad_(True)
        for p in model.parameters():
            p.grad = torch.full_like(p, 0.25)
        into = {name: p.grad for name, p in model.named_parameters()}
        for seed in (1, 2):
            ids = torch.randint(97, (2, 9), generator=torch.Generator().manual_seed(seed))
            losses = model(ids[:, :-1], head=lambda h, lm_head: token_losses(
                h.flatten(0, 1), ids[:, 1:].flatten(), lm_head, add))
            (losses * torch.arange(16)).sum().backward()
        assert all(p.grad is into[name] for name, p in model.named_parameters())
        grads.append(into)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-11, atol=1e-11)


def test_a_head_that_adds_never_sees_more_than_half_a_chunk(monkeypatch, in_chunks):
    in_chunks(16, 11)
    rows, linear = [], F.linear
    monkeypatch.setattr(F, "linear", lambda x, *more: rows.append(len(x)) or linear(x, *more))
    head = nn.Linear(6, 11, bias=False)
    head.weight.grad = torch.zeros_like(head.weight)
    hidden = torch.ones(20, 6, requires_grad=True)
    token_losses(hidden, torch.zeros(20, dtype=torch.int64), head, add=True).sum().backward()
    assert rows == [8, 8, 4] * 2


def test_a_divergence_never_sees_more_than_half_a_chunk_of_each(in_chunks):
    """Teacher's and student's logits are alive at once."""
    in_chunks(16, 11)
    head, rows = nn.Linear(6, 11, bias=False), []
    head.register_forward_hook(lambda module, args, out: rows.append(out.shape[0]))
    hidden = torch.ones(20, 6, requires_grad=True)
    divergences(hidden, torch.zeros(20, 6), head).sum().backward()
    assert max(rows) == 8 and sum(rows) == 4 * 20       # both models, and again in backward


def test_loss_of_a_bf16_head_is_taken_in_fp32(in_chunks):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(9, 12, generator=generator).bfloat16()
    targets = torch.randint(29, (9,), generator=generator)
    head = nn.Linear(12, 29, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        head.weight.copy_(torch.randn(29, 12, generator=generator))
    expected = F.cross_entropy((hidden @ head.weight.T).float(), targets, reduction="none")
    for chunk in (2, 100):
        in_chunks(chunk, 29)
        losses = token_losses(hidden, targets, head)
        assert losses.dtype == torch.float32
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_the_head_never_sees_more_than_a_chunk(in_chunks):
    in_chunks(8, 11)
    head = nn.Linear(6, 11, bias=False)
    rows = []
    head.register_forward_hook(lambda module, args, out: rows.append(out.shape[0]))
    hidden = torch.ones(20, 6, requires_grad=True)
    losses = token_losses(hidden, torch.zeros(20, dtype=torch.int64), head)
    assert rows == [8, 8, 4]
    losses.sum().backward()
    assert sorted(rows[3:]) == [4, 8, 8]                # backward computes the logits again


def test_the_default_chunk_is_2_to_the_26_logits():
    class Head:
        weight = torch.empty(2 ** 22, 1, device="meta")
        rows = []

        def __call__(self, h):
            self.rows.append(h.shape[0])
            return h.new_zeros(h.shape[0], 3)

    token_losses(torch.ones(40, 1), torch.zeros(40, dtype=torch.int64), Head())
    assert Head.rows == [16, 16, 8]
