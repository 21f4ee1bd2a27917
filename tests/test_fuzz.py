"""A tenth of the bad inputs of tests/fuzz.py, and what its mutations are."""

import random
import resource

import yaml
from cli import one_thread  # noqa: F401
from fuzz import BYTES, FINE, fuzz
from mutations import spoil, spoil_yaml


def test_fifty_bad_inputs_end_in_one_line_and_leave_nothing(tmp_path):
    faults, ends = fuzz(tmp_path, 0, 50)
    assert not faults, "\n".join(faults)
    assert ends["refused"] > 40 and ends.total() == 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < BYTES


def test_a_mutation_changes_one_thing_and_is_the_same_for_the_same_seed():
    tree = {"a": [1, {"b": "x"}], "c": 1.5}
    for seed in range(50):
        made, again = (spoil(random.Random(seed), tree) for _ in range(2))
        assert repr(made[0]) != repr(tree) and repr(made) == repr(again)
    assert tree == {"a": [1, {"b": "x"}], "c": 1.5}


def test_spoilt_yaml_is_what_its_name_says():
    seen = {}
    for seed in range(200):
        made, what = spoil_yaml(random.Random(seed), "a: 1\n")
        seen[what] = made
    assert len(seen) > 15
    assert yaml.safe_load(seen["YAML: twice"]) == {"a": 1}      # a plain reader keeps one of them, in silence


def test_what_is_fine_says_why():
    assert all(pattern and reason for pattern, reason in FINE.items())
