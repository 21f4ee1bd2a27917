"""Judge a free-form answer: find it in the reply, bring it to one form, compare it with what is accepted.

Three verdicts, from strict to lenient; none of them asks a model.
    exact        the answer, after `normalise`, is an accepted text of the right option
    contains     such a text stands in the answer as whole words, and no text of another option does
    undecided    the right option stands there beside another, or with an "or": nobody could tell

Checked against 200 real replies, each read and labelled first (tests/data/judged_replies.jsonl). Every rule
has its counter-example in tests/test_judge.py: a text that looks alike and must stay wrong.
"""

import re
import unicodedata
from collections import defaultdict

VERSION = 5
LONGEST = 20            # words; a longer text is not read as an answer, it names too many things

WORDS = {word: number for number, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty".split())}
TENS = {word: 10 * number for number, word in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
NUMBERS = {**WORDS, **TENS}
TENS_AND_ONES = re.compile(rf"\b({'|'.join(TENS)})[- ]({'|'.join(list(WORDS)[1:10])})\b")
NUMBER = re.compile(rf"(?<![\w-])(?:{'|'.join(NUMBERS)})(?![\w-])")
MONTHS = ("january february march april may june july august september october november december").split()
UNITS = {"km": "kilometre kilometer km", "m": "metre meter m", "cm": "centimetre centimeter cm",
         "mm": "millimetre millimeter mm", "mile": "mile mi", "foot": "foot feet ft",
         "kg": "kilogram kilo kg", "g": "gram g", "ton": "tonne ton t", "pound": "pound lb",
         "second": "second sec s", "minute": "minute min", "hour": "hour hr h", "day": "day",
         "week": "week", "month": "month", "year": "year yr", "degree": "degree °",
         "euro": "euro eur €", "dollar": "dollar usd", "cent": "cent", "point": "point",
         "percent": "percent %"}
UNIT_OF = {name + s: unit for unit, names in UNITS.items() for name in names.split() for s in ("", "s")}
UNIT = "|".join(sorted(map(re.escape, UNIT_OF), key=len, reverse=True))
QUANTITY = re.compile(rf"(-?\d+(?:\.\d+)?) ?({UNIT})?")


# ---- finding the answer in a reply ----

def extract(text, marker="Answer:", stopped=True):
    r"""The answer in a reply, or None if there is none.

    What follows the last marker on its line ("**Answer**: 42", "Final answer: 42" and "answer - 42" count,
    and so does \boxed{42}); without a marker the whole reply if it has at most 20 words. An empty marker
    stands before the first line. Of a reply that was cut off (stopped=False) only a finished line counts.
    """
    text = re.sub(r"```(?:\w+\n)?", "\n", text)             # fences, with the name of a language
    places = [0] if not marker else [m.end() for m in re.finditer(marker_pattern(marker), text, re.I)]
    boxed = list(re.finditer(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", text))
    if boxed and boxed[-1].end() > max(places, default=0):
        return boxed[-1][1].strip() or None
    if places:
        line, ended, _ = text[places[-1]:].lstrip().partition("\n")
        answer = line if stopped or ended else ""
    else:
        answer = text if stopped and len(text.split()) <= LONGEST else ""
    return re.sub(r"^(?:\*\*|[`\s])+|(?:\*\*|[`\s])+$", "", emphasis(answer)) or None


def marker_pattern(marker):
    """A marker that ends in a colon may be bold, may follow "final", and may have " - " for its colon."""
    if not marker.endswith(":"):
        return re.escape(marker)
    return rf"(?<![\w-]){re.escape(marker[:-1])}\s*(?:\*\*)?(?:\s+is)?\s*(?::|\s-\s)\s*(?:\*\*(?=\s))?"


# ---- rules: each takes and gives a text in lower case, but for the letter A ----

def characters(text):
    """One character for one meaning, one space between words. NFKC makes full-width digits plain, but would
    make 5² to 52. The A of "Plan A works" stays a capital: a small one would be an article."""
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda m: "^" + m[0], text)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)        # 1½ is not 11/2
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    text = "A".join(part.lower() for part in re.split(r"(?<=[a-z\d] )A(?= [a-zA\d])", text))
    return text.translate(str.maketrans("−⁄‘’“”‐‑", "-/''\"\"--"))


def emphasis(text):
    """**42**, *42* and __42__ are 42; 2 * 3 * 4, 2*3*4 and 2**3 stay. Up to 200 characters: no answer is
    longer, and to look for every end in all that follows would take the square of the time."""
    return re.sub(r"(?<![\w*)\]])(\*{1,3}|__)(?=[^\s*_])([^*]{0,200}?[^\s*_])\1(?![\w*])", r"\2", text)


def latex(text):
    r"""$n^2$ is n^2, \frac{s}{5} is s/5. "$5 and $6" are amounts of money."""
    text = re.sub(r"\\[()\[\]]|\\(?:left|right)\b", "", text)
    text = re.sub(r"\$([^$]+)\$(?!\d)", r"\1", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", lambda m: f"{grouped(m[1])}/{grouped(m[2])}", text)
    text = re.sub(r"\^\{(\w+)\}", r"^\1", text)
    return re.sub(r"\\(?:times|cdot)\b", "*", text).replace("\\%", "%")


def grouped(text):
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def articles(text):
    """No articles. "a" is none before a verb, an "or" or an operator, nor at the end: it is the letter A."""
    text = re.sub(r"(?<![.-])\b(?:an|the|a(?! (?:is|was|are|has|and|or)\b))(?= [^-+*/^=×·÷])", " ", text)
    return re.sub(r"\ba\b", "A", " ".join(text.split()))


def operators(text):
    """(x + y) * z is (x+y)*z, and 3 × 4 is 3*4. A minus between words is a dash."""
    text = re.sub(r"(?<=[\d)]) ?[×·] ?(?=[\d(])", "*", re.sub(r"(?<=[\d)]) ?÷ ?(?=[\d(])", "/", text))
    text = re.sub(r"(?<=[\w)\]]) ?(\*\*|[*+/^=]) ?(?=[\w(\[-])", r"\1", text)
    text = re.sub(r"(?<=\d) ?[–—] ?(?=\d)", "-", text)       # 10–12 is a range
    return re.sub(r"(?:(?<=[\d)])|(?<=\b[a-zA])) - (?=\d|\(|[b-hj-z]\b)", "-", text)  # "a", "I": words


def lists(text):
    """[4,1,3] is [4, 1, 3]."""
    def spaced(m):
        return m[1] + re.sub(r"\s*,\s*", ", ", m[2].strip()) + m[3]

    text = re.sub(r"([(\[{])([^()\[\]{}]*)([)\]}])", spaced, text)
    return re.sub(r",(?=[^\s\d])", ", ", text)


def thousands(text):
    """1,234 is 1234; 12,34 and 1, 234 stay."""
    return re.sub(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!,?\d)", lambda m: m[0].replace(",", ""), text)


def clock(text):
    """5:50 a.m. is 05:50, 10 pm is 22:00; 5:50 p.m. is not 05:50."""
    def full(m):
        hour = int(m[1]) % 12 + 12 * (m[3] == "p")
        return f"{hour:02}:{m[2] or '00'}" if 1 <= int(m[1]) <= 12 else m[0]

    text = re.sub(r"(?<![\d:.])(\d{1,2})(?::(\d\d))? ?([ap])(?:m\b|\.m\b\.?)", full, text)
    return re.sub(r"(?<![\d:.])(\d:\d\d)(?![\d:])", r"0\1", text)


def dates(text):
    """1 April 2030, April 1st, 2030 and 2030-04-01 become the one word april-1-2030, so that "1 April" does
    not stand in "1 April 2028". "17:30 April" and "one may stay" have none."""
    def joined(month, day, year):
        return f"{month}-{int(day)}" + (f"-{year}" if year else "")

    day, month = r"(?<!\d[.,:])(?<![a-z]-)\b(\d{1,2})(?:st|nd|rd|th)?", f"({'|'.join(MONTHS)})"
    no_verb = r"(?:(?<!may)(?<!march)|(?! [a-z])|(?= (?:in|at|on|and|or|is|was)\b))"
    year = r"\b(?![.:]\d)(?:,? (\d{4})\b)?"
    text = re.sub(rf"{day}(?: of)? {month}(?!-\d){no_verb}{year}", lambda m: joined(m[2], m[1], m[3]), text)
    text = re.sub(rf"\b{month} {day}{year}", lambda m: joined(m[1], m[2], m[3]), text)
    return re.sub(r"\b(\d{4})-(0[1-9]|1[0-2])-(\d\d)\b",
                  lambda m: joined(MONTHS[int(m[2]) - 1], m[3], m[1]), text)


def number_words(text):
    """Seven is 7, twenty-four 24; hundreds stay words, since "one hundred and five" has no 5 in it."""
    if re.search(r"\b(?:hundred|thousand|million|billion)", text):
        return text
    text = TENS_AND_ONES.sub(lambda m: str(TENS[m[1]] + WORDS[m[2]]), text)
    return NUMBER.sub(lambda m: str(NUMBERS[m[0]]), text)


def percent(text):
    """50 % and 50 percent are 50%; 50 is not."""
    text = re.sub(r"(?<=\d) ?per ?cent\b", "%", text)
    return re.sub(r"(?<=\d) (?=[%°])", "", text)


def edges(text):
    """No punctuation or quotes at the ends. ".5" keeps its point."""
    return re.sub(r"^(?:[\s,;:!?\"'`*]|\.(?!\d))+", "", text.rstrip(" .,;:!?\"'`*"))


# marks go before spaces are joined; numbers are digits, and articles gone, before others look for a number
RULES = (emphasis, latex, characters, number_words, clock, articles, operators, lists, thousands, dates,
         percent, edges)


def normalise(text):
    """The one form in which texts are compared: every rule above, in order. Twice is the same as once, but
    for one in two thousand random jumbles of what the rules know, as "3 December pm" (tests)."""
    for rule in RULES:
        text = rule(text)
    return text


# ---- comparing ----

def equation(text):
    """(name, value) of "x = 15"; the name is None if there is none."""
    found = re.fullmatch(r"([a-zA]) ?= ?([^=]+)", text)
    return (found[1], found[2]) if found else (None, text)


def quantity(text):
    """(number, unit) of "40 km", the unit None if none is stated; (None, None) if it is no quantity."""
    found = QUANTITY.fullmatch(text)
    return (found[1], UNIT_OF.get(found[2])) if found else (None, None)


def equals(answer, forms):
    """Is the normalised answer one of the normalised forms?

    "x = 15" is 15, unless a form names another letter. The unit may be missing where a form states it; that
    of "%" may not. Another unit is another answer: of "2 days" and "48 hours" neither is "2 hours".
    """
    if answer in forms:
        return True
    letters = letters_of(forms)
    name, value = equation(answer)
    if name and letters and name not in letters:
        return False
    number, unit = quantity(value)
    for form in forms:
        form = equation(form)[1]
        if value == form:
            return True
        wanted, its_unit = quantity(form)
        if number and number == wanted and unit in (its_unit, None) and (unit or its_unit != "percent"):
            return True
    return False


def letters_of(forms):
    return {equation(form)[0] for form in forms} - {None}


def units_of(forms):
    """{number: the units that forms state with it}."""
    units = defaultdict(set)
    for number, unit in map(quantity, forms):
        units[number] |= {unit} - {None}
    return units


NOT = re.compile(r"(?:\b(?:not|cannot|never|except|nor|neither|without|instead of|rather than)|n't)"
                 r"(?:(?: (?:be|in|from|at|on|to|of|by))?\W*"
                 r"| \w+(?:ed|en)(?: (?:in|from|at|on|to|of|by|as))? [\"'`(]*)$")      # "not located in"
COMPARED = re.compile(r"\b(?:(?:more|less|fewer|greater|larger|smaller) than|at least|at most)\W*$")


def stands(text, start, end, units, letters):
    """Is text[start:end] said there: whole words, a whole number, not denied by what stands just before, of
    no other unit or letter?"""
    before, after = text[:start], text[end:]
    if re.search(r"\w['-]?$", before) or re.match(r"-?\w", after) or NOT.search(before):
        return False
    if re.match(r"[-.]?\d", text[start:end]):               # no part of 3.19, -5, 2 * 3, 1-5 or "4, 1"
        if re.search(r"(?:\d[,:]|\d ?-|[*+/^×÷]) ?$|[-.]$|\d (?:and|to) $", before):
            return False
        if COMPARED.search(before):                         # "at least 12" is not 12
            return False
        if "=" in after:                                    # 3 * 4 - 6 = 6 says what stands at the end
            return False
        name = re.search(r"(?<!\w)([a-zA]) ?= ?$", before)
        if name and letters and name[1] not in letters:
            return False
    if text[end - 1].isdigit():
        if re.match(r"[.:]\d|, ?\d| ?[*+/^×÷%]| ?- ?\d| (?:and|to) \d"
                    r"| (?:hundred|thousand|million|billion)\b", after):        # 5 million is not 5
            return False
        unit = re.match(rf" ?({UNIT})(?!\w)", after)
        return not (unit and any(units.values()) and UNIT_OF[unit[1]] not in units[text[start:end]])
    return True


def occurrences(text, forms):
    """Spans (start, end) at which one of an option's forms is said in the text. A quantity is also sought
    without its unit."""
    letters, units = letters_of(forms), units_of(forms)
    bare = {quantity(form)[0] for form in forms if quantity(form)[1] not in (None, "percent")}
    spans = {m.span() for form in {*forms} | bare for m in re.finditer(re.escape(form), text) if form}
    return {span for span in spans if stands(text, *span, units, letters)}


def judge(reply, stopped, forms, right, marker="Answer:"):
    """Verdicts on a reply: {"answer", "exact", "contains", "undecided"}.

    forms   for each option a list of texts that say it, or only that of the right one
    right   index of the right option in forms

    Where one form is part of a longer one found at the same place ("Vey" in "Marit Vey"), the longer one
    counts. exact implies contains.
    """
    answer = extract(reply, marker, stopped)
    verdict = {"answer": answer, "exact": False, "contains": False, "undecided": False}
    if answer is None:
        return verdict
    said, forms = normalise(answer), [[normalise(f) for f in option] for option in forms]
    if equals(said, forms[right]):
        return {**verdict, "exact": True, "contains": True}
    if len(answer.split()) > LONGEST:
        return verdict
    spans = [(*span, option) for option, texts in enumerate(forms) for span in occurrences(said, texts)]
    longest = [s for s in spans
               if not any(o[0] <= s[0] and s[1] <= o[1] and o[1] - o[0] > s[1] - s[0] for o in spans)]
    found = {option for *_, option in longest}
    # "Norway or Sweden" leaves open what it is, even where "Sweden" is no option; "seven or so" does not
    rest = said
    for start, end, _ in longest:
        rest = rest[:start] + " " * (end - start) + rest[end:]
    undecided = right in found and (len(found) > 1 or bool(re.search(r"\bor\b(?! so)", rest)))
    return {**verdict, "contains": right in found and not undecided, "undecided": undecided}
