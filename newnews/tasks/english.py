"""What IFEval's checks need to know of English: sentences, capital words, and which language a text is in.

The verdicts must be those of the original, which asks nltk's Punkt splitter, its Treebank-style tokeniser and
langdetect. The first two are written anew here from their descriptions (Kiss & Strunk 2006; the Penn Treebank
conventions), with the quirks that decide counts: "1." before a capital is a sentence, and so is "**" after
"end."; Punkt's statistics of capitalisation are replaced by a short list of common words. Languages are
recognised by langdetect itself, the extra `retention`.
"""

import re

# A full stop behind these ends a sentence only before a word that is capitalised and common. "etc.", "e.g."
# and "i.e." are not among them, as in Punkt's English model.
ABBREVIATIONS = set(
    "mr mrs ms messrs dr prof rev rep reps sen gen gov lt maj col capt sgt jr sr st ft co corp inc ltd bros "
    "cos cie jan feb aug sep sept oct nov dec tues fri ala ariz calif colo conn fla ga ill kan ky mich "
    "minn nev okla ore pa tenn va vt wash wis ave adm vs yr mg ct ok ph.d a.m p.m a.d u.s "
    "u.s.a u.k u.n u.s.s.r d.c n.y n.j n.c s.c l.a w.va m.b.a j.b j.c j.j j.k j.p j.r p.a.m "
    "c d e f g h k l m n p r s t v w".split())
COMMON = set(
    "a according after all also although am among an and any are as at be because been before but by can "
    "could despite did do does during each even every few first for from further had has have he her here "
    "his how however i if in indeed instead is it its just let many may maybe meanwhile moreover most "
    "my never nevertheless no nor not now of on once one only or our perhaps please remember "
    "she should similarly since so some such that the their then there these they this those though through "
    "thus to under until was we were what when where which while who why will with would yet "
    "you your".split())
CLOSERS = re.compile(r"[\"')\]}]+(?=\s|--|$)\s*")
END = re.compile(r"[.?!](?=[)\";}\]*:@'({\[!?]|\s+\S)")
TOKEN = re.compile(r"'?[^\s)\";}\]*:@'({\[!?]+$")
NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.")

# Split off from words: brackets, quotes, most signs, "--", "...", and ":" or "," unless a digit follows.
SIGNS = re.compile(r"[«»“”‘’„`\"*;@#$%&?!\[\](){}<>]|--|\.{2,}|[:,](?!\d)")
CLITICS = re.compile(r"(?<=[^'\s])(?:'(?:[SMD]|LL|RE|VE)?|N'T)(?=\s|$)", re.IGNORECASE)
FUSED = re.compile(r"\b(CAN)(NOT)\b|\b(GIM|LEM)(ME)\b|\b(GON|WAN)(NA)\b|\b(GOT)(TA)\b")


def sentences(text):
    """How many sentences a text has, by the rules of Punkt's English model."""
    count = start = 0
    ends = [found.end() for found in END.finditer(text)]
    for end, after in zip(ends, [*ends[1:], None]):
        one_word = after is not None and not re.search(r"\s", text[end:after])      # "What?!" ends once
        if end <= start or one_word or not ends_sentence(text, end):
            continue
        count += 1
        start = re.compile(r"\s*").match(text, end).end()
        closers = CLOSERS.match(text, start)        # what closes belongs to what it closes
        start = closers.end() if closers else start
    return count + bool(text[start:].strip())


def ends_sentence(text, end):
    """Does text[:end], which ends in one of .?!, end a sentence?"""
    if text[end - 1] != ".":
        return True
    line = text.rfind("\n", 0, end) + 1
    token = TOKEN.search(text, line, end)[0].lstrip("`:;&#-,").lower()
    following = text[end:].lstrip()
    word = re.match(r"[^\W\d_]+(?:['-]\w+)*|", following)[0]
    common = word[:1].isupper() and word.lower() in COMMON
    known = token[:-1] in ABBREVIATIONS or token[:-1].rpartition("-")[2] in ABBREVIATIONS
    initial = len(token) == 2 and token[0].isalpha()
    if re.search(r"\.\.$", token) or known and not initial:
        return common
    if known or NUMBER.fullmatch(token) or initial:
        goes_on = word[:1].islower() or following[0] in ";:,.!?"
        of_name = initial and word[:1].isupper() and not common and text[line:end - 2].strip()
        return not (known or goes_on or of_name)        # "A. Word" at the start of a line is a list
    return True


def capital_words(text):
    """How many tokens have capital letters and no small ones. "DON'T" and "CANNOT" are two each."""
    text = SIGNS.sub(r" \g<0> ", text)
    text = CLITICS.sub(r" \g<0>", text)
    text = FUSED.sub(lambda m: " ".join(part for part in m.groups() if part), text)
    return sum(token.isupper() for token in text.split())


def detector():
    """The package langdetect; a ValueError says how to get it."""
    try:
        import langdetect
    except ImportError:
        raise ValueError("IFEval's checks of language need langdetect, which is in the extra `retention`: "
                         "pip install -e '.[retention]'") from None
    langdetect.DetectorFactory.seed = 0     # it samples; without a seed, verdicts on short texts change
    return langdetect


def language_of(text):
    """The ISO 639-1 code of the language langdetect hears; None if it hears none (a text without letters)."""
    langdetect = detector()
    try:
        return langdetect.detect(text)
    except langdetect.LangDetectException:
        return None
