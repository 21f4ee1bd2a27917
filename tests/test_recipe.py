"""A recipe of training: the rates of its schedules, from tables written by hand, and what is out of range."""

import math

import pytest

from newnews.training import Recipe


@pytest.mark.parametrize("schedule, warmup, steps, table", [
    ("constant", 0, 3, [1, 1, 1]),
    ("constant", 4, 6, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]),
    ("linear", 0, 4, [1, 3 / 4, 2 / 4, 1 / 4]),
    ("linear", 2, 7, [1 / 2, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
    ("cosine", 0, 4, [1, 0.853553390593, 0.5, 0.146446609407]),
    ("cosine", 2, 8, [1 / 2, 1, 1, 0.933012701892, 0.75, 0.5, 0.25, 0.066987298108]),
    ("cosine", 4, 2, [1 / 4, 2 / 4]),
])
def test_rates(schedule, warmup, steps, table):
    recipe = Recipe(steps=steps, rate=0.3, warmup=warmup, schedule=schedule)
    assert [recipe.rate_at(s) for s in range(steps)] == pytest.approx([0.3 * x for x in table], rel=1e-11)


@pytest.mark.parametrize("name, value", [
    ("steps", 0), ("rate", 0.0), ("rate", -1e-3), ("rate", math.inf), ("rate", math.nan), ("batch", 0),
    ("warmup", -1), ("schedule", "step"), ("clip", -0.1), ("clip", math.nan), ("micro_tokens", 0),
    ("steps", 2.5), ("batch", "4"), ("steps", 10 ** 12), ("batch", True), ("micro_tokens", 10 ** 12),
    ("seed", 2 ** 63), ("rate", "x"), ("rate", None), ("rate", True), ("clip", 10 ** 400),
    ("weight_decay", math.inf), ("beta1", [0.9]), ("beta1", 1.0), ("beta2", -0.1), ("matrix_rate", 0),
    ("rate", 1e30), ("schedule", []), ("optimizer", None)])
def test_recipe_names_what_is_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        Recipe(**{"steps": 1, "rate": 1e-3, name: value})
