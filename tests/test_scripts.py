"""The command-line scripts from end to end, on a tiny random model: help, what they write, what they refuse.

Most run in this process (tests/cli.py), a few as real ones. A refusal is exit code 2, one message that names
the place, what was found and what was expected, and no file that was not there before. Other runs, broken
notes beside an output and wrong configs of studies are in test_kill.py.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from cli import ROOT, files, make_data, make_model, make_shared, one_thread, refused, script  # noqa: F401
from safetensors.torch import load_file, save_file

from model.chat import Chat
from model.checkpoint import load_model
from model.drawing import Sampling
from model.sampling import generate_naive
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


def test_evaluate_reads_what_train_wrote(shared, tmp_path):
    def ask(name, *words):
        words = ["evaluate.py", "--news", shared.news, "--out", tmp_path / name, *words]
        done = script(*words)
        assert done.code == 0 and "free form: no answer found in" in done.out
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


# What they refuse -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("change, said", [
    (lambda d: d[1]["questions"][0].pop("text"), "news 2 (coding-lisun): questions: question 1 "
     "(coding-lisun-1): key 'text' is missing"),
    (lambda d: d[0]["questions"][1].update(options=["x"]), "options: expected 2 to 26"),
    (lambda d: d[0]["questions"][0].update(answer=4), "expected the index of an option, 0 to 3, found 4"),
    (lambda d: d[0]["questions"][0].update(answer="B"), "answer: expected a whole number, found 'B'"),
    (lambda d: d[0].update(anser=1), "news 1 (math-ferox): unknown key 'anser'; known are id"),
    (lambda d: d[1].update(id=d[0]["id"]), "id 'math-ferox' occurs twice"),
    (lambda d: d[0]["questions"][1].update(id="math-ferox-1"), "id 'math-ferox-1' occurs twice"),
    (lambda d: d.clear(), "expected a list of news, found nothing"),
    (lambda d: d.__setitem__(0, "Oslo grows"), "news 1: expected a mapping, found str")])
def test_bad_news(change, said, shared, tmp_path):
    news = yaml.safe_load(shared.news.read_text())
    change(news)
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(news))
    for name in ("generate.py", "evaluate.py"):
        words = [name, "--model", shared.model, "--news", tmp_path / "bad.yaml", "--out", tmp_path / "out"]
        refused(tmp_path, words, f"{tmp_path}/bad.yaml: ", said)


GOOD = '{"messages": [{"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "Norway"}]}\n'


@pytest.mark.parametrize("text, said", [
    (GOOD + '{"messages": [', "line 2: not valid JSON"), (GOOD + "[1]", "line 2: expected a JSON object"),
    ("\n" + GOOD.replace("user", "robot"), "line 2: messages[0]: expected role system/user/assistant"),
    (GOOD.replace('"Norway"', "7"), "line 1: messages[1]: "), ("", "holds no conversations"),
    (GOOD + GOOD.replace("assistant", "user"), "line 2: no assistant turn"),
    (GOOD + GOOD.replace("Oslo", "Oslo " * 600), "line 2: "),
    ("\n\n" + GOOD.replace("Oslo", "Oslo " * 600), "line 3: "),
    (GOOD + GOOD.replace('{"m', '{"tools": [{"type": "function"}], "m'), "line 2: tools: found [{"),
    (GOOD.replace('"Norway"', '"Norway", "weight": 0'), "line 1: no assistant turn that is learnt")])
def test_bad_data(text, said, shared, tmp_path):
    (tmp_path / "bad.jsonl").write_text(text)
    words = ["train.py", "--model", shared.model, "--data", tmp_path / "bad.jsonl", "--out", tmp_path / "out"]
    refused(tmp_path, words, f"{tmp_path}/bad.jsonl: {said}")


@pytest.mark.parametrize("name, text, said", [
    ("model.safetensors", None, "no weights; expected model.safetensors"),
    ("model.safetensors", 5000, "not a readable safetensors file, perhaps cut short"),
    ("tokenizer.json", 5000, "not a readable tokenizer.json"), ("tokenizer.json", None, "not found"),
    ("config.json", 20, "not valid JSON"), ("tokenizer_config.json", 20, "not valid JSON"),
    ("generation_config.json", 20, "not valid JSON"),
    ("config.json", '{"model_type": "llama"}', "model_type = 'llama' is not supported")])
def test_bad_model_folder(name, text, said, shared, tmp_path):
    """text: what the file holds instead; a number: how many bytes of it are left; None: it is gone."""
    path = shutil.copytree(shared.model, tmp_path / "bad") / name
    path.write_bytes(path.read_bytes()[:text] if isinstance(text, int) else (text or "").encode())
    if text is None:
        path.unlink()
    out = ["--out", tmp_path / "out"]
    for words in (["generate.py", "--chat", "Hi"], ["train.py", "--data", shared.data, *out],
                  ["evaluate.py", "--news", shared.news, *out]):
        refused(tmp_path, [*words, "--model", tmp_path / "bad"], str(path.parent), name, said)


GENERATE, CHAT = "generate.py --model MODEL --news NEWS --out OUT ", "generate.py --model MODEL --chat Hi "
EVALUATE = "evaluate.py --model MODEL --news NEWS --out OUT "
TRAIN = "train.py --model MODEL --data DATA --out OUT "


@pytest.mark.parametrize("words, said", [
    (GENERATE + "--n 0", "--n 0: expected at least 1"), (GENERATE + "--protocol gossip", "'gossip'"),
    (CHAT + "--news NEWS", "one of --chat and --news"), ("generate.py --model x", "one of --chat and --news"),
    ("generate.py --model MODEL --news NEWS", "--news needs --out"),
    ("train.py --model MODEL --data DATA", "expected --out, or --dry-run"),
    ("pretrain.py --out OUT", "expected a config and"), ("pretrain.py x", "expected a config and"),
    ("pretrain.py --eval MODEL --out OUT", "neither a config nor --out"),
    ("pretrain.py --eval MODEL x", "neither a config nor --out"),
    ("pretrain.py x --out OUT --per-domain 2", "--per-domain is for --eval"),
    (CHAT + "--temperature -1", "temperature = -1.0"), (CHAT + "--max-new-tokens 0", "max_new_tokens = 0"),
    (CHAT + "--max-new-tokens 600", "context of 512"), (GENERATE + "--prompts NEWS", "a mapping"),
    (CHAT + "--model nowhere", "nowhere: no such model folder"), (CHAT + "--model no/where", "no/where: no"),
    (CHAT + "--adapter nowhere", "nowhere/adapter_config.json: not found"),
    (CHAT + "--adapter OTHER", "for another model?"), (EVALUATE + "--adapter OTHER", "for another"),
    (EVALUATE + "--news nowhere", "nowhere: no such news"), (TRAIN + "--data nowhere", "nowhere: no such"),
    (GENERATE + "--news LONG", "math-long"), (EVALUATE + "--in-context --news LONG", "math-long"),
    (EVALUATE + "--news BARE", "has no questions"), (EVALUATE + "--seed -1", "seed"),
    (TRAIN + "--seed -1", "seed"), (EVALUATE + "--formats free,free", "once each"),
    (EVALUATE + "--formats free,cloze", "--formats free,cloze: expected some of letter, text, free, reason"),
    (EVALUATE + "--formats free,reason", "does not say how to ask for thought"),
    *((CHAT + flag, f"{flag.split()[0]} is for --news") for flag in (
        "--n 2", "--protocol naive", "--out OUT", "--prompts NEWS", "--shadowed")),
    *((GENERATE + flag, f"{flag.split()[0]} is for --chat") for flag in (
        "--temperature 1", "--top-k 2", "--top-p 0.5", "--repetition-penalty 2", "--max-new-tokens 9")),
    *((TRAIN + "--full " + flag, f"{flag.split()[0]} is about an adapter") for flag in (
        "--lora-rank 2", "--lora-alpha 2", "--targets q_proj")),
    ("evaluate.py --model MODEL --task choice --data DATA --out OUT --turns", "--turns is about worked"),
    ("evaluate.py --model MODEL --task choice --data DATA --out OUT --max-new-tokens 9", "scores options"),
    *((f"newnews world --background --out OUT {flag} 2", f"{flag} is about news") for flag in (
        "--per-domain", "--questions")),
    *((w + "--out FILE/x", "FILE") for w in (GENERATE, EVALUATE, TRAIN)),
    (GENERATE + "--out FILE", "it has no manifest"), (TRAIN + "--out FILE", "found a file"),
    (TRAIN + "--rate 0", "rate: expected a number, at least 1e-30 and at most 9e+29, found 0"),
    (TRAIN + "--rate -1", "rate: expected"), (TRAIN + "--rate nan", "at most 9e+29, found nan"),
    (TRAIN + "--steps 0", "steps: expected a whole number from 1 to"), (TRAIN + "--batch 0", "batch"),
    (TRAIN + "--schedule zigzag", "zigzag"), (TRAIN + "--clip -1", "clip: expected"),
    (TRAIN + "--targets q_proj,nose", "nose"), (TRAIN + "--lora-rank 0", "rank 0"),
    *((TRAIN + f"--lora-alpha {x}", "lora_alpha = ") for x in ("0", "-1", "nan", "inf")),
    *((w + "--device tpu", "--device tpu: expected auto, cpu, cuda") for w in (GENERATE, EVALUATE, TRAIN)),
    *((w + "--dtype fp8", "--dtype fp8: expected auto, fp32") for w in (GENERATE, EVALUATE, TRAIN)),
    (CHAT + "--device " + ("cuda:99" if torch.backends.mps.is_available() else "mps"), "--device ")])
def test_bad_words(words, said, shared, tmp_path):
    places = {name: shared.folder / name for name in ("OTHER", "LONG", "BARE", "FILE")}
    if not places["OTHER"].exists():
        other = make_model(shared.folder / "other", hidden_size=16)
        made = script("train.py", "--model", other, "--data", shared.data, "--out", places["OTHER"], *TINY,
                      *RANK)
        assert made.code == 0
        item = yaml.safe_load(shared.news.read_text())[0]
        long = {**item, "id": "math-long", "statement": item["statement"] + " So" * 600}
        places["LONG"].write_text(yaml.safe_dump([long]))
        places["BARE"].write_text(yaml.safe_dump([{**item, "questions": []}]))
        places["FILE"].write_text("a user's own file\n")
    places |= {"MODEL": shared.model, "NEWS": shared.news, "DATA": shared.data, "OUT": tmp_path / "out"}
    for name, place in places.items():
        words, said = words.replace(name, str(place)), said.replace(name, str(place))
    refused(tmp_path, words.split(), said)


@pytest.mark.parametrize("words, said", [
    (["train.py", "--model", "MODEL", "--data", "BAD", "--out", "OUT"], "bad.jsonl: line 1: "),
    (["-m", "newnews", "show", "x", "--news", "BAD"], "bad.jsonl: expected a list of news"),
    (["pretrain.py", "BAD", "--out", "OUT"], "bad.jsonl: unknown key 'message'")])
def test_as_a_real_process(words, said, shared, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"message": []}\n')
    places = {"MODEL": shared.model, "BAD": tmp_path / "bad.jsonl", "OUT": tmp_path / "out"}
    words = [str(places.get(word, word)) for word in words]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "") and files(tmp_path) == ["bad.jsonl"]
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr


def test_the_default_rate_is_that_of_all_parameters(monkeypatch, tmp_path):
    counts = []
    monkeypatch.setattr("newnews.finetune.default_rate", lambda count, full: counts.append(count) or 1e-3)
    model = make_model(tmp_path / "model")
    done = script("train.py", "--model", model, "--data", make_data(tmp_path / "d.jsonl"), "--steps", 1,
                  "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert counts[-1] == sum(p.numel() for p in load_model(model).parameters())
