"""From a YAML to a model folder: the tokenizer, then the model, by the one training loop."""

import json
import os
import shutil
import time
from hashlib import sha256
from pathlib import Path

import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from model.chat import CHATML, Chat
from model.checkpoint import save_model
from model.qwen2 import Qwen2, Qwen2Config
from newnews.console import choose_device, say
from newnews.lessons import Lessons
from newnews.prompts import read_prompts
from newnews.training import Recipe, train

# Qwen2's pre-tokenizer: contractions, words with one leading character, single digits, punctuation, white space
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def train_tokenizer(folder, texts, vocabulary):
    """A byte-level BPE tokenizer with Qwen2's pre-tokenizer and ChatML's tokens, written as a model folder has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=CONTROL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "chat_template": CHATML, "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>", "bos_token": None, "unk_token": None, "add_prefix_space": False,
                "clean_up_tokenization_spaces": False, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    ids = {t: tokenizer.token_to_id(t) for t in CONTROL}
    generation = {"bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"], "do_sample": False,
                  "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def read_config(path):
    """The YAML of a pretraining run, every key checked: (raw dict, Recipe)."""
    try:
        d = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such config") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    wanted = {"prompts", "vocabulary", "sample", "seed", "model", "recipe"}
    if not isinstance(d, dict) or set(d) != wanted:
        raise ValueError(f"{path}: expected the keys {', '.join(sorted(wanted))}, found {sorted(d) if isinstance(d, dict) else d}")
    try:
        return d, Recipe(**{"seed": d["seed"], **d["recipe"]})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: recipe: {error}") from None


def pretrain(path, out, device="auto"):
    """Train the model that the YAML describes and write it to the folder `out`; a second start goes on."""
    config, recipe = read_config(path)
    prompts = read_prompts(config["prompts"])
    out = Path(out)
    work = out.with_name(out.name + ".part")
    if out.exists():
        raise ValueError(f"{out}: exists already; remove it to train it anew")
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config["prompts"], work / "prompts.yaml")
    run = sha256(json.dumps([config, prompts.digest]).encode()).hexdigest()
    if not (work / "generation_config.json").is_file():
        maker = Lessons(None, prompts, recipe.batch, recipe.seed, recipe.steps)
        texts = (m["role"] + "\n" + m["content"] for m in maker.messages(config["sample"]))
        train_tokenizer(work, texts, config["vocabulary"])
    chat = Chat(work)
    device, _, _ = choose_device(device, "fp32")
    try:
        model = Qwen2(Qwen2Config.from_dict({"model_type": "qwen2", "hidden_act": "silu", "vocab_size": config["vocabulary"], **config["model"]}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: model: {error}") from None
    model.init_weights(config["seed"])
    model.to(device)
    parameters = sum(p.numel() for p in model.parameters())
    say(config=path, out=out, parameters=f"{parameters:,}", device=device, dtype="float32: masters and products",
        steps=recipe.steps, rate=recipe.rate, batch=f"{recipe.batch} conversations", prompts=config["prompts"])
    lessons = Lessons(chat, prompts, recipe.batch, recipe.seed, recipe.steps)
    start = time.time()
    result = train(model, lessons, recipe, work, run, label=out.name)
    print(f"{result['tokens']:,} tokens, last loss {result['loss'][0]:.4f}, {time.time() - start:.0f} s in this process")
    save_model(work / "result", model.config, {n: t.bfloat16() for n, t in model.state_dict().items()}, source=work)
    shutil.move(work / "metrics.jsonl", work / "result" / "metrics.jsonl")
    os.replace(work / "result", out)
    shutil.rmtree(work)
