"""python -m bench: at tiny sizes both sides of every row bring the same, turns are taken and booked as said,
and what is printed is whole JSON and a table that fits a terminal. Its numbers need a quiet machine."""

import argparse
import gc
import inspect
import json
from dataclasses import replace

import pytest
import torch

peft = pytest.importorskip("peft")
pytest.importorskip("transformers")

from bench import __main__ as command  # noqa: E402
from bench import finetune, scoring, selfplay, theirs, tools  # noqa: E402
from bench.models import SHAPES, TINY, Models, build, twin_of  # noqa: E402
from model.qwen2 import Qwen2  # noqa: E402
from model.sampling import Completion  # noqa: E402
from newnews.training import Recipe  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"),
              # transformers warns of a name that PEFT still asks it for
              pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]
ROWS = {**selfplay.ROWS, **finetune.ROWS, **scoring.ROWS}
MACHINE = {"date": "2026-11-26", "cpu": "a CPU", "threads": 2, "size": "tiny", "shape": "0.5b",
           "torch": "2", "transformers": "5", "peft": "0", "fp32_gflops": 50.0, "copy_gb": 20.0}


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """As the command does: measuring collects garbage every time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)                    # what transformers samples with
    return Models("tiny", "fp32")


def close(a, b, tolerance=1e-4):
    return torch.allclose(torch.as_tensor(a), torch.as_tensor(b), rtol=tolerance, atol=tolerance)


def check_samples(ours, other, new):
    assert len(ours) == len(other) and all(type(c) is Completion for c in ours + other)
    assert all(1 <= len(c.ids) + c.stopped <= new for c in ours + other)
    assert all(c.stopped or len(c.ids) == new for c in ours + other)


def check_adapters(ours, other, learnt=1e-5):
    assert [{n: t.shape for n, t in one.items()} for one in ours] == \
           [{n: t.shape for n, t in one.items()} for one in other]
    assert all(t.norm() > learnt for one in ours + other for t in one.values())     # B started at zero


CHECKS = {
    "one_prompt": lambda a, b: check_samples(a, b, 3), "many_prompts": lambda a, b: check_samples(a, b, 6),
    "pocket": lambda a, b: check_samples(a, b, 8), "one_adapter": check_adapters, "bank_15": check_adapters,
    "bank_75": check_adapters, "bank_16": check_adapters, "decode_256": lambda a, b: check_samples(a, b, 3),
}
SAMPLED = ("one_prompt", "many_prompts", "pocket", "decode_256")        # their lengths are drawn


def check_equal(ours, other):
    """Greedy ids exactly; numbers up to float noise."""
    if torch.is_tensor(ours) or isinstance(ours, float):
        assert close(ours, other)
    elif isinstance(ours[0], list):         # log-probabilities of the options of each request
        assert all(close(a, b) for a, b in zip(ours, other, strict=True))
    else:
        assert ours == other


@pytest.mark.parametrize("name", ROWS)
def test_both_sides_do_the_same(name, models):
    row = ROWS[name]
    work = row.make(models, **row.tiny)
    ours, others, failed = tools.take_turns(work, 1)
    assert set(others) == set(work.theirs) and bool(others) == (name != "help") and not failed
    for runs in others.values():
        CHECKS.get(name, check_equal)(ours[0].done.output, runs[0].done.output)
        if name not in SAMPLED:
            assert runs[0].done.amount == ours[0].done.amount
    # the line that is printed
    line = tools.result(name, "tiny", row, work, ours, others, failed, MACHINE)
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    assert line["ours"]["rate"] > 0 and set(line["bars"]) == set(row.bars)
    assert all(bar["met"] is not None for bar in line["bars"].values())
    assert ("roof" in line) == (name not in ("load", "help"))
    *_, rule, cells = command.table(MACHINE, [line]).splitlines()
    assert cells.count("|") == rule.count("|") == 9 and cells.startswith(f"| {name}: fp32, ")


def test_stop_sets_give_both_sides_the_same_lengths():
    """A stop id in four: 4 tokens on average, if the weights leave all ids alike."""
    model = build(replace(TINY, initializer_range=0.02), torch.float32)
    work = selfplay.samples((model, twin_of(model)), [[5, 6, 7]], 150, 40, set(range(0, TINY.vocab_size, 4)))
    for side in (work.ours, *work.theirs.values()):
        drawn = [len(c.ids) + c.stopped for c in side().output]
        assert 3.2 < sum(drawn) / len(drawn) < 4.8      # 2.5 standard errors: 3.5 / 150 ** .5 is .28


def test_peft_ends_in_our_weights():
    """Ragged conversations, warm-up and clipping, however a step is split; in fp64, of which transformers
    takes norms and losses in fp32. One more step shows."""
    model = build(TINY, torch.float64)
    lists = [finetune.conversations(5, 4, 12, TINY.vocab_size, seed) for seed in (1, 2)]
    recipe = Recipe(steps=6, rate=1e-2, batch=3, warmup=2, clip=0.05)
    work = finetune.adapters((model, twin_of(model)), lists, recipe, parts=(1, 2), grouped=False)
    ours = work.ours().output
    for side in work.theirs.values():
        assert work.gap(ours, side().output) < 1e-5
    more = finetune.adapters((model, None), lists, replace(recipe, steps=7), (1,), False)
    assert work.gap(ours, more.ours().output) > 1e-3


def test_turns(monkeypatch):
    """Ours, theirs, ours, theirs; the first turn tries all, the fastest goes on; ratios are paired."""
    clock, order = [0.0], []
    monkeypatch.setattr(tools.time, "perf_counter", lambda: clock[0])
    seconds = {"ours": iter((1, 2, 4)), "slow": iter((9,)), "fast": iter((3, 8, 4))}

    def call(name):
        order.append(name)
        clock[0] += next(seconds[name])
        return tools.Done(12, flops=60e9, bytes=0, extra={"busy": 0.5})

    work = tools.Work("things", torch.float32, lambda: call("ours"),
                      {name: lambda name=name: call(name) for name in ("slow", "fast")})
    row = tools.Row(None, {"ratio": ">= 1.9", "busy": "<= .4", "memory": "<= 1", "roof": ">= .6"}, {}, {}, {})
    ours, others, failed = tools.take_turns(work, 3)
    assert order == ["ours", "slow", "fast", "ours", "fast", "ours", "fast"]
    line = tools.result("x", "tiny", row, work, ours, others, failed, MACHINE)
    assert line["theirs"]["how"] == "fast" and "failed" not in line
    assert line["tried"] == {"slow": round(12 / 9, 4), "fast": 4.0}
    assert line["ratio"] == {"mean": round(12 ** (1 / 3), 3), "low": 1.0, "high": 4.0}       # 3, 4 and 1
    assert line["ours"]["rate"] == 6 and line["roof"] == {"by": "matrix", "share": 0.6}      # 1.2 of 2 s
    assert {key: bar["met"] for key, bar in line["bars"].items() if key != "memory"} == \
           {"ratio": True, "busy": False, "roof": True}


def test_a_way_that_fails_leaves_the_row_to_the_others(capsys):
    """With none left the row fails: at once, or in a later turn."""
    def breaks(after=0):
        turns = iter(range(after))

        def call():
            if next(turns, None) is None:
                raise TypeError("no such\nargument")
            return tools.Done(1)
        return call

    def work(**ways):
        return tools.Work("things", torch.float32, lambda: tools.Done(1), ways)

    fine = work(new=breaks(), old=lambda: tools.Done(1))
    ours, others, failed = tools.take_turns(fine, 2)
    assert len(ours) == len(others["old"]) == 2 and failed == {"new": "TypeError: no such argument"}
    assert "Traceback" in capsys.readouterr().err
    line = tools.result("x", "tiny", tools.Row(None, {}, {}, {}, {}), fine, ours, others, failed, MACHINE)
    assert line["failed"] == failed and line["theirs"]["how"] == "old" and set(line["tried"]) == {"old"}
    for broken in (work(new=breaks(), old=breaks()), work(only=breaks(after=1))):
        with pytest.raises(TypeError):
            tools.take_turns(broken, 2)


def test_a_peft_run_that_fails_leaves_the_twin_plain(monkeypatch):
    model = build(TINY, torch.float32)
    twin, lists = twin_of(model), [finetune.conversations(4, 4, 9, TINY.vocab_size)]
    names = [name for name, _ in twin.named_modules()]
    work = finetune.adapters((model, twin), lists, finetune.recipe_of(1, 4), (1,), grouped=False)
    monkeypatch.setattr(finetune, "loop", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work.theirs["PEFT"]()
    assert [name for name, _ in twin.named_modules()] == names


def test_a_static_cache_writes_the_same(models):
    twin = models.large[1]
    ids, mask = theirs.left_padded(twin, [[5, 6, 7]])
    plain = theirs.greedy(twin, ids, mask, 6)
    assert theirs.greedy(twin, ids, mask, 6, cache_implementation="static", disable_compile=True) == plain


def test_shapes(monkeypatch):
    """Their published numbers of parameters; and the command knows them."""
    counts = {}
    for shape, config in SHAPES.items():
        with torch.device("meta"):
            model = Qwen2(config)
        counts[shape] = sum(p.numel() for p in model.parameters()) / 1e6
        monkeypatch.setattr("sys.argv", ["bench", "--size", "gpu", "--shape", shape])
        assert command.arguments().shape == shape
    assert counts == pytest.approx({"0.5b": 494.03, "1.5b": 1543.71, "7b": 7615.62}, abs=0.01)
    assert Models("gpu", "bf16", shape="7b").config is SHAPES["7b"]
    assert Models("gpu", "bf16", shape="1.5b").config_of("all").num_hidden_layers == 28
    assert Models("tiny", "bf16", shape="7b").config is TINY


def test_bars_of_a_gpu_are_those_of_its_shape():
    row = tools.Row(None, {"roof": ">= .6"}, {}, {}, {}, gpu={}, gpu_bars={"7b": {"roof": ">= .2"}})
    work = tools.Work("things", torch.float32, lambda: tools.Done(1, flops=1), {})
    for size, shape, bar in (("gpu", "7b", ">= .2"), ("full", "7b", ">= .6"), ("gpu", "0.5b", None)):
        line = tools.result("x", size, row, work, *tools.take_turns(work, 1), {**MACHINE, "shape": shape})
        assert line["bars"].get("roof", {}).get("bar") == bar


def test_a_decode_step_reads_no_table_that_is_not_the_head():
    tied, untied = (build(replace(TINY, tie_word_embeddings=tie), torch.float32) for tie in (True, False))
    assert selfplay.weight_bytes(tied) == selfplay.weight_bytes(untied)


def test_a_gpu_that_holds_nothing_is_not_where_memory_is_measured(monkeypatch):
    """transformers initialises CUDA where there is a card, in a bench of the CPU too."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    assert tools.memory("VmRSS") > 2 ** 20


def test_memory_is_the_peak_of_the_call():
    """Not what was there before, not what earlier calls took."""
    def call(mb, kept=0):
        return lambda: tools.Done(1, float(torch.ones(mb * 2 ** 18).sum()), kept=kept)

    if not tools.settle():
        pytest.skip("this system does not tell the peak")
    peaks = [tools.measure(call(mb)).peak / 2 ** 20 for mb in (200, 50)]
    assert peaks == pytest.approx([200, 50], abs=8)
    assert tools.measure(call(100, 40 * 2 ** 20)).peak / 2 ** 20 == pytest.approx(60, abs=8)


def test_the_command(tmp_path, capsys, monkeypatch):
    args = argparse.Namespace(only=["decode", "long_prompt"], size="tiny", threads=1, dtype="auto",
                              shape="0.5b", device="cpu", out=str(tmp_path / "lines.jsonl"))
    assert command.main(args) == 0
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == ["machine", "decode", "long_prompt"]
    assert lines[0]["copy_gb"] > 0 and lines[0]["fp32_gflops"] > 0 and lines[1]["took"] > 0
    printed = capsys.readouterr().out.splitlines()
    assert [text.split()[1] for text in printed if "tokens/s" in text] == ["decode:", "long_prompt:"]
    # a GPU's shorter calls to warm up, and its ways
    monkeypatch.setattr(Models, "on_gpu", True)
    names = ["decode_256", "decode", "bank_16", "options"]
    assert command.main(argparse.Namespace(**{**vars(args), "only": names})) == 0
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()][1:]
    assert {line["row"]: len(line["tried"]) for line in lines} == \
           {"decode": 2, "decode_256": 2, "bank_16": 1, "options": 3}
    with pytest.raises(ValueError, match="nonsense: no such row; there are one_prompt, "):
        command.main(argparse.Namespace(**{**vars(args), "only": ["nonsense"]}))


def test_a_row_that_fails_does_not_take_the_others_along(tmp_path, capsys, monkeypatch):
    """It dies with adapters on the pocket model, on which the next row puts its own."""
    def broken(models, **size):
        finetune.add_lora(models.pocket[0])
        raise RuntimeError("no such\nthing | at all")

    monkeypatch.setitem(finetune.ROWS, "bank_15", replace(finetune.ROWS["bank_15"], make=broken))
    args = argparse.Namespace(only=["bank_15", "bank_75"], size="tiny", threads=1, dtype="auto", shape="0.5b",
                              device="cpu", out=str(tmp_path / "lines.jsonl"))
    assert command.main(args) == 1
    _, failed, fine = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert failed["error"] == "RuntimeError: no such thing | at all" and fine["row"] == "bank_75"
    assert fine["ratio"]["mean"] > 0
    out, err = capsys.readouterr()
    assert "Traceback" in err and "| bank_15 | RuntimeError: no such thing / at all | | |" in out


def test_every_size_names_what_its_row_takes(models):
    for row in ROWS.values():
        taken = list(inspect.signature(row.make).parameters)[1:]
        assert all(set(size) == set(taken) for size in (row.full, row.quick, row.gpu, row.tiny) if size)
        assert row.tiny and (row.full or row.gpu) and set(row.gpu_bars) <= set(SHAPES)
