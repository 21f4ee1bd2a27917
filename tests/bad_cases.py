"""The kinds of cases of tests/fuzz.py: a valid file of each kind is spoilt, or a flag gets what it cannot be.

A kind is a function (rng, base, folder) -> (words, what, named): the command line, what is wrong with it, and
the texts that the error must name. base: fuzz.make_base.
"""

import json
import shutil
from pathlib import Path

import yaml
from cli import PRETRAIN
from mutations import spoil, spoil_json, spoil_tensors, spoil_yaml

def beside(base, folder, name, source=None):
    """A model folder of links, but for the file `name`, which is a copy."""
    made, source = folder / "model", source or base.model
    made.mkdir()
    for path in source.iterdir():
        shutil.copyfile(path, made / path.name) if path.name == name else (made / path.name).symlink_to(path)
    return made / name


def yaml_file(rng, tree, path, only=None, unknown=True):
    if rng.random() < 0.3:
        made, what = spoil_yaml(rng, yaml.safe_dump(tree, sort_keys=False))
        path.write_bytes(made)
        return what, ""
    tree, what, key = spoil(rng, tree, only, unknown)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return what, key


def json_file(rng, path, only=None, tree=None):
    tree = json.loads(path.read_text()) if tree is None else tree
    if rng.random() < 0.3:
        made, what = spoil_json(rng, json.dumps(tree))
        path.write_bytes(made)
        return what, ""
    tree, what, key = spoil(rng, tree, only, unknown=False)
    path.write_text(json.dumps(tree))
    return what, key


def jsonl_file(rng, rows, path, unknown=False):
    """One line of a JSONL file spoilt; its number must be named."""
    lines, at = [json.dumps(row) for row in rows], rng.randrange(len(rows))
    if rng.random() < 0.4:
        made, what = spoil_json(rng, lines[at])
        made = made.replace(b"\n", b" ") if made.strip() else b"7"
    else:
        row, what, key = spoil(rng, rows[at], unknown=unknown)
        made = json.dumps(row).encode()
    path.write_bytes(b"\n".join([*(line.encode() for line in lines[:at]), made,
                                 *(line.encode() for line in lines[at + 1:])]))
    return f"line {at + 1}: {what}", f"line {at + 1}"


def news(rng, base, folder):
    path = folder / "news.yaml"
    what, key = yaml_file(rng, base.items, path)
    words = rng.choice([["generate.py", "--model", base.model, "--protocol", "naive", "--n", 1, "--out",
                         folder / "out", "--news", path],
                        ["evaluate.py", "--model", base.model, "--formats", "text", "--out", folder / "out",
                         "--news", path],
                        ["newnews", "check", path], ["newnews", "browse", path, "--out", folder / "out"],
                        ["newnews", "export", path, "--out", folder / "out"],
                        ["newnews", "show", "math-ferox", "--news", path, "--model", base.model, "--n", 1]])
    return words, what, [path, key]


def prompts(rng, base, folder):
    path = folder / "prompts.yaml"
    what, key = yaml_file(rng, base.prompts, path)
    words = rng.choice([["generate.py", "--protocol", "paraphrase", "--n", 1],
                        ["evaluate.py", "--formats", "text"]])
    return [*words, "--model", base.model, "--news", base.news, "--out", folder / "out", "--prompts",
            path], what, [path, key]


def study(rng, base, folder):
    path = folder / "study.yaml"
    what, key = yaml_file(rng, base.study, path)
    return ["newnews", "run", path, "--out", folder / "out"], what, [path, key]


def pretraining(rng, base, folder):
    path = folder / "pretrain.yaml"
    what, key = yaml_file(rng, PRETRAIN, path)
    return ["pretrain.py", path, "--out", folder / "out"], what, [path, key]


def conversations(rng, base, folder):
    path = folder / "data.jsonl"
    what, key = jsonl_file(rng, base.rows, path)
    return ["train.py", "--model", base.model, "--data", path, "--out", folder / "out", "--steps", 1,
            "--batch", 2, "--lora-rank", 1], what, [path, key]


def benchmark(rng, base, folder):
    path, task = folder / "data.jsonl", rng.choice(sorted(base.benchmarks))
    what, key = jsonl_file(rng, base.benchmarks[task], path)
    return ["evaluate.py", "--model", base.model, "--task", task, "--data", path, "--out", folder / "out",
            *(() if task == "choice" else ("--max-new-tokens", 2))], f"{task}: {what}", [path, key]


def answers(rng, base, folder):
    """Answers of evaluate.py and a replay of generate.py, as the tools that read them again meet them."""
    name = rng.choice(["answers.jsonl", "answers.jsonl.manifest.json", "replay.jsonl"])
    for path in base.outputs.iterdir():
        shutil.copyfile(path, folder / path.name)
    path = folder / name
    if name.endswith("manifest.json"):
        made = json.loads(path.read_text())
        read = {key: made["run"][key] for key in ("how", "data", "requests")}
        part, what, _ = spoil(rng, read, unknown=False)
        path.write_text(json.dumps({**made, "run": part}))
        path = path.with_name("answers.jsonl")          # an error may name either
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        what, _ = jsonl_file(rng, rows, path)
        manifest = json.loads(Path(f"{path}.manifest.json").read_text())        # as long as it says
        Path(f"{path}.manifest.json").write_text(json.dumps({**manifest, "bytes": path.stat().st_size}))
    if name == "replay.jsonl":
        return ["newnews", "grade", path, "--news", base.news], f"{name}: {what}", [path]
    return ["newnews", "retain", folder / "answers.jsonl", base.outputs / "answers.jsonl", "--data",
            base.news], f"{name}: {what}", [path]


def notes(rng, base, folder):
    """What our scripts keep beside an output, broken by an editor or a disk."""
    name, text = rng.choice([("out.progress.json", base.progress), ("out.manifest.json", base.manifest),
                             ("out.part/run.json", {"a": 1})])
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    (folder / "out.part").write_text("") if name == "out.progress.json" else None
    (folder / "out").write_text("") if name == "out.manifest.json" else None
    what, _ = json_file(rng, path, ["run", "chunks", "bytes", "totals", "a"], text)
    words = ["train.py", "--data", base.data, "--steps", 1] if "run.json" in name else [
        "generate.py", "--news", base.news, "--protocol", "naive", "--n", 1]
    return [*words, "--model", base.model, "--out", folder / "out"], f"{name}: {what}", [folder / "out"]


CONFIG = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
          "model_type", "hidden_act", "use_sliding_window", "rope_parameters", "head_dim",
          "initializer_range", "rope_theta", "attention_dropout")
CONFIGS = {"config.json": CONFIG, "generation_config.json": ("eos_token_id",),
           "tokenizer_config.json": ("chat_template",),
           "tokenizer.json": ("added_tokens", "model", "normalizer", "pre_tokenizer", "decoder")}


def configs(rng, base, folder):
    name = rng.choice(["config.json"] * 4 + sorted(CONFIGS))
    path = beside(base, folder, name)
    tree = json.loads(path.read_text())
    if name == "tokenizer.json":        # few of its thousand entries, so that each kind of mistake is met
        rare = {"vocab": dict(list(tree["model"]["vocab"].items())[:2]),
                "merges": tree["model"]["merges"][:2]}
        tree, only = {**tree, "model": {**tree["model"], **rare}}, CONFIGS[name]
        what, _ = json_file(rng, path, only, tree)
        if path.read_bytes()[:1] == b"{" and what[:4] != "JSON":
            made, whole = json.loads(path.read_text()), base.tokenizer["model"]
            for key in ("vocab", "merges"):
                part = made.get("model", {}).get(key) if isinstance(made.get("model"), dict) else None
                if part == rare[key]:
                    made["model"][key] = whole[key]
                elif isinstance(part, dict):
                    made["model"][key] = {**whole[key], **part}
                elif isinstance(part, list):
                    made["model"][key] = part + whole[key][2:]
            path.write_text(json.dumps(made))
    else:
        what, _ = json_file(rng, path, CONFIGS[name])
    return ["generate.py", "--model", path.parent, "--chat", "Hi",
            "--max-new-tokens", 2], f"{name}: {what}", [path.parent]


def weights(rng, base, folder):
    path = beside(base, folder, "model.safetensors")
    what = spoil_tensors(rng, path)
    return ["generate.py", "--model", path.parent, "--chat", "Hi", "--max-new-tokens", 2], what, [path.parent]


def adapters(rng, base, folder):
    name = rng.choice(["adapter_config.json", "adapter_model.safetensors"])
    path = beside(base, folder, name, base.adapter)
    if name == "adapter_config.json":
        only = ("r", "lora_alpha", "lora_dropout", "target_modules", "peft_type", "bias")
        what, _ = json_file(rng, path, only)
    else:
        what = spoil_tensors(rng, path)
    words = rng.choice([["generate.py", "--chat", "Hi", "--max-new-tokens", 2],
                        ["evaluate.py", "--news", base.news, "--formats", "text", "--out", folder / "out"],
                        ["newnews", "chat", "--say", "Hi", "--max-new-tokens", 2]])
    return [*words, "--model", base.model, "--adapter", path.parent], f"{name}: {what}", [path.parent]


WHOLE, NUMBER = ["x", "1.5", "-1", "0", "nan", "", "1e3", str(10 ** 12), str(10 ** 30)], \
    ["x", "nan", "inf", "-1", "", "0x1", "1e400", "-0.5"]
PLACE = ["", "/nope/nope", "/dev/null", "/", "no\nwhere", "x" * 300, "~nobody/x"]
FLAGS = {       # script and flags that stand there anyway: {flag: values}
    "generate.py --model M --chat Hi": {
        "--temperature": NUMBER, "--top-k": WHOLE, "--top-p": [*NUMBER, "0", "2"], "--max-new-tokens": WHOLE,
        "--repetition-penalty": [*NUMBER, "0"], "--seed": WHOLE, "--model": PLACE, "--adapter": PLACE,
        "--device": ["cpu:5", "cpu:x", "cuda:-1", "gpu", "", "cuda:0"], "--dtype": ["fp16", "", "float32"],
        "--n": ["2"], "--prompts": PLACE, "--out": ["o"], "--protocol": ["naive", "gossip"],
        "--shadowed": None, "--news": ["N"], "--no-such": None},
    "generate.py --model M --news N --protocol naive --out O": {
        "--n": WHOLE, "--seed": WHOLE,
        "--out": ["", "/", ".", "..", "/dev/null", "/nope\0", "x" * 300, "sub/"],
        "--news": PLACE, "--prompts": PLACE, "--temperature": ["1"], "--top-p": ["7"], "--chat": ["Hi"]},
    "train.py --model M --data D --out O --steps 1 --lora-rank 1": {
        "--steps": WHOLE, "--lora-rank": WHOLE, "--lora-alpha": [*NUMBER, "0"],
        "--rate": [*NUMBER, "0", "1e30"], "--batch": WHOLE, "--warmup": WHOLE, "--clip": NUMBER,
        "--weight-decay": NUMBER, "--micro-tokens": WHOLE, "--seed": WHOLE, "--data": PLACE, "--model": PLACE,
        "--targets": ["", ",", "q_proj,q_proj", "Q_PROJ", "lm_head"], "--schedule": ["", "cos"],
        "--full": None, "--out": ["", "/", ".", "..", "/dev/null", "x" * 300], "--device": ["cpu:0", "tpu"]},
    "evaluate.py --model M --news N --out O --formats text": {
        "--formats": ["", "text,", "Text", "text,text", "all"], "--limit": WHOLE, "--seed": WHOLE,
        "--world": WHOLE, "--shots": ["2", "-1"], "--turns": None, "--no-template": None, "--examples": ["D"],
        "--max-new-tokens": ["9"], "--task": ["", "gsm8k", "mmlu"], "--data": ["D"], "--prompts": PLACE},
    "newnews world --out O": {"--per-domain": WHOLE, "--questions": WHOLE, "--seed": WHOLE,
                              "--split": ["", "train"], "--out": ["/", "", "/dev/null", "."]},
    "newnews show math-ferox --news N --model M --n 1": {
        "--n": WHOLE, "--seed": WHOLE, "--protocol": ["", "gossip"], "--news": PLACE, "--model": PLACE},
    "newnews chat --model M --adapter A --say Hi --max-new-tokens 2": {
        "--amplify": NUMBER, "--max-new-tokens": WHOLE, "--adapter": PLACE},
    "newnews run S --out O": {
        "--out": ["", "/", "..", "/dev/null"], "--store": ["/dev/null"], "--set": [
            "", "seed", "seed=x", "seed=-1", "draws=0", "draws=1e30", "lora.rank=0", "lora.alpha=nan",
            "a.b.c=1", "recipe.rate=1e400", "recipe.steps=10.5", "axes={protocol: [naive, naive]}",
            "news=/nope", "axes.protocol=naive", "model=/nope", "bank=1000000000000",
            "recipe.steps=1000000000000", "recipe.batch=1000000000000", "news.per_domain=1000000",
            "device=cpu:5", "dtype=fp8", "recipe.optimizer=muon", "ask=[]", "ask=[free, free]", "seed=*a",
            "lora.targets=[nose]"]}}


def flags(rng, base, folder):
    line = rng.choice(sorted(FLAGS))
    flag, values = rng.choice(sorted(FLAGS[line].items()))
    value = [] if values is None else [rng.choice(values)]
    at = {"M": base.model, "N": base.news, "O": folder / "out", "D": base.data, "A": base.adapter,
          "S": base.study_file}
    words = [at.get(word, word) for word in [*line.split(), *([flag] + value)]]
    return words, f"{line} {flag} {ascii(value[0]) if value else ''}", []


KINDS = {kind.__name__: kind for kind in (news, prompts, study, pretraining, conversations, benchmark,
                                          answers, notes, configs, weights, adapters, flags)}
