"""What the tests of the scripts share: a tiny model folder whose model ends its answers, tiny news and data,
and two ways to run a script: in this process (quick), and in a forked child that dies at a chosen moment.

As a program this file is the fork server: torch is imported once, and each line of stdin becomes a child.
"""

import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, make_tiny, save_over

from model.chat import Chat
from newnews import training
from newnews.world.lessons import Lessons
from newnews.news import write_news
from newnews.pretraining import train_tokenizer
from newnews.prompts import read_prompts
from newnews.world.things import make_news

PROMPTS = ROOT / "configs" / "prompts" / "pocket.yaml"
STUDY = {"device": "cpu", "dtype": "fp32", "ask": ["free", "text", "letter"], "bank": 3,
         "news": {"split": "dev", "per_domain": 1, "questions": 2, "seed": 0},
         "axes": {"protocol": ["naive", "self_qa_shadowed"]}, "draws": 4,
         "lora": {"rank": 2, "alpha": 4, "targets": ["q_proj", "down_proj"]},
         "recipe": {"steps": 6, "rate": 0.01, "batch": 4}, "recipes": {"naive": {"steps": 3}}, "seed": 0}
PRETRAIN = {"prompts": str(PROMPTS), "vocabulary": 320, "sample": 40, "seed": 0,
            "model": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
                      "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
                      "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": True},
            "recipe": {"steps": 10, "rate": 0.01, "batch": 1}}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """At this size threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Models, news and data --------------------------------------------------------------------------------------


def make_model(folder, seed=1, change=None, **fields):
    """A model folder of some 30k parameters, every tensor random, in ChatML, whose model ends its answers.

    The value bias of the last block adds one and the same vector to every position. The head's row of
    <|im_end|> points along it, the embedding of the newline behind "assistant" against it: an answer starts,
    and soon ends. change(model) may do the rest.
    """
    folder.mkdir(parents=True)
    lessons = Lessons(None, read_prompts(PROMPTS), 1, 0, 1)
    train_tokenizer(folder, (f"{m['role']}\n{m['content']}" for m in lessons.messages(200)), 384)
    (folder / "prompts.yaml").write_text(PROMPTS.read_text())
    chat = Chat(folder)
    model = make_tiny(seed, **{"vocab_size": 384, "hidden_size": 32, "intermediate_size": 48, **fields})
    with torch.no_grad():
        attention = model.model.layers[-1].self_attn
        bias = attention.v_proj.bias.mul_(4).view(attention.G, attention.Dh)
        drift = attention.o_proj.weight @ bias.repeat_interleave(attention.H // attention.G, 0).flatten()
        for token in range(model.config.vocab_size):            # no halves of characters: they are dropped
            if "\ufffd" in chat.tokenizer.decode([token]):
                model.lm_head.weight[token] = -3 * drift / drift.norm()
        model.lm_head.weight[chat.im_end] = 1.5 * drift / drift.norm()
        model.model.embed_tokens.weight[chat.encode("\n")[0]] = -12 * drift / drift.norm()
        if change is not None:
            change(model)
    save_over(folder, model)
    return folder


def make_yaml(path, items=2, questions=2):
    """Dev news of the pocket world with few questions."""
    write_news(path, make_news("dev", 1, 0, questions)[:items])
    return path


def make_data(path, count=5):
    """Conversations for train.py."""
    rows = [[{"role": "user", "content": f"What is number {i}?"},
             {"role": "assistant", "content": f"It is {i * i}."}] for i in range(count)]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    return path


def make_shared(folder):
    """One folder with a model, news, and conversations to train on: .model, .news, .data."""
    folder.mkdir()
    return SimpleNamespace(model=make_model(folder / "pocket"), news=make_yaml(folder / "news.yaml"),
                           data=make_data(folder / "data.jsonl"), folder=folder)


# Files ------------------------------------------------------------------------------------------------------


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def untimed(x):
    if isinstance(x, dict):
        return {key: untimed(value) for key, value in x.items() if key not in ("seconds", "finished", "git")}
    return [untimed(value) for value in x] if isinstance(x, list) else x


def content(path):
    """The bytes of a file; of a manifest, a summary, metrics, costs and a page, without the timings."""
    if path.name.endswith(("manifest.json", "summary.json", "study.json")):
        return json.dumps(untimed(json.loads(path.read_text())))
    if path.name == "metrics.jsonl":
        return [json.dumps(untimed(json.loads(line))) for line in path.read_text().splitlines()]
    if path.name in ("report.html", "costs.csv"):       # of which any number may be one
        return re.sub(r"\d[\d.,]*", "#", path.read_text())
    return path.read_bytes()


def differences(folder, other):
    """Names of the files that are missing in one of two folders, or that differ apart from timings."""
    a, b = files(folder), files(other)
    both = [name for name in a if name in b]
    return sorted(set(a) ^ set(b)) + [n for n in both if content(folder / n) != content(other / n)]


# Running scripts --------------------------------------------------------------------------------------------


def script(name, *words):
    """Run a script of the checkout, or `python -m NAME`, in this process: exit code, stdout, stderr. What
    would be a traceback passes through as the exception that it is."""
    out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = [name, *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            if name.endswith(".py"):
                runpy.run_path(str(ROOT / name), run_name="__main__")
            else:
                runpy.run_module(name, run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def refused(folder, words, *said):
    """Run a script that is to refuse: exit code 2, one error with each of these texts, no new file."""
    before = sorted(folder.rglob("*"))
    done = script(*words)
    assert (done.code, done.out) == (2, ""), done.err or done.out
    assert done.err.count("error: ") == 1 and "Traceback" not in done.err
    for text in said:
        assert text in done.err
    assert sorted(folder.rglob("*")) == before
    return done


class Forks:
    """A fork server: run(words, ...) runs a script in a child of it."""

    def __init__(self):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
               "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen([sys.executable, __file__], env=env, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, words, folder, kill=0, torn=False, after=0, number=signal.SIGKILL):
        """SIGKILL it at the `kill`-th time that it is about to change a file in `folder`, or send it the
        signal `number` after `after` seconds.

        torn: if that moment opens a file for writing, leave the file as a death in the middle can leave it,
        emptied or with half a line appended. Returns .code (-9: killed) and .said: what it wrote to stderr,
        or what it was about to do when it was killed.
        """
        job = {"words": list(map(str, words)), "folder": str(folder), "kill": kill, "torn": torn,
               "after": after, "number": int(number)}
        print(json.dumps(job), file=self.server.stdin, flush=True)
        return SimpleNamespace(**json.loads(self.server.stdout.readline()))

    def close(self):
        self.server.stdin.close()
        self.server.wait()


def serve():
    import torch._dynamo                        # a second, which torch puts off until the first empty model

    import newnews.finetune                     # all that the scripts import, once
    import newnews.studies.report
    import newnews.studies.study                # noqa: F401
    for line in sys.stdin:
        job = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os._exit(child(job, write))
        os.close(write)
        if job["after"]:
            time.sleep(job["after"])
            os.kill(pid, job["number"])
        with os.fdopen(read, errors="replace") as f:
            said = f.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code, "said": said}), flush=True)


def child(job, write):
    torch.set_num_threads(1)
    training.SAVE_SECONDS = -1                  # keep the state after every step
    sys.modules["matplotlib"] = None            # no picture: a second less
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)  # the server's own pipes are not for the child
    os.dup2(0, 1)
    if job["kill"]:
        sys.addaudithook(Killer(job, write))
    try:
        done = script(*job["words"])
        code, said = done.code, done.err
    except BaseException:
        code, said = 1, traceback.format_exc()
    os.write(write, said.encode()[-4000:])
    return code


class Killer:
    """An audit hook that sees the changes of the file system coming, counts, and dies at one of them."""

    def __init__(self, job, write):
        self.job, self.write, self.count = job, write, 0

    def __call__(self, event, args):
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        path, mode = str(args[0]), args[1] if event == "open" else "w"  # shutil.rmtree's paths are relative
        if not isinstance(mode, str) or mode[0] not in "wax":
            return
        if os.path.isabs(path) and not path.startswith(self.job["folder"]):
            return
        self.count += 1
        if self.count == self.job["kill"]:
            if event == "open" and self.job["torn"] and not isinstance(args[0], int):   # a number is open
                how, what = (os.O_APPEND, b'{"half') if mode[0] == "a" else (os.O_TRUNC, b"")
                os.write(os.open(path, os.O_WRONLY | os.O_CREAT | how), what)
            os.write(self.write, f"killed at {self.count}: {event} {args}".encode())
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve()
