"""One worked example, from a news item to the training tokens:
`python -m newnews show ID --protocol self_qa`."""

from newnews.loading import load
from newnews.news import read_news
from newnews.prompts import prompts_for
from newnews.protocols import request, shadow
from newnews.selfplay import Writer


def show(name, news, protocol, source, n, seed, colour):
    """Print what the writer was asked, what it wrote, the conversation, and its tokens with the supervised
    ones marked."""
    shadowed, written = protocol.endswith("_shadowed"), protocol.removesuffix("_shadowed")
    items = read_news(source)
    item = next((i for i in items if i.id == news), None)
    if item is None:
        raise ValueError(f"{source}: no news {news!r}; "
                         f"it has {', '.join(i.id for i in items[:8])}{', ...' if items[8:] else ''}")
    model, chat, about = load(name)
    prompts = prompts_for(about["folder"])
    rows, counts = Writer(model, chat, prompts, seed).elements(item, written, n)
    print(f"news       {item.statement}\n")
    for row in rows:
        messages = shadow(row["messages"], item.statement, prompts) if shadowed else row["messages"]
        question, answer = (m["content"] for m in row["messages"])
        if written != "naive":
            block("asked", prompts.with_news(item.statement, request(written, row["row"], prompts)))
            block("wrote", question if written == "self_qa" else answer)
        if written == "self_qa":
            block("asked", prompts.with_news(item.statement, question))
            block("wrote", answer)
        for m in messages:
            block(m["role"], m["content"])
        ids, weights = chat.conversation(messages)
        marks = [(chat.tokenizer.decode([i], skip_special_tokens=False), w > 0) for i, w in zip(ids, weights)]
        text = "".join(mark(token.replace("\n", "\\n"), on, colour) for token, on in marks)
        block("tokens", f"{text}\n"
                        f"{len(ids)} tokens, {sum(on for _, on in marks)} of them supervised (marked)")
        print()
    print(", ".join(f"{value} {key}" for key, value in counts.items()))


def block(name, text):
    print(f"{name:<11}" + text.replace("\n", "\n" + " " * 11))


def mark(token, on, colour):
    """A supervised token on green, others as they are; without colour: supervised ones in [brackets],
    | between others."""
    if colour:
        return f"\033[42m\033[30m{token}\033[0m" if on else token
    return f"[{token}]" if on else f"{token}|"
