"""Bad inputs by the hundred: valid files of every kind that we read, spoilt at random, and impossible flags.

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
from bad_cases import KINDS
from cli import PROMPTS, ROOT, STUDY, files, make_shared, script

SECONDS, BYTES = 10, 2 * 2 ** 30




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
    for words in (["train.py", "--data", base.data, "--out", base.adapter, "--steps", 1, "--lora-rank", 1],
                  ["evaluate.py", "--news", base.news, "--out", base.outputs / "answers.jsonl"],
                  ["generate.py", "--news", base.news, "--n", 2, "--out", base.outputs / "replay.jsonl"]):
        done = script(*words, "--model", base.model)
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
    found = {name: os.stat(folder / name) for name in files(folder)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def run(case):
    """(what is wrong with how the case ended or "", was it accepted, what it said)"""
    before, start = state(case.folder), spent()
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS + 1)       # of processor time: others may be busy
    try:
        if case.alone:
            words = case.words if case.words[0].endswith(".py") else ["-m", *case.words]
            done = subprocess.run(
                [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)))
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            done = script(*case.words)
            code, out, err = done.code, done.out, done.err
    except Late:
        return "does not end", False, ""
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}", False, ""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if code == 0 or code == 1 and not err:          # 1: `check` has found something in news that can be read
        return "", True, err
    line = err.strip().rpartition("error: ")[2]
    unnamed = [str(text) for text in case.named if str(text) not in line and not (
        isinstance(text, str) and (re.search(r"line \d", line) or text.rpartition(".")[2] in line))]
    wrong = [f"exit code {code}" * (code != 2), "stdout: " + out[:200] if out and code == 2 else "",
             "files made: " + str(sorted(set(state(case.folder)) ^ set(before)) or "changed")
             if state(case.folder) != before else "",
             f"{spent() - start:.1f} s" if spent() - start > SECONDS else "",
             "not one error" * (err.count("error: ") != 1 or "Traceback" in err or "\n" in line),
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
        yield SimpleNamespace(i=i, kind=kind, words=words, what=what, named=[x for x in named if x],
                              folder=mine, alone=i % 50 == 49)


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


# What may be accepted, and why: a pattern of "KIND: WHAT", each read once by a person.
FINE = {
    r"^news: .*'(questions|options|forms)'(, \d+)?\) deleted": "fewer questions or options are news too",
    r"^news: .*'(subject|ask|needs|why|steps|forms|headline)'\) deleted": "optional",
    r"^news: \(\d+,\) deleted": "less news",
    r"^benchmark: .*'(options|choices)', \d+\) deleted": "fewer options, of which the answer is one",
    r"^benchmark: .*'(id|question_id|category|context)'\) deleted": "optional",
    r"^benchmark: .*'(id|question_id|key)'\) = (7|-?10+|3)$": "an id may be any number",
    r"^conversations: .*'(train|weight)'\) (deleted|= None)": "absent",
    r"^conversations: .*'messages', 0\) deleted": "a conversation may begin with the assistant",
    r"^answers: .*'(tokens|row|asked)'": "kept for people and read by nobody",
    r"^answers: .*'logprobs', \d+\) = -1.0": "a log-probability",
    r"^answers: .*'how', 'prompts', '\w+'\) deleted": "it has a default, and the questions are the same",
    r"^answers: .*'how', 'prompts', 'tasks', '\w+'": "words of training, which nobody is asked",
    r"^benchmark: ifeval: .*'num_words'\) = 10+$": "so many words",
    r"^study: \('lora', 'targets', \d\) deleted": "fewer targets",
    r"^study: .*('recipes', '\w+'|'recipe', '\w+'|'recipes', '\w+', '\w+')\) deleted": "what is left says it",
    r"^study: \('axes', 'lora.rank'\) deleted": "then lora.rank holds",
    r"^pretraining: .*'(batch|tie_word_embeddings)'\) deleted": "it has a default",
    r"^configs: config.json: \('(rope_theta|rope_parameters)',\) "
    r"(deleted|= None)": "it is in the other place",
    r"^configs: config.json: .*'rope_(theta|type)'\) (deleted|= None)": "the same",
    r"^configs: config.json: \('(head_dim|initializer_range|attention_dropout|use_sliding_window)',\) "
    r"(deleted|= None)": "optional",
    r"^configs: generation_config.json: .* (deleted|= None)": "then config.json and ChatML say what ends",
    r"^configs: generation_config.json: .* = 7$": "any token may end an answer",
    r"^adapters: .*'(lora_dropout|bias)',\) (deleted|= None)": "without effect when absent",
    r"^notes: out.part/run.json: \('a',\) deleted": "an empty mark is our own first step",
    r"^flags: .*--(seed|warmup|world|top-k|limit|top-p|amplify|clip|weight-decay) '[01e.-]+0*'": "in range",
}


def fine(case):
    """Is it right that this case was accepted?"""
    return any(re.search(pattern, f"{case.kind}: {case.what}") for pattern in FINE)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases")
    parser.add_argument("--verbose", action="store_true", help="print each case and what was said")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        say = print if args.verbose else lambda line: None
        faults, ends = fuzz(Path(folder), args.seed, args.n, args.only, say)
    print("\n".join(faults))
    print(f"{args.n} cases of seed {args.seed}:", ", ".join(f"{count} {end}" for end, count in ends.items()))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
