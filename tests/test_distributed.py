"""Two gloo processes against one: the same weights, the same bytes.

As a program this file is what torchrun starts, once for all tests: every case below and four scripts, whose
files the tests compare with those of this process.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, make_tiny
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from cli import PRETRAIN, STUDY, content, differences, files, make_shared, script  # noqa: E402

from model.lora import add_lora  # noqa: E402
from newnews import training  # noqa: E402
from newnews.batches import Shuffled, micro_batches  # noqa: E402
from newnews.distributed import group, rank, shard, whole, world  # noqa: E402
from newnews.training import Recipe, train  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"),
              pytest.mark.skipif(not torch.distributed.is_available()
                                 or not torch.distributed.is_gloo_available(),
                                 reason="this torch has no gloo")]

RECIPE = Recipe(steps=6, rate=3e-3, batch=5, warmup=2, weight_decay=0.1, clip=4.0, micro_tokens=36)
TRAINED = [f"{what}-{ties}-{how}" for what in ("full", "lora") for ties in ("untied", "tied")
           for how in ("replicated", "sharded")] + ["bank-untied-replicated", "muon-tied-replicated"]
SECONDS = 600           # for a busy machine; it takes about twenty


class Killed(Exception):
    pass


def examples(seed, lengths):
    rng = np.random.default_rng(seed)
    return [(rng.integers(1, 97, n).tolist(), [1.0] * n) for n in lengths]


def run_case(name, folder, stop=None, checkpoint=False):
    """Train as the name says; with `stop` die at that step, and train on. Its result, weights in folder."""
    what, ties, how = name.split("-")
    # 7 MLP rows or 3 key/value rows a process at world 2: shards of unequal sizes too
    model = make_tiny(0, tie_word_embeddings=ties == "tied")
    lists = [examples(3, [9, 3, 14, 6, 7, 5, 11])]
    if what == "bank":              # one learner has so few conversations that a process gets none of them
        lists = [lists[0], examples(4, [5])]
    if what in ("lora", "bank"):
        add_lora(model, rank=3, alpha=6, seeds=range(len(lists)))
    if how == "sharded" and world() > 1:
        shard(model, "cpu")
    model.model.recompute = checkpoint
    recipe = replace(RECIPE, optimizer="muon" if what == "muon" else "adamw")
    batches = Shuffled(lists, recipe.batch, range(len(lists)))

    def dies(step):
        if step == stop:
            raise Killed
        return batches(step)

    try:
        result = train(model, dies, recipe, folder)
    except Killed:
        return run_case(name, folder, None, checkpoint)
    tensors = {n: whole(t) for n, t in model.state_dict().items()}
    if rank() == 0:
        save_file({n: t.clone() for n, t in tensors.items()}, folder / "weights.safetensors")
        (folder / "result.json").write_text(json.dumps({"loss": result["loss"], "flops": result["flops"],
                                                        "tokens": result["tokens"]}))
    return result


def run_scripts(shared, out):
    """Four scripts; each a (words of one process, words only under torchrun)."""
    tune = ["train.py", "--model", shared.model, "--data", shared.data, "--steps", 4, "--batch", 3]
    ask = ["--model", shared.model, "--news", shared.news, "--out"]
    for words, more in (([*tune, "--out", out / "adapter"], []),
                        ([*tune, "--full", "--out", out / "tuned"], ["--shard", "--checkpoint"]),
                        (["pretrain.py", shared.config, "--out", out / "grown"], []),
                        (["generate.py", *ask, out / "replay.jsonl", "--n", 100], []),
                        (["evaluate.py", *ask, out / "answers.jsonl", "--formats", "free,text"], [])):
        done = script(*words, *(more if world() > 1 else []))
        assert done.code == 0, done.err
        assert (rank() == 0) == bool(done.out) == bool(done.err), (done.out, done.err)


def run_study(shared, out):
    """Two processes that know nothing of each other but the locks. Notes each bank that it trains."""
    from newnews import finetune
    with pytest.MonkeyPatch.context() as patch:
        def noted(model, batches, recipe, folder, *more):
            with open(out / "trained.txt", "a") as f:
                f.write(f"{Path(folder).name}\n")
            return train(model, batches, recipe, folder, *more)

        patch.setattr(finetune, "train", noted)
        patch.setitem(sys.modules, "matplotlib", None)      # no picture: a second less
        done = script("newnews", "run", shared.study, "--out", out / "study")
    assert done.code == 0, done.err


def small_chunks(patch):
    patch.setattr("newnews.ask.CHUNK_TOKENS", 400)          # more chunks than processes
    patch.setattr("newnews.studies.stages.CHUNK_TOKENS", 400)       # a copy by name, part of what answers are


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folders of what two processes made, and of what this one makes of the same."""
    top = tmp_path_factory.mktemp("two")
    shared = make_shared(top / "shared")
    shared.config = top / "shared" / "pretrain.yaml"
    recipe = {"steps": 10, "rate": 0.01, "batch": 3, "optimizer": "muon", "micro_tokens": 400}
    shared.config.write_text(json.dumps({**PRETRAIN, "recipe": recipe}))
    shared.study = top / "shared" / "study.yaml"
    shared.study.write_text(json.dumps({**STUDY, "model": str(shared.model)}))
    (top / "two").mkdir()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
           "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                           "2", __file__, str(top)], env=env, capture_output=True, text=True,
                          timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-6000:]
    (top / "one").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch)
        run_scripts(shared, top / "one")
        run_study(shared, top / "one")
    return top


def gap(found, wanted):
    assert found.keys() == wanted.keys()
    return max(((found[n] - t).norm() / t.norm()).item() for n, t in wanted.items())


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_what_one_does(ran, name, tmp_path):
    result = run_case(name, tmp_path)
    two = ran / "two" / name
    assert gap(load_file(two / "weights.safetensors"), load_file(tmp_path / "weights.safetensors")) < 1e-5
    found = json.loads((two / "result.json").read_text())
    assert found["loss"] == pytest.approx(result["loss"], rel=1e-5)
    assert (found["tokens"], found["flops"]) == (result["tokens"], result["flops"])
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
             for folder in (two, tmp_path)]
    assert [x["step"] for x in lines[0]] == list(range(6))
    for a, b in zip(*lines):
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_training_moved_and_clipped(tmp_path):
    """What the comparison above rests on: far more than 1e-5 happens, with and without clipping."""
    run_case("full-untied-replicated", tmp_path)
    start = dict(make_tiny(0).state_dict())
    assert gap(load_file(tmp_path / "weights.safetensors"), start) > 3e-3
    norms = [json.loads(line)["grad_norm"][0] for line in (tmp_path / "metrics.jsonl").open()]
    assert min(norms) < 4 < max(norms)


@pytest.mark.parametrize("name", ["full-tied-sharded", "lora-untied-sharded", "full-untied-replicated"])
def test_a_killed_run_of_two_goes_on_in_the_same_bits(ran, name):
    killed, straight = (load_file(ran / folder / name / "weights.safetensors")
                        for folder in ("killed", "two"))
    assert all(torch.equal(killed[n], t) for n, t in straight.items())


def test_checkpointing_a_sharded_model_changes_no_bit(ran):
    found, wanted = (load_file(ran / folder / "full-tied-sharded" / "weights.safetensors")
                     for folder in ("checkpointed", "two"))
    assert all(torch.equal(found[n], t) for n, t in wanted.items())


def test_the_state_of_a_sharded_run_is_that_of_a_whole_one(ran):
    """One format: every tensor whole, whatever number of processes wrote it."""
    a, b = (load_file(ran / "two" / f"full-untied-{how}" / "state.safetensors")
            for how in ("sharded", "replicated"))
    assert {n: t.shape for n, t in a.items()} == {n: t.shape for n, t in b.items()}


@pytest.mark.parametrize("folder", ["adapter", "tuned"])
def test_train_script(ran, folder):
    """LoRA replicated, all weights sharded and checkpointed: the files of one process."""
    assert files(ran / "two" / folder) == files(ran / "one" / folder)
    name = "adapter_model.safetensors" if folder == "adapter" else "model.safetensors"
    assert gap(load_file(ran / "two" / folder / name), load_file(ran / "one" / folder / name)) < 1e-5
    run = json.loads((ran / "two" / folder / "manifest.json").read_text())["run"]
    assert (run["processes"], run["sharded"]) == (2, folder == "tuned")


def test_pretraining_is_data_parallel(ran):
    """Muon, lessons, a tokenizer of its own: losses to float noise, weights as bf16 stores them."""
    a, b = ([json.loads(line)["loss"][0] for line in (ran / n / "grown" / "metrics.jsonl").open()]
            for n in ("two", "one"))
    assert len(a) == 1 and a == pytest.approx(b, rel=1e-4)
    assert files(ran / "two" / "grown") == files(ran / "one" / "grown")
    a, b = (load_file(ran / n / "grown" / "model.safetensors") for n in ("two", "one"))
    for name, tensor in b.items():
        assert (a[name].float() - tensor.float()).norm() <= 2 ** -8 * tensor.float().norm()


def test_a_model_grown_by_two_processes_is_another_run_than_that_of_one(ran):
    done = script("pretrain.py", ran / "shared" / "pretrain.yaml", "--out", ran / "two" / "grown")
    assert done.code == 2 and "differs in processes" in done.err, done.err


@pytest.mark.parametrize("name", ["replay.jsonl", "answers.jsonl"])
def test_split_files_have_the_bytes_of_one_process(ran, name):
    for file in (name, f"{name}.manifest.json"):
        assert content(ran / "two" / file) == content(ran / "one" / file)
    assert (ran / "two" / name).stat().st_size > 500
    assert not [f for f in files(ran / "two") if "of2" in f or ".lock" in f]


def test_a_study_of_two_processes_is_that_of_one(ran):
    """And every bank of adapters was trained once."""
    assert differences(ran / "two" / "study", ran / "one" / "study") == []
    trained = [sorted((ran / n / "trained.txt").read_text().split()) for n in ("two", "one")]
    assert trained[0] == trained[1] and len(set(trained[0])) == len(trained[0]) > 3


def test_every_process_gets_as_many_batches_of_as_many_rows():
    """And together they have every row once, whatever the number of processes."""
    lists = [[training.Example(*row) for row in examples(k, lengths)]
             for k, lengths in enumerate(([9, 3, 14, 6, 7, 5, 11], [4, 8]))]
    wanted = sorted(tuple(row.ids) for rows in lists for row in rows)
    for n in (1, 2, 3, 5, 16):
        parts = [list(micro_batches(lists, 40, True, r, n)) for r in range(n)]
        assert len({tuple(len(batch.ids) for batch in part) for part in parts}) == 1
        assert all(batch.ids.numel() <= 40 or len(batch.ids) == 2 for part in parts for batch in part)
        rows = [(ids, weights) for part in parts for batch in part
                for ids, weights in zip(batch.ids.tolist(), batch.weights)]
        assert sorted(tuple(ids[:int(w.sum())]) for ids, w in rows if w.sum()) == wanted


def main(top):
    torch.set_num_threads(1)
    with group("cpu"), pytest.MonkeyPatch.context() as patch:
        small_chunks(patch)
        assert world() == 2
        for name in TRAINED:
            run_case(name, top / "two" / name)
        patch.setattr(training, "SAVE_SECONDS", -1)
        # the others must not read a state that rank 0 is still writing
        written = training.write_tensors
        patch.setattr(training, "write_tensors", lambda *args: (time.sleep(0.1), written(*args)))
        for name in ("full-tied-sharded", "lora-untied-sharded", "full-untied-replicated"):
            run_case(name, top / "killed" / name, stop=4)
        run_case("full-tied-sharded", top / "checkpointed" / "full-tied-sharded", checkpoint=True)
        shared = top / "shared"
        shared = SimpleNamespace(model=shared / "pocket", news=shared / "news.yaml",
                                 data=shared / "data.jsonl", config=shared / "pretrain.yaml",
                                 study=shared / "study.yaml")
        run_scripts(shared, top / "two")
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch)
        run_study(shared, top / "two")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
