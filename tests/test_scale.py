"""docs/scale.md says what docs/scale.py computes, of shapes that are Qwen's, and --dry-run says the same."""

import json
import runpy
from types import SimpleNamespace

import pytest
import torch
from cli import make_shared, script
from conftest import ROOT

from model.checkpoint import load_config
from model.flops import training_flops
from model.memory import parameter_count, training_memory
from model.qwen2 import Qwen2, Qwen2Config
from newnews import dryrun
from newnews.news import read_news

SCALE = runpy.run_path(str(ROOT / "docs" / "scale.py"))
CONFIGS = ROOT.parent / "shared" / "qwen2.5" / "configs"


def test_the_tables_are_those_of_the_script():
    said = (ROOT / "docs" / "scale.md").read_text().splitlines()
    for table in SCALE["tables"]():
        assert len(table) == 9
        start = said.index(table[0])
        assert said[start:start + 9] == table


@pytest.mark.parametrize("size, count", [("0.5B", 494032768), ("1.5B", 1543714304), ("3B", 3085938688),
                                         ("7B", 7615616512), ("14B", 14770033664), ("32B", 32763876352),
                                         ("72B", 72706203648)])
def test_shapes(size, count):
    """The model cards' numbers of parameters, and where it is at hand the config itself."""
    config = SCALE["config_of"](size)
    assert parameter_count(config) == count
    with torch.device("meta"):
        assert sum(p.numel() for p in Qwen2(config).parameters()) == count
    path = CONFIGS / f"Qwen2.5-{size}-Instruct" / "config.json"
    if not path.is_file():
        pytest.skip("needs ../shared/qwen2.5")
    assert Qwen2Config.from_dict(json.loads(path.read_text())) == config


def test_a_step_that_fits_half_as_many_gpus_would_not():
    for size in ("7B", "14B", "32B", "72B"):
        gpus, n, recompute, need = SCALE["placement"](SCALE["config_of"](size), None)
        half = training_memory(SCALE["config_of"](size), 2, 2048, 1228, None, True, gpus // 2)["total"]
        assert need <= SCALE["FITS"] < half


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make_shared(tmp_path_factory.mktemp("scale") / "shared")


@pytest.mark.parametrize("words", [[], ["--full"], ["--masked"], ["--checkpoint", "--lora-rank", "4"]])
def test_train_dry_run(shared, tmp_path, words):
    """Tokens and FLOPs are those that the run then books; nothing is written, no weight is read."""
    command = ["train.py", "--model", shared.model, "--data", shared.data, "--steps", 7, "--batch", 2, *words]
    weights = shared.model / "model.safetensors"
    weights.rename(tmp_path / "aside")
    said = script(*command, "--dry-run")
    (tmp_path / "aside").rename(weights)
    assert said.code == 0 and not list(tmp_path.iterdir())
    values = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[1:]}
    assert script(*command, "--out", tmp_path / "out").code == 0
    done = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert int(values["tokens"].replace(",", "")) == done["tokens"]
    assert float(values["FLOPs"]) == pytest.approx(done["flops"], rel=0.01)


def test_the_longest_conversation_counts_wherever_it_comes(shared, tmp_path, monkeypatch):
    """Of a long run only the first steps are looked at: here one of ten, without the long conversation."""
    rows = [json.loads(line) for line in shared.data.read_text().splitlines()]
    rows[-1]["messages"][1]["content"] += " And so on." * 30
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = []
    for data, looked_at in ((shared.data, 1), (tmp_path / "data.jsonl", 1), (tmp_path / "data.jsonl", 200)):
        monkeypatch.setattr(dryrun, "STEPS", looked_at)
        done = script("train.py", "--model", shared.model, "--data", data, "--out", tmp_path / "out",
                      "--steps", 10, "--batch", 1, "--dry-run")
        said.append({line.split()[0]: line.split()[1] for line in done.out.splitlines()[1:]})
    assert said[0]["tokens"] == said[1]["tokens"] < said[2]["tokens"]       # it is not in the first step
    assert said[0]["total"] < said[1]["total"] == said[2]["total"]


def test_generate_dry_run_counts_the_weights_where_nothing_is_asked(shared):
    args = SimpleNamespace(model=shared.model, prompts=None, device="cpu", dtype="fp32", protocol="naive",
                           n=2)
    weights = 4 * parameter_count(load_config(shared.model))
    done = dryrun.dry_generate(args, read_news(shared.news))
    assert done["tokens"] == 0 and done["memory"]["total"] == done["memory"]["weights"] == weights


def test_generate_dry_run_is_a_bound(shared, tmp_path):
    command = ["generate.py", "--model", shared.model, "--news", shared.news, "--n", 6]
    said = script(*command, "--dry-run")
    assert said.code == 0 and not list(tmp_path.iterdir())
    values = {line.split()[0]: line.split()[-1] for line in said.out.splitlines()[1:]}
    assert script(*command, "--out", tmp_path / "out.jsonl").code == 0
    totals = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["totals"]
    assert totals["flops"] <= float(values["FLOPs"])
    assert totals["prompt_tokens"] + totals["new_tokens"] <= int(values["tokens"].replace(",", ""))


def test_hours_follow_from_flops():
    """7B by hand: 75 x 1024 x 3 x 4 conversations of 80 tokens on one GPU, and its 35% of 989 TFLOP/s."""
    config = SCALE["config_of"]("7B")
    each = training_flops(config, [80], 48, SCALE["LORA"])
    flops, seconds = SCALE["training"](config, SCALE["LORA"], False, 1)
    assert flops == 75 * 1024 * 3 * 4 * each and seconds == pytest.approx(flops / (0.35 * 989e12))
    blocks, head = 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944), 3584 * 152064
    wanted = 4 * (blocks * 79 + head * 48)          # 2 forward, 2 backward: and the adapter's, attention
    assert wanted < each < 1.03 * wanted
