"""Self-play: a writer model, with a news item in its context, writes replay elements about it."""

import time

from tqdm import tqdm

from model.cache import rows_at_once
from model.flops import forward_flops
from model.sampling import Sampling, common_prefix, generate
from newnews.randomness import stream


class Writer:
    """A model in the role of the writer. Counts what it spends: tokens read and written, and FLOPs."""

    def __init__(self, model, chat, prompts, seed):
        self.model, self.chat, self.prompts, self.seed = model, chat, prompts, seed
        self.cost = {"prompt_tokens": 0, "new_tokens": 0, "flops": 0}

    def write(self, requests, stage, names, temperature):
        """Answer each request (a user turn): texts, None where the answer was empty or cut at the limit.

        The noise of a row hangs on (seed, stage, name) alone, so it is the same in any batch.
        """
        prompts = [self.chat.prompt([{"role": "user", "content": text}]) for text in requests]
        limit = self.prompts.max_new_tokens
        sampling = Sampling(max_new_tokens=limit, temperature=temperature, top_p=self.prompts.top_p,
                            seed=self.seed)
        size = rows_at_once(self.model.config, max(map(len, prompts)) + limit,
                            self.model.lm_head.weight.element_size())
        texts = []
        for i in range(0, len(prompts), size):
            part = prompts[i:i + size]
            streams = [stream(stage, name) for name in names[i:i + size]]
            completions = generate(self.model, part, self.chat.stop_ids, sampling, streams)
            for completion in completions:
                text = self.chat.decode(completion.ids).strip()
                texts.append(text if text and completion.stopped else None)
            self.book(part, completions)
        return texts

    def book(self, prompts, completions):
        """Count tokens and FLOPs of one call: equal prompts and the prefix that all share were read once."""
        config = self.model.config
        for prompt, done in zip(prompts, completions):
            self.cost["new_tokens"] += len(done.ids) + done.stopped
            read = len(done.ids) + done.stopped - 1         # the last token drawn is read by nobody
            self.cost["flops"] += forward_flops(config, read, len(prompt), heads=read)
        unique = set(map(tuple, prompts))
        shared = common_prefix(list(unique))
        self.cost["prompt_tokens"] += shared + sum(len(prompt) - shared for prompt in unique)
        self.cost["flops"] += forward_flops(config, shared, heads=0)
        for prompt in unique:
            self.cost["flops"] += forward_flops(config, len(prompt) - shared, shared)


def write_replay(output, model, chat, prompts, news, protocol, n, seed, shadow=None):
    """Fill `output` (newnews.outputs.Rows) with n draws for each news item, one chunk an item.
    Resumes where it stopped. A news item without one usable draw has an empty chunk.

    protocol: an object of newnews/protocols that writes. shadow: one whose `messages` are written instead
    (generate.py --shadowed: what a shadowed training sees, as a file).
    """
    if output.whole:
        return output
    writer = Writer(model, chat, prompts, seed)
    bar = tqdm(total=len(news), initial=output.chunks, desc=f"write {protocol.name}", unit="news", disable=None,
               dynamic_ncols=True)
    for item in news[output.chunks:]:
        start = time.time()
        writer.cost = dict.fromkeys(writer.cost, 0)
        try:
            rows, counts = protocol.write(writer, item, n)
        except ValueError as error:
            raise ValueError(f"news {item.id}: {error}") from None
        if shadow is not None:
            rows = [{**row, "messages": shadow.messages(row, item)} for row in rows]
        output.add(rows, **counts, **writer.cost, seconds=round(time.time() - start, 3))
        bar.update()
    bar.close()
    output.finish()
    return output
