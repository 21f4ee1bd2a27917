"""The 25 kinds of instruction of IFEval (arXiv 2311.07911), each a check: does a reply do what was asked?

Written from the paper's descriptions and held to the original's verdicts on 3 x 391 stored replies
(tests/test_ifeval.py). Where the original reads an instruction in its own way, a comment says so: scores
compare only if ours errs alike.

CHECKS: {kind: check(text, **arguments) -> bool}. ARGUMENTS: {kind: names}.
"""

import inspect
import json
import re

from newnews.reading import shown
from newnews.tasks.english import capital_words, language_of, sentences

RELATIONS = ("at least", "less than")
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def compared(count, relation, bound):
    return count >= bound if relation == "at least" else count < bound


# ---- keywords ----

def keywords_there(text, keywords):
    """Anywhere, also within words; the original takes a keyword for a pattern."""
    return all(re.search(word, text, re.IGNORECASE) for word in keywords)


def words_absent(text, forbidden_words):
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def keyword_often(text, keyword, frequency, relation):
    return compared(len(re.findall(keyword.strip(), text, re.IGNORECASE)), relation, frequency)


def letter_often(text, letter, let_frequency, let_relation):
    """Small or capital. Of a sign ("#", "!") the original counts a letter that it draws, we the sign."""
    return compared(text.lower().count(letter.lower()), let_relation, let_frequency)


# ---- language and case ----

def in_language(text, language):
    """A text without letters passes in every language."""
    return language_of(text) in (language, None)


def all_capitals(text):
    return text.isupper() and language_of(text) in ("en", None)


def no_capitals(text):
    return text.islower() and language_of(text) in ("en", None)


def capitals_often(text, capital_frequency, capital_relation):
    return compared(capital_words(text), capital_relation, capital_frequency)


# ---- lengths ----

def sentences_many(text, num_sentences, relation):
    return compared(sentences(text), relation, num_sentences)


def words_many(text, num_words, relation):
    return compared(len(re.findall(r"\w+", text)), relation, num_words)


def parts_between(text, divider, count):
    """`count` parts between dividers. One may open or close the text, but no part within may be empty."""
    parts = [part.strip() for part in re.split(divider, text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == count


def paragraphs(text, num_paragraphs):
    return parts_between(text, r"\*\*\*", num_paragraphs)


def first_word_of_paragraph(text, num_paragraphs, nth_paragraph, first_word):
    """Paragraphs lie between empty lines. Empty ones are not counted, but keep their place in the order."""
    parts = [part.strip() for part in text.split("\n\n")]
    count = sum(map(bool, parts))
    if count != num_paragraphs or nth_paragraph > count or not parts[nth_paragraph - 1]:
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.match(r"[^.,?!'\"]*", word)[0].lower() == first_word.lower()


# ---- content and format ----

def placeholders(text, num_placeholders):
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text, postscript_marker):
    """P.S. and P.P.S also with spaces between."""
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(patterns.get(postscript_marker, postscript_marker.lower()), text.lower()))


def bullets(text, num_bullets):
    """Lines that begin with "-", or with one "*". A bold line, "**so**", is none."""
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def one_of_three(text):
    return any(answer in text for answer in ANSWERS)


def highlights(text, num_highlights):
    """*so* or **so**, on one line. Both are sought on their own, so that **so** and *so* count once each."""
    single = re.findall(r"\*([^\n*]*)\*", text)
    double = re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(part.strip()) for part in (*single, *double)) >= num_highlights


def sections(text, section_spliter, num_sections):
    """Headings: the word and a number."""
    return len(re.findall(rf"{section_spliter.strip()}\s?\d+", text)) >= num_sections


def json_text(text):
    """JSON as a whole, within a code fence or not."""
    text = re.sub(r"^```(?:json|Json|JSON)?|```$", "", text.strip()).strip()
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def title(text):
    """<<a title>> somewhere, on one line."""
    return any(found.strip("<> ") for found in re.findall(r"<<[^\n]+>>", text))


def repeats_prompt(text, prompt_to_repeat):
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def two_responses(text):
    parts = [part.strip() for part in text.split("******")]
    return parts_between(text, r"\*{6}", 2) and len(set(filter(None, parts))) == 2


# ---- start, end, signs ----

def ends_with(text, end_phrase):
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quoted(text):
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def no_comma(text):
    return "," not in text


CHECKS = {
    "keywords:existence": keywords_there, "keywords:forbidden_words": words_absent,
    "keywords:frequency": keyword_often, "keywords:letter_frequency": letter_often,
    "language:response_language": in_language, "change_case:english_capital": all_capitals,
    "change_case:english_lowercase": no_capitals, "change_case:capital_word_frequency": capitals_often,
    "length_constraints:number_sentences": sentences_many, "length_constraints:number_words": words_many,
    "length_constraints:number_paragraphs": paragraphs,
    "length_constraints:nth_paragraph_first_word": first_word_of_paragraph,
    "detectable_content:number_placeholders": placeholders, "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": bullets, "detectable_format:constrained_response": one_of_three,
    "detectable_format:number_highlighted_sections": highlights,
    "detectable_format:multiple_sections": sections, "detectable_format:json_format": json_text,
    "detectable_format:title": title, "combination:repeat_prompt": repeats_prompt,
    "combination:two_responses": two_responses, "startend:end_checker": ends_with,
    "startend:quotation": quoted, "punctuation:no_comma": no_comma}
ARGUMENTS = {kind: tuple(inspect.signature(check).parameters)[1:] for kind, check in CHECKS.items()}
WORD_LISTS = ("keywords", "forbidden_words")


def is_pattern(text):
    """The original searches for keywords as patterns, so each must be one."""
    try:
        return isinstance(text, str) and bool(re.compile(text))
    except re.error:
        return False


def check_arguments(kind, arguments):
    """Raises ValueError where a kind is unknown, or its arguments are not those that its check takes."""
    if not isinstance(kind, str) or kind not in CHECKS:
        raise ValueError(f"unknown instruction {shown(kind)}; known are {', '.join(sorted(CHECKS))}")
    wanted = ARGUMENTS[kind]
    if set(arguments) != set(wanted):
        raise ValueError(f"{kind}: expected the arguments {', '.join(wanted) or 'none'}, "
                         f"found {', '.join(arguments) or 'none'}")
    for name, value in arguments.items():
        number = name.startswith(("num_", "nth_")) or name.endswith("frequency")
        if name in WORD_LISTS:
            fine = isinstance(value, list) and all(is_pattern(word) for word in value)
        elif name in ("keyword", "section_spliter"):
            fine = is_pattern(value)
        elif name.endswith("relation"):
            fine = value in RELATIONS
        else:
            fine = type(value) is int and value >= 0 if number else isinstance(value, str)
        if not fine:
            raise ValueError(f"{kind}: {name}: found {value!r}")
