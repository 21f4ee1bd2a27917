"""The one training loop: pretraining, full fine-tuning, one adapter, or a bank of K adapters side by side.

An example is (ids, weights): token ids and the loss weight of predicting each. A step is K lists of examples,
one list an adapter (K = 1 unless the model carries a bank). Every adapter has its own data, normaliser,
clipping, schedule and stop, so K adapters side by side are the K single runs up to float noise.
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from model.checkpoint import open_tensors
from model.lora import adapted
from model.loss import token_losses

SAVE_SECONDS = 30       # how much work a kill can cost


@dataclass(frozen=True)
class Recipe:
    steps: int                      # optimizer steps
    rate: float                     # peak learning rate
    batch: int = 16                 # conversations a step and adapter
    warmup: int = 0                 # steps of linear rise from 0
    schedule: str = "cosine"        # after the rise: cosine or linear to 0, or constant
    weight_decay: float = 0.0       # on matrices, not on norms and biases
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0               # largest gradient norm of an adapter; 0 = off
    micro_tokens: int = 16384       # padded tokens in one forward pass; larger steps are accumulated
    seed: int = 0
    optimizer: str = "adamw"        # or muon: newnews/muon.py, for whole models
    matrix_rate: float = 0.014      # muon's peak rate for the matrices of the blocks; rate is for the rest

    def __post_init__(self):
        for name in ("steps", "batch", "warmup", "micro_tokens", "seed"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected a whole number")
        for name, ok, want in (("steps", self.steps >= 1, ">= 1"), ("rate", 0 < self.rate < math.inf, "> 0"),
                               ("batch", self.batch >= 1, ">= 1"), ("warmup", self.warmup >= 0, ">= 0"),
                               ("schedule", self.schedule in ("cosine", "linear", "constant"),
                                "cosine, linear or constant"),
                               ("clip", self.clip >= 0, ">= 0"),
                               ("weight_decay", self.weight_decay >= 0, ">= 0"),
                               ("beta1", 0 <= self.beta1 < 1, "in [0, 1)"),
                               ("beta2", 0 <= self.beta2 < 1, "in [0, 1)"),
                               ("micro_tokens", self.micro_tokens >= 1, ">= 1"),
                               ("seed", self.seed >= 0, ">= 0"),
                               ("optimizer", self.optimizer in ("adamw", "muon"), "adamw or muon"),
                               ("matrix_rate", 0 < self.matrix_rate < math.inf, "> 0")):
            if not ok:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected {want}")

    def rate_at(self, step):
        """Learning rate of step 0, 1, ..., steps - 1."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        x = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * {"constant": 1.0, "linear": 1 - x,
                            "cosine": 0.5 + 0.5 * math.cos(math.pi * x)}[self.schedule]


class Shuffled:
    """Batches from K fixed lists of examples: each list in its own order, drawn again every epoch
    from (seed, epoch).

    A list shorter than the batch gives itself whole: copies of one conversation would change
    nothing but the cost.
    """

    def __init__(self, lists, batch, seeds):
        self.lists, self.batch, self.seeds, self.orders = lists, batch, seeds, {}
        if not lists or not all(lists):
            raise ValueError("no training examples")

    def __call__(self, step):
        return [[examples[i] for i in self.pick(k, step)] for k, examples in enumerate(self.lists)]

    def pick(self, k, step):
        n = len(self.lists[k])
        b = min(self.batch, n)
        for position in range(step * b, step * b + b):
            epoch, place = divmod(position, n)
            if self.orders.get(k, (None,))[0] != epoch:
                self.orders[k] = epoch, np.random.default_rng([self.seeds[k], epoch]).permutation(n)
            yield self.orders[k][1][place]


class AdamW:
    """AdamW (Loshchilov & Hutter, 1711.05101) on parameters whose first dimension is the adapter, (K, ...).

    torch's own cannot give slices of a tensor their own rate, clipping and end. Values and moments are fp32
    whatever the model's dtype: a bf16 parameter has an fp32 master here, and its micro-batches' gradients are
    summed in fp32.
    """

    def __init__(self, params, recipe, bank):
        self.params, self.recipe = params, recipe
        self.rows = (lambda t: t) if bank else (lambda t: t[None])      # (K, ...) views
        self.values = {n: p.data.to(torch.promote_types(p.dtype, torch.float32)) for n, p in params.items()}
        self.m = {n: torch.zeros_like(v) for n, v in self.values.items()}
        self.v = {n: torch.zeros_like(v) for n, v in self.values.items()}
        self.grads = {n: torch.zeros_like(v) for n, v in self.values.items()}

    def collect(self):
        """Add the micro-batch's gradients to the step's."""
        for name, p in self.params.items():
            if p.grad is not None:
                self.grads[name] += p.grad
                p.grad = None

    def norms(self):
        """Gradient norm of each adapter, (K,)."""
        return sum(self.rows(g).flatten(1).square().sum(1) for g in self.grads.values()).sqrt()

    def step(self, t, rates, alive):
        """Update t (1, 2, ...) with rates (K,). Adapters that are not alive keep their values, to the bit."""
        r, norms = self.recipe, self.norms()
        scale = (r.clip / (norms + 1e-6)).clamp(max=1) if r.clip else torch.ones_like(norms)
        for name, p in self.params.items():
            value, g, m, v = (self.rows(x[name]) for x in (self.values, self.grads, self.m, self.v))
            shape = (-1,) + (1,) * (value.dim() - 1)
            live, rate = alive.view(shape), rates.to(value).view(shape)
            g = torch.where(live, g * scale.view(shape), 0)     # where, not *: a dead adapter's may be NaN
            m.lerp_(g, 1 - r.beta1)
            v.mul_(r.beta2).addcmul_(g, g, value=1 - r.beta2)
            change = (m / (1 - r.beta1 ** t)) / ((v / (1 - r.beta2 ** t)).sqrt() + 1e-8)
            if r.weight_decay and value.dim() > 2:
                change += r.weight_decay * value
            value -= torch.where(live, rate * change, 0)
            if p.data_ptr() != self.values[name].data_ptr():
                p.data.copy_(self.values[name])
            self.grads[name].zero_()

    def tensors(self):
        return {f"{kind}/{n}": t for kind in ("values", "m", "v") for n, t in getattr(self, kind).items()}


def micro_batches(lists, budget):
    """Split a step into batches of at most `budget` padded tokens: rows of like length together, the same
    number of rows from each of the K lists (short lists are filled with empty rows).
    Yields ids, weights (K * b, T), int64, fp32."""
    lists = [sorted(rows, key=lambda row: -len(row[0])) for rows in lists]
    depth = max(map(len, lists))
    empty = ([0, 0], [0.0, 0.0])
    lists = [rows + [empty] * (depth - len(rows)) for rows in lists]
    start = 0
    while start < depth:
        T = max(2, max(len(rows[start][0]) for rows in lists))
        b = max(1, min(depth - start, budget // (T * len(lists))))
        rows = [row for examples in lists for row in examples[start:start + b]]
        ids, weights = np.zeros((len(rows), T), np.int64), np.zeros((len(rows), T), np.float32)
        for i, (x, w) in enumerate(rows):
            ids[i, :len(x)], weights[i, :len(w)] = x, w
        yield torch.from_numpy(ids), torch.from_numpy(weights)
        start += b


def summed_losses(model, ids, weights, K):
    """Weighted sum of next-token losses of each of the K groups of rows, (K,), with its graph."""
    targets, weights = ids[:, 1:], weights[:, 1:]
    keep = weights > 0
    hidden = model.model(ids[:, :-1])[keep]         # (N, D): only what carries loss meets the head
    losses = token_losses(hidden, targets[keep], model.lm_head)     # (N,)
    group = torch.arange(len(ids), device=ids.device) // (len(ids) // K)
    group = group[:, None].expand_as(keep)[keep]
    return losses.new_zeros(K).index_add(0, group, losses * weights[keep])


def train(model, batches, recipe, folder=None, run="", label="train"):
    """Train the model's adapters if it carries any, else all of its weights.
    batches(step) gives K lists of examples.

    The gradient is that of  sum(weight * loss) / sum(weight)  over the whole step, however it is split. An
    adapter whose loss or gradient is not finite stops there, frozen with its last good values. With a folder,
    metrics.jsonl grows there and the state is kept: the same call after a kill goes on and ends in the same
    bytes (`run` names the run: a state of another is refused). Returns {"steps", "tokens" (trained),
    "seconds", "loss" (K,), "stopped": {adapter: step}}.
    """
    bank = bool(adapted(model))
    if not bank:
        model.requires_grad_(True)
    params = {n: p for n, p in model.named_parameters()
              if p.requires_grad or n.endswith(("lora_A", "lora_B"))}
    for p in params.values():
        p.requires_grad_(True)
        p.grad = None
    K = next(iter(params.values())).shape[0] if bank else 1
    device = model.lm_head.weight.device
    from newnews.muon import Muon           # there AdamW is imported from here
    optimizer = (Muon if recipe.optimizer == "muon" else AdamW)(params, recipe, bank)
    state = {"step": 0, "tokens": 0, "seconds": 0.0, "stopped": {}, "loss": [None] * K}
    run = json.dumps([run, asdict(recipe), K])
    if folder is not None:
        state = resume(Path(folder), optimizer, params, run) or state
    first, before, start, saved, fresh = state["step"], state["seconds"], time.time(), time.time(), 0
    bar = tqdm(total=recipe.steps, initial=first, desc=label, unit="step", disable=None, dynamic_ncols=True)
    for step in range(first, recipe.steps):
        alive = torch.tensor([str(k) not in state["stopped"] for k in range(K)], device=device)
        if not bool(alive.any()):
            break
        lists = batches(step)
        if len(lists) != K:
            raise ValueError(f"step {step}: {len(lists)} lists of examples for {K} adapters")
        lists = [rows if a else [] for rows, a in zip(lists, alive.tolist())]
        totals = torch.tensor([sum(sum(w[1:]) for _, w in rows) for rows in lists], device=device)
        if bool((alive & (totals <= 0)).any()):
            raise ValueError(f"step {step}: an adapter's examples carry no loss at all")
        losses = torch.zeros(K, device=device, dtype=torch.float64)
        for ids, weights in micro_batches(lists, recipe.micro_tokens):
            part = summed_losses(model, ids.to(device), weights.to(device), K) / totals.clamp(min=1e-9)
            part.sum().backward()
            losses += part.detach()
            optimizer.collect()
        norms = optimizer.norms()
        good = alive & losses.isfinite() & norms.isfinite()
        for k in (alive & ~good).nonzero().flatten().tolist():
            state["stopped"][str(k)] = step
        rate = recipe.rate_at(step)
        optimizer.step(step + 1, torch.full((K,), rate), good)
        new = sum(len(ids) for rows in lists for ids, _ in rows)
        fresh += new
        state = {**state, "step": step + 1, "tokens": state["tokens"] + new,
                 "seconds": round(before + time.time() - start, 3),
                 "loss": [loss if g else old
                          for loss, g, old in zip(losses.tolist(), good.tolist(), state["loss"])]}
        per_second = fresh / (time.time() - start)
        known = [loss for loss in state["loss"] if loss is not None]
        bar.set_postfix_str(f"loss {sum(known) / max(1, len(known)):.3f}, {per_second:,.0f} tokens/s",
                            refresh=False)
        bar.update()
        if folder is not None:
            line = {"step": step, "rate": rate, "tokens": state["tokens"], "loss": state["loss"],
                    "grad_norm": [n if math.isfinite(n) else None for n in norms.tolist()],
                    "seconds": state["seconds"]}
            with open(Path(folder) / "metrics.jsonl", "a") as f:
                f.write(json.dumps(line) + "\n")
            if time.time() - saved > SAVE_SECONDS or step + 1 == recipe.steps:
                keep_state(Path(folder), optimizer, state, run)
                saved = time.time()
    bar.close()
    if folder is not None and state["step"] < recipe.steps:         # every adapter has stopped
        keep_state(Path(folder), optimizer, state, run)
    for p in params.values():
        p.requires_grad_(False)
    return {"steps": state["step"], "tokens": state["tokens"], "seconds": state["seconds"],
            "loss": state["loss"], "stopped": {int(k): s for k, s in state["stopped"].items()}}


def keep_state(folder, optimizer, state, run):
    """Everything that the rest of the run depends on, in one file, replaced at once."""
    save_file({n: t.contiguous() for n, t in optimizer.tensors().items()}, folder / "state.part",
              metadata={"state": json.dumps(state), "run": run})
    os.replace(folder / "state.part", folder / "state.safetensors")


@torch.no_grad()
def resume(folder, optimizer, params, run):
    """Load a kept state into the optimizer and the model, and cut metrics.jsonl back to it;
    None if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    path, metrics, state = folder / "state.safetensors", folder / "metrics.jsonl", None
    if path.is_file():
        with open_tensors(path) as f:
            if f.metadata()["run"] != run:
                raise ValueError(f"{path}: the state of another run (its recipe, data or model differ); "
                                 f"remove {folder}")
            state = json.loads(f.metadata()["state"])
            for name, tensor in optimizer.tensors().items():
                tensor.copy_(f.get_tensor(name))
        for name, p in params.items():
            p.data.copy_(optimizer.values[name])
    if metrics.is_file():
        lines = metrics.read_text().splitlines(keepends=True)[:state["step"] if state else 0]
        aside = folder / "metrics.part"         # a kill in the middle must not lose the lines
        aside.write_text("".join(lines))
        os.replace(aside, metrics)
    return state
