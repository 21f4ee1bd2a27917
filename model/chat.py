"""Conversations to token ids and loss weights: the tokenizer, ChatML, and who pays for which token.

ChatML is   <|im_start|>ROLE\\nCONTENT<|im_end|>\\n   per message. Two rules keep it honest:

1. Control tokens are made by this file, never from text. "<|im_end|>" typed inside a news item is encoded as
   the plain letters that it is, so no text can forge the end of a turn. (transformers recognises it; for text
   without control tokens the ids are the same.)
2. ROLE, newline and CONTENT are one piece for the pre-tokenizer, as in the rendered template. If CONTENT
   begins with white space that holds a newline, the header's newline may merge with it into one token
   ("\\n\\n"). That token belongs to the header: it carries no loss, since at generation the prompt ends in a
   plain "\\n" and the model never gets to write it.
"""

import json
import re
from hashlib import sha256
from pathlib import Path

from tokenizers import Tokenizer

from model.files import read_json

# Templates that this file reproduces, by the sha256 of their text with the default system prompt cut out.
# "qwen2.5" puts a default system message in front when the conversation has none; "chatml" adds nothing.
DEFAULT_SYSTEM = re.compile(r"(?<=<\|im_start\|>system\\n)[^'<\\]*(?=<\|im_end\|>)"
                            r"|(?<=\{\{- ')[^'<\"\\]*(?=' \}\})")
CHATML = ("{% for message in messages %}"
          "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN25_SHA256 = "576ca4dc24e9d4d38d89baf0c3b2ee4d5931dea9aa71a0d90ddd15de428a6a3c"
ROLES = ("system", "user", "assistant")


class Chat:
    """The tokenizer of a model folder and its chat format.

    tokenizer   recognises added tokens in text, as the reference library does; used for decoding
    plain       the same vocabulary with no added tokens: control tokens in text stay letters
    system      the default system prompt, or None
    stop_ids    ids that end an answer: <|im_end|>, <|endoftext|> and those that generation_config.json names
    """

    def __init__(self, folder):
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not found; a model folder needs its tokenizer.json")
        try:
            spec = read_json(path)
            self.tokenizer = Tokenizer.from_str(json.dumps(spec))
            self.plain = Tokenizer.from_str(json.dumps({**spec, "added_tokens": []}))
        except Exception as error:      # tokenizers raises bare Exception
            raise ValueError(f"{path}: not a readable tokenizer.json ({error})") from None
        self.added = {t["content"]: t["id"] for t in spec.get("added_tokens", ())}
        missing = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} - set(self.added)
        if missing:
            raise ValueError(f"{path}: added_tokens lack {', '.join(sorted(missing))}, which ChatML needs")
        self.im_start, self.im_end = self.added["<|im_start|>"], self.added["<|im_end|>"]
        self.system = default_system(folder)
        self.stop_ids = {self.im_end, self.added["<|endoftext|>"]}
        generation = folder / "generation_config.json"
        eos = read_json(generation).get("eos_token_id") if generation.is_file() else None
        self.stop_ids |= set(eos if isinstance(eos, list) else [] if eos is None else [eos])

    def encode(self, text):
        """Ids of plain text: nothing in it is a control token."""
        return self.plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        """Text of ids, control tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def conversation(self, messages, weights=None, generation_prompt=False):
        """messages [{"role", "content"}] -> (ids, loss weights), two lists of the same length.

        weights maps a role to the weight of its content and of the <|im_end|> that closes it
        (default: assistant 1). The weight at position t is that of predicting token t; headers and
        the newline after a turn weigh 0.
        """
        weights = {"assistant": 1.0} if weights is None else weights
        check_messages(messages)
        if self.system is not None and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": self.system}, *messages]
        ids, loss = [], []
        newline = self.encode("\n")
        for message in messages:
            header = message["role"] + "\n"
            piece = self.plain.encode(header + message["content"], add_special_tokens=False)
            w = weights.get(message["role"], 0.0)
            ids += [self.im_start, *piece.ids, self.im_end, *newline]
            loss += [0.0, *(w if start >= len(header) else 0.0 for start, _ in piece.offsets),
                     w, *(0.0 for _ in newline)]
        if generation_prompt:
            ids += [self.im_start, *self.encode("assistant\n")]
            loss += [0.0] * (len(ids) - len(loss))
        return ids, loss

    def answer(self, text):
        """Ids of an assistant's content as they stand behind its header, without <|im_end|>."""
        header = "assistant\n"
        piece = self.plain.encode(header + text, add_special_tokens=False)
        return [i for i, (start, _) in zip(piece.ids, piece.offsets) if start >= len(header)]

    def prompt(self, messages):
        """Ids up to and with the header of the assistant's answer: what a model is sampled from."""
        return self.conversation(messages, generation_prompt=True)[0]


def check_messages(messages):
    if not isinstance(messages, list):
        raise ValueError(f"messages: expected a list of {{role, content}}, found {type(messages).__name__}")
    for i, m in enumerate(messages):
        if not isinstance(m, dict) or m.get("role") not in ROLES or not isinstance(m.get("content"), str) \
                or m.get("tool_calls"):
            raise ValueError(f"messages[{i}]: expected role {'/'.join(ROLES)} and a text content, "
                             f"without tool calls; found {str(m)[:80]}")


def default_system(folder):
    """The default system prompt of the folder's chat template;
    a template that we do not reproduce is refused."""
    file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        template = file.read_text(encoding="utf-8")
    elif config.is_file():
        template, file = read_json(config).get("chat_template"), config
    else:
        raise FileNotFoundError(f"{folder}: neither chat_template.jinja nor tokenizer_config.json is there")
    if template == CHATML:
        return None
    if isinstance(template, str):
        found = set(DEFAULT_SYSTEM.findall(template))
        if sha256(DEFAULT_SYSTEM.sub("", template).encode()).hexdigest() == QWEN25_SHA256 and len(found) == 1:
            return found.pop()
    raise ValueError(f"{file}: unknown chat template; this code reproduces those of Qwen2.5 "
                     f"(base and Instruct) and plain ChatML, and would feed the model another text than the "
                     f"one it was trained on")
