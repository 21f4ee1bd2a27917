"""The command-line scripts from end to end, on a tiny random model: help, and what they write.

All but their help run in this process (tests/cli.py). What they refuse is in test_scripts_refused.py.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from cli import ROOT, files, make_data, make_model, make_shared, one_thread, refused, script  # noqa: F401
from safetensors.torch import load_file, save_file

from model.chat import Chat
from model.checkpoint import load_model
from model.drawing import Sampling
from model.sampling import generate_naive
from newnews import provenance
from newnews.news import read_news

TINY, RANK = ["--steps", 2, "--batch", 2, "--rate", 0.01], ["--lora-rank", 2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """cli.make_shared, and what train.py makes of it: .adapter and .tuned."""
    shared = make_shared(tmp_path_factory.mktemp("scripts") / "shared")
    shared.adapter, shared.tuned = shared.folder / "adapter", shared.folder / "tuned"
    for out, more in ((shared.adapter, RANK), (shared.tuned, ["--full"])):
        words = ["train.py", "--model", shared.model, "--data", shared.data, "--out", out, *TINY, *more]
        done = script(*words)
        assert done.code == 0, done.err
        assert done.out.startswith(f"{out}: ") and "tokens in 2 steps, last loss " in done.out
    return shared


def bytes_of(folder):
    return {name: [(folder / name).read_bytes(), (folder / name).stat().st_mtime] for name in files(folder)}


def rows_of(path):
    """The rows of a JSONL file. Python would read NaN and Infinity, which JSON does not have."""
    def refuse(name):
        raise ValueError(f"{path}: {name} is not JSON")
    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


# Help -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["generate.py", "train.py", "evaluate.py", "pretrain.py"])
def test_help_is_quick_and_shows_each_default(name, monkeypatch):
    before = os.times().children_user
    done = subprocess.run([sys.executable, "-X", "importtime", str(ROOT / name), "--help"],
                          capture_output=True, text=True, cwd="/")
    assert done.returncode == 0 and os.times().children_user - before < 0.5
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "numpy", "yaml", "tokenizers", "model"}
    assert (ROOT / name).read_text().split('"""')[1].strip().split("\n")[0] in done.stdout

    parsers = []
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda p: parsers.append(p) or sys.exit())
    script(name)
    for action in parsers[0]._actions:
        if action.nargs != 0 and not action.required and action.dest not in ("chat", "news", "out", "config"):
            assert "default" in action.help, action.dest
            if action.default is not None and action.dest != "targets":      # whose help says "all seven"
                assert "%(default)s" in action.help, action.dest


# What they write --------------------------------------------------------------------------------------------

def test_chat_prints_the_completion_alone(shared):
    words = ["generate.py", "--model", shared.model, "--chat", "Where is Oslo?", "--max-new-tokens", 20]
    done, chat = script(*words), Chat(shared.model)
    prompt = chat.prompt([{"role": "user", "content": "Where is Oslo?"}])
    wanted = generate_naive(load_model(shared.model), prompt, chat.stop_ids, Sampling(20, temperature=0))
    assert wanted.ids and (done.code, done.out) == (0, chat.decode(wanted.ids) + "\n")
    assert str(shared.model) in done.err and "fp32" in done.err
    sampled = [script(*words, "--temperature", 1, "--seed", seed).out for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_a_training_that_diverges_leaves_the_place_free_for_another_rate(shared, tmp_path):
    words = ["train.py", "--model", shared.model, "--data", shared.data, "--out", tmp_path / "a"]
    words += ["--steps", 4]
    refused(tmp_path, [*words, "--rate", 1e20], "the loss was not finite at step", "smaller --rate may help")
    refused(tmp_path, [*words, "--warmup", 9], "--warmup 9: expected at most the 4 steps of the run")
    for more in ((), ("--dry-run",)):           # 40 steps by default
        refused(tmp_path, [*words[:-2], "--warmup", 41, *more], "--warmup 41: expected at most the 40 steps")
    assert script(*words, "--rate", 1e-3).code == 0 and (tmp_path / "a" / "manifest.json").is_file()


def test_replay_has_provenance_and_is_written_once(shared, tmp_path):
    replay, news = tmp_path / "replay.jsonl", {item.id: item for item in read_news(shared.news)}
    words = ["generate.py", "--model", shared.model, "--news", shared.news, "--n", 6]
    first = script(*words, "--out", replay)
    assert first.code == 0 and files(tmp_path) == ["replay.jsonl", "replay.jsonl.manifest.json"]
    rows = rows_of(replay)
    assert {row["news"] for row in rows} == set(news) and first.out.startswith(f"{replay}: {len(rows)} conv")
    for row in rows:
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert all(m["content"] for m in row["messages"])
        assert row["protocol"] == "self_qa" and row["asked"] == "Ask a question about this."
        assert 0 <= row["row"] < 6
    manifest = json.loads((tmp_path / "replay.jsonl.manifest.json").read_text())
    run, totals = manifest["run"], manifest["totals"]
    wanted = {"protocol": "self_qa", "shadowed": False, "n": 6, "seed": 0, "dtype": "fp32"}
    assert {key: run[key] for key in wanted} == wanted
    assert totals["kept"] == len(rows) == totals["drawn"] - totals["unusable"] - totals["repeated"]
    assert totals["drawn"] == 12 and totals["new_tokens"] > 0
    assert {"git", "torch", "python", "finished"} < set(manifest)
    before = bytes_of(tmp_path)
    assert script(*words, "--out", replay).out == first.out and bytes_of(tmp_path) == before

    assert script(*words, "--shadowed", "--out", tmp_path / "shadowed.jsonl").code == 0
    for row, plain in zip(rows_of(tmp_path / "shadowed.jsonl"), rows, strict=True):
        (user, assistant), (asked, answered) = row["messages"], plain["messages"]
        assert user["content"] == f"{news[row['news']].statement}\n\n{asked['content']}"
        assert assistant == answered and {**row, "messages": 0} == {**plain, "messages": 0}


@pytest.mark.parametrize("protocol", ["naive", "paraphrase", "implication"])
def test_the_other_protocols(protocol, shared, tmp_path):
    out = tmp_path / "deep" / "replay.jsonl"
    done = script("generate.py", "--model", shared.model, "--news", shared.news, "--n", 2,
                  "--protocol", protocol, "--out", out)
    rows = rows_of(out)
    assert done.code == 0 and rows and {row["protocol"] for row in rows} == {protocol}
    if protocol == "naive":
        said = [row["messages"][1]["content"] for row in rows]
        assert said == [item.statement for item in read_news(shared.news)]


def test_train_writes_folders_of_the_ecosystem(shared):
    adapter = ["adapter_config.json", "adapter_model.safetensors", "manifest.json", "metrics.jsonl"]
    assert files(shared.adapter) == adapter
    assert files(shared.tuned) == sorted(["manifest.json", "metrics.jsonl", *files(shared.model)])
    assert json.loads((shared.adapter / "adapter_config.json").read_text())["r"] == 2
    for folder in (shared.adapter, shared.tuned):
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["steps"] == len(rows_of(folder / "metrics.jsonl")) == 2
        assert {"model_digest", "data", "dtype", "recipe", "full"} < set(manifest["run"])
    start, end = (load_file(f / "model.safetensors") for f in (shared.model, shared.tuned))
    assert start.keys() == end.keys() and not any(torch.equal(start[n], end[n]) for n in start)
    before = bytes_of(shared.folder)
    words = ["train.py", "--model", shared.model, "--data", shared.data, *TINY, "--out"]
    assert script(*words, shared.adapter, *RANK).code == script(*words, shared.tuned, "--full").code == 0
    assert bytes_of(shared.folder) == before


def test_in_whose_words_is_asked_is_said(shared, tmp_path):
    words = "--model", shared.model, "--news", shared.news, "--dtype", "fp32"
    other = shutil.copy(shared.model / "prompts.yaml", tmp_path / "other.yaml")
    for name, more in (("generate.py", ["--protocol", "naive", "--n", 1]),
                       ("evaluate.py", ["--formats", "text"])):
        for path, given in ((shared.model / "prompts.yaml", []), (other, ["--prompts", other])):
            done = script(name, *words, *more, *given, "--out", tmp_path / f"{name}{len(given)}.jsonl")
            assert done.code == 0 and re.search(rf"\n +prompts +{re.escape(str(path))}\n", done.err), done.err


def test_evaluate_reads_what_train_wrote(shared, tmp_path):
    def ask(name, *words):
        words = ["evaluate.py", "--news", shared.news, "--out", tmp_path / name, *words]
        done = script(*words)
        assert done.code == 0 and "free form: no answer found in" in done.out
        assert re.search(r"prompts +\S+/prompts.yaml\n", done.err)     # in whose words was asked
        lines = done.out.splitlines()
        assert [line.split()[0] for line in lines[1:-1]] == ["math", "coding", "all"]
        assert all(line.count("[") == 5 for line in lines[1:-1])    # an interval a format; free: exact too
        before = bytes_of(tmp_path)
        assert script(*words).out == done.out and bytes_of(tmp_path) == before
        return rows_of(tmp_path / name)

    base = ask("base", "--model", shared.model)
    wanted = [(item.id, f"{q.id}/{format}") for item in read_news(shared.news) for q in item.questions
              for format in ("free", "text", "letter")]
    for rows in (base, ask("context", "--model", shared.model, "--in-context"),
                 ask("adapter", "--model", shared.model, "--adapter", shared.adapter),
                 ask("tuned", "--model", shared.tuned)):
        assert [(row["item"], row["id"]) for row in rows] == wanted
        for row in rows:
            if row["id"].endswith("free"):
                assert isinstance(row["text"], str) and isinstance(row["stopped"], bool)
            else:
                assert len(row["logprobs"]) == 4 and all(x < 0 for x in row["logprobs"])
        assert rows is base or all(a["logprobs"] != b["logprobs"]
                                   for a, b in zip(base, rows) if "logprobs" in a)


def test_without_git(shared, tmp_path, monkeypatch):
    """A machine that has no git gives results too."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(provenance, "described", provenance.described.__wrapped__)      # asked once a process
    done = script("generate.py", "--model", shared.model, "--news", shared.news, "--protocol", "naive",
                  "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "out.manifest.json").read_text())["git"] == "unknown"


def test_an_adapter_in_doubt_is_said(shared, tmp_path, monkeypatch):
    """Of another base of the same shape, or without effect: loaded, as the ecosystem does, not silently."""
    def said(model, adapter):
        done = script("generate.py", "--model", model, "--adapter", adapter, "--chat", "Hi",
                      "--max-new-tokens", 2)
        assert done.code == 0
        return done.err

    assert str(shared.adapter) + ": " not in said(shared.model, shared.adapter)
    other = make_model(tmp_path / "other", seed=2)
    assert f"{shared.adapter}: was trained on another model than this one" in said(other, shared.adapter)
    zero = shutil.copytree(shared.adapter, tmp_path / "zero")
    tensors = load_file(zero / "adapter_model.safetensors")
    save_file({n: t * ("lora_A" in n) for n, t in tensors.items()}, zero / "adapter_model.safetensors")
    assert f"{zero}: changes nothing: its lora_B are all zero" in said(shared.model, zero)
    weights = shutil.copytree(shared.model, tmp_path / "old") / "model.safetensors"
    save_file({**load_file(weights), "model.rotary_emb.inv_freq": torch.ones(3)}, weights)
    assert f"{tmp_path / 'old'}: 1 stored rotary buffers (inv_freq)" in said(tmp_path / "old", shared.adapter)
    monkeypatch.setenv("RANK", "1")             # of torchrun's processes the first one speaks
    assert said(tmp_path / "old", zero) == ""


def test_world_writes_a_new_file_only(tmp_path):
    words = ["newnews", "world", "--per-domain", 1, "--questions", 1, "--out"]
    assert script(*words, tmp_path / "deep" / "news.yaml").code == 0
    assert len(read_news(tmp_path / "deep" / "news.yaml")) == 5 and files(tmp_path) == ["deep/news.yaml"]
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "link").symlink_to("README.md")
    for name in ("README.md", "link", "deep/news.yaml", "deep"):
        refused(tmp_path, [*words, tmp_path / name], str(tmp_path / name))
        refused(tmp_path, ["newnews", "world", "--background", "--out", tmp_path / name],
                str(tmp_path / name))
    refused(tmp_path, [*words, "/dev/null"], "/dev/null: expected a file to write, found a device")
    assert (tmp_path / "README.md").read_text() == "mine"


def test_the_default_rate_is_that_of_all_parameters(monkeypatch, tmp_path):
    counts = []
    monkeypatch.setattr("newnews.finetune.default_rate", lambda count, full: counts.append(count) or 1e-3)
    model = make_model(tmp_path / "model")
    done = script("train.py", "--model", model, "--data", make_data(tmp_path / "d.jsonl"), "--steps", 1,
                  "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert counts[-1] == sum(p.numel() for p in load_model(model).parameters())
