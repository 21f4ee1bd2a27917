"""Words with slots. Imports nothing heavy: the names of protocols, and so every `--help`, hang on it."""

import re


def fill(template, **slots):
    """Put values in for {name}, in one pass: braces inside a value (code, say) stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: str(slots[m[1]]) if m[1] in slots else m[0], template)


def whole(span):
    """Finds a span where it is no part of a longer word, in small or capital letters."""
    return re.compile(rf"(?<!\w){re.escape(span)}(?!\w)", re.I)


def letters(count):
    """The letters of `count` options, at most 26: A, B, C, ..."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]
