"""ASK: execute the requests of any task, and store what came as it came, judged by nobody.

A response depends on the model, its adapter and the request. Items are asked a chunk at a time: the requests
of several items together, each item's behind the prefix that they share (its news), each with its own adapter
where the model carries a bank.
"""

import time
from collections import defaultdict

from model.drawing import Sampling
from model.sampling import check_fits, generate, score
from newnews.console import progress
from newnews.randomness import stream
from newnews.tasks.settings import make_task, requests_digest
from newnews.together import write_together

CHUNK_TOKENS = 2 ** 15      # prompt tokens that are asked together: what bounds memory. At Qwen2.5-0.5B in
                            # bf16 their keys and values take 400 MB. Part of what answers are: a constant.
CHUNK_REPLIES = 2 ** 17     # new tokens, at most: 64 replies of 2,048 are lost by a kill, not hundreds


def ask(model, chat, requests, adapters=None):
    """Raw responses to `requests` [(item id, Request)], in their order.

    adapters: one number a request, the adapter of the model's bank that answers it (-1: the base model), or
    None.
    """
    responses = [None] * len(requests)

    # 1. Score: every continuation is a row; they all go together.
    rows = [(i, prompt, ids) for i, (_, request) in enumerate(requests)
            for prompt, ids in scored_ids(chat, request)]
    if rows:
        sums = score(model, [prompt for _, prompt, _ in rows], [ids for *_, ids in rows],
                     adapters=None if adapters is None else [adapters[i] for i, *_ in rows],
                     groups=[requests[i][0] for i, *_ in rows])
        for (i, _, ids), logprobs in zip(rows, sums):
            item, request = requests[i]
            row = responses[i] = responses[i] or {"item": item, "id": request.id, "logprobs": [],
                                                  "tokens": []}
            row["logprobs"].append(sum(logprobs))
            row["tokens"].append(len(ids))

    # 2. Sample: requests of one sampling go together.
    groups = defaultdict(list)
    for i, (_, request) in enumerate(requests):
        if request.continuations is None:
            groups[request.max_new_tokens, request.temperature].append(i)
    for (limit, temperature), places in groups.items():
        prompts = [prompt_ids(chat, requests[i][1]) for i in places]
        done = generate(model, prompts, chat.stop_ids, Sampling(limit, temperature),
                        streams=[stream("ask", requests[i][0], requests[i][1].id) for i in places],
                        groups=[requests[i][0] for i in places],
                        adapters=None if adapters is None else [adapters[i] for i in places])
        for i, completion in zip(places, done):
            item, request = requests[i]
            responses[i] = {"item": item, "id": request.id, "text": chat.decode(completion.ids),
                            "stopped": completion.stopped, "tokens": len(completion.ids)}
    return responses


def prompt_ids(chat, request):
    """The token ids that a reply continues. An empty text is <|endoftext|>, behind which documents begin."""
    if isinstance(request.messages, str):
        return chat.encode(request.messages) or [chat.added["<|endoftext|>"]]
    return chat.prompt(request.messages)


def scored_ids(chat, request):
    """[(ids of the prompt, ids of a continuation)]: in a conversation the continuation stands behind the
    assistant's header, else directly behind the text."""
    if request.continuations is None:
        return []
    if isinstance(request.messages, str):
        return [text_pair(chat, request.messages, text) for text in request.continuations]
    prompt, ids = prompt_ids(chat, request), [chat.answer(text) for text in request.continuations]
    if request.end:
        return [(prompt, [*i, chat.im_end]) for i in ids]
    if any(len(i) != 1 for i in ids):       # letters are compared by their first token, so it must be all
        raise ValueError(f"the tokenizer does not write each of {', '.join(request.continuations)} "
                         f"as one token")
    return [(prompt, i) for i in ids]


def text_pair(chat, context, continuation):
    """Ids of a context and of what follows it, as lm-eval-harness parts them: white space at the end of the
    context goes to the continuation, since tokenizers write " word" as one token; then both are encoded as
    one text. Where a token would reach over the boundary, each is encoded by itself: no letter is lost."""
    before = context.rstrip()
    after = context[len(before):] + continuation
    prompt, whole = chat.encode(before), chat.encode(before + after)
    together = whole[:len(prompt)] == prompt and len(whole) > len(prompt)
    ids = whole[len(prompt):] if together else chat.encode(after)
    return prompt or [chat.added["<|endoftext|>"]], ids


def chunks(chat, task, items, config=None):
    """Items in groups: [(items, requests)]. The prompts of a group have at most CHUNK_TOKENS tokens together,
    its replies at most CHUNK_REPLIES; or it is one item. config: of the model, whose context all must fit, so
    that what does not is found before anything is asked."""
    out, size, replies = [], 0, 0
    for item in items:
        requests = [(item.id, request) for request in task.requests(item)]
        prompts = [prompt_ids(chat, r) for _, r in requests]
        if config is not None:
            check_lengths(config, chat, item, requests, prompts)
        tokens = sum(len(p) * max(1, len(r.continuations or ())) for p, (_, r) in zip(prompts, requests))
        new = sum(r.max_new_tokens for _, r in requests)
        if not out or size + tokens > CHUNK_TOKENS or replies + new > CHUNK_REPLIES:
            out.append(([], []))
            size = replies = 0
        out[-1][0].append(item)
        out[-1][1].extend(requests)
        size, replies = size + tokens, replies + new
    return out


def check_lengths(config, chat, item, requests, prompts):
    """Each prompt fits the model's context, with its reply or each of its continuations."""
    try:
        for prompt, (_, request) in zip(prompts, requests):
            check_fits(config, len(prompt), request.max_new_tokens)
            for before, ids in scored_ids(chat, request):
                check_fits(config, len(before), len(ids))
    except ValueError as error:
        raise ValueError(f"{item.id}: {error}") from None


def answer_all(output, model, chat, task, items, adapters_of=None, label="ask", share=(0, 1)):
    """Fill `output` (newnews.outputs.Rows) with the responses to what `task` asks about `items`. Resumes.

    adapters_of(items) -> a context manager that puts the items' adapters on the model as a bank, and gives
    each one's number. share (r, s): only the chunks r, r + s, ... (newnews/together.py: write_together).
    """
    if output.whole:
        return output
    parts = chunks(chat, task, items, model.config)[share[0]::share[1]]
    done = sum(len(some) for some, _ in parts[:output.chunks])
    bar = progress(sum(len(some) for some, _ in parts), done, label, "item")
    for some, requests in parts[output.chunks:]:
        start = time.time()
        try:
            if adapters_of is None:
                rows = ask(model, chat, requests)
            else:
                with adapters_of(some) as numbers:
                    place = dict(zip([item.id for item in some], numbers))
                    rows = ask(model, chat, requests, [place[item] for item, _ in requests])
        except ValueError as error:
            names = some[0].id if len(some) == 1 else f"{some[0].id} to {some[-1].id}"
            raise ValueError(f"{names}: {error}") from None
        output.add(rows, seconds=round(time.time() - start, 3))
        bar.update(len(some))
    bar.close()
    output.finish()
    return output


def answer_file(path, loaded, task, items, how, where):
    """The file of raw responses, whole, that evaluate.py writes; None at torchrun's other processes.

    loaded: newnews.loading.load's. how: what made the task (newnews/tasks/settings.py). where: the data, for
    errors."""
    model, chat, about = loaded
    run = {"model_digest": about["digest"], "adapter": about.get("adapter"), "dtype": about["dtype"],
           "device": about["device"].partition(":")[0], "task": task.name,
           "chunk": [CHUNK_TOKENS, CHUNK_REPLIES],
           "requests": requests_digest(task, items),
           "data": requests_digest(make_task(how), items), "how": how}

    def fill(output, share):
        try:
            return answer_all(output, model, chat, task, items, share=share)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    return write_together(path, run, 1, fill)
