"""From a YAML to a model folder: the tokenizer, then the model, by the one training loop."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from model.chat import Chat
from model.checkpoint import save_model
from model.files import write_folder
from model.qwen2 import Qwen2, Qwen2Config
from model.settings import MODEL, check_settings
from model.template import CHATML
from newnews.console import choose_device, say
from newnews.distributed import rank, wait, world
from newnews.outputs import digest
from newnews.prompts import read_prompts
from newnews.reading import read_yaml, record, whole
from newnews.together import build_together
from newnews.training import Recipe, train
from newnews.world.lessons import Lessons

# Qwen2's pre-tokenizer:
# contractions, words with one leading character, single digits, punctuation, white space
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def train_tokenizer(folder, texts, vocabulary):
    """A byte-level BPE tokenizer with Qwen2's pre-tokenizer and ChatML's tokens,
    written as a model folder has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
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
    generation = {"bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"],
                  "do_sample": False, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]]}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


@dataclass(frozen=True)
class Pretraining:
    """The YAML of a pretraining run (configs/pretrain)."""
    prompts: str            # path of a prompt file
    vocabulary: int         # tokens of the tokenizer, which is trained on `sample` lessons
    sample: int
    seed: int
    model: dict             # a Qwen2Config without vocab_size
    recipe: dict            # a Recipe

    def __post_init__(self):
        for key, low in (("vocabulary", 300), ("sample", 1), ("seed", 0)):
            whole(key, getattr(self, key), low, 10 ** 7)


def read_config(path):
    """The YAML of a pretraining run, every key checked: (Pretraining, Recipe, Qwen2Config)."""
    config = record(Pretraining, read_yaml(path, "config"), path)
    shape = {"vocab_size": config.vocabulary, "tie_word_embeddings": False, **config.model}
    check_settings(shape, MODEL, f"{path}: model")
    return (config, record(Recipe, {"seed": config.seed, **config.recipe}, f"{path}: recipe"),
            record(Qwen2Config, shape, f"{path}: model"))


def pretrain(path, out, device="auto"):
    """Train the model that the YAML describes and write it to the folder `out`; a second start goes on."""
    config, recipe, shape = read_config(path)
    prompts = read_prompts(config.prompts)
    device, _, _ = choose_device(device, "fp32")
    run = {"config": asdict(config), "prompts_digest": prompts.digest}
    if world() > 1:                                                 # sums in another order: other bits
        run["processes"] = world()

    def fill(work, result):
        words = work / "tokenizer"                  # a folder of its own: whole or not there
        if rank() == 0 and not words.is_dir():
            maker = Lessons(None, prompts, recipe.batch, recipe.seed, recipe.steps)
            texts = (m["role"] + "\n" + m["content"] for m in maker.messages(config.sample))
            write_folder(words, lambda folder: train_tokenizer(folder, texts, config.vocabulary))
        if rank() == 0:
            shutil.copyfile(config.prompts, words / "prompts.yaml")
        wait()                                      # the others, for the tokenizer
        model = Qwen2(shape)
        model.init_weights(config.seed)
        model.to(device)
        say(config=path, out=out, parameters=f"{sum(p.numel() for p in model.parameters()):,}", device=device,
            processes=world(), dtype="float32", steps=recipe.steps, rate=recipe.rate,
            batch=f"{recipe.batch} conversations", prompts=config.prompts)
        done = train(model, Lessons(Chat(words), prompts, recipe.batch, recipe.seed, recipe.steps), recipe,
                     work, digest(run), label=Path(out).name)
        if rank() == 0:
            save_model(result, shape, {n: t.bfloat16() for n, t in model.state_dict().items()}, source=words)
            lines = (work / "metrics.jsonl").read_text().splitlines(keepends=True)
            (result / "metrics.jsonl").write_text("".join(lines[9::10]))    # the loss curve, every tenth step
        return done

    done = build_together(out, run, fill)
    if rank() == 0:
        print(f"{out}: {done['tokens']:,} tokens in {done['steps']} steps and {done['seconds']:.0f} s, "
              f"last loss {done['loss'][0]:.4f}")
