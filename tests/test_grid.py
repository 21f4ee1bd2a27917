"""What a study's YAML may say: the demo reads, changes by --set, axes multiply into cells; each mistake is a
ValueError before any work starts."""

import pytest
import yaml

from newnews.studies.grid import cells, grid_in_words, read_study
from test_study import DEMO

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_demo_reads_and_changes_apply_with_dots_for_depth():
    study = read_study(DEMO)
    assert study == yaml.safe_load(DEMO.read_text())
    changed = read_study(DEMO, ["news.split=dev", "draws=3", "recipes.naive={rate: 0.5}",
                                "axes.protocol=[naive]", "recipes.naive.rate=0.01", "model=x=y"])
    recipes = {**study["recipes"], "naive": {"rate": 0.01}}
    assert changed == {**study, "news": {**study["news"], "split": "dev"}, "draws": 3, "recipes": recipes,
                       "axes": {"protocol": ["naive"]}, "model": "x=y"}
    assert read_study(DEMO, ["axes.recipe.rate=[0.5]"])["axes"] == {**study["axes"], "recipe.rate": [0.5]}
    cell, = cells(changed)
    assert (cell.name, cell.recipe.rate, cell.recipe.steps) == ("naive", 0.01, study["recipe"]["steps"])
    assert cells({**changed, "seed": 8})[0].recipe.seed == 8


def test_a_change_below_a_value_without_keys_is_refused_with_what_would_do():
    with pytest.raises(ValueError, match="draws.n=3: draws is 64, which has no keys; .*draws={n: 3}"):
        read_study(DEMO, ["draws.n=3"])
    with pytest.raises(ValueError, match="--set draws: expected KEY=VALUE"):
        read_study(DEMO, ["draws"])


def test_an_unknown_key_of_the_recipe_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match="recipe of .*: unknown key 'lr'.*known are steps, rate, batch"):
        read_study(DEMO, ["recipe.lr=1"])


def test_a_change_of_the_recipe_holds_for_every_protocol():
    rates = lambda study: {cell.protocol: cell.recipe.rate for cell in cells(study)}
    assert len(set(rates(read_study(DEMO)).values())) > 1
    assert set(rates(read_study(DEMO, ["recipe.rate=1e-4"])).values()) == {1e-4}
    later = read_study(DEMO, ["recipe.rate=1e-4", "recipes.naive.rate=0.5"])
    assert rates(later)["naive"] == 0.5 and rates(later)["self_qa"] == 1e-4


def test_axes_multiply_into_frozen_cells():
    study = read_study(DEMO, [
        "axes={protocol: [naive, self_qa], seed: [0, 1], recipe.steps: [5], draws: [4, 8]}"])
    found = cells(study)
    assert [cell.name for cell in found] == [f"{p} seed={s} draws={d}" for p in ("naive", "self_qa")
                                             for s in (0, 1) for d in (4, 8)]
    assert {cell.recipe.steps for cell in found} == {5} and [c.recipe.seed for c in found[:3]] == [0, 0, 1]
    assert grid_in_words(study) == "8: protocol naive, self_qa; seed 0, 1; recipe.steps 5; draws 4, 8"
    assert len(set(found)) == 8                             # frozen and hashable
    assert {cell.writer for cell in found} == {study["model"]}
    assert {cell.writer for cell in cells(read_study(DEMO, ["writer=other"]))} == {"other"}
    rated = cells(read_study(DEMO, ["axes={protocol: [naive], recipe.rate: [0.5, 0.25], lora.rank: [1]}"]))
    assert [cell.recipe.rate for cell in rated] == [0.5, 0.25] and rated[0].lora[0] == 1


MISTAKES = [        # change, words that the message has to have
    ("color=red", ["color", "unknown"]), ("axes.protocol=[naive, rumour]", ["'rumour'", "naive"]),
    ("axes.protocol=[]", ["protocol"]), ("axes.protocol=[naive, naive]", ["protocol", "different"]),
    ("axes={seed: [1]}", ["protocol is missing"]), ("axes.color=[1]", ["'color'", "protocol"]),
    ("axes.seed=[high]", ["seed", "'high'"]), ("axes.draws=[0]", ["draws", "0"]),
    ("axes.seed=[-1]", ["seed", "-1"]), ("axes.seed=[9223372036854775808]", ["seed"]),
    ("axes.draws=[1000001]", ["draws: expected", "1000000"]),
    ("axes.bank=[10001]", ["bank: expected", "10000"]),
    ("recipes.rumour.rate=1", ["'rumour'"]), ("recipes=null", ["recipes"]),
    ("draws=0", ["draws: expected a whole number from 1"]),
    ("recipes.naive=fast", ["recipes"]), ("draws=2.5", ["draws", "2.5"]),
    ("draws=1000000000", ["draws"]), ("seed=-1", ["seed"]), ("bank=0", ["bank"]), ("bank=true", ["bank"]),
    ("recipe.rate=0", ["recipe", "rate"]), ("recipe.rate=.nan", ["rate"]),
    ("lora.alpha=.nan", ["lora", "alpha"]), ("recipe.steps=0", ["recipe", "steps"]),
    ("recipe.clip=.nan", ["recipe of every protocol", "clip"]),
    ("lora.targets=[q_proj, q_proj]", ["lora", "once each"]),
    ("recipe.schedule=step", ["recipe", "schedule"]), ("recipe.epochs=3", ["recipe", "epochs"]),
    ("recipe.rate=high", ["recipe"]), ("recipes.self_qa={batch: 0}", ["self_qa", "batch"]),
    ("recipes.implication_shadowed={batch: 0}", ["batch"]),
    ("news.split=train", ["news", "split"]), ("ask=[free, song]", ["ask", "song"]), ("ask=[]", ["ask"]),
    ("lora=null", ["lora"]), ("lora.dropout=0", ["lora"]), ("lora.targets=[lm_head]", ["lora", "targets"]),
    ("news.size=3", ["news", "per_domain"]), ("draws", ["--set draws", "KEY=VALUE"]),
    ("draws.more=1", ["--set draws.more=1"]), ("news={split: dev", ["{split: dev"]),
    ("axes={protocol: [naive], 1: [2]}", ["axes", "1"]), ("news.split=[dev]", ["news", "split"]),
    ("news={path: a.yaml, per_domain: 0}", ["news", "per_domain"]), ("writer=7", ["writer", "7"]),
    ("recipe.optimizer=muon", ["muon", "whole models"]),
]


@pytest.mark.parametrize("change, wanted", MISTAKES)
def test_mistakes_in_a_study_are_refused(change, wanted):
    with pytest.raises(ValueError) as error:
        read_study(DEMO, [change])
    said = str(error.value)
    assert all(word in said for word in wanted) and ("--set" in said or str(DEMO) in said), said


def test_zero_is_a_value_and_limits_are_reached():
    assert {cell.scale for cell in cells(read_study(DEMO, ["scale=0"]))} == {0}
    study = read_study(DEMO, ["axes={protocol: [naive], draws: [1000000], bank: [10000], seed: [0]}"])
    cell, = cells(study)
    assert (cell.draws, cell.bank, cell.seed) == (10 ** 6, 10 ** 4, 0)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"model: [\n", b"model: '\xff'\n", b"model: pocket\n"])
def test_files_that_are_no_study(content, tmp_path):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path / "s.yaml")):
        read_study(tmp_path / "s.yaml")
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        read_study(tmp_path / "none.yaml")
