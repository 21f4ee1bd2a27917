"""`python -m newnews compare` and `show`: the two tools that explain a model and its data.

compare says OK on each line for a random model here and in transformers, and DIFF from the block on that was
changed on our side. show prints news, requests, conversation and tokens, and marks exactly what carries loss.
Most of its time is transformers' import.
"""

import re

import pytest
import torch
from cli import make_model, make_shared, one_thread, script  # noqa: F401

import newnews.compare
from model.chat import Chat
from model.checkpoint import load_model
from newnews.news import read_news
from newnews.prompts import prompts_for
from newnews.show import show

GREEN = re.compile("\033\\[42m\033\\[30m(.*?)\033\\[0m", re.S)
PARTS = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.layers.2", "model.norm", "logits",
         "32 greedy tokens"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make_shared(tmp_path_factory.mktemp("compare") / "shared")


# compare ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def deeper(tmp_path_factory):
    """A model of three blocks, every tensor random: a dropped bias or a skipped norm shows."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("compare") / "three"
    make_model(folder, num_hidden_layers=3)
    model = load_model(folder)
    assert all(t.float().std() > 0.01 for t in model.state_dict().values())
    return folder


def verdicts(text):
    """{part: OK or DIFF}"""
    return {name: verdict for verdict, name in re.findall(r"^(OK|DIFF) +(\d+ greedy tokens|\S+)", text, re.M)}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_right_model_is_ok_in_each_part(dtype, deeper):
    done = script("newnews", "compare", "--model", deeper, "--dtype", dtype)
    said = verdicts(done.out)
    assert list(said) == PARTS
    if dtype == "fp32":
        assert set(said.values()) == {"OK"} and done.code == 0
    else:                           # a near tie may part the greedy tokens
        assert {said[part] for part in PARTS[:-1]} == {"OK"} and done.code == (said[PARTS[-1]] != "OK")


@pytest.mark.parametrize("changed, first", [
    ("model.embed_tokens.weight", 0), ("model.layers.1.self_attn.k_proj.bias", 2),
    ("model.layers.2.mlp.up_proj.weight", 3), ("model.norm.weight", 4), ("lm_head.weight", 5)])
def test_a_changed_weight_differs_from_there_on(changed, first, deeper, monkeypatch):
    def perturbed(*args, **settings):
        model = load_model(*args, **settings)
        weight = model.get_parameter(changed)
        weight.data = weight + 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        return model

    monkeypatch.setattr(newnews.compare, "load_model", perturbed)
    done = script("newnews", "compare", "--model", deeper)
    said = verdicts(done.out)
    assert [said[part] for part in PARTS[:-1]] == ["OK"] * first + ["DIFF"] * (6 - first)
    assert done.code == 1


def test_compare_returns_the_verdict(deeper, monkeypatch, capsys):
    assert newnews.compare.compare(deeper, tokens=4) is True

    def negated(*args, **settings):
        model = load_model(*args, **settings)
        model.lm_head.weight.data = -model.lm_head.weight
        return model

    monkeypatch.setattr(newnews.compare, "load_model", negated)
    assert newnews.compare.compare(deeper, tokens=4) is False
    assert re.search(r"DIFF +4 greedy tokens +first at token 0: \d+ here, \d+ there", capsys.readouterr().out)


def test_compare_without_a_model():
    done = script("newnews", "compare", "--model", "nowhere")
    assert done.code == 2 and "nowhere: no such model folder" in done.err


# show -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("protocol", ["naive", "naive_shadowed"])
def test_show_marks_exactly_the_supervised_tokens(protocol, shared, capsys):
    """Without colours the tokens are the rendered conversation; the green ones are the answer and its end."""
    item, prompts = read_news(shared.news)[1], prompts_for(shared.model)
    user = prompts.naive if protocol == "naive" else prompts.with_news(item.statement, prompts.naive)
    show(shared.model, item.id, protocol, shared.news, 2, 0, True)
    out = capsys.readouterr().out
    text = re.search(r"^tokens +(.*)\n +(\d+) tokens, (\d+) of them supervised \(marked\)$", out, re.M)
    rendered = f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{item.statement}<|im_end|>\n"
    assert GREEN.sub(r"\1", text[1]) == rendered.replace("\n", "\\n")
    green = GREEN.findall(text[1])
    assert "".join(green) == item.statement + "<|im_end|>"
    chat = Chat(shared.model)
    assert int(text[3]) == len(green) == len(chat.answer(item.statement)) + 1
    assert int(text[2]) == len(chat.conversation([{"role": "user", "content": user},
                                                  {"role": "assistant", "content": item.statement}])[0])
    assert out.startswith(f"news       {item.statement}\n") and out.endswith("\n0 drawn, 1 kept\n")


@pytest.mark.parametrize("protocol", ["paraphrase", "self_qa", "self_qa_shadowed"])
def test_show_walks_through_what_the_writer_did(protocol, shared):
    item, prompts = read_news(shared.news)[0], prompts_for(shared.model)
    words = ["newnews", "show", item.id, "--protocol", protocol, "--n", 3,
             "--news", shared.news, "--model", shared.model]
    done = script(*words)
    assert done.code == 0 and "\033" not in done.out
    kept = int(re.search(r"(\d+) kept$", done.out.strip())[1])
    assert kept >= 1 and done.out == script(*words).out
    request = (prompts.question if protocol.startswith("self_qa") else prompts.paraphrase)[0]
    stages = 2 if protocol.startswith("self_qa") else 1
    names = re.findall(r"^(news|asked|wrote|user|assistant|tokens) +", done.out, re.M)
    assert names == ["news"] + (["asked", "wrote"] * stages + ["user", "assistant", "tokens"]) * kept
    # a rehearsal: the news and the request, and (shadowed) the news again before the conversation
    spaced = item.statement + "\n" + " " * 11 + "\n" + " " * 11
    assert done.out.count(f"asked      {spaced}{request}\n") == kept
    assert done.out.count("user       " + (spaced if protocol.endswith("_shadowed") else "")) == kept
    assert (f"user       {spaced}" in done.out) == protocol.endswith("_shadowed")
    shown = re.findall(r"^tokens +(.*)\n +(\d+) tokens, (\d+) of them supervised", done.out, re.M)
    assert len(shown) == kept
    for line, count, supervised in shown:
        assert line.count("[<|im_end|>]") == 1 and line.count("<|im_end|>") == 2
        assert line.endswith("[<|im_end|>]\\n|")
        assert 1 < int(supervised) < int(count)


@pytest.mark.parametrize("words, said", [
    (["nothing-1"], "no news 'nothing-1'; it has math-"),
    (["nothing-1", "--n", 0], "--n 0: expected at least 1"),
    (["nothing-1", "--protocol", "self_talk"], "invalid choice: 'self_talk'"),
    (["nothing-1", "--news", "nowhere.yaml"], "nowhere.yaml: no such news file or folder")])
def test_show_of_what_is_not_there(words, said, shared):
    done = script("newnews", "show", "--news", shared.news, "--model", shared.model, *words)
    assert done.code == 2 and said in done.err and not done.out
