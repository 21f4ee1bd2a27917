"""One worked example, from a news item to the training tokens:
`python -m newnews show ID --protocol self_qa`."""

from collections import defaultdict

from newnews.batches import once
from newnews.loading import load
from newnews.news import read_news
from newnews.prompts import prompts_for
from newnews.protocols import protocols
from newnews.selfplay import Writer


class Recorder(Writer):
    """A writer that remembers what it was asked and what it wrote: {name of the row: [(asked, wrote)]}."""

    def __init__(self, *args):
        super().__init__(*args)
        self.log = defaultdict(list)

    def answer(self, asks, temperature, costs):
        replies = super().answer(asks, temperature, costs)
        for job, ask in asks.items():
            for name, request, text in zip(ask.names, ask.requests, replies[job]):
                self.log[name].append((request, text))
        return replies


def show(name, news, protocol, source, n, seed, colour):
    """Print what the writer was asked, what it wrote, the conversation, and its tokens with the supervised
    ones marked."""
    items = read_news(source)
    item = next((i for i in items if i.id == news), None)
    if item is None:
        raise ValueError(f"{source}: no news {news!r}; it has {', '.join(i.id for i in items[:8])}"
                         f"{', ...' if items[8:] else ''}; --news names another file")
    model, chat, about = load(name)
    prompts = prompts_for(about["folder"])
    trained, writer = protocols(prompts)[protocol], Recorder(model, chat, prompts, seed)
    print(f"news       {item.statement}\n")
    wrote, asked, counted = [], {}, []
    for written in trained.sources:
        (rows, counts), = writer.write([written.write(item, n)])
        wrote += rows
        asked |= {(row["protocol"], row["row"]): writer.log[f"{item.id}/{row['row']}"] for row in rows}
        writer.log.clear()
        counted.append(", ".join(f"{counts[key]} {key}" for key in counts
                                 if key not in ("prompt_tokens", "new_tokens", "flops")))
    chosen = trained.choose({item.id: wrote}, [item])[item.id]
    if wrote and not chosen:
        raise ValueError(f"{protocol}: nothing to show: of the {len(wrote)} rows about {item.id} it trains "
                         f"on none; it needs rows about other news, or more of them (--n)")
    for row in chosen:
        for request, text in asked[row["protocol"], row["row"]]:
            block("asked", request)
            block("wrote", "(nothing usable)" if text is None else text)
        for message in trained.messages(row, item):
            block(message["role"], message["content"])
        show_tokens(once(trained.examples([row], item, chat)[0]), chat, colour)
        print()
    if trained.remark:
        block("but", trained.remark)
    print("\n".join(counted))


def show_tokens(example, chat, colour, name="tokens"):
    """The tokens of a training example, and how a teacher sees them."""
    shown = ""
    for i, weight in zip(example.ids, example.weights):
        token = chat.tokenizer.decode([i], skip_special_tokens=False).replace("\n", "\\n")
        shown += mark(token, weight > 0, colour)
    supervised = sum(weight > 0 for weight in example.weights)
    block(name, f"{shown}\n{len(example.ids)} tokens, {supervised} of them supervised (marked)")
    if example.other:
        show_tokens(example.other, chat, colour, "teacher")


def block(name, text):
    print(f"{name:<11}" + text.replace("\n", "\n" + " " * 11))


def mark(token, on, colour):
    """A supervised token on green, others as they are; without colour: supervised ones in [brackets],
    | between others."""
    if colour:
        return f"\033[42m\033[30m{token}\033[0m" if on else token
    return f"[{token}]" if on else f"{token}|"
