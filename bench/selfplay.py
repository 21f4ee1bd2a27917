"""Rows about sampling: self-play of one prompt and of many, on a large shape and on the pocket model; one
row alone, and many together; a long prompt; Self-QA's second stage.

Lengths: with random weights every token is about as likely as any other, so a stop set of one id in n ends a
row after n tokens on average, cut at the limit, on both sides. At n = 196 and 256 tokens that is what real
replies did (answers of 1.5B: 13 of 48 cut at 256, 162 tokens on average); quick divides both by 8.
"""

from contextlib import contextmanager

import torch
from transformers import DynamicCache

from bench.models import HALF, POCKET
from bench.theirs import behind_one_prefix, continuous, greedy, left_padded, repeated
from bench.tools import Done, Row, Work
from model.drawing import Sampling
from model.flops import forward_flops
from model.sampling import generate, prefill
from newnews.prompts import prompts_for
from newnews.world.things import make_news


WARM = 16           # tokens that show the other side's kernels as well as all of a row's


def draw(rows, tokens, vocab, seed=0):
    """Lists of ids, rows of `tokens`."""
    return torch.randint(vocab, (rows, tokens), generator=torch.Generator().manual_seed(seed)).tolist()


def weight_bytes(model):
    """What a decode step reads: every weight once (a tied embedding is the head; of another one it reads a
    line a row)."""
    table = 0 if model.config.tie_word_embeddings else model.model.embed_tokens.weight.nbytes
    return sum(p.nbytes for p in model.parameters()) - table


@contextmanager
def decoded(model):
    """Counts the rows of every decode step of either side: what goes through layer 0 one token a row.
    On a GPU nothing: replays of a CUDA graph run no hooks."""
    rows = []
    if model.lm_head.weight.is_cuda:
        yield rows
        return
    hook = model.model.layers[0].register_forward_pre_hook(
        lambda module, args: rows.append(args[0].shape[0]) if args[0].shape[1] == 1 else None)
    try:
        yield rows
    finally:
        hook.remove()


def written(model, prompts, completions, rows, first=0):
    """Done of sampled rows: equal prompts are read once. busy: of the rows that were decoded, those that
    still wrote. first: tokens that came with the prompts, not from decoding."""
    drawn = [len(c.ids) + c.stopped for c in completions]
    config, n = model.config, len(completions) // len(prompts)
    flops = sum(forward_flops(config, len(p)) for p in prompts)
    flops += sum(forward_flops(config, t - 1, len(prompts[i // n]), t - 1) for i, t in enumerate(drawn))
    busy = {"busy": (sum(drawn) - first) / sum(rows)} if sum(rows) else {}
    return Done(sum(drawn), completions, flops, weight_bytes(model) * max(drawn), extra=busy)


def samples(pair, prompts, n, new, stops, together=None):
    """n samples of each prompt, as self-play writes them. together: how many of ours decode at once, if not
    as many as the product would."""
    model, twin = pair
    every = [p for p in prompts for _ in range(n)]
    groups = [i for i in range(len(prompts)) for _ in range(n)]

    def ours():
        with decoded(model) as rows:
            out = generate(model, every, stops, Sampling(new), rows=together, groups=groups)
        return written(model, prompts, out, rows, first=len(every))

    def theirs(limit):
        def run(way):
            with decoded(twin) as rows:
                out = way(twin, prompts, n, limit, stops)
            return written(model, prompts, out, rows)

        return {"generate, cache repeated": lambda: run(repeated), "generate_batch": lambda: run(continuous)}

    return Work("tokens", model.lm_head.weight.dtype, ours, theirs(new), warm=theirs(min(new, WARM)))


def one_prompt(models, n, prompt, new):
    return samples(models.large, draw(1, prompt, models.config.vocab_size), n, new, set())


def many_rows(models, n, prompt, new):
    """n rows, all of one prompt and all at once: decoding and little else."""
    prompts = draw(1, prompt, models.config.vocab_size)
    return samples(models.large, prompts, n, new, set(), together=n)


def many_prompts(models, prompts, n, prompt, new, mean):
    """Prompts of half of `prompt` to `prompt` tokens; replies of `mean` tokens on average, cut at `new`."""
    vocab = models.config.vocab_size
    texts = [row[:prompt - prompt * i // (2 * prompts)] for i, row in enumerate(draw(prompts, prompt, vocab))]
    return samples(models.large, texts, n, new, set(range(0, vocab, mean)))


def pocket(models, prompts, n, new):
    """Questions that the pocket model asks itself about its news: real prompts, lengths as they come."""
    words, chat = prompts_for(POCKET), models.chat
    asked = [words.with_news(item.statement, words.question[0]) for item in make_news("dev", 4, 0)[:prompts]]
    texts = [chat.prompt([{"role": "user", "content": text}]) for text in asked]
    return samples(models.pocket, texts, n, new, chat.stop_ids)


def second_stage(models, questions, news, question, new):
    """Greedy answers to questions of half of `question` to `question` tokens behind one news item."""
    model, twin = models.large
    vocab = models.config.vocab_size
    (statement,), texts = draw(1, news, vocab), draw(questions, question, vocab, seed=1)
    prompts = [statement + text[:question - question * i // (2 * questions)] for i, text in enumerate(texts)]
    read_once = forward_flops(model.config, news, heads=0)
    flops = read_once + sum(forward_flops(model.config, len(p) - news + new - 1, news, new) for p in prompts)

    def done(out):
        return Done(len(out) * new, out, flops, weight_bytes(model) * new)

    return Work("tokens", model.lm_head.weight.dtype,
                lambda: done(generate(model, prompts, set(), Sampling(new, temperature=0))),
                {"generate, news read once": lambda: done(behind_one_prefix(twin, prompts, new))})


def decode(models, prompt, new):
    """One row, greedy."""
    model, twin = models.large
    (ids,) = draw(1, prompt, models.config.vocab_size)
    flops = forward_flops(model.config, prompt) + forward_flops(model.config, new - 1, prompt, new - 1)
    whole, mask = left_padded(twin, [ids])

    def done(row):
        return Done(new, row, flops, weight_bytes(model) * new)

    def theirs(limit, **cache):
        return lambda: done(greedy(twin, whole, mask, limit, **cache))

    ways, warm = {"generate": theirs(new)}, {"generate": theirs(min(new, WARM))}
    if models.on_gpu:
        static = {"cache_implementation": "static"}
        name = "generate, static cache"
        ways[name] = theirs(new, **static, disable_compile=True)
        warm[name] = theirs(min(new, WARM), **static, disable_compile=True)
        if models.config == HALF:       # generate compiles by itself then: a minute, spared to the others
            ways[f"{name}, compiled"] = warm[f"{name}, compiled"] = theirs(new, **static)
    return Work("tokens", model.lm_head.weight.dtype,
                lambda: done(generate(model, [ids], set(), Sampling(new, temperature=0))[0].ids), ways,
                warm=warm)


def long_prompt(models, prompt):
    """Prefill: a cache, and the logits behind the last token."""
    model, twin = models.large
    (ids,) = draw(1, prompt, models.config.vocab_size)
    flops, whole = forward_flops(model.config, prompt), torch.tensor([ids], device=twin.device)

    @torch.inference_mode()
    def ours():
        return Done(prompt, prefill(model, [ids], 0)[1], flops, weight_bytes(model))

    @torch.inference_mode()
    def theirs():
        out = twin(whole, past_key_values=DynamicCache(config=twin.config), logits_to_keep=1)
        return Done(prompt, out.logits[:, -1], flops, weight_bytes(model))

    return Work("tokens", model.lm_head.weight.dtype, ours, {"one forward pass": theirs})


ROWS = {
    "one_prompt": Row(one_prompt, {"ratio": ">= 4"}, full=dict(n=64, prompt=200, new=64),
                      quick=dict(n=32, prompt=200, new=16), tiny=dict(n=3, prompt=9, new=3)),
    "many_prompts": Row(many_prompts, {"ratio": ">= 4", "busy": ">= .8"},
                        full=dict(prompts=16, n=16, prompt=200, new=256, mean=196),
                        quick=dict(prompts=4, n=8, prompt=60, new=32, mean=24),
                        tiny=dict(prompts=2, n=3, prompt=9, new=6, mean=4),
                        gpu=dict(prompts=8, n=16, prompt=200, new=128, mean=98)),
    "pocket": Row(pocket, {"ratio": ">= 3"}, full=dict(prompts=16, n=16, new=48),
                  quick=dict(prompts=16, n=16, new=48), tiny=dict(prompts=2, n=2, new=8), repeats=5,
                  gpu=dict(prompts=16, n=16, new=48), gpu_repeats=3),
    "decode": Row(decode, {"ratio": ">= 1.2"}, full=dict(prompt=16, new=128), quick=dict(prompt=16, new=24),
                  tiny=dict(prompt=5, new=3), repeats=3, gpu=dict(prompt=16, new=256),
                  gpu_bars={"7b": {"roof": ">= .7"}}),
    "decode_256": Row(many_rows, {}, full=None, quick=None, tiny=dict(n=3, prompt=9, new=3),
                      gpu=dict(n=256, prompt=64, new=128)),
    "long_prompt": Row(long_prompt, {"ratio": ">= 1", "roof": ">= .6"}, full=dict(prompt=2000),
                       quick=dict(prompt=512), tiny=dict(prompt=20), repeats=3,
                       gpu=dict(prompt=2000), gpu_repeats=10),
    "second_stage": Row(second_stage, {"ratio": ">= 3"},
                        full=dict(questions=64, news=200, question=30, new=32),
                        quick=dict(questions=16, news=200, question=16, new=8),
                        tiny=dict(questions=3, news=9, question=6, new=4),
                        gpu=dict(questions=64, news=200, question=30, new=32)),
}
