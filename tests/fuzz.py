"""Bad inputs by the hundred: valid files of every kind that we read, spoilt at random, and flags that cannot be.

    python tests/fuzz.py --seed 0 --n 500

Each case must end in exit code 2 and one error that names the file or the flag, with no file made or changed,
within 10 s and 2 GB. A case of which nobody says that it is fine (`fine`) must not be accepted. Cases run in
this process through the scripts as they are (cli.script), every 50th as a process of its own. Prints what is
wrong and exits 1 if anything is; a tenth of it is in tests/test_fuzz.py.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import yaml
from cli import PRETRAIN, PROMPTS, ROOT, STUDY, files, make_shared, script
from mutations import spoil, spoil_json, spoil_tensors, spoil_yaml

SECONDS, BYTES = 10, 2 * 2 ** 30


# Kinds of cases: (rng, base, folder) -> (words, what, texts that the error must name) ------------------------

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
    return ["train.py", "--model", base.model, "--data", path, "--out", folder / "out", "--steps", 1, "--batch",
            2, "--lora-rank", 1], what, [path, key]


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
        part, what, _ = spoil(rng, {key: made["run"][key] for key in ("how", "data", "requests")}, unknown=False)
        path.write_text(json.dumps({**made, "run": part}))
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        what, _ = jsonl_file(rng, rows, path)
        manifest = json.loads(Path(f"{path}.manifest.json").read_text())        # as long as it says
        Path(f"{path}.manifest.json").write_text(json.dumps({**manifest, "bytes": path.stat().st_size}))
    if name == "replay.jsonl":
        return ["newnews", "grade", path, "--news", base.news], f"{name}: {what}", [path]
    return ["newnews", "retain", path.with_name("answers.jsonl"), base.outputs / "answers.jsonl", "--data",
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
          "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "model_type",
          "hidden_act", "use_sliding_window", "rope_parameters", "head_dim", "initializer_range", "rope_theta",
          "attention_dropout")
CONFIGS = {"config.json": CONFIG, "generation_config.json": ("eos_token_id",),
           "tokenizer_config.json": ("chat_template",),
           "tokenizer.json": ("added_tokens", "model", "normalizer", "pre_tokenizer", "decoder")}


def configs(rng, base, folder):
    name = rng.choice(["config.json"] * 4 + sorted(CONFIGS))
    path = beside(base, folder, name)
    tree = json.loads(path.read_text())
    if name == "tokenizer.json":        # few of its thousand entries, so that each kind of mistake is met
        rare = {"vocab": dict(list(tree["model"]["vocab"].items())[:2]), "merges": tree["model"]["merges"][:2]}
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
    return ["generate.py", "--model", path.parent, "--chat", "Hi", "--max-new-tokens", 2], f"{name}: {what}", [
        path.parent]


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
        "--n": ["2"], "--prompts": PLACE, "--out": ["o"], "--protocol": ["naive", "gossip"], "--shadowed": None,
        "--news": ["N"], "--no-such": None},
    "generate.py --model M --news N --protocol naive --out O": {
        "--n": WHOLE, "--seed": WHOLE, "--out": ["", "/", ".", "..", "/dev/null", "/nope\0", "x" * 300, "sub/"],
        "--news": PLACE, "--prompts": PLACE, "--temperature": ["1"], "--top-p": ["7"], "--chat": ["Hi"]},
    "train.py --model M --data D --out O --steps 1 --lora-rank 1": {
        "--steps": WHOLE, "--lora-rank": WHOLE, "--lora-alpha": [*NUMBER, "0"], "--rate": [*NUMBER, "0", "1e30"],
        "--batch": WHOLE, "--warmup": WHOLE, "--clip": NUMBER, "--weight-decay": NUMBER,
        "--micro-tokens": WHOLE, "--seed": WHOLE, "--data": PLACE, "--model": PLACE,
        "--targets": ["", ",", "q_proj,q_proj", "Q_PROJ", "lm_head"], "--schedule": ["", "cos"], "--full": None,
        "--out": ["", "/", ".", "..", "/dev/null", "x" * 300], "--device": ["cpu:0", "tpu"]},
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
            "", "seed", "seed=x", "seed=-1", "draws=0", "draws=1e30", "lora.rank=0", "lora.alpha=nan", "a.b.c=1",
            "recipe.rate=1e400", "recipe.steps=10.5", "axes={protocol: [naive, naive]}", "news=/nope",
            "axes.protocol=naive", "model=/nope", "bank=1000000000000", "recipe.steps=1000000000000",
            "recipe.batch=1000000000000", "news.per_domain=1000000", "device=cpu:5", "dtype=fp8",
            "recipe.optimizer=muon", "ask=[]", "ask=[free, free]", "seed=*a", "lora.targets=[nose]"]}}


def flags(rng, base, folder):
    line = rng.choice(sorted(FLAGS))
    flag, values = rng.choice(sorted(FLAGS[line].items()))
    value = [] if values is None else [rng.choice(values)]
    at = {"M": base.model, "N": base.news, "O": folder / "out", "D": base.data, "A": base.adapter,
          "S": base.study_file}
    words = [at.get(word, word) for word in [*line.split(), *([flag] + value)]]
    return words, f"{line} {flag} {ascii(value[0]) if value else ''}", []


KINDS = {kind.__name__: kind for kind in (news, prompts, study, pretraining, conversations, benchmark, answers,
                                          notes, configs, weights, adapters, flags)}


# Running ----------------------------------------------------------------------------------------------------

def make_base(folder):
    """Valid files of every kind, made once."""
    base = make_shared(folder / "base")
    base.items, base.prompts = (yaml.safe_load(p.read_text()) for p in (base.news, PROMPTS))
    base.rows = [json.loads(line) for line in base.data.read_text().splitlines()]
    base.rows[0]["messages"][1]["weight"], base.rows[1]["messages"][1]["train"] = 1, True
    base.study = {**STUDY, "model": str(base.model), "recipe": {**STUDY["recipe"], "steps": 1}, "draws": 1,
                  "axes": {"protocol": ["naive"], "lora.rank": [1]}, "recipes": {"naive": {"steps": 1}}}
    base.study_file = base.folder / "study.yaml"
    base.study_file.write_text(yaml.safe_dump(base.study))
    base.tokenizer = json.loads((base.model / "tokenizer.json").read_text())
    options = {"options": ["one", "two", "three"]}
    base.benchmarks = {
        "choice": [{"id": "a", "question": "How many?", **options, "answer": 1},
                   {"id": "b", "context": "Count to", "choices": options["options"], "answer": "three"}],
        "gsm8k": [{"question": f"{i} and 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(2)],
        "mmlu_pro": [{"question_id": i, "category": "math", "question": "How many?", **options, "answer": "B"}
                     for i in range(2)],
        "ifeval": [{"key": 1, "prompt": "Say it.", "instruction_id_list": ["length_constraints:number_words"],
                    "kwargs": [{"relation": "at least", "num_words": 3}]}]}
    base.outputs, base.adapter = base.folder / "outputs", base.folder / "adapter"
    model = ["--model", base.model]
    for words in (["train.py", *model, "--data", base.data, "--out", base.adapter, "--steps", 1, "--lora-rank", 1],
                  ["evaluate.py", *model, "--news", base.news, "--out", base.outputs / "answers.jsonl"],
                  ["generate.py", *model, "--news", base.news, "--n", 2, "--out", base.outputs / "replay.jsonl"]):
        done = script(*words)
        assert done.code == 0, done.err
    base.manifest = json.loads((base.outputs / "replay.jsonl.manifest.json").read_text())
    base.progress = {"run": base.manifest["run"], "chunks": 1, "bytes": 0, "totals": {"kept": 1}}
    return base


class Late(BaseException):
    """No Exception, so that nobody takes it for a user's mistake."""


def late(*_):
    raise Late


def spent():
    """Seconds of processor time, ours and that of the children that have ended."""
    return sum(os.times()[:4])


def state(folder):
    return {name: (os.stat(folder / name).st_mtime_ns, os.stat(folder / name).st_size) for name in files(folder)}


def run(case):
    """(what is wrong with how the case ended or "", was it accepted, what it said)"""
    before, start = state(case.folder), spent()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(6 * SECONDS)               # by the clock, beside other processes
    try:
        if case.alone:
            words = case.words if case.words[0].endswith(".py") else ["-m", *case.words]
            done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            done = script(*case.words)
            code, out, err = done.code, done.out, done.err
    except Late:
        return "does not end", False, ""
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}", False, ""
    finally:
        signal.alarm(0)
    if code == 0:
        return "", True, err
    line = err.strip().rpartition("error: ")[2]
    unnamed = [str(text) for text in case.named if str(text) not in err and not (
        isinstance(text, str) and re.search(r"line \d", err))]
    wrong = [f"exit code {code}" * (code != 2), "stdout: " + out[:200] if out and code == 2 else "",
             "files made: " + str(sorted(set(state(case.folder)) ^ set(before)) or "changed")
             if state(case.folder) != before else "",
             f"{spent() - start:.1f} s" if spent() - start > SECONDS else "",
             "not one error" * (err.count("error: ") != 1 or "Traceback" in err or len(line.splitlines()) != 1),
             "long" * (len(line) > 1500), f"does not name {unnamed}" if unnamed else ""]
    return "; ".join(w for w in wrong if w), False, err


def cases(base, folder, seed, n):
    """n cases, each in a folder of its own. The same seed and number give the same case."""
    for i in range(n):
        rng = random.Random(f"{seed} {i}")
        mine = folder / f"case{i}"
        mine.mkdir()
        kind = list(KINDS)[i % len(KINDS)]
        words, what, named = KINDS[kind](rng, base, mine)
        yield SimpleNamespace(i=i, kind=kind, words=words, what=what, named=[x for x in named if x], folder=mine,
                              alone=i % 50 == 49)


def fuzz(folder, seed, n, only=None, say=lambda line: None):
    """[what is wrong] over n cases, and a Counter of how they ended."""
    base, faults, ends = make_base(folder), [], Counter()
    for case in cases(base, folder, seed, n):
        if only is None or case.i in only:
            wrong, accepted, said = run(case)
            if accepted and not fine(case):
                wrong = "accepted"
            ends["wrong" if wrong else "fine, accepted" if accepted else "refused"] += 1
            if wrong:
                faults.append(f"{case.i} {case.kind}: {case.what}\n    {wrong}\n    {said.strip()[-400:]}")
            say(f"{case.i} {case.kind}: {case.what} -> {'accepted' if accepted else said.strip()[-300:]}")
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if memory > BYTES:
                return faults + [f"{case.i} {case.kind}: {case.what}: {memory >> 20} MiB"], ends
        shutil.rmtree(case.folder)
    return faults, ends


def fine(case):
    """Is it right that this case was accepted?"""
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases")
    parser.add_argument("--verbose", action="store_true", help="print each case and what was said")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults, ends = fuzz(Path(folder), args.seed, args.n, args.only, print if args.verbose else lambda line: 0)
    print("\n".join(faults))
    print(f"{args.n} cases of seed {args.seed}: " + ", ".join(f"{count} {end}" for end, count in ends.items()))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
