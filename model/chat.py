"""Conversations to token ids and loss weights: the tokenizer, ChatML, and who pays for which token.

ChatML is   <|im_start|>ROLE\\nCONTENT<|im_end|>\\n   per message. Two rules keep it honest:

1. Control tokens are made by this file, never from text. "<|im_end|>" typed inside a news item is encoded as
   the plain letters that it is, so no text can forge the end of a turn. (transformers recognises it; for text
   without control tokens the ids are the same.) Ordinary words that somebody added to the tokenizer are
   recognised, as transformers does.
2. ROLE, newline and CONTENT are one piece for the pre-tokenizer, as in the rendered template. If CONTENT
   begins with white space that holds a newline, the header's newline may merge with it into one token
   ("\\n\\n"). That token belongs to the header: it carries no loss, since at generation the prompt ends in a
   plain "\\n" and the model never gets to write it.
"""

import json
import re
from pathlib import Path

from tokenizers import Tokenizer

from model.files import read_json, short
from model.settings import end_ids
from model.template import default_system

ROLES = ("system", "user", "assistant")
TEXT = "text"       # a message that stands alone and is no turn of anybody: a plain text, see Chat.document
# Added tokens that steer a model although their files call them ordinary (special: false), as Qwen2.5's do.
CONTROL = re.compile(r"<\|.*\|>|</?(tool_call|tool_response|tools)>", re.DOTALL)
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Chat:
    """The tokenizer of a model folder and its chat format.

    tokenizer   recognises every added token in text, as the reference library does; used for decoding
    plain       the same, but control tokens in text stay letters
    added       {added token: id}
    system      the default system prompt, or None
    stop_ids    ids that end an answer: <|im_end|>, <|endoftext|> and those that generation_config.json names
                (config.json, where there is no such file)
    """

    def __init__(self, folder):
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not found; a model folder needs its tokenizer.json")
        self.tokenizer, self.plain, self.added = read_tokenizer(path)
        self.im_start, self.im_end = self.added["<|im_start|>"], self.added["<|im_end|>"]
        check_added_words(folder, self.added)
        file, self.system = system_of(folder)
        if self.system and self.encode(self.system) != self.tokenizer.encode(
                self.system, add_special_tokens=False).ids:
            raise ValueError(f"{file}: the default system message of the chat template holds control tokens: "
                             f"{short(self.system)}")
        self.stop_ids = {self.im_end, self.added["<|endoftext|>"], *ends_of(folder)}

    def encode(self, text):
        """Ids of plain text: nothing in it is a control token."""
        return self.plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        """Text of ids, control tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def conversation(self, messages, weights=None, generation_prompt=False):
        """messages [{"role", "content"}] -> (ids, loss weights), two lists of the same length.

        weights maps a role to the weight of its content and of the <|im_end|> that closes it (default:
        assistant 1; an assistant's turn with "weight": 0 or "train": false weighs 0), or to a function that
        gives the weight of a token of the content from the character at which it begins (the <|im_end|>: the
        content's length). The weight at position t is that of predicting token t; headers and the newline
        after a turn weigh 0. One message of the role "text" is no conversation but a plain text: `document`.
        """
        weights = {"assistant": 1.0} if weights is None else weights
        check_messages(messages)
        if messages and messages[0]["role"] == TEXT:
            return self.document(messages[0]["content"])
        if self.system is not None and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": self.system}, *messages]
        ids, loss = [], []
        newline = self.encode("\n")
        for message in messages:
            header = message["role"] + "\n"
            piece = self.plain.encode(header + message["content"], add_special_tokens=False)
            w = weights.get(message["role"], 0.0) if learnt(message) else 0.0
            at = w if callable(w) else lambda start: w
            ids += [self.im_start, *piece.ids, self.im_end, *newline]
            loss += [0.0, *(at(start - len(header)) if start >= len(header) else 0.0
                            for start, _ in piece.offsets),
                     at(len(message["content"])), *(0.0 for _ in newline)]
        if generation_prompt:
            ids += [self.im_start, *self.encode("assistant\n")]
            loss += [0.0] * (len(ids) - len(loss))
        return ids, loss

    def document(self, text):
        """(ids, loss weights) of a plain text as pretraining packs it, between two <|endoftext|>: no turns,
        no system message, and loss on every token of it and on the closing <|endoftext|>. The opening one
        gives the text's first token, often a new name, something to be predicted from; without it that token
        would never be a target."""
        end, ids = self.added["<|endoftext|>"], self.encode(text)
        return [end, *ids, end], [0.0, *(1.0 for _ in ids), 1.0]

    def answer(self, text):
        """Ids of an assistant's content as they stand behind its header, without <|im_end|>."""
        header = "assistant\n"
        piece = self.plain.encode(header + text, add_special_tokens=False)
        return [i for i, (start, _) in zip(piece.ids, piece.offsets) if start >= len(header)]

    def prompt(self, messages):
        """Ids up to and with the header of the assistant's answer: what a model is sampled from."""
        return self.conversation(messages, generation_prompt=True)[0]


# Keys of a message that say something which ChatML with three roles has no place for.
NOT_READ = ("tool_calls", "tool_call_id", "function_call", "reasoning_content", "reasoning", "thinking",
            "train_detail", "prefix")


def check_messages(messages):
    if not isinstance(messages, list):
        raise ValueError(f"messages: expected a list of {{role, content}}, found {type(messages).__name__}")
    for i, m in enumerate(messages):
        roles = (*ROLES, TEXT) if len(messages) == 1 else ROLES
        if not isinstance(m, dict) or m.get("role") not in roles or not isinstance(m.get("content"), str):
            raise ValueError(f"messages[{i}]: expected role {'/'.join(ROLES)} and a text content, "
                             f"found {short(m)}")
        for key in NOT_READ:
            if m.get(key) not in (None, False, "", [], {}):
                raise ValueError(f"messages[{i}]: {key}: found {short(m[key])}, which this code does not put "
                                 f"into a conversation; only role and content are read")
        said = {bool(m[key]) for key in ("weight", "train") if m.get(key) is not None}
        if type(m.get("train")) not in (bool, type(None)) or type(m.get("weight")) is bool \
                or m.get("weight") not in (None, 0, 1) or len(said) > 1:
            raise ValueError(f"messages[{i}]: expected weight 0 or 1, or train true or false, found "
                             f"{short({key: m[key] for key in ('weight', 'train') if key in m})}")
        if True in said and m["role"] != "assistant":
            raise ValueError(f"messages[{i}]: only turns of the assistant are learnt, not one of {m['role']}")


def learnt(message):
    """Whether an assistant's turn is trained on: not so with "weight": 0 (OpenAI's files) or "train": false
    (axolotl's)."""
    return message.get("weight") != 0 and message.get("train") is not False


def read_tokenizer(path):
    """(tokenizer, plain, added) of a tokenizer.json, see Chat.

    What a call of the library leaves in the file, `truncation` and `padding` of its last batch, is taken out;
    transformers sets both anew for every call. The post-processor stays: asked for no special tokens, it adds
    none.
    """
    try:
        spec = {**read_json(path), "truncation": None, "padding": None}
        words = spec.get("added_tokens") or []
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        steering = [{**word, "special": word["special"] or bool(CONTROL.fullmatch(word["content"]))}
                    for word in words]
        plain = Tokenizer.from_str(json.dumps({**spec, "added_tokens": steering}))
        plain.encode_special_tokens = True          # as letters
        added = {word["content"]: word["id"] for word in words}
    except Exception as error:      # tokenizers raises bare Exception
        raise ValueError(f"{path}: not a readable tokenizer.json ({str(error)[:300]})") from None
    missing = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} - set(added)
    if missing:
        raise ValueError(f"{path}: added_tokens lack {', '.join(sorted(missing))}, which ChatML needs")
    for word, i in added.items():
        found = tokenizer.token_to_id(word)
        if type(i) is not int or found != i:
            raise ValueError(f"{path}: added_tokens gives {short(word)} the id {short(i)}, but the "
                             f"tokenizers library gives it {found}; transformers would use the latter")
    if len(set(added.values())) < len(words):
        raise ValueError(f"{path}: added_tokens: one id, or one token, stands there twice")
    if spec["model"].get("dropout"):
        raise ValueError(f"{path}: model.dropout = {short(spec['model']['dropout'])} makes encodings random; "
                         f"set it to null")
    return tokenizer, plain, added


def check_added_words(folder, added):
    """Refuse added tokens that stand in another file only: transformers would add them to the vocabulary."""
    path = folder / "tokenizer_config.json"
    words = read_json(path).get("added_tokens_decoder") if path.is_file() else None
    found = {path: {word["content"]: i for i, word in words.items()
                    if isinstance(word, dict) and isinstance(word.get("content"), str)}
             if isinstance(words, dict) else {}}
    path = folder / "added_tokens.json"
    found[path] = read_json(path) if path.is_file() else {}
    for path, words in found.items():
        for word, i in words.items():
            if str(added.get(word)) != str(i):
                raise ValueError(f"{path} and {folder / 'tokenizer.json'} disagree: the first gives the "
                                 f"added token {short(word)} the id {short(i)}, "
                                 f"the second {added.get(word, 'does not have it')}")


def ends_of(folder):
    """The ids that end an answer, as transformers finds them: generation_config.json's eos_token_id, or
    config.json's where that file is absent."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            return end_ids(read_json(folder / name), folder / name)
    return []


def system_of(folder):
    """(file, default system message or None) of the folder's chat template. A folder may hold it in two
    files; they must render the same."""
    file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if not file.is_file() and not config.is_file():
        raise FileNotFoundError(f"{folder}: neither chat_template.jinja nor tokenizer_config.json is there")
    settings = read_json(config) if config.is_file() else {}
    templates = {config: settings.get("chat_template")}
    if isinstance(templates[config], list):         # an older form, which holds several by name
        templates[config] = {t["name"]: t.get("template") for t in templates[config]
                             if isinstance(t, dict) and isinstance(t.get("name"), str)}.get("default")
    if file.is_file():
        templates = {file: read_text(file), **{k: t for k, t in templates.items() if t is not None}}
    words = tuple((name, text) for name, text in special_words(folder, settings).items())
    systems = {}
    for path, template in templates.items():
        try:
            if not isinstance(template, str):
                raise ValueError(f"expected a template, found {short(template)}")
            systems[path] = default_system(template, words)
        except ValueError as error:
            others = [f" (another one is in {other})" for other in templates if templates[other] != template]
            raise ValueError(f"{path}: chat template refused{''.join(others)}: {error}") from None
    if len(set(systems.values())) > 1:
        raise ValueError(f"{file} and {config} hold different chat templates: their default system messages "
                         f"are {short(systems[file])} and {short(systems[config])}")
    return next(iter(systems.items()))


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from None


def special_words(folder, settings):
    """{"bos_token": "<s>", ...}: what a template may call by these names."""
    path = folder / "special_tokens_map.json"
    found = {**(read_json(path) if path.is_file() else {}), **settings}
    words = {name: found.get(name) for name in SPECIAL}
    words = {name: word.get("content") if isinstance(word, dict) else word for name, word in words.items()}
    return {name: word for name, word in words.items() if isinstance(word, str)}
