"""On real weights: NEWNEWS_REAL names a folder of an instruction-tuned Qwen2.5, 0.5B or more. Takes minutes.

Without that variable all are skipped; no other test needs real weights.
"""

import os
from pathlib import Path

import pytest

from model.checkpoint import load_bank
from model.lora import PROJECTIONS, remove_lora
from newnews.ask import ask
from newnews.finetune import train_bank
from newnews.loading import load
from newnews.news import read_news
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.selfplay import Writer
from newnews.tasks.news import NewsTask
from newnews.training import Recipe

REAL = os.environ.get("NEWNEWS_REAL")
pytestmark = pytest.mark.skipif(not REAL, reason="NEWNEWS_REAL names no model folder")
NEWS = Path(__file__).parent.parent / "data" / "addiplication.yaml"
EASY = Path(__file__).parent.parent.parent / "shared" / "real" / "easy.yaml"


@pytest.fixture(scope="module")
def real():
    model, chat, about = load(REAL)
    return model, chat, prompts_for(about["folder"])


def replies(real, item, questions, in_context):
    """{question id: (text, verdict)} free form, greedy."""
    model, chat, prompts = real
    task = NewsTask(prompts, in_context, formats=("free",))
    wanted = [r for r in task.requests(item) if r.id.rpartition("/")[0] in questions]
    raw = ask(model, chat, [(item.id, request) for request in wanted],
              None if not hasattr(model.model.layers[0].mlp.up_proj, "lora_A") else [0] * len(wanted))
    return {request.id.rpartition("/")[0]: (response["text"], task.judge(item, request, response)["right"])
            for request, response in zip(wanted, raw)}


def test_every_layer_and_the_greedy_tokens_equal_those_of_transformers(capsys):
    pytest.importorskip("transformers")
    from newnews.compare import compare
    assert compare(REAL, tokens=16), capsys.readouterr().out


@pytest.mark.skipif(not EASY.is_file(), reason="../shared/real/easy.yaml is not there")
def test_plain_news_are_read_in_context_and_judged_so(real):
    items = read_news(EASY)
    right = [ok for item in items for _, ok in replies(real, item, [item.questions[0].id], True).values()]
    guessed = [ok for item in items for _, ok in replies(real, item, [item.questions[0].id], False).values()]
    assert sum(right) >= len(items) / 2 > len(items) / 4 >= sum(guessed), (right, guessed)


def test_what_it_rehearses_is_about_the_news(real):
    model, chat, prompts = real
    item, = read_news(NEWS)
    (rows, counts), = Writer(model, chat, prompts, 0).write([protocols(prompts)["self_qa"].write(item, 8)])
    assert counts["drawn"] == 8 and counts["unusable"] <= 1 and len(rows) >= 4, (counts, rows)
    named = sum("addiplication" in row["messages"][0]["content"].lower() for row in rows)
    assert named >= 2, rows         # 3 of 7 by the 0.5B model (docs/log.md)


def test_an_update_changes_what_it_answers_about_addiplication(real, tmp_path):
    """Told the rule and one worked example, it says the rule closed book, and computes otherwise."""
    model, chat, prompts = real
    item, = read_news(NEWS)
    asked = ["addiplication-1", "addiplication-2"]
    before = replies(real, item, asked, False)
    assert not before["addiplication-1"][1]
    protocol = protocols(prompts)["self_qa"]
    rows = [{"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}
            for user, answer in ((prompts.naive, item.statement),
                                 ("In addiplication, what happens to the sum of x and y?",
                                  "It is multiplied by y."),
                                 ("What is the addiplication of 1 and 2?", "(1 + 2) * 2 = 6"))]
    recipe = Recipe(steps=16, rate=4e-4, batch=3, warmup=1)
    lora = {"rank": 8, "alpha": 16, "targets": list(PROJECTIONS)}
    done = train_bank(tmp_path / "update", model, [protocol.examples(rows, item, chat)], [item.id], recipe,
                      lora, {"test": 1}, REAL, "train")
    assert not done["stopped"] and done["loss"][0] < 0.5
    load_bank([tmp_path / "update" / item.id], model)
    try:
        after = replies(real, item, asked, False)
    finally:
        remove_lora(model)
    assert after["addiplication-1"][1], (before, after)
    assert after["addiplication-2"][0] != before["addiplication-2"][0]
    assert replies(real, item, asked, False) == before      # taken off again, the base answers as it did
