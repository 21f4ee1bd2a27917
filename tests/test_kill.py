"""Kills, and what else can be wrong with a run.

generate.py, train.py (LoRA and all weights), pretrain.py and a study are SIGKILLed and started again until
done: they end in the bytes of an unbroken run, timings apart and leave no stray file. Three kinds of moments,
in real processes that are forked from one with torch imported: each change of the file system in turn (the
file that was being opened left empty, or with half a line), random ones in a chain of deaths, and moments by
the clock. Then: outputs of other runs, broken notes beside an output, wrong configs, a model with NaN.
Some minutes.
"""

import json
import math
import random
import re
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from types import SimpleNamespace

import pytest
import yaml
from cli import PRETRAIN, STUDY, Forks, differences, files, make_model, make_shared, one_thread  # noqa: F401
from cli import refused, script

from newnews.outputs import Rows

TINY, RANK = ["--steps", 3, "--batch", 2, "--rate", 0.01], ["--lora-rank", 2]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """.run(name, folder, **kill): one of the jobs in a child, writing below folder. .whole(name): the folder
    of an unbroken run. .shared: cli.make_shared."""
    shared = make_shared(tmp_path_factory.mktemp("kill") / "shared")
    study, config = shared.folder / "study.yaml", shared.folder / "pretrain.yaml"
    study.write_text(yaml.safe_dump({**STUDY, "model": str(shared.model)}))
    config.write_text(yaml.safe_dump(PRETRAIN))
    writing = ["generate.py", "--model", shared.model, "--news", shared.news, "--n", 4, "--out"]
    tuning = ["train.py", "--model", shared.model, "--data", shared.data, *TINY, "--out"]
    words = {"generate": lambda f: [*writing, f / "replay.jsonl"],
             "lora": lambda f: [*tuning, f / "adapter", *RANK],
             "full": lambda f: [*tuning, f / "model", "--full"],
             "pretrain": lambda f: ["pretrain.py", config, "--out", f / "grown"],
             "study": lambda f: ["newnews", "run", study, "--out", f / "study"]}
    servers, free, done = [Forks(), Forks()], Queue(), {}
    for server in servers:
        free.put(server)

    def run(name, folder, **kill):
        folder.mkdir(exist_ok=True)
        server = free.get()
        try:
            return server.run(words[name](folder), folder, **kill)
        finally:
            free.put(server)

    def whole(name):
        if name not in done:
            done[name] = shared.folder.parent / name
            last = run(name, done[name])
            assert last.code == 0, last.said
        return done[name]

    yield SimpleNamespace(run=run, whole=whole, shared=shared)
    for server in servers:
        server.close()


# Kills ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["generate", "lora", "full", "pretrain"])
def test_killed_at_each_change_of_the_file_system(name, jobs, tmp_path):
    whole = jobs.whole(name)

    def attempt(k):
        """(exit code of the killed run, where it was killed, what is wrong in the end); one more death
        follows early in the second run, where train() cuts metrics.jsonl back to the state that was kept"""
        folder = tmp_path / str(k)
        first = jobs.run(name, folder, kill=k, torn=True)
        if first.code == 0:
            return None
        jobs.run(name, folder, kill=3, torn=True)
        again = jobs.run(name, folder)
        wrong = differences(folder, whole) if again.code == 0 else f"exit {again.code}: {again.said[-300:]}"
        return first.code, first.said, wrong

    found = []
    with ThreadPoolExecutor(2) as pool:
        while None not in found:
            found += pool.map(attempt, range(len(found) + 1, len(found) + 5))
    found = [x for x in found if x is not None]
    assert len(found) > 8 and {code for code, _, _ in found} == {-9}
    wrong = [f"{said}\n    then {wrong}" for _, said, wrong in found if wrong]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name, most, seed", [("generate", 3, 0), ("lora", 3, 1), ("full", 3, 2),
                                              ("pretrain", 4, 3), ("study", 20, 4), ("study", 30, 5)])
def test_killed_again_and_again(name, most, seed, jobs, tmp_path):
    rng, codes = random.Random(seed), []
    # ever later in a run, so that they come to an end
    while not codes or codes[-1] == -9 and len(codes) < 60:
        last = jobs.run(name, tmp_path / "out", kill=rng.randint(2, most + len(codes)),
                        torn=rng.random() < 0.5)
        codes.append(last.code)
    assert codes.count(-9) > 2 and codes[-1] == 0, (codes, last.said)
    assert differences(tmp_path / "out", jobs.whole(name)) == []


@pytest.mark.parametrize("name", ["generate", "lora", "study"])
def test_killed_by_the_clock(name, jobs, tmp_path):
    after, codes = 0.03, []
    while not codes or codes[-1] == -9:
        codes.append(jobs.run(name, tmp_path / "out", after=after).code)
        after *= 1.5
    assert codes.count(-9) >= 1 and codes[-1] == 0, codes
    assert differences(tmp_path / "out", jobs.whole(name)) == []


def test_the_same_study_again_computes_nothing(jobs):
    whole = jobs.whole("study")
    before = {name: (whole / name).read_bytes() for name in files(whole)}
    assert jobs.run("study", whole).code == 0
    assert {name: (whole / name).read_bytes() for name in files(whole)} == before       # timings included
    assert set(json.loads(before["study/summary.json"])["cells"]) == {"base", "naive", "self_qa_shadowed"}
    replay, = (name for name in before if re.fullmatch(r"study/replay/self_qa-\w+\.jsonl", name))
    assert 10 < before[replay].count(b"\n") <= 20           # 5 news, 4 draws each


# Beside a run -----------------------------------------------------------------------------------------------

def test_a_changed_pretraining_config_is_not_mixed_with_a_broken_run(jobs, tmp_path):
    """Killed once the tokenizer is there; with another vocabulary it is refused, or trained anew."""
    out = tmp_path / "grown"
    for kill in range(4, 20):
        assert jobs.run("pretrain", tmp_path, kill=kill).code == -9
        if any(name.endswith("/generation_config.json") for name in files(tmp_path)):
            break
    (tmp_path / "larger.yaml").write_text(yaml.safe_dump({**PRETRAIN, "vocabulary": 400}))
    done = script("pretrain.py", tmp_path / "larger.yaml", "--out", out)
    if done.code == 0:
        assert len(json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]) == 400
    else:
        assert done.code == 2 and "another run" in done.err


def test_rows_whose_part_was_lost(tmp_path):
    """NAME.part removed or cut, NAME.progress.json left: an error or a fresh start, never bytes of nobody."""
    for size in (None, 5):
        rows = Rows(tmp_path / f"{size}.jsonl", {"seed": 0})
        rows.add([{"row": 1}, {"row": 2}], kept=2)
        rows.part.write_bytes(rows.part.read_bytes()[:size])
        if size is None:
            rows.part.unlink()
        try:
            again = Rows(rows.path, {"seed": 0})
        except ValueError as error:
            assert str(rows.path) in str(error)
            continue
        for _ in range(again.chunks, 1):
            again.add([{"row": 1}, {"row": 2}], kept=2)
        again.finish()
        assert again.read() == [{"row": 1}, {"row": 2}]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"run": {}}'])
@pytest.mark.parametrize("name", ["out.manifest.json", "out.progress.json", "out/manifest.json",
                                  "out.part/run.json"])
def test_a_broken_note_beside_an_output_is_named(name, text, jobs, tmp_path):
    """An editor or a full disk broke what a script had noted about its output: one message, nothing lost."""
    words = ["generate.py", "--news", jobs.shared.news, "--protocol", "naive"]
    if "/" in name:
        words = ["train.py", "--data", jobs.shared.data, *TINY]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    if name == "out.manifest.json":
        (tmp_path / "out").write_text("{}\n")
    refused(tmp_path, [*words, "--model", jobs.shared.model, "--out", tmp_path / "out"], f"{tmp_path}/out")


def test_the_output_of_another_run(jobs, tmp_path):
    shared, other = jobs.shared, make_model(tmp_path / "other", seed=2)
    ours, theirs = ["--model", shared.model], ["--model", other]
    adapter = jobs.whole("lora") / "adapter"
    for k, (words, changes) in enumerate((
            (["generate.py", "--news", shared.news, "--protocol", "paraphrase", "--n", 1],
             [["--seed", 1], ["--n", 2], ["--shadowed"], ["--adapter", adapter]]),
            (["evaluate.py", "--news", shared.news],
             [["--seed", 1], ["--in-context"], ["--adapter", adapter]]),
            (["train.py", "--data", shared.data, *TINY], [["--seed", 1], ["--full"], ["--lora-alpha", 9]]))):
        words += ["--out", tmp_path / str(k)]
        assert script(*words, *ours).code == 0
        refused(tmp_path, [*words, *theirs], f"{tmp_path}/{k}", "another run", "differs in ")
        for change in changes:
            refused(tmp_path, [*words, *ours, *change], f"{tmp_path}/{k}", "another run", "differs in ")


@pytest.mark.parametrize("name, change, said", [
    ("run", {"axes": {"protocol": ["gossip"]}}, "unknown protocol 'gossip'"), ("run", {"extra": 1}, "extra"),
    ("run", {"draws": 0}, "draws: expected a whole number from 1 to 1000000, found 0"),
    ("run", {"recipe": {"steps": 3}}, "rate"),
    ("run", {"recipe": {"steps": 3, "rate": 1, "pace": 2}}, "pace"), ("run", {"model": "nowhere"}, "nowhere"),
    ("run", {"news": {"split": "prod"}}, "news: expected"), ("run", {"recipes": None}, "recipes"),
    ("run", {"news": {**STUDY["news"], "per_domain": 0}}, "per_domain"), ("run", {"lora": None}, "lora"),
    ("run", {"lora": {**STUDY["lora"], "rank": 0}}, "rank"), ("run", {"seed": "x"}, "seed"),
    ("pretrain.py", {"extra": 1}, "extra"),
    ("pretrain.py", {"model": {"hidden_size": 8}}, "model: key 'intermediate_size' is missing"),
    ("pretrain.py", {"model": {**PRETRAIN["model"], "rope": 1}}, "rope"),
    ("pretrain.py", {"model": {**PRETRAIN["model"], "hidden_size": "x"}}, "hidden_size"),
    ("pretrain.py", {"model": {**PRETRAIN["model"], "num_attention_heads": 0}}, "num_attention_heads: "),
    ("pretrain.py", {1: 2}, "bad.yaml: unknown key 1"),
    ("pretrain.py", {"model": {2: 3}}, "model: unknown key 2"),
    ("pretrain.py", {"recipe": {"stepz": 3}}, "recipe: unknown key 'stepz' (is 'steps' meant?)"),
    ("pretrain.py", {"recipe": {"steps": 3}}, "recipe: key 'rate' is missing"),
    ("pretrain.py", {"recipe": {"pace": 2}}, "pace"), ("pretrain.py", {"vocabulary": "many"}, "vocabulary"),
    ("pretrain.py", {"prompts": "nowhere"}, "nowhere: no such prompt file"),
    ("pretrain.py --device tpu", {}, "--device tpu: expected auto, cpu, cuda")])
def test_bad_study_and_pretraining(name, change, said, jobs, tmp_path):
    config = {**STUDY, "model": str(jobs.shared.model)} if name == "run" else PRETRAIN
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**config, **change}))
    words = ["newnews", "run"] if name == "run" else name.split()
    refused(tmp_path, [*words, tmp_path / "bad.yaml", "--out", tmp_path / "out"], said)


def test_a_model_with_nan(jobs, tmp_path):
    """generate and evaluate refuse, they have nothing to say; train stops as it does when a loss diverges."""
    def spoil(model):
        model.model.layers[0].mlp.up_proj.weight[0] = math.nan

    model = ["--model", make_model(tmp_path / "nan", change=spoil)]
    done = script("train.py", *model, "--data", jobs.shared.data, *TINY, "--out", tmp_path / "adapter")
    assert "not finite" in done.out + done.err and done.code in (0, 2)
    news = ["--news", jobs.shared.news, "--out", tmp_path / "out"]
    for words in (["generate.py", "--chat", "Hi"], ["generate.py", "--chat", "Hi", "--temperature", 1],
                  ["generate.py", *news], ["evaluate.py", *news]):
        refused(tmp_path, [*words, *model], "finite")
