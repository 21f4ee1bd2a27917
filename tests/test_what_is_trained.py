"""What is trained, and on what beside the news: each a line of a study's YAML.

grid      blocks, targets and rank as axes; learner, scale, neutral, form, together; mistakes; a study without
          them is what it was
form      what carries loss in each, by hand; which protocols have one
neutral   the share, over lists of any length; what is drawn; a teacher's view; resume
a study   adapters in some blocks only, read by PEFT's name; neutral examples; grafting: another checkpoint's
          updates, scaled, on the model that is asked; forms; one adapter for several news
"""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, make_tiny
from merging import delta
from safetensors.torch import load_file, save_file
from test_news import POCKET
from test_study import DEMO, tiny       # noqa: F401 (a fixture)

from model.chat import Chat
from model.checkpoint import load_adapter, load_bank, load_model, save_adapter
from model.lora import adapted, add_lora
from newnews.ask import ask
from newnews.batches import Shuffled
from newnews.examples import Example
from newnews.neutral import Neutral, mixed
from newnews.protocols import protocols
from newnews.protocols.base import conversation, plain_text
from newnews.protocols.form import FORMS, in_form
from newnews.studies import stages
from newnews.studies.grid import cells, read_study
from newnews.tasks.news import NewsTask
from newnews.world.things import make_news

pytestmark = pytest.mark.usefixtures("one_thread")
CHAT = Chat(ROOT / "data" / "pocket")


# ---- grid ----

def axes(text, *changes):
    return cells(read_study(DEMO, [*changes, f"axes={{protocol: [naive], {text}}}"]))


def test_what_is_trained_is_a_line_in_a_study():
    found = axes("lora.targets: [[q_proj, k_proj, v_proj, o_proj], [gate_proj, up_proj]]")
    assert [c.name for c in found] == ["naive lora.targets=q,k,v,o", "naive lora.targets=gate,up"]
    assert [c.lora[2] for c in found] == [("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj")]
    assert [c.lora for c in axes("lora.rank: [1, 64]", "lora.layers=[1, 3]")] == [
        (rank, 16, tuple(read_study(DEMO)["lora"]["targets"]), (1, 3)) for rank in (1, 64)]
    found = axes("lora.layers: [[0, 3], [2, 2]]")
    assert [(c.name, c.lora[3]) for c in found] == [
        ("naive lora.layers=0,3", (0, 3)), ("naive lora.layers=2,2", (2, 2))]
    assert [c.neutral for c in axes("neutral.share: [0, 0.1]", "neutral.source=lessons")] == [
        (), (0.1, "lessons")]
    found, = axes("scale: [0.5]", "learner=other")
    assert (found.learner, found.writer, found.model, found.scale) == ("other", "other", "data/pocket", 0.5)
    found = axes("form: [chat, text], together: [true, false]")
    assert [(c.name, c.form, c.together) for c in found[:3]] == [
        ("naive form=chat together=true", "chat", True), ("naive form=chat together=false", "chat", False),
        ("naive form=text together=true", "text", True)]
    assert [(c.name, c.form, c.together) for c in axes("seed: [0]", "form=all", "together=true")] == [
        ("naive", "all", True)]


def test_a_study_without_these_lines_is_what_it_was():
    """Its cells have the values that digests leave out."""
    for cell in cells(read_study(DEMO)):
        assert len(cell.lora) == 3 and cell.neutral == () and cell.scale == 1
        assert cell.form == "chat" and not cell.together
        assert cell.learner == cell.writer == cell.model


@pytest.mark.parametrize("changes, wanted", [
    (["lora.layers=[3]"], ["layers", "[3]"]), (["lora.layers=[2, 1]"], ["layers"]),
    (["lora.layers=all"], ["layers"]), (["lora.layers=[-1, 2]"], ["layers"]),
    (["neutral={share: 0.1}"], ["neutral", "source"]),
    (["neutral={share: 1, source: lessons}"], ["neutral", "share"]), (["neutral=0.1"], ["neutral"]),
    (["neutral={share: true, source: lessons}"], ["share"]), (["scale=''"], ["scale"]),
    (["scale=.nan"], ["scale"]), (["learner=7"], ["learner"]),
    (["form=verse"], ["form", "chat, all, text", "'verse'"]), (["form=[all]"], ["form"]),
    (["axes={protocol: [naive], form: [2]}"], ["form", "texts"]), (["together=1"], ["together"]),
    (["axes={protocol: [naive], together: [maybe]}"], ["together", "true or false", "'maybe'"]),
    (["axes={protocol: [naive, masked], form: [chat, all]}"], ["form", "all is not for masked"]),
    (["axes={protocol: [naive], scale: [big]}"], ["scale", "'big'"]),
    (["axes={protocol: [naive], neutral.share: [0.1]}"], ["neutral", "source"])], ids=str)
def test_mistakes_are_refused(changes, wanted):
    with pytest.raises(ValueError) as error:
        read_study(DEMO, changes)
    assert all(word in str(error.value) for word in wanted), error.value


# ---- form ----

def test_what_carries_loss_in_each_form():
    item = make_news("dev", 1, 0, 1)[0]
    row = {"messages": conversation("Is it so?", "It is."), "news": item.id}
    for name, before in (("self_qa", ""), ("self_qa_shadowed", f"{item.statement}\n\n")):
        found = {form: in_form(protocols(POCKET)[name], form).examples([row], item, CHAT)[0]
                 for form in FORMS}
        assert found["chat"].ids == found["all"].ids
        asked, end = [*CHAT.encode(f"user\n{before}Is it so?")], CHAT.im_end
        heads = [len(CHAT.encode("user\n")), len(CHAT.encode("assistant\n"))]
        answer = CHAT.encode("It is.")
        nothing, start = [0.0], [0.0]
        turns = [[0.0] * heads[0] + [1.0] * (len(asked) - heads[0] + 1),
                 [0.0] * heads[1] + [1.0] * (len(answer) + 1)]
        assert found["all"].weights == [w for turn in turns for w in (*start, *turn, *nothing)]
        assert sum(found["chat"].weights) == len(answer) + 1 and end in found["all"].ids
        assert found["text"] == Example(*CHAT.document(f"{before}Is it so?\nIt is."))
        assert sum(found["text"].weights) == len(found["text"].ids) - 1


def test_a_form_is_for_protocols_that_are_trained_on_conversations():
    plain = {"naive", "paraphrase", "implication", "self_qa", "mixed"}
    fine = plain | {f"{name}_shadowed" for name in plain} | {
        "self_qa_other", "self_qa_wrong", "self_qa_choice"} | {
        f"self_qa_shadowed_{kind}" for kind in ("other", "shuffled", "unrelated", "after")}
    for name, protocol in protocols(POCKET).items():
        assert in_form(protocol, "chat") is protocol
        if name in fine:
            wrapped = in_form(protocol, "text")
            assert wrapped.name == name and wrapped.sources == protocol.sources and wrapped.loss is None
            continue
        with pytest.raises(ValueError, match=f"text is not for {name}, which"):
            in_form(protocol, "text")


def test_a_form_keeps_which_rows_are_chosen_and_the_words_that_count():
    news = make_news("dev", 2, 0, 1)
    rows = {item.id: [{"messages": conversation("?", item.id), "news": item.id, "row": 0}] for item in news}
    for name in ("self_qa_other", "self_qa_shadowed_unrelated"):
        inner = protocols(POCKET)[name]
        assert in_form(inner, "all").choose(rows, news) == inner.choose(rows, news) != rows
        assert in_form(inner, "all").wording() == inner.wording()


# ---- neutral examples ----

def uses(lists, batch=8, steps=400):
    batches = Shuffled(lists, batch, [3] * len(lists))
    return [example for step in range(steps) for example in batches(step)[0]]


@pytest.fixture
def general(tmp_path):
    path = tmp_path / "general.jsonl"
    rows = [conversation("Is it so?", "It is."), plain_text("Steel is hard."), conversation("Why?", "So.")]
    path.write_text("".join(json.dumps({"messages": m}) + "\n" for m in rows))
    return path, [Example(*CHAT.conversation(m)) for m in rows]


@pytest.mark.parametrize("size", [1, 5, 40])
def test_the_share_is_that_of_the_uses_whatever_the_list(size, general):
    path, rows = general
    mine = [Example([i, i], [0.0, 1.0]) for i in range(size)]
    found = uses([mixed(mine, 0.25, Neutral(path, CHAT, POCKET, 512).draw)])
    assert len(found) >= 400 * min(8, size)
    other = [example for example in found if example not in mine]
    assert abs(len(other) / len(found) - 0.25) < 4 * (0.1875 / len(found)) ** 0.5
    assert all(other.count(row) > len(other) / 5 for row in rows) and all(e in rows for e in other)
    assert uses([mixed(mine, 0.25, Neutral(path, CHAT, POCKET, 512).draw)]) == found   # from the seed: resume


def test_an_example_that_is_drawn_stays_so_and_a_teacher_sees_a_neutral_one_as_it_is(general):
    path, rows = general
    seen = Example([1, 2], [0.0, 1.0], Example([5, 1, 2], [0.0, 0.0, 1.0]))
    drawn = lambda rng: seen._replace(ids=[int(rng.integers(10)), 2])
    found = uses([mixed([drawn], 0.5, Neutral(path, CHAT, POCKET, 512).draw)])
    neutral = [example for example in found if example.ids in [row.ids for row in rows]]
    assert 0 < len(neutral) < len(found) and all(e.other == Example(e.ids, e.weights) for e in neutral)
    assert len({e.ids[0] for e in found if e not in neutral}) == 10


def test_lessons_are_exchanges_about_things_that_are_no_news():
    neutral = Neutral("lessons", CHAT, POCKET, 512)
    found = [neutral.draw(np.random.default_rng([0, i])) for i in range(200)]
    said = [CHAT.decode(example.ids) for example in found]
    assert len(set(said)) > 190 and all(any(example.weights) for example in found)
    assert all(text.count("\nassistant\n") <= 1 for text in said)
    names = {item.subject.lower() for split in ("dev", "test") for item in make_news(split, 40, 0, 1)}
    words = {word.strip(".,?():;").lower() for text in said for word in text.split()}
    assert not names & words and any("steel" in text or "plus" in text for text in said)


def test_a_neutral_text_that_does_not_fit_is_named(general):
    with pytest.raises(ValueError, match="general.jsonl: conversation 1 .*context, 4"):
        Neutral(general[0], CHAT, POCKET, 4)


# ---- a study ----

def test_adapters_in_the_upper_block_only(tiny):        # noqa: F811
    tiny.run("axes={protocol: [naive], lora.layers: [[0, 1], [1, 1]]}")
    configs = [json.loads(p.read_text()) for p in tiny.out.glob("updates/*/*/adapter_config.json")]
    assert sorted(c.get("layers_to_transform", []) for c in configs) == [[]] * 3 + [[1]] * 3
    kinds = {tuple(load_file(p)) for p in tiny.out.glob("updates/*/*/adapter_model.safetensors")}
    assert sorted(map(len, kinds)) == [2, 4] and all("layers.1." in name for name in min(kinds, key=len))


def test_neutral_examples_make_another_update_and_no_share_the_same_one(tiny, general):     # noqa: F811
    tiny.run("axes.protocol=[naive]")
    before = tiny.stamps()
    tiny.run("neutral.share=0", "neutral.source=lessons", "axes.protocol=[naive]")
    assert tiny.stamps() == before
    tiny.run(f"neutral.source={general[0]}", "axes={protocol: [naive], neutral.share: [0, 0.5]}")
    fresh = {str(path).split("/")[0] for path in tiny.stamps().keys() - before.keys()}
    assert fresh == {"updates", "answers"}
    before = tiny.stamps()
    moved = shutil.copy(general[0], tiny.out.with_name("other.jsonl"))     # its content counts, not its place
    tiny.run(f"neutral.source={moved}", "axes={protocol: [naive], neutral.share: [0, 0.5]}")
    assert tiny.stamps() == before


def test_an_update_of_another_checkpoint_scaled(tiny, tmp_path, monkeypatch):       # noqa: F811
    """Learnt on one model, asked on the other, times .5; the base that is asked is the model's own."""
    first, second = tmp_path / "pocket", shutil.copytree(tmp_path / "pocket", tmp_path / "second")
    tensors = load_file(second / "model.safetensors")
    save_file({n: t * 1.1 for n, t in tensors.items()}, second / "model.safetensors", {"format": "pt"})
    asked, answer_all = [], stages.answer_all

    def watched(output, model, chat, task, items, adapters_of, label):
        if adapters_of is not None:
            with adapters_of(items[:1]):
                asked.append((model.lm_head.weight.clone(), delta(next(iter(adapted(model).values())))))
        return answer_all(output, model, chat, task, items, adapters_of, label)

    monkeypatch.setattr(stages, "answer_all", watched)
    found = tiny.run(f"learner={second}", "axes={protocol: [naive], scale: [0.5, 1]}")
    assert list(found["cells"]) == ["base", "naive scale=0.5", "naive scale=1"]
    assert len(list(tiny.out.glob("updates/naive-*"))) == 2                         # two banks, learnt once
    assert len(list(tiny.out.glob("answers/naive.closed_book-*.jsonl"))) == 2       # and asked at each scale
    path = next(p for p in tiny.out.glob("updates/*/zog"))
    assert json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(second)
    model = load_model(first)
    alone = delta(next(iter(adapted(load_adapter(path, load_model(first))).values())))
    assert all(torch.equal(head, model.lm_head.weight) for head, _ in asked)
    assert torch.allclose(asked[0][1], 0.5 * alone) and torch.allclose(asked[-1][1], alone)


def test_a_writer_without_words_for_a_protocol_is_refused_before_any_work(tiny):         # noqa: F811
    for name in ("spa", "entigraph"):
        with pytest.raises(ValueError, match="no words for it"):
            tiny.run(f"axes.protocol=[naive, {name}]")
    assert not tiny.out.exists()


def test_a_bank_is_loaded_with_a_strength(tmp_path):
    model = add_lora(make_tiny(0), ("q_proj",), 2, 3)
    generator = torch.Generator().manual_seed(0)
    for module in adapted(model).values():
        torch.nn.init.normal_(module.lora_B, generator=generator)
    wanted = {name: delta(module) * 0.3 for name, module in adapted(model).items()}
    save_adapter(tmp_path / "a", model)
    bank = load_bank([tmp_path / "a"] * 2, make_tiny(0), 0.3)
    assert all(torch.allclose(delta(module, 1), wanted[name]) for name, module in adapted(bank).items())


def test_forms_are_updates_of_their_own_and_chat_is_the_plain_one(tiny):         # noqa: F811
    tiny.run("axes.protocol=[naive]")
    before = tiny.stamps()
    runs = [json.loads(p.read_text())["run"] for p in tiny.out.glob("updates/*/manifest.json")]
    assert all(set(run) == {"stage", "model", "dtype", "device", "protocol", "lora", "recipe", "names",
                            "data"} for run in runs)        # as before there were forms: stores stay valid
    tiny.run("axes={protocol: [naive], form: [chat, all, text]}")
    assert tiny.stamps().items() >= before.items() and len(list(tiny.out.glob("replay/*.jsonl"))) == 1
    tokens = {}
    for path in tiny.out.glob("updates/*/manifest.json"):
        found = json.loads(path.read_text())
        tokens.setdefault(found["run"].get("form", "chat"), []).append(found["tokens"])
    assert sorted(tokens) == ["all", "chat", "text"] and sorted(tokens["all"]) == sorted(tokens["chat"])
    assert sum(tokens["text"]) < sum(tokens["chat"])
    page = json.loads((tiny.out / "study.json").read_text())
    assert [cell["form"] for cell in page["cells"]] == ["chat", "all", "text"]


def test_news_of_a_bank_share_one_adapter_that_is_asked_about_each(tiny, monkeypatch):       # noqa: F811
    """Trained on the rows of all of them, loaded once; its answers are those of the adapter alone."""
    lists, banks, train_bank, bank_of = [], [], stages.train_bank, stages.load_bank
    monkeypatch.setattr(stages, "train_bank", lambda out, model, data, names, *rest: (
        lists.append((names, data)), train_bank(out, model, data, names, *rest))[1])
    monkeypatch.setattr(stages, "load_bank", lambda folders, *rest: (
        banks.append(folders), bank_of(folders, *rest))[1])
    found = tiny.run("axes.protocol=[naive]", "together=true", "ask=[text]")
    chat = Chat(tiny.file.parent / "pocket")
    said = [[chat.decode(e.ids).split("\n")[-2] for e in data] for _, (data,) in lists]
    assert [names for names, _ in lists] == [["together"], ["together"]]
    assert said == [["A zog is new.", "A zag is new."], ["A zug is new."]]
    folders = {tuple(json.loads((p / "manifest.json").read_text())["run"]["names"]): p
               for p in tiny.out.glob("updates/*/")}
    assert all(sorted(bank) == sorted(p / "together" for p in folders.values()) for bank in banks) \
        and len(banks) == 2
    assert found["cells"]["naive"]["closed_book"]["text"]["n"] == 3
    # a slow twin: each adapter alone
    prompts = stages.prompts_for(tiny.file.parent / "pocket")
    task, rows = NewsTask(prompts, False, 0, ["text"]), {}
    for names, path in folders.items():
        model = load_adapter(path / "together", load_model(tiny.file.parent / "pocket"))
        some = [(item.id, request) for item in tiny.items if item.id in names
                for request in task.requests(item)]
        rows |= {row["item"]: row["logprobs"] for row in ask(model, chat, some, [0] * len(some))}
    stored = {row["item"]: row["logprobs"] for row in map(json.loads, next(
        tiny.out.glob("answers/naive.closed_book-*.jsonl")).read_text().splitlines())}
    assert stored.keys() == rows.keys() \
        and all(np.allclose(stored[name], rows[name], atol=1e-4) for name in rows)
    assert not np.allclose(stored["zug"], stored["zog"], atol=1e-2)


def test_a_shared_adapter_that_diverged_takes_all_of_its_news(tiny, monkeypatch):            # noqa: F811
    train_bank = stages.train_bank

    def bad(*args):
        manifest = train_bank(*args)
        return {**manifest, "stopped": {"together": 2} if "zog" in manifest["run"]["names"] else {}}

    monkeypatch.setattr(stages, "train_bank", bad)
    found = tiny.run("axes.protocol=[naive]", "together=true")
    assert found["about"]["naive"]["diverged"] == {"zog": 2, "zag": 2}
    assert found["cells"]["naive"]["closed_book"]["free"]["n"] == 1
