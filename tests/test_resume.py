"""Training resumed: a run killed at any step, while its state is written, or once by a real SIGKILL, goes on
and ends in the same bytes; the state of another run is refused."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import make_tiny
from safetensors.torch import safe_open
from test_training import examples, metrics_of, same_bits, weights_of

from model.lora import add_lora
from newnews import training
from newnews.batches import Shuffled
from newnews.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")


def job(kind):
    """(model, batches, recipe) of 7 steps that cross the epochs; in the bank adapter 1 stops at step 2."""
    lists = [examples(20 + k, lengths) for k, lengths in enumerate(([5, 9, 4, 7, 6], [8, 3, 10], [12]))]
    recipe = Recipe(steps=7, rate=1e-2, batch=2, warmup=2, weight_decay=0.1, micro_tokens=40)
    if kind == "bank":
        model, shuffled = add_lora(make_tiny(), rank=2, seeds=(1, 2, 3)), Shuffled(lists, 2, [7, 8, 9])
    else:
        model = make_tiny(0, torch.bfloat16 if kind == "bf16" else torch.float32)
        shuffled = Shuffled(lists[:1], 2, [7])

    def batches(step):
        rows = shuffled(step)
        if kind == "bank" and step == 2:
            rows[1] = [(x, [math.nan] * len(w)) for x, w in rows[1]]
        return rows

    return model, batches, recipe


class Killed(Exception):
    pass


def run_until(folder, kind, kill=None, kept=(), how=None):
    """Run or resume a job; die when step `kill` begins; keep the state after steps in `kept` and at the end.
    Returns the trained weights, the result and the steps that ran."""
    (model, batches, recipe), steps = job(kind), []

    def watched(step):
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL) if how == "SIGKILL" else None
            raise Killed
        steps.append(step)
        training.SAVE_SECONDS = -1 if step in kept else 10 ** 9
        return batches(step)

    before = training.SAVE_SECONDS
    try:
        result = train(model, watched, recipe, folder, "run")
    finally:
        training.SAVE_SECONDS = before
    return weights_of(model), result, steps


def ending(folder):
    """What must not depend on kills: the tensors' bytes, the rest of the state, the metrics; times apart."""
    with safe_open(folder / "state.safetensors", "pt") as f:
        tensors = {n: (t.dtype, t.shape, t.numpy().tobytes()) for n in f.keys() for t in [f.get_tensor(n)]}
        run, state = f.metadata()["run"], json.loads(f.metadata()["state"])
    lines = metrics_of(folder)
    for timed in (state, *lines):
        del timed["seconds"]
    return tensors, run, state, json.dumps(lines)           # as text, in which NaN equals NaN


def check_same(folder, outcome, wanted_folder, wanted):
    assert ending(folder) == ending(wanted_folder)
    for result in (outcome[1], wanted[1]):
        result.pop("seconds", None)
    assert outcome[1] == wanted[1] and outcome[0].keys() == wanted[0].keys()
    assert all(same_bits(t, wanted[0][n]) for n, t in outcome[0].items())


@pytest.mark.parametrize("kind", ["bank", "full", "bf16"])
def test_killed_anywhere_and_started_again_ends_in_the_same_bytes(kind, tmp_path):
    whole = tmp_path / "whole"
    wanted = run_until(whole, kind)
    assert wanted[2] == list(range(7)) and wanted[1]["stopped"] == ({1: 2} if kind == "bank" else {})
    for kill, kept in ((1, [0]), (2, [0]), (3, [2]), (3, []), (4, [1]), (5, [1, 3]), (6, [5])):
        folder = tmp_path / f"{kill}{kept}"
        with pytest.raises(Killed):
            run_until(folder, kind, kill, kept)
        assert len(metrics_of(folder)) == kill
        with open(folder / "metrics.jsonl", "a") as f:
            f.write('{"step": 6, "rate": 0.00')             # the kill came in the middle of a line
        outcome = run_until(folder, kind)
        assert outcome[2] == list(range(kept[-1] + 1 if kept else 0, 7))
        check_same(folder, outcome, whole, wanted)
    with pytest.raises(Killed):                             # killed, and killed again
        run_until(tmp_path / "twice", kind, 3, [1])
    with pytest.raises(Killed):
        run_until(tmp_path / "twice", kind, 6, [3])
    check_same(tmp_path / "twice", run_until(tmp_path / "twice", kind), whole, wanted)
    again = run_until(whole, kind)                          # a finished run is left as it is
    assert again[2] == []
    check_same(whole, again, tmp_path / "twice", wanted)


def test_killed_while_the_state_is_written(tmp_path, monkeypatch):
    """The old state stands until the new one is whole."""
    wanted = run_until(tmp_path / "whole", "bank")
    folder, replace_file, calls = tmp_path / "cut", os.replace, []

    def replace_once(*paths):
        calls.append(paths)
        if len(calls) > 1:
            raise Killed
        replace_file(*paths)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", replace_once)
        run_until(folder, "bank", kept=[1, 4])
    (folder / "state.part").write_bytes(b"half a sta")
    outcome = run_until(folder, "bank")
    assert outcome[2] == [2, 3, 4, 5, 6]
    check_same(folder, outcome, tmp_path / "whole", wanted)


def test_sigkill(tmp_path):
    code = ("import sys, test_resume as t; t.torch.set_num_threads(1); "
            "import pathlib; t.run_until(pathlib.Path(sys.argv[1]), 'bank', 5, [2], 'SIGKILL')")
    path = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))])
    child = subprocess.run([sys.executable, "-c", code, tmp_path / "cut"], capture_output=True,
                           env={**os.environ, "PYTHONPATH": path})
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert len(metrics_of(tmp_path / "cut")) == 5
    outcome = run_until(tmp_path / "cut", "bank")
    assert outcome[2] == [3, 4, 5, 6]
    check_same(tmp_path / "cut", outcome, tmp_path / "whole", run_until(tmp_path / "whole", "bank"))


@pytest.mark.parametrize("change", [{"rate": 2e-2}, {"steps": 8}, {"seed": 1}, {"run": "other"}])
def test_the_state_of_another_run_is_refused(change, tmp_path):
    with pytest.raises(Killed):
        run_until(tmp_path, "full", 4, [2])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    model, batches, recipe = job("full")
    start, change = weights_of(model), dict(change)
    run = change.pop("run", "run")
    with pytest.raises(ValueError, match="another run"):
        train(model, batches, replace(recipe, **change), tmp_path, run)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert all(same_bits(t, start[n]) for n, t in weights_of(model).items())
