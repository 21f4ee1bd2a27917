"""Sampling as a careful user of transformers writes it: batched, SDPA, prompts read once and their cache
repeated.

transformers has no queue that refills a batch except generate_batch, and no cache whose rows differ in
length: rows are padded on the left, or between a shared prefix and what follows it, and a batch runs until
its longest row ends.
"""

from dataclasses import fields

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from model.sampling import Completion, common_prefix


def settings(new, stops, greedy=False, n=1, **more):
    how = ({"do_sample": False} if greedy else
           {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0})
    return GenerationConfig(max_new_tokens=new, eos_token_id=sorted(stops) or None, pad_token_id=0,
                            num_return_sequences=n, **how, **more)


def left_padded(twin, rows, prefix=()):
    """Ids and mask (B, P + T) of prefix + padding + row: transformers derives positions from the mask."""
    T = max(map(len, rows))
    ids = torch.tensor([[*prefix, *[0] * (T - len(row)), *row] for row in rows])
    mask = torch.tensor([[1] * len(prefix) + [0] * (T - len(row)) + [1] * len(row) for row in rows])
    return ids.to(twin.device), mask.to(twin.device)


def positions(mask):
    return (mask.cumsum(1) - 1).clamp(min=0)


@torch.inference_mode()
def read(twin, ids, mask):
    """A cache that holds `ids`."""
    cache = DynamicCache(config=twin.config)
    twin(ids, attention_mask=mask, position_ids=positions(mask), past_key_values=cache, logits_to_keep=1)
    return cache


def completion(ids, stops, new):
    end = next((i for i, token in enumerate(ids) if token in stops), None)
    return Completion(ids[:new] if end is None else ids[:end], end is not None)


def repeated(twin, prompts, n, new, stops):
    """Different prompts prefilled once, padded on the left; the cache repeated n times; one batch."""
    ids, mask = left_padded(twin, prompts)
    cache = read(twin, ids[:, :-1], mask[:, :-1])
    cache.batch_repeat_interleave(n)
    ids, mask = ids.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
    out = twin.generate(ids, attention_mask=mask, past_key_values=cache,
                        generation_config=settings(new, stops))
    return [completion(row, stops, new) for row in out[:, ids.shape[1]:].tolist()]


def continuous(twin, prompts, n, new, stops, page=32):
    """generate_batch: a paged cache, every prompt read once and forked."""
    pages = len(prompts) * n * (2 + (max(map(len, prompts)) + new) // page)
    # older versions of transformers 5 call a page a block
    size = "page_size" if "page_size" in {f.name for f in fields(ContinuousBatchingConfig)} else "block_size"
    by_itself = None if twin.device.type == "cuda" else False       # on a GPU transformers decides
    config = ContinuousBatchingConfig(**{size: page}, num_blocks=pages, max_batch_tokens=512,
                                      use_cuda_graph=by_itself, use_async_batching=by_itself)
    out = twin.generate_batch(prompts, generation_config=settings(new, stops, n=n),
                              continuous_batching_config=config, warmup=False)
    if len(out) != len(prompts) * n or any(one.error for one in out.values()):
        raise RuntimeError("generate_batch did not answer all requests")        # it prints why
    return [completion(one.generated_tokens, stops, new) for one in out.values()]


def behind_one_prefix(twin, prompts, new):
    """Greedy: what all prompts share read once, its cache repeated, the rests padded between it and them."""
    shared = common_prefix(prompts)
    ids, mask = left_padded(twin, [p[shared:] for p in prompts], prompts[0][:shared])
    cache = read(twin, ids[:1, :shared], mask[:1, :shared])
    cache.batch_repeat_interleave(len(prompts))
    out = twin.generate(ids, attention_mask=mask, past_key_values=cache,
                        generation_config=settings(new, (), greedy=True))
    return [completion(row, (), new) for row in out[:, ids.shape[1]:].tolist()]


def greedy(twin, ids, mask, new, **cache):
    """Ids of one row; cache: settings of generate for another cache than the one that grows."""
    out = twin.generate(ids, attention_mask=mask, generation_config=settings(new, (), greedy=True, **cache))
    return out[0, ids.shape[1]:].tolist()
