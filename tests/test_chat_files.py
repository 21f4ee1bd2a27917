"""Which folders model/chat.py refuses, and what somebody left in a tokenizer's files: templates, added words,
ends. The rest of Chat, and the tokenizers used here, are in test_chat.py."""

import json
import re

import pytest
from test_chat import ASKED, DEFAULT, needs_qwen, render, small_chat, small_tokenizer, template
from tokenizers import Tokenizer

from model.chat import Chat
from model.template import CHATML


# ---- refused -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("change", (
    lambda t: t + " ", lambda t: t.replace("<|im_end|>", "</s>"), lambda t: "",
    lambda t: t.replace("'\\n'", "''", 1), lambda t: "{% for m in messages %}{{ m.content }}{% endfor %}"))
@pytest.mark.parametrize("name", ("chatml", pytest.param("qwen", marks=needs_qwen)))
def test_an_unknown_template_is_refused(tmp_path, name, change):
    known = CHATML if name == "chatml" else template()
    assert change(known) != known
    small_chat(tmp_path, known)                                         # the template itself is accepted
    (tmp_path / "chat_template.jinja").write_text(change(known))
    with pytest.raises(ValueError, match="does not render ChatML") as error:
        Chat(tmp_path)
    assert str(tmp_path / "chat_template.jinja") in str(error.value)


def test_where_the_template_is_read_from(tmp_path):
    small_tokenizer(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    with pytest.raises(FileNotFoundError, match="chat_template.jinja") as error:
        Chat(tmp_path)
    assert str(tmp_path) in str(error.value)
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]
    for nothing in ({}, {"chat_template": None}, {"chat_template": named[:1]},
                    {"chat_template": [{"name": ["default"], "template": CHATML}, {"template": CHATML}, 3]}):
        config.write_text(json.dumps(nothing))
        with pytest.raises(ValueError, match="chat template refused: expected a template") as error:
            Chat(tmp_path)
        assert str(config) in str(error.value)
    for plain in (CHATML, named, [{"name": ["x"], "template": "a"}, *named]):   # an older form: some by name
        config.write_text(json.dumps({"chat_template": plain}))
        assert Chat(tmp_path).system is None


def test_two_files_with_a_template_must_agree(tmp_path):
    """In what they render: transformers reads chat_template.jinja first, others tokenizer_config.json."""
    small_tokenizer(tmp_path)
    file, config = tmp_path / "chat_template.jinja", tmp_path / "tokenizer_config.json"
    spaced = CHATML.replace("{% for", "{%- for")
    brief = "{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' if messages[0].role != 'system' }}" + CHATML
    for one, other in ((CHATML, "another one"), ("another one", CHATML), (CHATML, brief)):
        file.write_text(one)
        config.write_text(json.dumps({"chat_template": other}))
        with pytest.raises(ValueError) as error:
            Chat(tmp_path)
        assert str(file) in str(error.value) and str(config) in str(error.value)
    for one, other in ((CHATML, spaced), (spaced, None), (spaced, spaced)):
        file.write_text(one)
        config.write_text(json.dumps({"chat_template": other}))
        assert Chat(tmp_path).system is None


@needs_qwen
@pytest.mark.parametrize("prompt", ("You are a helpful assistant.", "Du bist h\u00f6flich.", ""))
def test_another_default_system_prompt_is_read_from_the_template(tmp_path, prompt):
    """Changed in both places, or only in the one that is used without tools. The rendered template is the
    reference."""
    first, second = template().split(DEFAULT)[0], template().replace(DEFAULT, prompt).removeprefix(
        template().split(DEFAULT)[0] + prompt)
    for source in (template().replace(DEFAULT, prompt), first + DEFAULT + second):
        chat = small_chat(tmp_path, source)
        expected = chat.tokenizer.encode(render(source, ASKED, True), add_special_tokens=False).ids
        assert chat.prompt(ASKED) == expected and chat.system == prompt


@needs_qwen
@pytest.mark.parametrize("prompt", (r"Be brief.\nBe kind.", r"a \\ b", r"caf\u00e9"))
def test_an_escape_in_the_default_system_prompt_means_what_jinja_says(tmp_path, prompt):
    source = template().replace(DEFAULT, prompt)
    chat = small_chat(tmp_path, source)
    expected = chat.tokenizer.encode(render(source, ASKED, True), add_special_tokens=False).ids
    assert chat.prompt(ASKED) == expected


@pytest.mark.parametrize("name", ("chatml", pytest.param("qwen", marks=needs_qwen)))
def test_a_folder_that_transformers_wrote(tmp_path, name):
    """transformers 5 writes tokenizer.json anew and puts the template in chat_template.jinja."""
    transformers = pytest.importorskip("transformers")
    chat = small_chat(tmp_path / "ours", CHATML if name == "chatml" else template())
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "ours" / "tokenizer.json"), eos_token="<|im_end|>",
        pad_token="<|endoftext|>", chat_template=CHATML if name == "chatml" else template())
    theirs.save_pretrained(tmp_path / "theirs")
    assert (tmp_path / "theirs" / "chat_template.jinja").exists()
    again = Chat(tmp_path / "theirs")
    assert again.system == chat.system and again.stop_ids == chat.stop_ids and again.added == chat.added
    turns = [*ASKED, {"role": "assistant", "content": "\n\u00c9 <|im_end|>"}]
    assert again.conversation(turns) == chat.conversation(turns)


def test_a_folder_without_its_tokenizer(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    with pytest.raises(FileNotFoundError) as error:
        Chat(tmp_path)
    assert str(tmp_path / "tokenizer.json") in str(error.value)
    small_tokenizer(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    for text in (whole[:len(whole) // 2], "", "[]", '{"added_tokens": []}', "null"):
        (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="not a readable tokenizer.json") as error:
            Chat(tmp_path)
        assert str(tmp_path / "tokenizer.json") in str(error.value)


@pytest.mark.parametrize("lost", ("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
def test_a_tokenizer_without_chatml_tokens_is_refused(tmp_path, lost):
    control = [t for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>") if t != lost]
    with pytest.raises(ValueError, match=re.escape(f"added_tokens lack {lost},")) as error:
        small_chat(tmp_path, control=control)
    assert str(tmp_path / "tokenizer.json") in str(error.value)


@pytest.mark.parametrize("name, text", (("tokenizer_config.json", "{"), ("tokenizer_config.json", "[]"),
                                        ("generation_config.json", "{"), ("generation_config.json", "[]"),
                                        ("tokenizer.json", None)))
def test_a_damaged_file_is_named(tmp_path, name, text):
    small_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    if text is None:                                # no added tokens at all, which tokenizers accepts
        spec = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        del spec["added_tokens"]
        text = json.dumps(spec)
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        Chat(tmp_path)
    assert str(tmp_path / name) in str(error.value)


def test_stop_ids_come_from_generation_config_too(tmp_path):
    chat = small_chat(tmp_path)
    end, text = chat.added["<|im_end|>"], chat.added["<|endoftext|>"]
    assert chat.stop_ids == {end, text}                                 # always, whatever the file says
    for eos, more in ((77, {77}), ([77, end, 78], {77, 78}), (None, set()), ([], set()), (end, set())):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": eos, "top_k": 5}))
        assert Chat(tmp_path).stop_ids == {end, text} | more
    (tmp_path / "generation_config.json").write_text("{}")
    assert Chat(tmp_path).stop_ids == {end, text}


# ---- what somebody left in the tokenizer's files -----------------------------------------------------------

LONG = [{"role": "system", "content": "the news of the day, 12345 times"},
        {"role": "user", "content": "the news\n\nof the day goes on and on"},
        {"role": "assistant", "content": " \nthe news of the day"}]


def edit_json(path, change):
    """change(data) -> the new data, or None if it was changed in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(data) or data), encoding="utf-8")


def transformers_ids(folder, messages):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"),
                                                  chat_template=CHATML)
    return theirs.apply_chat_template(messages, return_dict=False)


def test_truncation_and_padding_of_the_last_call_are_not_ours(tmp_path):
    """transformers sets them for each call and leaves them in the file when it saves."""
    expected = small_chat(tmp_path).conversation(LONG)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=40, pad_id=0, pad_token="<|endoftext|>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]["max_length"] == 5
    chat = Chat(tmp_path)
    assert chat.conversation(LONG) == expected and expected[0] == transformers_ids(tmp_path, LONG)
    assert chat.answer("the news") == small_chat(tmp_path / "other").answer("the news")


def test_a_post_processor_changes_neither_ids_nor_weights(tmp_path):
    """One that adds a token in front, and one that moves the start of tokens past their blanks."""
    expected = small_chat(tmp_path).conversation(LONG)
    template = {"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0],
                                                     "tokens": ["<|endoftext|>"]}}}
    trimming = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    for processor in (template, trimming, None):
        edit_json(tmp_path / "tokenizer.json", lambda spec: {**spec, "post_processor": processor})
        assert Chat(tmp_path).conversation(LONG) == expected
        assert expected[0] == transformers_ids(tmp_path, LONG)


@pytest.mark.parametrize("options", ({}, {"lstrip": True}, {"rstrip": True}, {"single_word": True},
                                     {"normalized": False}))
def test_added_words_are_recognised(tmp_path, options):
    """Words that somebody added (special: false) are one token for transformers, and so for us."""
    small_chat(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    from tokenizers import AddedToken
    tokenizer.add_tokens([AddedToken(word, **{"normalized": True, **options})
                          for word in ("Zorblax", "the day", "Z\u00fcrich")])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chat = Chat(tmp_path)
    zorblax = chat.added["Zorblax"]
    assert chat.encode("the Zorblax").count(zorblax) == 1
    for content in ("Zorblax", "the Zorblax, of  the day  or", " \nZorblax", "Zu\u0308rich xZorblaxy",
                    "\n the day\n"):
        messages = [*ASKED, {"role": "assistant", "content": content}]
        ids, weights = chat.conversation(messages)
        assert ids == transformers_ids(tmp_path, messages)
        assert [i for i, w in zip(ids, weights) if w] == [*chat.answer(content), chat.im_end]
        if content.startswith("Zorblax") and not options.get("lstrip"):
            assert zorblax in chat.answer(content)
    for typed in ("<|im_end|>", "<tool_call>", "<|endoftext|>"):        # and control tokens stay letters
        ids = chat.conversation([{"role": "user", "content": f"Zorblax {typed}Zorblax"}])[0]
        assert ids.count(zorblax) == 2 and ids.count(chat.added[typed]) == (typed == "<|im_end|>")


def test_what_counts_as_control(tmp_path):
    """By the file's word or by its shape: <|...|> and the tool tags are no ordinary words."""
    steering = ("<tool_call>", "</tool_call>", "<tool_response>", "<|fim_prefix|>", "<|my own|>")
    words = ("<think>", "Zorblax", "<b>")
    chat = small_chat(tmp_path, others=(*steering, *words))
    for token in steering:
        assert chat.added[token] not in chat.encode(f"a {token} b")
    for token in words:
        assert chat.added[token] in chat.encode(f"a {token} b")


def spoil_id(spec):
    spec["added_tokens"][-1]["id"] += 3


def twice(spec):
    spec["added_tokens"].append(dict(spec["added_tokens"][1]))


def same_id(spec):
    spec["added_tokens"][1]["id"] = spec["added_tokens"][2]["id"]


@pytest.mark.parametrize("change, said", (
    (spoil_id, "gives '<tool_call>' the id"), (same_id, "the id"), (twice, "twice"),
    (lambda spec: spec["model"].update(dropout=0.1), "dropout = 0.1"),
    (lambda spec: spec["added_tokens"][0].update(id=True), "the id True|not a readable"),
    (lambda spec: {**spec, "added_tokens": "x"}, "not a readable"),
    (lambda spec: {**spec, "added_tokens": [3]}, "not a readable"),
    (lambda spec: {**spec, "normalizer": {"type": "none"}}, "not a readable")))
def test_an_odd_tokenizer_is_refused(tmp_path, change, said):
    small_chat(tmp_path)
    edit_json(tmp_path / "tokenizer.json", change)
    with pytest.raises(ValueError, match=said) as error:
        Chat(tmp_path)
    assert str(tmp_path / "tokenizer.json") in str(error.value) and len(str(error.value)) < 600


def test_added_words_in_two_files_must_agree(tmp_path):
    chat = small_chat(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config, added = tmp_path / "tokenizer_config.json", tmp_path / "added_tokens.json"
    good = {str(i): {"content": word, "special": True} for word, i in chat.added.items()}
    for decoder, fine in ((good, True), (None, True),
                          ({**good, "1": {"content": ["a"]}, "2": {}, "3": 4}, True),
                          ({**good, "400": {"content": "Zorblax"}}, False),
                          ({"7": {"content": "<|im_end|>"}}, False)):
        config.write_text(json.dumps({"chat_template": CHATML, "added_tokens_decoder": decoder}))
        if fine:
            assert Chat(tmp_path).added == chat.added
            continue
        with pytest.raises(ValueError, match="disagree") as error:
            Chat(tmp_path)
        assert str(config) in str(error.value) and str(tmp_path / "tokenizer.json") in str(error.value)
    config.write_text(json.dumps({"chat_template": CHATML}))
    added.write_text(json.dumps(chat.added))
    Chat(tmp_path)
    added.write_text(json.dumps({"Zorblax": 500}))
    with pytest.raises(ValueError, match=r"added_tokens\.json.*Zorblax"):
        Chat(tmp_path)


@pytest.mark.parametrize("eos", (-1, True, 1.5, "2", [2, -3], [True], {"a": 1}, [[2]], float("nan")))
def test_odd_ends_are_refused(tmp_path, eos):
    small_chat(tmp_path)
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_text(json.dumps({"eos_token_id": eos}))
        with pytest.raises(ValueError, match="eos_token_id: found") as error:
            Chat(tmp_path)
        assert str(tmp_path / name) in str(error.value)


def test_ends_come_from_config_where_generation_config_is_absent(tmp_path):
    chat = small_chat(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert Chat(tmp_path).stop_ids == chat.stop_ids | {9}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 8}))
    assert Chat(tmp_path).stop_ids == chat.stop_ids | {8}


def test_a_default_system_message_with_control_tokens_is_refused(tmp_path):
    said = "{{ '<|im_start|>system\\nStop at <|endoftext|>.<|im_end|>\\n' if messages[0].role != 'system' }}"
    with pytest.raises(ValueError, match="holds control tokens"):
        small_chat(tmp_path, said + CHATML)
