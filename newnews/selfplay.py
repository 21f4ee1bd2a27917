"""Self-play: a writer model, with a news item in its context, writes replay elements about it.

A protocol says what is asked about one news item, stage by stage (newnews/protocols/base.py: Ask). Here the
requests of many news items go through the writer together, so that its batch stays full.
"""

import time
from collections import defaultdict

from model.drawing import Sampling
from model.flops import sampling_flops
from model.sampling import check_fits, common_prefix, generate
from newnews.console import progress
from newnews.randomness import stream

TOGETHER = 256      # draws, of several news items, that are written together: enough that few places of a
                    # batch stand empty at the end. Part of what the rows are, so a constant.


class Writer:
    """A model in the role of the writer."""

    def __init__(self, model, chat, prompts, seed):
        self.model, self.chat, self.prompts, self.seed = model, chat, prompts, seed

    def check_fits(self, protocol, item, n):
        """What is asked first about a news item fits the model's context; where a later request does not, the
        draw is not usable."""
        ask = next(protocol.write(item, n), None)
        for request in dict.fromkeys(ask.requests if ask else ()):
            limit = ask.limit or self.prompts.max_new_tokens
            try:
                check_fits(self.model.config, len(self.prompt(request)), limit)
            except ValueError as error:
                raise ValueError(f"news {item.id}: {error}") from None

    def prompt(self, request):
        return self.chat.prompt([{"role": "user", "content": request}])

    def write(self, jobs):
        """Drive the `write` generators of protocols, each about one news item, stage by stage together.
        Returns [(rows, counts with the cost: tokens read and written, FLOPs)], one a job."""
        done = [None] * len(jobs)
        costs = [dict.fromkeys(("prompt_tokens", "new_tokens", "flops"), 0) for _ in jobs]
        replies = dict.fromkeys(range(len(jobs)))       # job: what its last Ask was answered; None at first
        while replies:
            # 1. Each job takes its answers and asks again, or is done.
            asks = {}
            for job, texts in replies.items():
                try:
                    asks[job] = jobs[job].send(texts)
                except StopIteration as end:
                    rows, counts = end.value
                    done[job] = rows, {**counts, **costs[job]}
            # 2. All that was asked at one temperature, with one limit, goes together.
            replies, stages = {}, defaultdict(list)
            for job, ask in asks.items():
                stages[ask.temperature, ask.limit].append(job)
            for (temperature, _), some in stages.items():
                replies |= self.answer({job: asks[job] for job in some}, temperature, costs)
        return done

    def answer(self, asks, temperature, costs):
        """{job: texts}, and the cost of each job booked. None in place of a text that is cut off, and where
        what was asked, made of an earlier reply, leaves too little of the context for an answer."""
        limit = next(iter(asks.values())).limit or self.prompts.max_new_tokens
        room = self.model.config.max_position_embeddings - limit
        rows = [(job, row, prompt, stream(ask.stage, name)) for job, ask in asks.items()
                for row, (request, name) in enumerate(zip(ask.requests, ask.names, strict=True))
                if len(prompt := self.prompt(request)) <= room]
        sampling = Sampling(max_new_tokens=limit, temperature=temperature,
                            top_p=self.prompts.top_p, seed=self.seed)
        completions = generate(self.model, [prompt for *_, prompt, _ in rows], self.chat.stop_ids, sampling,
                               streams=[noise for *_, noise in rows],
                               groups=[job for job, *_ in rows]) if rows else []
        texts = {job: [None] * len(ask.requests) for job, ask in asks.items()}
        mine = defaultdict(list)
        for (job, row, prompt, _), completion in zip(rows, completions):
            text = self.chat.decode(completion.ids).strip()
            whole = text and completion.stopped and "\ufffd" not in text    # U+FFFD: bytes that are no text
            texts[job][row] = text if whole else None
            mine[job].append((prompt, completion))
        for job, pairs in mine.items():
            self.book(pairs, costs[job])
        return texts

    def book(self, pairs, cost):
        """Count the tokens and FLOPs of one job's rows: equal prompts and the prefix that all share are read
        once. A writer's adapter comes on top."""
        rows = [(prompt, len(done.ids) + done.stopped) for prompt, done in pairs]
        unique = set(tuple(prompt) for prompt, _ in rows)
        shared = common_prefix(list(unique))
        cost["new_tokens"] += sum(drawn for _, drawn in rows)
        cost["prompt_tokens"] += shared + sum(len(prompt) - shared for prompt in unique)
        cost["flops"] += sampling_flops(self.model.config, rows)


def together(n):
    """How many news items are written together at n draws each."""
    return max(1, TOGETHER // n)


def write_replay(output, model, chat, prompts, news, protocol, n, seed, shadow=None, share=(0, 1)):
    """Fill `output` (newnews.outputs.Rows) with n draws for each news item, one chunk an item.
    Resumes where it stopped. A news item without one usable draw has an empty chunk.

    protocol: an object of newnews/protocols that writes. shadow: one whose `messages` are written instead
    (generate.py --shadowed: what a shadowed training sees, as a file). share (r, s): only the groups r,
    r + s, ... of together(n) items (newnews/together.py: write_together).
    """
    if output.whole:
        return output
    writer, size = Writer(model, chat, prompts, seed), together(n)
    for item in news:                       # before any of them is written
        writer.check_fits(protocol, item, n)
    groups = [news[i:i + size] for i in range(0, len(news), size)][share[0]::share[1]]
    news = [item for group in groups for item in group]
    bar = progress(len(news), output.chunks, f"write {protocol.name}", "news")
    # News items are written in groups with fixed borders: a group that a kill has cut through is written
    # again, and ends in the same bytes.
    for first in range(output.chunks // size * size, len(news), size):
        group, start = news[first:first + size], time.time()
        try:
            done = writer.write([protocol.write(item, n) for item in group])
        except ValueError as error:
            names = group[0].id if len(group) == 1 else f"{group[0].id} to {group[-1].id}"
            raise ValueError(f"news {names}: {error}") from None
        seconds = round((time.time() - start) / len(group), 3)
        for i, (item, (rows, counts)) in enumerate(zip(group, done), first):
            if i < output.chunks:
                continue
            if shadow is not None:
                rows = [{**row, "messages": shadow.messages(row, item)} for row in rows]
            output.add(rows, **counts, seconds=seconds)
            bar.update()
    bar.close()
    output.finish()
    return output
