"""Chat templates are judged by what they render, and a template can do no harm.

Covers default_system (model/template.py): the real templates of Qwen2.5, plain ChatML and SmolLM2 are
accepted, those of other families refused with the first differing place, and templates that loop for ever,
eat memory, raise or are huge end in one error. CPU, offline, ten seconds:

    python -m pytest tests/test_template.py
"""

import json
import os
import time
from pathlib import Path

import pytest

from model.template import CHATML, chatml, default_system, difference

QWEN = Path(__file__).resolve().parents[2] / "shared" / "qwen2.5"
needs_qwen = pytest.mark.skipif(not QWEN.is_dir(), reason=f"no Qwen2.5 files at {QWEN}")
REAL = os.environ.get("NEWNEWS_REAL")
SMOL = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n' }}"
        "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
          "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
          "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
          "{{ content }}"
          "{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
MISTRAL = ("{{ bos_token }}{% for message in messages %}"
           "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
           "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
           "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
           "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% endif %}"
           "{% endfor %}")
# What Qwen3 does with an assistant's turn: hidden thoughts out of earlier ones, empty ones into the last.
QWEN3 = """{%- set ns = namespace(last=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and loop.last %}
            {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
WORDS = (("bos_token", "<s>"), ("eos_token", "</s>"))


def of_qwen(name="tokenizer_config.json"):
    return json.loads((QWEN / name).read_text(encoding="utf-8"))["chat_template"]


def test_chatml_and_smollm():
    assert default_system(CHATML) is None
    assert default_system(SMOL) == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@needs_qwen
def test_the_templates_of_qwen():
    instruct, base = of_qwen(), of_qwen("base/tokenizer_config.json")
    assert default_system(base) == "You are a helpful assistant."
    said = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    doubled = instruct.replace('{\\"name\\": <function-name>', '{{\\"name\\": <function-name>') \
                      .replace("<args-json-object>}\\n", "<args-json-object>}}\\n")
    assert doubled != instruct                          # as the 1.5B's and the Coders' files have it
    assert default_system(instruct) == default_system(doubled) == said
    math = instruct.replace(said, "Please reason step by step, and put your final answer within \\\\boxed{}.")
    assert default_system(math) == "Please reason step by step, and put your final answer within \\boxed{}."


@pytest.mark.skipif(not REAL, reason="NEWNEWS_REAL names no model folder")
def test_a_real_folder():
    transformers = pytest.importorskip("transformers")
    from model.chat import Chat
    chat, theirs = Chat(REAL), transformers.PreTrainedTokenizerFast.from_pretrained(REAL)
    for turns in ([("user", "What's new?")], [("system", "Be brief."), ("user", "\n Hi ")],
                  [("user", "Hi"), ("assistant", " \nHello 1234."), ("user", "And\n\n?")]):
        messages = [{"role": role, "content": content} for role, content in turns]
        assert chat.prompt(messages) == theirs.apply_chat_template(messages, add_generation_prompt=True,
                                                                   return_dict=False)


@pytest.mark.parametrize("template, place", (
    (LLAMA3, r"<s><\|start_header_id\|>user"), (MISTRAL, "roles must alternate"), (QWEN3, "<think>"),
    (CHATML.replace("['content']", "['content'] | trim"), "user"),
    (CHATML.replace("assistant\\n' }}", "assistant' }}"), "assistant'"),
    ("{{ bos_token }}" + CHATML, "<s>"), ("", "gives ''"),
    (CHATML.replace("message['role']", "message['role'] | replace('assistant', 'model')"), "model"),
    ("{% if messages | length > 5 %}{% set messages = messages[2:] %}{% endif %}" + CHATML, "one|1")),
    ids=("llama3", "mistral", "qwen3", "trimmed", "no newline", "bos", "empty", "other role", "forgetful"))
def test_what_is_not_chatml_is_refused_with_the_place(template, place):
    with pytest.raises(ValueError, match=place) as error:
        default_system(template, WORDS)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)
    if template is not MISTRAL:
        assert "ChatML" in str(error.value) and "at character" in str(error.value)


def test_the_first_differing_place():
    assert difference("abcdef", "abXdef") == "it gives 'abcdef' at character 2, ChatML 'abXdef'"
    assert "'" + "a" * 30 + "b" in difference("a" * 90 + "b", "a" * 90 + "c")


def test_what_trainers_leave_in_a_template_is_read():
    """TRL's mark of the assistant's words, loop controls, a namespace: transformers renders them all."""
    marked = CHATML.replace("{{ '<|im_start|>' +", "{% generation %}{{ '<|im_start|>' +", 1) \
                   .replace("{% endfor %}",
                            "{% endgeneration %}{% if false %}{% break %}{% endif %}{% endfor %}")
    assert marked.count("generation %}") == 2 and default_system(marked) is None
    assert default_system("{% set ns = namespace(x=1) %}{% set ns.x = 2 %}" + CHATML) is None


def test_a_date_is_refused():
    front = "{{ '<|im_start|>system\\nToday is ' + strftime_now('%Y-%m-%d') + '<|im_end|>\\n' }}"
    with pytest.raises(ValueError, match="date"):
        default_system("{% if messages[0].role != 'system' %}" + front + "{% endif %}" + CHATML)
    with pytest.raises(ValueError, match="does not render ChatML"):         # the difference is said first
        default_system(front + "!")


ENDLESS = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3


@pytest.mark.parametrize("template, said", (
    (ENDLESS, "did not end"),
    ("{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(400) }}", "cannot be"),
    ("{{ 'a' * 10 ** 12 }}", "Memory"), ("{{ 'a' | center(10 ** 12) }}", "Memory"),
    ("{{ 10 ** (10 ** (10 ** 10)) }}", "cannot be|did not end"),
    ("{{ '" + "a" * 90_000 + "' * 20 }}", "characters"),
    ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "cannot be|did not end"),
    ("{{ raise_exception('not today') }}", "not today"), ("{% if %}", "TemplateSyntaxError"),
    ("{{ nothing.at.all }}", "UndefinedError"), ("{{ messages.append(1) }}", "SecurityError"),
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
    ("{% include '/etc/passwd' %}", "cannot be"), ("a" * 10 ** 6, "1,000,000 characters"),
    ("\ud800", "does not render")))
def test_a_template_does_no_harm(template, said):
    start = time.time()
    with pytest.raises(ValueError, match=said) as error:
        default_system(template)
    assert len(str(error.value)) < 600
    assert time.time() - start < 60                     # 3 s of processor time, on a busy machine too


def test_a_template_runs_in_its_own_process_only(tmp_path, monkeypatch):
    """Not even a `model` package in the folder that we stand in gets in its way."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert default_system("{# here #}" + CHATML) is None


def test_chatml_text():
    turns = [{"role": "user", "content": "a\n"}]
    assert chatml(turns) == "<|im_start|>user\na\n<|im_end|>\n"
    assert chatml(turns, "s", True) == ("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na\n<|im_end|>\n"
                                        "<|im_start|>assistant\n")
    assert chatml([{"role": "system", "content": "t"}], "s") == "<|im_start|>system\nt<|im_end|>\n"
