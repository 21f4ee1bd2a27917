"""Rows about asking and starting: options scored, a model loaded, what `--help` costs.

The questions are those of the pocket world, in the product's own prompts and with its tokenizer, put to a
large shape.
"""

import subprocess
import sys
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from bench.models import POCKET
from bench.selfplay import draw, weight_bytes
from bench.theirs import left_padded, positions
from bench.tools import Done, Row, Work
from model.checkpoint import load_model
from model.flops import forward_flops
from model.sampling import common_prefix
from newnews.ask import ask, chunks, scored_ids
from newnews.prompts import prompts_for
from newnews.tasks.news import NewsTask
from newnews.world.things import make_news

SCRIPTS = (["train.py"], ["generate.py"], ["evaluate.py"], ["pretrain.py"], ["-m", "newnews"],
           ["-m", "newnews", "run"], ["-m", "newnews", "probe"])
LIMIT = {"cpu": 4096, "cuda": 32768}        # padded tokens that the other side reads at once


# [their side] -----------------------------------------------------------------------------------------------

@torch.inference_mode()
def each_option_a_row(twin, asked):
    """As lm-eval-harness: prompt and option a row, rows of like length together; options of one token share
    their prompt's row."""
    rows = [(k, None) if one_token(options) else (k, i) for k, (_, _, options) in enumerate(asked)
            for i in range(1 if one_token(options) else len(options))]

    def text(row):
        k, i = row
        _, prompt, options = asked[k]
        return prompt if i is None else prompt + options[i][:-1]

    out = [[0.0] * len(options) for _, _, options in asked]
    for some in packed(rows, lambda row: len(text(row)), LIMIT[twin.device.type]):
        ids, mask = left_padded(twin, [text(row) for row in some])
        keep = max(1 if i is None else len(asked[k][2][i]) for k, i in some)
        logits = twin(ids, attention_mask=mask, position_ids=positions(mask), use_cache=False,
                      logits_to_keep=keep).logits
        for row, (k, i) in zip(logits.float().log_softmax(-1), some):
            options = asked[k][2]
            if i is None:
                out[k] = [float(row[-1, option[0]]) for option in options]
            else:
                last = row[-len(options[i]):]
                out[k][i] = float(last.gather(1, torch.tensor(options[i], device=last.device)[:, None]).sum())
    return out


@torch.inference_mode()
def prompts_read_once(twin, asked, behind_news):
    """The cache of every prompt is repeated over its options; behind_news: that of what an item's prompts
    have in common over the prompts first."""
    out, groups = [None] * len(asked), {}
    for k, (item, _, options) in enumerate(asked):
        groups.setdefault((item if behind_news else None, len(options)), []).append(k)
    for (_, n), places in groups.items():
        for some in packed(places, lambda k: n * len(asked[k][1]), LIMIT[twin.device.type]):
            for k, sums in zip(some, repeated_options(twin, [asked[k][1:] for k in some], n, behind_news)):
                out[k] = sums
    return out


def repeated_options(twin, asked, n, behind_news):
    """[(prompt, its n options)] -> their sums of log-probabilities, n a prompt."""
    prompts, options = [p for p, _ in asked], [option for _, some in asked for option in some]
    shared = common_prefix(prompts) if behind_news else 0
    ids, mask = left_padded(twin, [p[shared:] for p in prompts], prompts[0][:shared])
    cache, place = DynamicCache(config=twin.config), positions(mask)
    if shared:
        twin(ids[:1, :shared], past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(prompts))
    last = twin(ids[:, shared:], attention_mask=mask, position_ids=place[:, shared:], past_key_values=cache,
                logits_to_keep=1).logits[:, -1].float().log_softmax(-1).repeat_interleave(n, 0)   # (B n, V)
    T = max(map(len, options))
    targets = torch.tensor([option + [0] * (T - len(option)) for option in options],
                           device=twin.device)                                                    # (B n, T)
    found = last.gather(1, targets[:, :1])
    if T > 1:
        cache.batch_repeat_interleave(n)
        mask = torch.cat((mask.repeat_interleave(n, 0), mask.new_ones(len(options), T - 1)), 1)
        logits = twin(targets[:, :-1], attention_mask=mask, position_ids=positions(mask)[:, 1 - T:],
                      past_key_values=cache).logits.float().log_softmax(-1)
        found = torch.cat((found, logits.gather(2, targets[:, 1:, None])[..., 0]), 1)             # (B n, T)
    sums = [float(row[:len(option)].sum()) for row, option in zip(found, options)]
    return [sums[i:i + n] for i in range(0, len(sums), n)]


def one_token(options):
    return all(len(option) == 1 for option in options)


def packed(rows, length, limit):
    """Longest first, in batches of at most `limit` padded tokens."""
    batches = []
    for row in sorted(rows, key=length, reverse=True):
        if not batches or (len(batches[-1]) + 1) * length(batches[-1][0]) > limit:
            batches.append([])
        batches[-1].append(row)
    return batches


# [rows] -----------------------------------------------------------------------------------------------------

def options(models, domains, per_domain, questions):
    """Letters and texts of the options, closed book and in context: four requests a question."""
    model, twin = models.large
    news = make_news("dev", per_domain, 0, questions)[:domains * per_domain]
    parts = []                          # requests that the product asks together
    for in_context in (False, True):
        task = NewsTask(prompts_for(POCKET), in_context, formats=("letter", "text"))
        parts += [requests for _, requests in chunks(models.chat, task, news)]
    asked = []              # (whose prompts share a prefix, ids of the prompt, ids of each option)
    for number, part in enumerate(parts):
        for item, request in part:
            rows = scored_ids(models.chat, request)
            asked.append(((number, item), rows[0][0], [ids for _, ids in rows]))
    flops = least(model.config, asked)

    def done(out):
        return Done(len(out), out, flops, weight_bytes(model))

    def ours():
        return done([row["logprobs"] for part in parts for row in ask(model, models.chat, part)])

    return Work("requests", model.lm_head.weight.dtype, ours, {
        "lm-eval's way": lambda: done(each_option_a_row(twin, asked)),
        "prompts read once": lambda: done(prompts_read_once(twin, asked, behind_news=False)),
        "news and prompts read once": lambda: done(prompts_read_once(twin, asked, behind_news=True))})


def least(config, asked):
    """What the requests need: the prefix of an item's prompts once, the rest of every prompt once, and every
    option but its last token."""
    flops = 0
    for group in dict.fromkeys(group for group, *_ in asked):
        mine = {tuple(prompt): some for g, prompt, some in asked if g == group}
        shared = common_prefix(list(mine))
        flops += forward_flops(config, shared, heads=0)
        for prompt, some in mine.items():
            flops += forward_flops(config, len(prompt) - shared, shared)
            flops += sum(forward_flops(config, len(o) - 1, len(prompt), len(o) - 1) for o in some)
    return flops


def load(models, tokens):
    """A bf16 folder in the page cache to the logits of a short prompt, imports done."""
    ids = torch.tensor(draw(1, tokens, models.config.vocab_size), device=models.device)

    @torch.inference_mode()
    def ours():
        return Done(1, load_model(models.folder, dtype=models.dtype).to(models.device)(ids)[:, -1])

    @torch.inference_mode()
    def theirs():
        twin = AutoModelForCausalLM.from_pretrained(models.folder, dtype=models.dtype).to(models.device)
        return Done(1, twin(ids).logits[:, -1])

    models.folder                       # written before anything is timed
    return Work("loads", models.dtype, ours, {"from_pretrained": theirs})


def start(models, scripts):
    """The slowest `--help`; nobody else has these scripts."""
    def ours():
        seconds = {}
        for script in SCRIPTS[:scripts]:
            begin = time.perf_counter()
            subprocess.run([sys.executable, *script, "--help"], check=True, capture_output=True)
            seconds[" ".join(script)] = time.perf_counter() - begin
        return Done(len(seconds), seconds, extra={"slowest": max(seconds.values())})

    return Work("scripts", torch.float32, ours, {})


ROWS = {
    "options": Row(options, {"ratio": ">= 5"}, full=dict(domains=5, per_domain=15, questions=5),
                   quick=dict(domains=1, per_domain=1, questions=5),
                   tiny=dict(domains=1, per_domain=1, questions=2),
                   gpu=dict(domains=5, per_domain=2, questions=5)),
    # .7 of the time is 1.43 times the rate
    "load": Row(load, {"ratio": ">= 1.43"}, full=dict(tokens=8), quick=dict(tokens=8), tiny=dict(tokens=4),
                repeats=3, gpu=dict(tokens=8)),
    "help": Row(start, {"slowest": "<= .5"}, full=dict(scripts=7), quick=dict(scripts=7),
                tiny=dict(scripts=1), repeats=3),
}
