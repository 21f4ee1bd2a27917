"""Self-play: a writer model, with a news item in its context, writes replay elements about it."""

import time
from hashlib import sha256

from tqdm import tqdm

from model.cache import rows_at_once
from model.flops import forward_flops
from model.sampling import Sampling, common_prefix, generate
from newnews.protocols import PROTOCOLS, element, request, shadow


def stream(*parts):
    """The name of one row's noise: a 64-bit hash of what the row is,
    so no row's noise depends on its neighbours."""
    return int.from_bytes(sha256("\x00".join(map(str, parts)).encode()).digest()[:8], "big")


class Writer:
    """A model in the role of the writer. Counts what it spends: tokens read and written, and FLOPs."""

    def __init__(self, model, chat, prompts, seed):
        self.model, self.chat, self.prompts, self.seed = model, chat, prompts, seed
        self.cost = {"prompt_tokens": 0, "new_tokens": 0, "flops": 0}

    def write(self, requests, stage, names, temperature):
        """Answer each request (a user turn): texts, None where the answer was empty or cut at the limit."""
        prompts = [self.chat.prompt([{"role": "user", "content": text}]) for text in requests]
        limit = self.prompts.max_new_tokens
        sampling = Sampling(max_new_tokens=limit, temperature=temperature, seed=self.seed)
        size = rows_at_once(self.model.config, max(map(len, prompts)) + limit,
                            self.model.lm_head.weight.element_size())
        texts = []
        for i in range(0, len(prompts), size):
            part = prompts[i:i + size]
            streams = [stream(stage, name) for name in names[i:i + size]]
            for prompt, done in zip(part, generate(self.model, part, self.chat.stop_ids, sampling, streams)):
                text = self.chat.decode(done.ids).strip()
                texts.append(text if text and done.stopped else None)
                self.cost["new_tokens"] += len(done.ids) + done.stopped
                read = len(done.ids) + done.stopped - 1         # the last token drawn is read by nobody
                self.cost["flops"] += forward_flops(self.model.config, read, len(prompt), heads=read)
            unique = set(map(tuple, part))      # n samples of one prompt read it once; so is a shared prefix
            shared = common_prefix(list(unique))
            self.cost["prompt_tokens"] += shared + sum(len(prompt) - shared for prompt in unique)
            self.cost["flops"] += forward_flops(self.model.config, shared, heads=0)
            self.cost["flops"] += sum(forward_flops(self.model.config, len(prompt) - shared, shared)
                                      for prompt in unique)
        return texts

    def elements(self, item, protocol, n):
        """n draws of a written protocol for one news item -> (rows, counts).
        Duplicates are dropped if the prompts say so.

        Self-QA asks in one conversation and answers in a second one, each with the news in sight.
        """
        if protocol == "naive":
            return [{"messages": element("naive", item.statement, self.prompts), "news": item.id,
                     "protocol": "naive", "row": 0}], {"drawn": 0, "kept": 1}
        prompts, names = self.prompts, [f"{item.id}/{row}" for row in range(n)]
        asked = [request(protocol, row, prompts) for row in range(n)]
        first = self.write([prompts.with_news(item.statement, text) for text in asked], f"{protocol}/1",
                           names, prompts.temperature)
        usable = [row for row in range(n) if first[row] is not None]
        kept = (list({first[row]: row for row in reversed(usable)}.values())[::-1]
                if prompts.deduplicate else usable)
        counts = {"drawn": n, "unusable": n - len(usable), "repeated": len(usable) - len(kept)}
        if protocol == "self_qa":
            second = self.write([prompts.with_news(item.statement, first[row]) for row in kept],
                                f"{protocol}/2", [names[row] for row in kept],
                                prompts.answer_temperature) if kept else []
            triples = [(row, answer, first[row]) for row, answer in zip(kept, second) if answer is not None]
            counts["unusable"] += len(kept) - len(triples)
        else:
            triples = [(row, first[row], "") for row in kept]
        rows = [{"messages": element(protocol, item.statement, prompts, written, question), "news": item.id,
                 "protocol": protocol, "row": row, "asked": asked[row]}
                for row, written, question in sorted(triples)]
        return rows, {**counts, "kept": len(rows)}


def write_replay(output, model, chat, prompts, news, protocol, n, seed, shadowed=False):
    """Fill `output` (newnews.outputs.Rows) with n draws for each news item, one chunk an item.
    Resumes where it stopped.

    The naive protocol needs no writer: one row an item. shadowed: the news goes before every conversation.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if output.whole:
        return output
    writer = Writer(model, chat, prompts, seed)
    bar = tqdm(total=len(news), initial=output.chunks, desc=f"write {protocol}", unit="news", disable=None,
               dynamic_ncols=True)
    for item in news[output.chunks:]:
        start = time.time()
        writer.cost = dict.fromkeys(writer.cost, 0)
        try:
            rows, counts = writer.elements(item, protocol, n)
        except ValueError as error:
            raise ValueError(f"news {item.id}: {error}") from None
        if shadowed:
            rows = [{**row, "messages": shadow(row["messages"], item.statement, prompts)} for row in rows]
        output.add(rows, **counts, **writer.cost, seconds=round(time.time() - start, 3))
        bar.update()
    bar.close()
    output.finish()
    return output
