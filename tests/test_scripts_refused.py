"""What the command-line scripts refuse: exit code 2, one message that names the place, what was found and
what was expected, and no file that was not there before.

Bad news, data, model folders and words, in this process; three as real ones. What the scripts write is in
test_scripts.py; other runs, broken notes beside an output and wrong configs of studies are in test_kill.py.
"""

import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from cli import ROOT, files, make_model, make_shared, one_thread, refused, script    # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """cli.make_shared, and beside it OTHER: an adapter for another model, LONG: a news item longer than the
    context, BARE: one without questions, FILE: somebody's own."""
    shared = make_shared(tmp_path_factory.mktemp("refused") / "shared")
    other = make_model(shared.folder / "other", hidden_size=16)
    done = script("train.py", "--model", other, "--data", shared.data, "--out", shared.folder / "OTHER",
                  "--steps", 2, "--batch", 2, "--rate", 0.01, "--lora-rank", 2)
    assert done.code == 0, done.err
    item = yaml.safe_load(shared.news.read_text())[0]
    long = {**item, "id": "math-long", "statement": item["statement"] + " So" * 600}
    (shared.folder / "LONG").write_text(yaml.safe_dump([long]))
    (shared.folder / "BARE").write_text(yaml.safe_dump([{**item, "questions": []}]))
    (shared.folder / "FILE").write_text("a user's own file\n")
    return shared


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
