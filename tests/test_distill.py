"""Context distillation: the divergence against torch's, the teacher, the student's own answers, banks,
resume, and what it costs by torch's counter. Its protocols: test_distill_protocol.py."""

import pytest
import torch
import torch.nn.functional as F
from conftest import make_tiny
from test_training import examples, gap, same_bits, weights_of
from test_training_losses import pairs_of_views
from torch.utils.flop_counter import FlopCounterMode

from model import flops, loss
from model.capture import eager_attention
from model.flops import training_flops
from model.lora import PROJECTIONS, adapted, add_lora, lora_tensors
from model.loss import divergences
from model.drawing import Sampling
from model.sampling import generate_naive
from newnews import distillation, training
from newnews.batches import Shuffled, micro_batches
from newnews.distillation import Distillation, own_answers
from newnews.examples import Example
from newnews.neutral import mixed
from newnews.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")
END = 96        # ends an answer
WAYS = [dict(), dict(reverse=True), dict(top=5), dict(own=True), dict(reverse=True, own=True)]


def rows_of(seed, lengths):
    """The same answers, each ended by END, behind a long context and behind a short one."""
    rows = []
    for i, (question, answer) in enumerate(zip(examples(seed, lengths), examples(seed + 1, lengths))):
        ids = [5, *question[0], 6, *answer[0], END]
        weights = [0.0] * (len(question[0]) + 2) + [1.0] * (len(answer[0]) + 1)
        context = [7, 8, 9 + i]
        rows.append(Example(ids, weights, Example(context + ids, [0.0] * 3 + weights), noise=seed + i))
    return rows


def tuned(dtype=torch.float64, seeds=(0,)):
    """Adapters that do something."""
    model = add_lora(make_tiny(0, dtype), rank=3, alpha=6, seeds=seeds)
    generator = torch.Generator().manual_seed(1)
    for module in adapted(model).values():
        for k in range(len(seeds)):
            module.lora_B.data[k].normal_(std=0.3, generator=generator)
    return model


# The divergence ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("chunk", [1, 3, None])
@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_torchs_with_its_gradient(reverse, chunk, monkeypatch):
    generator, head = torch.Generator().manual_seed(0), make_tiny(0, torch.float64).lm_head
    student, teacher = (torch.randn(7, 24, dtype=torch.float64, generator=generator) for _ in range(2))
    student.requires_grad_(True)
    if chunk:
        monkeypatch.setattr(loss, "CHUNK_NUMBERS", 2 * chunk * len(head.weight))
    found = divergences(student, teacher, head, reverse)
    gradient, = torch.autograd.grad(found.sum(), student)
    here, there = head(student).log_softmax(-1), head(teacher).log_softmax(-1).detach()
    pair = (there, here) if reverse else (here, there)
    wanted = F.kl_div(*pair, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), student)[0], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_teachers_best_tokens_and_the_rest_as_one(reverse):
    generator, head = torch.Generator().manual_seed(0), make_tiny(0, torch.float64).lm_head
    student, teacher = (torch.randn(7, 24, dtype=torch.float64, generator=generator) for _ in range(2))
    found = divergences(student, teacher, head, reverse, top=4)
    for i in range(7):
        p, q = head(teacher[i]).softmax(-1), head(student[i]).softmax(-1)
        best = p.argsort(descending=True)
        p, q = (torch.cat((x[best[:4]], x[best[4:]].sum()[None])) for x in (p, q))
        p, q = (q, p) if reverse else (p, q)
        assert found[i].item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-9)
    whole = divergences(student, teacher, head, reverse)
    assert bool((found < whole).all()) and bool((found > 0).all())
    all_of_them = divergences(student, teacher, head, reverse, top=97)
    torch.testing.assert_close(all_of_them, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_student_that_is_the_teacher_has_nothing_to_learn(way):
    model = add_lora(make_tiny(0), rank=3, alpha=6)
    rows = [row._replace(other=row._replace(other=None)) for row in rows_of(40, [4, 7, 3])]
    (batch,) = micro_batches([rows], 10 ** 6)
    sums, _ = Distillation(**way)(model, batch)
    assert sums.tolist() == [0.0]
    other, _ = Distillation(**way)(model, *micro_batches([rows_of(40, [4, 7, 3])], 10 ** 6))
    assert other.item() > 0.1


# The teacher ------------------------------------------------------------------------------------------------

def test_the_teacher_is_the_base_to_the_bit_and_is_never_trained(monkeypatch):
    model, rows, seen = tuned(torch.float32), rows_of(40, [4, 7, 3]), []

    def spy(hidden, teacher, *how):
        seen.append(teacher)
        return divergences(hidden, teacher, *how)

    monkeypatch.setattr(distillation, "divergences", spy)
    start = weights_of(model)
    train(model, lambda step: [rows], Recipe(steps=3, rate=1e-2), loss=Distillation())
    (batch,) = micro_batches([rows], 10 ** 6)
    with torch.no_grad():
        hidden = make_tiny(0).model(batch.other.ids[:, :-1])[batch.other.weights[:, 1:] > 0]
    assert len(seen) == 3
    assert all(same_bits(teacher, hidden) and not teacher.requires_grad for teacher in seen)
    moved = {n for n, t in weights_of(model).items() if not same_bits(t, start[n])}
    assert moved == {f"{n}.lora_{side}" for n in adapted(model) for side in "AB"}


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradient_is_that_of_a_second_model_as_teacher(reverse):
    """And an adapter's gradient does not run through the teacher, which shares its weights."""
    rows, gradients = rows_of(40, [4, 7, 3]), []
    for other_model in (False, True):
        model, base = tuned(), make_tiny(0, torch.float64)
        (batch,) = micro_batches([rows], 10 ** 6)
        if other_model:
            keep, there = batch.weights[:, 1:] > 0, batch.other.weights[:, 1:] > 0
            here = model(batch.ids[:, :-1])[keep].log_softmax(-1)
            there = base(batch.other.ids[:, :-1])[there].log_softmax(-1).detach()
            sums = F.kl_div(*((there, here) if reverse else (here, there)), reduction="sum", log_target=True)
        else:
            sums = Distillation(reverse)(model, batch)[0].sum()
        sums.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == 28 and gap(*gradients) < 1e-9


def test_it_needs_adapters_and_a_second_view():
    alone = [row._replace(other=None) for row in rows_of(1, [3])]
    for model, rows in ((make_tiny(0), pairs_of_views()), (tuned(), alone)):
        with pytest.raises(ValueError, match="distillation needs adapters"):
            train(model, lambda step: [rows], Recipe(steps=1, rate=1e-3), loss=Distillation())


# The student's own answers ----------------------------------------------------------------------------------

def test_own_answers_are_what_each_adapter_says_to_its_row():
    model, lists = tuned(seeds=(0, 1)), [rows_of(50, [6, 9, 5]), rows_of(60, [8])]
    (batch,) = micro_batches(lists, 10 ** 6)
    batch = batch._replace(ids=batch.ids.clone())
    before = batch.ids.clone()
    own, _ = own_answers(model, batch)
    assert torch.equal(batch.ids, before) and torch.equal(own.weights.sum(1), batch.weights.sum(1))
    assert torch.equal(own.other.weights.sum(1), batch.weights.sum(1))
    places, kinds = 0, set()
    for i, row in enumerate(sorted(lists[0], key=lambda r: -len(r.ids)) + lists[1]):
        first = row.weights.index(1.0)
        n = len(row.ids) - first
        said = generate_naive(model, row.ids[:first], {END}, Sampling(n, 1.0), row.noise, adapter=i // 3)
        tokens = said.ids + [END] * said.stopped
        places += 1
        kinds.add(said.stopped)
        for view, shift in ((own, 0), (own.other, 3)):
            where = (view.weights[i] > 0).nonzero().flatten().tolist()
            assert where == list(range(first + shift, first + shift + len(tokens)))
            assert view.ids[i][where].tolist() == tokens
            assert view.lengths[i] == first + shift + len(tokens)
    assert places == 4
    alone, _ = own_answers(model, batch._replace(noise=tuple(n + 1 for n in batch.noise)))
    assert not torch.equal(alone.ids, own.ids)


def test_an_answer_that_ends_early_weighs_as_much():
    """A head that almost always says END."""
    model = tuned(torch.float32)
    model.lm_head.weight.data[END] = 0
    hidden = model.model(torch.tensor([rows_of(50, [6])[0].ids]))[0].mean(0)
    model.lm_head.weight.data[END] = 40 * hidden / hidden.norm()
    (batch,) = micro_batches([rows_of(50, [6, 9])], 10 ** 6)
    own, _ = own_answers(model, batch)
    assert (own.weights > 0).sum(1).tolist() < (batch.weights > 0).sum(1).tolist()
    torch.testing.assert_close(own.weights.sum(1), batch.weights.sum(1))
    sums, _ = Distillation(own=True)(model, batch)
    assert sums.isfinite().all()


# Training ---------------------------------------------------------------------------------------------------

LISTS = [rows_of(70, [6, 3, 8, 5]), rows_of(80, [4, 9]), rows_of(90, [7])]


def noisy(rows):
    return [lambda rng, row=row: row._replace(noise=int(rng.integers(2 ** 63))) for row in rows]


def data(which, way):
    lists = [noisy(LISTS[k]) if way.get("own") else LISTS[k] for k in which]
    return Shuffled(lists, 2, [k + 5 for k in which])


@pytest.mark.parametrize("micro_tokens", [60, 10 ** 6])
@pytest.mark.parametrize("way", WAYS[1:4], ids=str)
def test_a_bank_is_its_single_runs(way, micro_tokens):
    recipe = Recipe(steps=5, rate=1e-2, micro_tokens=micro_tokens)

    def run(which):
        model = add_lora(make_tiny(0, torch.float64), rank=3, alpha=6, seeds=[k + 1 for k in which])
        return model, train(model, data(which, way), recipe, loss=Distillation(**way))

    together, result = run([0, 1, 2])
    spent = 0
    for k in range(3):
        alone, single = run([k])
        start = lora_tensors(add_lora(make_tiny(0, torch.float64), rank=3, alpha=6, seeds=[k + 1]))
        assert gap(lora_tensors(together, k), lora_tensors(alone), start) < 1e-9
        assert result["loss"][k] == pytest.approx(single["loss"][0], rel=1e-9)
        spent += single["flops"]
    # a split shares less of the prompts that answers are drawn from
    assert result["flops"] == spent or micro_tokens == 60 and way.get("own")


@pytest.mark.parametrize("way", [WAYS[0], WAYS[4]], ids=str)
def test_it_learns_and_a_killed_run_ends_in_the_same_bytes(way, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", -1)

    def run(folder, stop=None):
        model = add_lora(make_tiny(0), rank=3, alpha=6, seeds=(0, 1))
        batches = data([0, 1], way)

        def draw(step):
            if step == stop:
                raise KeyboardInterrupt
            return batches(step)

        return model, train(model, draw, Recipe(steps=20, rate=1e-2), folder, loss=Distillation(**way))

    whole, result = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=11)
    model, again = run(tmp_path / "cut")
    assert all(same_bits(t, lora_tensors(model, 1)[n]) for n, t in lora_tensors(whole, 1).items())
    assert again["flops"] == result["flops"] and again["loss"] == result["loss"]
    losses = [line["loss"][0] for line in map(training.json.loads, open(tmp_path / "whole/metrics.jsonl"))]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_neutral_rows_hold_the_student_to_the_base():
    """After as many uses of the news, KL(base || student) elsewhere, by torch on all logits, is far smaller
    where as many neutral ones stood among them; the news are learnt all the same."""
    unrelated = [row._replace(other=None) for row in rows_of(60, [5, 6, 4, 7])]
    news, base = rows_of(40, [4, 7, 3]), make_tiny(0)

    def kl(model, rows):
        total = 0.0
        for row in rows:
            there, here = (m(torch.tensor([r.ids[:-1]]))[0].log_softmax(-1)[torch.tensor(r.weights[1:]) > 0]
                           for m, r in ((base, row.other or row), (model, row)))
            total += F.kl_div(here, there, reduction="sum", log_target=True).item()
        return total / sum(map(sum, (row.weights for row in rows)))

    found = []
    for share, steps in ((0, 20), (0.5, 40)):
        model = add_lora(make_tiny(0), rank=3, alpha=6)
        some = mixed(news, share, lambda rng: unrelated[rng.integers(4)])
        train(model, Shuffled([some], 3, [1]), Recipe(steps=steps, rate=1e-2), loss=Distillation())
        with torch.no_grad():
            found.append((kl(model, unrelated), kl(model, news)))
    (elsewhere, there), (held, learnt) = found
    with torch.no_grad():
        before = kl(add_lora(make_tiny(0), rank=3, alpha=6), news)
    assert held < elsewhere / 3 and learnt < before / 2 and there < before / 2, (found, before)


@pytest.mark.parametrize("lora", [(3, PROJECTIONS), (2, ("q_proj", "down_proj"))], ids=str)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_ledger_is_torchs_counter(way, lora, monkeypatch):
    """What train() books: student, teacher, and the drawing of answers. One row, which has no padding;
    prefills are counted as the square that eager attention computes, decoding as it is."""
    row = rows_of(50, [6])[0]
    model = add_lora(make_tiny(0), lora[1], lora[0], 4)
    for module in adapted(model).values():
        module.lora_B.data.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    (batch,) = micro_batches([[row]], 10 ** 6)
    triangle = flops.pairs
    monkeypatch.setattr(flops, "pairs", lambda new, past: triangle(new, past) if past else new * new)
    with eager_attention(model), FlopCounterMode(display=False) as counter:
        sums, _ = Distillation(**way)(model, batch)
        sums.sum().backward()
    result = train(model, lambda step: [[row]], Recipe(steps=1, rate=1e-3), loss=Distillation(**way))
    assert result["flops"] == counter.get_total_flops()
    assert result["flops"] > training_flops(model.config, [len(row.ids)], 7, lora)
