"""The one training loop: pretraining, full fine-tuning, one adapter, or a bank of K adapters side by side.

A step is K lists of newnews.examples.Example, one list an adapter (K = 1 unless the model carries a bank).
Every adapter has its own data, normaliser, clipping and stop, and all have one Recipe, so K adapters side by
side are the K single runs up to float noise. What is learnt is the loss's business: loss(model, batch) ->
(K,), the weighted sum of losses of each adapter's rows, with its graph; `next_token` is the usual one. A loss
that computes more than next_token on the same rows returns ((K,), FLOPs on top).

Under torchrun (newnews/distributed.py) all processes walk through the same steps, each with its share of the
rows of every micro-batch, and end with the weights of a single process up to float noise.
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from model.checkpoint import open_tensors, write_tensors
from model.flops import training_flops
from model.lora import adapted, adapter_shape
from model.loss import token_losses
from newnews import distributed
from newnews.batches import micro_batches
from newnews.captured import Graphs
from newnews.console import progress
from newnews.examples import Example
from newnews.muon import Muon
from newnews.optimizer import AdamW
from newnews.reading import number, shown, whole

SAVE_SECONDS = 30       # between two saves, times as many as a save takes: how much work a kill can cost


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
        for name, low, high in (("steps", 1, 10 ** 7), ("batch", 1, 10 ** 6), ("warmup", 0, 10 ** 7),
                                ("micro_tokens", 1, 10 ** 9), ("seed", 0, 2 ** 63 - 1)):
            whole(name, getattr(self, name), low, high)
        for name, low, high in (("rate", 1e-30, 9e29), ("matrix_rate", 1e-30, 9e29), ("clip", 0, 9e29),
                                ("weight_decay", 0, 9e29), ("beta1", 0, 0.999999), ("beta2", 0, 0.999999)):
            number(name, getattr(self, name), low, high)
        for name, known in (("schedule", ("cosine", "linear", "constant")), ("optimizer", ("adamw", "muon"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected {' or '.join(known)}, found {shown(getattr(self, name))}")

    def rate_at(self, step):
        """Learning rate of step 0, 1, ..., steps - 1."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        x = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * {"constant": 1.0, "linear": 1 - x,
                            "cosine": 0.5 + 0.5 * math.cos(math.pi * x)}[self.schedule]


def next_token(model, batch):
    """The weighted sum of next-token losses in nats of each learner, (K,), with its graph."""
    targets, weights = batch.ids[:, 1:], batch.weights[:, 1:]
    keep = weights > 0                              # only what carries loss meets the head

    def head(hidden, lm_head):
        return token_losses(hidden, targets[keep], lm_head, add=lm_head.weight.grad is not None)

    losses = model(batch.ids[:, :-1], keep=keep, head=head, adapters=batch.adapters)        # (N,)
    return batch.sums(losses * weights[keep], keep)


def trained(model):
    """What train() trains: (the parameters by name, how many learners, and of adapters the rank, targets and
    blocks, else None)."""
    modules = adapted(model)
    if not modules:
        model.requires_grad_(True)
    params = {name: p for name, p in model.named_parameters()
              if p.requires_grad or name.endswith(("lora_A", "lora_B"))}
    for p in params.values():
        p.requires_grad_(True)
        p.grad = None
    return params, model.model.bank or 1, adapter_shape(model)


def learner(model, params, loss):
    """learn(batch, scale) adds the gradients of (loss / scale).sum() to the parameters', and gives that part
    of the step's loss, (K,), and the FLOPs on top. On a GPU next_token is replayed as a graph, where
    gradients are added in place and no weights come from other processes (newnews/captured.py)."""
    device = model.lm_head.weight.device
    if loss is next_token and device.type == "cuda" and all(p.grad is not None for p in params.values()) \
            and not any(map(distributed.is_sharded, model.parameters())):
        replay = Graphs(model)
        return lambda batch, scale: (replay(batch, scale), 0)

    def learn(batch, scale):
        found = loss(model, batch.to(device))
        sums, more = found if isinstance(found, tuple) else (found, 0)
        part = sums / scale
        part.sum().backward()
        return part.detach(), more

    return learn


def draw(batches, step, alive):
    """The step's K lists of Examples, none for learners that have stopped, and the total weight of each,
    (K,)."""
    lists = batches(step)
    if len(lists) != len(alive):
        raise ValueError(f"step {step}: {len(lists)} lists of examples for {len(alive)} adapters")
    lists = [[Example(*row) for row in rows] if a else [] for rows, a in zip(lists, alive.tolist())]
    totals = torch.tensor([sum(sum(row.weights[1:]) for row in rows) for rows in lists])
    if bool((alive & (totals <= 0)).any()):
        raise ValueError(f"step {step}: an adapter's examples carry no loss at all")
    return lists, totals


def train(model, batches, recipe, folder=None, run="", label="train", loss=next_token):
    """Train the model's adapters if it carries any, else all of its weights.
    batches(step) gives K lists of examples, (ids, weights) or (ids, weights, other).

    The gradient is that of  loss(model, batch) / total weight  over the whole step, however it is split. An
    adapter whose loss or gradient is not finite stops there, frozen with its last good values. With a folder,
    metrics.jsonl grows there and the state is kept: the same call after a kill goes on and ends in the same
    bytes (`run` names the run: a state of another is refused); of several processes rank 0 writes, and all
    read. Returns {"steps", "tokens" (of the examples as given), "flops" (all that the loss computed),
    "seconds", "loss" (K,), "stopped": {adapter: step}}.
    """
    # [what is trained, and where an earlier call stopped]
    params, K, lora = trained(model)
    device = model.lm_head.weight.device
    optimizer = {"adamw": AdamW, "muon": Muon}[recipe.optimizer](params, recipe, bank=lora is not None)
    learn = learner(model, params, loss)
    state = {"step": 0, "tokens": 0, "flops": 0, "seconds": 0.0, "stopped": {}, "loss": [None] * K}
    run = json.dumps([run, asdict(recipe), K])
    if folder is not None:
        state = resume(Path(folder), optimizer, params, run) or state
    first, before, start, saved, fresh = state["step"], state["seconds"], time.time(), time.time(), 0
    rank, world, took = distributed.rank(), distributed.world(), 0.0
    bar = progress(recipe.steps, first, label, "step")
    for step in range(first, recipe.steps):
        # [the step's examples; break if every adapter has stopped]
        alive = torch.tensor([str(k) not in state["stopped"] for k in range(K)])
        if not bool(alive.any()):
            break
        lists, totals = draw(batches, step, alive)
        # [forward and backward, one micro-batch at a time]
        scale, losses = totals.clamp(min=1e-9).to(device), torch.zeros(K, dtype=torch.float64)
        extra = torch.zeros(1, dtype=torch.float64)
        for batch in micro_batches(lists, recipe.micro_tokens, lora is not None, rank, world):
            part, more = learn(batch, scale)
            extra += more
            losses += part.cpu()
            optimizer.collect()
        distributed.add_up([losses, extra])
        distributed.add_up([g for n, g in optimizer.grads.items() if not distributed.is_sharded(params[n])])
        # [update whoever is finite; the others stop for good]
        norms, rate = optimizer.norms(), recipe.rate_at(step)
        here = norms.cpu()                          # before the update, which a GPU may then do by itself
        good = alive & losses.isfinite() & here.isfinite()
        stopped = {str(k): step for k in (alive & ~good).nonzero().flatten().tolist()}
        optimizer.step(step + 1, rate, good.to(device), norms)
        # [book the step]
        lengths = [len(row.ids) for rows in lists for row in rows]
        supervised = sum(w > 0 for rows in lists for row in rows for w in row.weights[1:])
        fresh += sum(lengths)
        last = [now if g else old for now, g, old in zip(losses.tolist(), good.tolist(), state["loss"])]
        state = {"step": step + 1, "tokens": state["tokens"] + sum(lengths), "loss": last,
                 "flops": state["flops"] + int(extra)
                 + training_flops(model.config, lengths, supervised, lora),
                 "seconds": round(before + time.time() - start, 3),
                 "stopped": {**state["stopped"], **stopped}}
        show(bar, state["loss"], fresh / (time.time() - start))
        if folder is not None:
            if rank == 0:
                write_metrics(Path(folder), step, rate, state, here)
            due = time.time() - saved > SAVE_SECONDS * max(1.0, took)       # at most a thirtieth of the time
            if distributed.told(due or step + 1 == recipe.steps):
                saved = time.time()
                keep_state(Path(folder), optimizer, params, state, run)
                took, saved = time.time() - saved, time.time()
    bar.close()
    if folder is not None and state["step"] < recipe.steps:         # every adapter has stopped
        keep_state(Path(folder), optimizer, params, state, run)
    for p in params.values():
        p.requires_grad_(False)
        p.grad = None
    learn = None                                # its graphs' memory serves nobody until the cache is emptied
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {"steps": state["step"], "tokens": state["tokens"], "flops": state["flops"],
            "seconds": state["seconds"], "loss": state["loss"],
            "stopped": {int(k): step for k, step in state["stopped"].items()}}


def show(bar, losses, per_second):
    known = [loss for loss in losses if loss is not None]
    mean = sum(known) / max(1, len(known))
    bar.set_postfix_str(f"loss {mean:.3f}, {per_second:,.0f} tokens/s", refresh=False)
    bar.update()


def write_metrics(folder, step, rate, state, norms):
    """One line of metrics.jsonl; a norm that is not finite has no spelling in JSON and becomes null."""
    norms = [n if math.isfinite(n) else None for n in norms.tolist()]
    line = {"step": step, "rate": rate, "tokens": state["tokens"], "loss": state["loss"], "grad_norm": norms,
            "seconds": state["seconds"]}
    with open(folder / "metrics.jsonl", "a") as f:
        f.write(json.dumps(line) + "\n")


def keep_state(folder, optimizer, params, state, run):
    """Everything that the rest of the run depends on, in one file, replaced at once."""
    tensors = {name: distributed.whole(tensor, params[name.partition("/")[2]])
               for name, tensor in optimizer.tensors().items()}
    if distributed.rank() == 0:
        write_tensors(folder / "state.part", {n: t.contiguous() for n, t in tensors.items()},
                      {"state": json.dumps(state), "run": run})
        os.replace(folder / "state.part", folder / "state.safetensors")


@torch.no_grad()
def resume(folder, optimizer, params, run):
    """Load a kept state into the optimizer and the model, and cut metrics.jsonl back to it;
    None if there is none."""
    distributed.wait()          # rank 0 may still be writing it: all must go on from the same step
    folder.mkdir(parents=True, exist_ok=True)
    path, metrics, state = folder / "state.safetensors", folder / "metrics.jsonl", None
    if path.is_file():
        with open_tensors(path) as f:
            if f.metadata()["run"] != run:
                raise ValueError(f"{path}: the state of another run (its recipe, data or model differ); "
                                 f"remove {folder}")
            state = json.loads(f.metadata()["state"])
            for name, tensor in optimizer.tensors().items():
                kept = f.get_slice(name)
                sharded = distributed.is_sharded(params[name.partition("/")[2]])
                mine = slice(*distributed.my_rows(kept.get_shape()[0])) if sharded else slice(None)
                tensor.copy_(kept[mine])
        for name, p in params.items():
            distributed.local(p.data).copy_(optimizer.values[name])
    if metrics.is_file() and distributed.rank() == 0:
        lines = metrics.read_text().splitlines(keepends=True)[:state["step"] if state else 0]
        aside = folder / "metrics.part"         # a kill in the middle must not lose the lines
        aside.write_text("".join(lines))
        os.replace(aside, metrics)
    return state
