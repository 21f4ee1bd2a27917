"""`python -m newnews chat`: one prompt, answered side by side by base, tuned and amplified."""

import sys

from newnews.probing.readout import amplified
from newnews.reading import number


def chat(args):
    from newnews.console import say
    from newnews.loading import load
    if args.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens {args.max_new_tokens}: expected at least 1")
    number("--amplify", args.amplify)
    model, chat, about = load(args.model, args.adapter, args.device, args.dtype)
    say(**about)
    for text in [args.say] if args.say is not None else typed():
        if text.strip():
            prompt = chat.prompt([{"role": "user", "content": text}])
            for name, a in (("base", -1.0), ("tuned", 0.0), ("amplified", args.amplify)):
                ids, = amplified(model, [prompt], a, chat.stop_ids, args.max_new_tokens)
                print(f"{name:9}  {chat.decode(ids)}", flush=True)


def typed():
    """Lines as they are typed, until Ctrl-D; each prompt stands alone. A prompt sign only on a terminal."""
    if sys.stdin.isatty():
        import readline     # noqa: F401 (arrow keys and history in input)
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
