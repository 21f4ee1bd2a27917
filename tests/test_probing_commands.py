"""`python -m newnews probe` and `chat`, and the script in docs: what they write, say and refuse."""

import contextlib
import csv
import io
import subprocess
import sys
from ast import literal_eval
from dataclasses import replace
from shutil import copytree

import pytest
import torch
from cli import make_data, make_model, make_yaml, one_thread, refused, script  # noqa: F401 (a fixture)
from conftest import ROOT
from merging import merged_tensors

from model.checkpoint import load_model, save_adapter, save_model
from model.files import read_json
from model.lora import adapted, add_lora, remove_lora
from newnews import console, probing
from newnews.news import read_news, write_news
from newnews.probing import command, output
from newnews.prompts import prompts_for


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A tiny model folder, two adapters a and b of it, the first merged into full weights, and two news."""
    folder = tmp_path_factory.mktemp("probing")
    make_model(folder / "model")
    model = load_model(folder / "model")
    for k, name in enumerate("ab"):
        add_lora(model, ["q_proj", "down_proj"], rank=2, alpha=2, seeds=[k])
        for i, module in enumerate(adapted(model).values()):
            generator = torch.Generator().manual_seed(10 * k + i)
            module.lora_B.data.copy_(torch.randn(module.lora_B.shape, generator=generator))
        save_adapter(folder / name, model, 0, "tiny")
        if name == "a":
            save_model(folder / "full" / "a", model.config, merged_tensors(model), source=folder / "model")
        remove_lora(model)
    make_yaml(folder / "news.yaml")
    make_data(folder / "replay.jsonl")
    return folder


def words(here, kind, *more, adapter="a"):
    item = read_news(here / "news.yaml")[0].id
    return ["newnews", "probe", kind, "--model", here / "model", "--adapter", here / adapter, "--news",
            here / "news.yaml", "--id", item, "--out", here / "out", *more]


def read(path):
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


@pytest.mark.parametrize("kind", probing.KINDS)
def test_every_kind_writes_rows_and_a_picture_and_says_its_nulls(here, kind):
    short = ["--graphs", "grid-2", "--tokens", "20", "--walks", "2"] if kind == "geometry" else []
    done = script(*words(here, kind, "--against", here / "b", "--null", here / "b", *short))
    assert done.code == 0, done.err
    rows = read(here / "out" / f"{kind}.csv")
    assert rows and (here / "out" / f"{kind}.png").stat().st_size > 5000
    assert "null" in (here / "out" / f"{kind}.csv").read_text()
    if kind == "gate":      # nulls by layer and module too
        assert {(r["layers"], r["modules"]) for r in rows if r["update"].startswith("null")} == {
            (layer, part) for layer in ("0", "1", "all") for part in ("attention", "mlp", "all")}
    assert "null" in done.out and f"{kind}.csv" in done.out
    said = done.out.partition(f"\n{probing.READ[kind][0]}, farthest from 0: ")[2]
    assert "null" in said and said.index("null") < said.index(f"{kind}.csv")
    assert max(map(len, done.out.splitlines())) < 260 and len(done.out.splitlines()) < 80


NAMES = {"update", "positions", "layers", "modules", "how", "what", "run", "layer", "site", "pair", "output",
         "head", "context", "module", "from", "element", "news", "place", "token", "with", "one", "two", "a",
         "opening", "steered", "position"}


@pytest.mark.parametrize("kind", [kind for kind in probing.KINDS if kind != "geometry"])
def test_an_adapter_merged_into_full_weights_gives_its_own_numbers(here, kind, monkeypatch):
    """To the rounding of the merged weights; nulls are other random draws. Behind the test above, whose rows
    are the adapter's."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = script(*[{"--adapter": "--tuned", here / "a": here / "full" / "a"}.get(word, word)
                    for word in words(here, kind, "--against", here / "b", "--null", here / "b", "--out",
                                  here / "merged")])
    assert done.code == 0, done.err
    low, full = ({tuple((key, row[key]) for key in row if key in NAMES): row
                  for row in read(here / folder / f"{kind}.csv")
                  if not any("null" in value for value in row.values())} for folder in ("out", "merged"))
    assert len(low) >= 7
    for name, row in low.items():
        for key in row:
            if key not in NAMES and not key.startswith(("null", "cosine null", "loss_random")):
                try:
                    assert float(full[name][key]) == pytest.approx(float(row[key]), rel=2e-3, abs=2e-4), key
                except ValueError:
                    assert full[name][key] == row[key]


def test_a_reading_names_every_label_and_its_nulls(tmp_path):
    rows = [{"run": "tuned", "x": 1.0, "y": 3.0}, {"run": "tuned", "x": -2.0, "y": 1.0},
            {"run": "null: twin", "x": None, "y": 0.5}, {"run": "null: twin", "x": 0.25}]
    assert output.reading(rows, "x", "run") == "x, farthest from 0: tuned -2; null: twin 0.25"
    by_column = [{"m": 1, "cosine": 0.5, "null_cosine": 0.1, "cosine naive": -0.75}]
    assert output.reading(by_column, "cosine") == "cosine, farthest from 0: update 0.5; null 0.1; naive -0.75"
    more = [*rows, {"one": "tuned", "two": "null: twin", "x": 9.0}]      # rows of another shape
    assert output.reading(more, "x", "run") == output.reading(rows, "x", "run")
    assert output.reading(rows, "z", "run") == output.reading([], "x", "run") == ""
    plain = [{"run": "base", "x": 0.5, "null_x": 0.25}, {"run": "tuned", "x": 0.75, "null_x": 0.125}]
    assert output.reading(plain, "x", "run") == ("x, farthest from 0: base 0.5; base, null 0.25; tuned 0.75; "
                                                 "tuned, null 0.12")        # without a label that is a null
    heads = [{"run": "base", "layer": 1, "head": h, "x": x} for h, x in enumerate((0.1, -0.5, 0.3))]
    assert output.reading(heads, "x", "run") == "x, farthest from 0: base -0.5 (layer 1, head 1)"
    output.write_csv(tmp_path / "x.csv", rows)
    assert output.reading(output.read_csv(tmp_path / "x.csv"), "x", "run") == output.reading(rows, "x", "run")
    assert output.read_csv(tmp_path / "x.csv")[3] == {"run": "null: twin", "x": 0.25, "y": None}


def test_no_matplotlib_no_picture(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = script(*words(here, "compare", "--against", here / "b", "--out", here / "plain"))
    assert done.code == 0 and "matplotlib is missing" in done.out
    assert sorted(p.name for p in (here / "plain").iterdir()) == ["compare.csv", "compare.manifest.json"]


def test_what_bf16_rounds_away_is_said(here, tmp_path):
    for name in ("model", "full/a"):
        model = load_model(here / name, dtype=torch.bfloat16)
        tensors = model.state_dict()
        if name != "model":     # a norm is a part of the update too
            tensors["model.norm.weight"] = tensors["model.norm.weight"] * 1.5
        save_model(tmp_path / name, model.config, tensors, source=here / "model")
    start = ["newnews", "probe", "spectrum", "--model", tmp_path / "model", "--out", tmp_path / "out"]
    done = script(*start, "--tuned", tmp_path / "full/a")
    assert done.code == 0 and "may be rounding alone" in done.err + done.out, done.err
    rows = {(row["layer"], row["module"]): row for row in read(tmp_path / "out" / "spectrum.csv")}
    assert float(rows["", "norm"]["relative"]) == pytest.approx(0.5, rel=0.01)
    assert 0 < float(rows["0", "q_proj"]["noise_norm"]) < float(rows["0", "q_proj"]["norm"])
    refused(tmp_path, [*start, "--tuned", tmp_path / "full/a", "--only", "norm"],
            "--only norm: chooses none of")


def test_some_modules_only(here):
    done = script(*words(here, "spectrum", "--only", "q_proj", "--out", here / "only"))
    assert {r["module"] for r in read(here / "only" / "spectrum.csv")} == {"q_proj"} and done.code == 0
    done = script(*words(here, "lens", "--layers", "1", "--out", here / "only"))
    assert {r["layer"] for r in read(here / "only" / "lens.csv")} == {"1"} and done.code == 0
    for kind, who, least in (("gate", "a", 20), ("knockout", "base", 3)):   # the table has the layers named
        done = script(*words(here, kind, "--layers", "0", "1", "--out", here / "only"))
        found = [line.split()[2] for line in done.out.splitlines() if line.split()[:1] == [who]]
        assert done.code == 0 and min(found.count("0"), found.count("1")) >= least


def test_what_a_sentence_says_without_a_null_label(here):
    """The two others are not one, though no label begins with null."""
    done = script(*words(here, "spectrum", "--against", here / "b", "--out", here / "two"))
    assert "farthest from 0: a " in " ".join(done.out.split()) and "; b " in " ".join(done.out.split())


def test_geometry_needs_no_update(here):
    start = ["newnews", "probe", "geometry", "--model", here / "model", "--out", here / "walks"]
    done = script(*start, "--graphs", "ring-3", "ring-4", "--tokens", "20", "--layers", "1")
    assert done.code == 0, done.err
    rows = read(here / "walks" / "geometry.csv")
    assert {(r["run"], r["layer"], r["nodes"]) for r in rows} == {("base", "1", "3"), ("base", "1", "4")}
    assert (here / "walks" / "geometry_maps.png").stat().st_size > 5000
    start[-1] = here / "other walks"
    refused(here, [*start, "--graphs", "cube-3"], "graph 'cube-3': expected grid-K")
    refused(here, [*start, "--tokens", "9999"], "--tokens 9999 --walks 4: expected walks of 16 to")
    refused(here, [*start, "--only", "q_proj"], "--only: names modules of an update, and there is none")


def test_another_probe_in_the_same_folder_is_refused(here, monkeypatch):
    """The same one is read again; what is told apart is an update's content, not its path alone."""
    again = words(here, "spectrum", "--out", here / "once")
    assert script(*again).code == 0 and script(*again).code == 0
    kept = (here / "once" / "spectrum.csv").read_bytes()
    for other, differs in (([*words(here, "spectrum", adapter="b"), "--out", here / "once"], "updates"),
                           ([*again, "--only", "q_proj"], "only")):
        refused(here, other, "spectrum.csv: the probe of another run is there already (differs in " + differs)
    run = read_json(here / "once" / "spectrum.manifest.json")["run"]
    assert run["prompts"] == prompts_for(here / "model").digest
    assert script(*words(here, "lens", "--null", here / "b", "--out", here / "null")).code == 0
    refused(here, words(here, "lens", "--against", here / "b", "--out", here / "null"), "differs in updates")
    monkeypatch.chdir(here)                         # the same file by another path, and other news beside
    assert script(*again, "--news", "news.yaml").code == 0
    first, second = read_news(here / "news.yaml")
    write_news(here / "changed.yaml", [first, replace(second, domain="other")])
    refused(here, [*again, "--news", "changed.yaml"], "differs in asked")
    with monkeypatch.context() as patch:            # killed when the rows have just been written
        patch.setattr(output, "write_csv", lambda *args, real=output.write_csv: real(*args) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            script(*words(here, "compare", "--against", here / "b", "--out", here / "once"))
    assert script(*words(here, "compare", "--against", here / "b", "--out", here / "once")).code == 0
    (here / "once" / "spectrum.manifest.json").unlink()
    refused(here, again, "it has no manifest")
    assert (here / "once" / "spectrum.csv").read_bytes() == kept


def test_an_adapter_of_another_base_is_said_to_be_one(here, tmp_path):
    copytree(here / "a", tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text('{"run": {"model_digest": "another"}}')
    done = script(*words(here, "spectrum", "--adapter", tmp_path / "a", "--out", tmp_path / "out"))
    assert done.code == 0 and "was trained on another model than this one (another," in done.err


def test_an_update_of_a_study_has_its_protocol_in_its_name_and_its_base_in_the_manifest_above(here, tmp_path):
    made = [tmp_path / f"naive-{digit * 16}" / name
            for digit, name in (("1", "zog"), ("2", "zog"), ("1", "zag"))]
    for folder in made:
        copytree(here / "a", folder)
    (made[0].parent / "manifest.json").write_text('{"run": {"stage": "update", "model": "another"}}')
    done = script(*words(here, "compare", "--against", *made[1:], "--out", tmp_path / "out", adapter=made[0]))
    assert done.code == 0 and "was trained on another model than this one (another," in done.err
    assert {row["one"] for row in read(tmp_path / "out" / "compare.csv")} - {""} == {
        "naive/zog", "zog", "naive/zag"}
    for foreign in ('{"run": {"stage": "replay", "model": "another"}}', '{"run": []}', '[1]', '{"run": {'):
        (made[0].parent / "manifest.json").write_text(foreign)      # a folder above may hold anything
        done = script(*words(here, "spectrum", "--out", tmp_path / "foreign", adapter=made[0]))
        assert done.code == 0 and "another model" not in done.err, done.err


def test_the_map_of_a_group_has_the_updates_in_one_order_both_ways(here, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(output, "draw_maps", lambda path, maps: drawn.extend(maps))
    against = "--against", here / "b", here / "full" / "a"
    assert script(*words(here, "compare", *against, "--out", tmp_path)).code == 0
    rows = {(row["one"], row["two"]): row for row in read(tmp_path / "compare.csv") if row["one"]}
    for key, down, across, matrix in drawn:
        assert down == across == ["a", "b", "full/a"]
        for i, one in enumerate(down):
            assert matrix[i] == [None if two == one else float(rows[one, two][key]) for two in across]
    assert [key for key, *_ in drawn] == ["cosine", "centred", "with_mean"]


def test_a_bar_counts_passes(here, tmp_path, monkeypatch):
    bars = []

    class Bar(console.Lines):
        def close(self):
            bars.append((self.desc, self.total, self.done))
    monkeypatch.setattr(command, "progress", Bar)
    for kind in ("lens", "spectrum"):
        assert script(*words(here, kind, "--out", tmp_path)).code == 0
    (lens, none, passes), spectrum = bars
    assert (lens, none, spectrum) == ("probe lens", None, ("probe spectrum", None, 0)) and passes == 4
    model = load_model(here / "model")
    with command.counted(model, "lens"):
        assert model.model._forward_hooks
    assert not model.model._forward_hooks
    monkeypatch.setattr(console.Lines, "said", -1e9)
    line = io.StringIO()
    with contextlib.redirect_stderr(line):
        console.Lines(None, 0, "probe lens", "pass").update(3)
    assert line.getvalue() == "  probe lens: 3 pass\n"


def test_an_output_that_cannot_be_made_is_noticed_before_the_work(here):
    refused(here, words(here, "spectrum", "--out", here / "news.yaml"), "expected a folder to write")


def test_of_one_news_item_alone_only_the_amplified_text_is_read(here, tmp_path):
    write_news(tmp_path / "one.yaml", read_news(here / "news.yaml")[:1])
    done = script(*words(here, "readout", "--news", tmp_path / "one.yaml", "--out", tmp_path))
    assert done.code == 0 and "no difference lens, steering or removal" in done.out
    assert {row["update"] for row in read(tmp_path / "readout.csv")} == {"base", "a", "null: random twin"}


def test_shadow_reads_a_replay_file(here):
    done = script(*words(here, "shadow", "--replay", here / "replay.jsonl", "--out", here / "replayed"))
    assert done.code == 0, done.err
    rows = read(here / "replayed" / "shadow.csv")
    assert {r["news"] for r in rows} == {"with", "without"} and {r["element"] for r in rows} == set("0123")


def test_what_makes_no_sense_is_refused_in_one_line(here, tmp_path):
    model = here / "model"
    refused(tmp_path, words(here, "gate", "--layers", "2"), "--layers 2: the model has layers 0 to 1")
    refused(tmp_path, words(here, "spectrum", "--only", "q_prog"), "'q_prog' matches none", "q_proj")
    refused(tmp_path, words(here, "spectrum", "--layers", "1"), "--layers: spectrum does not use it; readout")
    refused(tmp_path, words(here, "lens", "--id", "math-x"), "no news 'math-x'; the nearest names are math-")
    refused(tmp_path, words(here, "compare", "--out", tmp_path / "x"),
            "compare needs another adapter: --against")
    refused(tmp_path, words(here, "gate", adapter="c"), "adapter_config.json")
    loaded = load_model(model)
    for name in ("q_proj", "up_proj"):
        save_adapter(tmp_path / name, add_lora(loaded, [name], rank=2), 0, "tiny")
        remove_lora(loaded)
    refused(tmp_path, words(here, "compare", "--adapter", tmp_path / "q_proj", "--against",
                            tmp_path / "up_proj", "--out", tmp_path / "x"), "up_proj share no projection")
    assert not (tmp_path / "x").exists()
    refused(tmp_path, words(here, "context", "--only", "q_proj", "--out", tmp_path / "x"),
            "and this update changes none of them")
    start = ["newnews", "probe", "lens", "--model", model, "--out", tmp_path]
    refused(tmp_path, [*start, "--adapter", here / "a"], "lens: which news is the update about? --news FILE")
    refused(tmp_path, [*start, "--adapter", here / "a", "--news", here / "news.yaml"], "holds 2 news", "--id")
    refused(tmp_path, ["newnews", "probe", "spectrum", *start[3:], "--adapter", here / "a", "--id", "x"],
            "--id x: --news names no file to find it in")
    refused(tmp_path, start, "lens opens up an update: --adapter ADAPTER or --tuned MODEL")
    refused(tmp_path, [*start, "--adapter", here / "full" / "a"], "is a whole model; --tuned reads one")
    refused(tmp_path, [*start, "--tuned", here / "a"], "is an adapter; --adapter reads one")
    refused(tmp_path, words(here, "spectrum", "--only", "norm"), "'norm' matches none")
    refused(tmp_path, words(here, "lens", "--tokens", "20"), "--tokens: lens does not use it; geometry does")
    same = ["newnews", "probe", "spectrum", "--model", model, "--tuned", model, "--out", tmp_path]
    refused(tmp_path, same, "there is no update to open up")
    model = load_model(here / "full/a")
    model.model.norm.weight.data[0] = float("nan")
    save_model(tmp_path / "diverged", model.config, model.state_dict(), source=here / "model")
    diverged = ["newnews", "probe", "spectrum", "--model", here / "model", "--tuned", tmp_path / "diverged"]
    refused(tmp_path, [*diverged, "--out", tmp_path],
            "NaN or infinite numbers in 1 of", "first in model.norm")
    make_model(tmp_path / "other", hidden_size=48)
    refused(tmp_path, words(here, "spectrum", "--model", tmp_path / "other"), "an adapter for another model?")


def test_chat_says_three_answers(here, monkeypatch):
    start = ["newnews", "chat", "--model", here / "model", "--adapter", here / "a", "--max-new-tokens", "5"]
    done = script(*start, "--say", "What is new?")
    assert done.code == 0 and done.out.startswith("base")
    assert "\ntuned" in done.out and "\namplified" in done.out
    lines = iter(["What is new?", "", "Who?"])

    def typed(sign):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    twice = script(*start)
    assert twice.code == 0 and twice.out.startswith(done.out) and twice.out.count("\nbase") == 1
    refused(here, [*start[:-1], "0", "--say", "x"], "--max-new-tokens 0: expected at least 1")
    long = script(*start, "--say", "What is new? " * 200)
    assert long.code == 2 and "5 new ones do not fit the model's context of 512" in long.err


def test_the_script_in_docs_finds_that_the_news_was_learnt():
    path = ROOT / "docs/probe_by_hand.py"
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    found = {line.split()[0]: literal_eval(line.split(None, 1)[1]) for line in done.stdout.splitlines()[1:]}
    assert found["tuned"]["accuracy"] > 0.9 > found["base"]["accuracy"]
    assert found["base"]["log_odds"] < found["subject"]["log_odds"] < found["tuned"]["log_odds"]
    assert len(path.read_text().splitlines()) <= 40
