"""IFEval (arXiv 2311.07911): does a reply follow the instructions in its prompt? A program checks each.

    strict   the reply as it is. Blank replies follow nothing
    loose    the reply, or it without its first or last line or both, or one of these four without "*", does

    {"key", "prompt", "instruction_id_list": [kind], "kwargs": [arguments of each]}     a line of the data
"""

from dataclasses import dataclass

from newnews.reading import read_jsonl
from newnews.tasks.base import Request
from newnews.tasks.benchmark import Benchmark, item_id, unlike
from newnews.tasks.english import detector
from newnews.tasks.instructions import CHECKS, check_arguments


NEED_LANGUAGE = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")


@dataclass(frozen=True)
class Item:
    id: str
    prompt: str
    kinds: list         # of the instructions
    arguments: list     # of each: {name: value}


def read_items(path):
    def item(row):
        kinds, arguments = row.get("instruction_id_list"), row.get("kwargs")
        if "key" not in row or not isinstance(row.get("prompt"), str) or not isinstance(kinds, list) \
                or not isinstance(arguments, list) or len(kinds) != len(arguments):
            raise ValueError("expected key, prompt, instruction_id_list and kwargs, one for each instruction")
        given = []
        for kind, found in zip(kinds, arguments):
            if not isinstance(found, dict):
                raise ValueError(f"kwargs: expected an object for each instruction, found {found!r}")
            given.append({name: value for name, value in found.items() if value is not None})
            check_arguments(kind, given[-1])
        return Item(item_id(row["key"]), row["prompt"], kinds, given)

    items = []
    read_jsonl(path, lambda row: items.append(item(row)), "IFEval file")
    return unlike(items, path)


def follows(text, kind, arguments):
    return bool(text.strip()) and CHECKS[kind](text, **arguments)


def edits(text):
    """The eight texts of which one must follow, for the loose verdict."""
    lines = text.split("\n")
    cut = [text, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(part.replace("*", "") for part in cut)]


def verdicts(text, item):
    """(strict, loose): for each instruction of the item, is it followed?"""
    pairs = list(zip(item.kinds, item.arguments))
    strict = [follows(text, *pair) for pair in pairs]
    loose = [yes or any(follows(edit, *pair) for edit in edits(text)[1:]) for yes, pair in zip(strict, pairs)]
    return strict, loose


class IFEval(Benchmark):
    name, version = "ifeval", 1
    columns = {"right": "strict, prompt", "strict": "strict, instruction", "loose_prompt": "loose, prompt",
               "loose": "loose, instruction"}
    max_new_tokens = 1280       # as the common harnesses give it

    def items(self, path):
        items = read_items(path)
        if any(kind in NEED_LANGUAGE for item in items for kind in item.kinds):
            detector()          # refuse now, not after hours of generation
        return items

    def requests(self, item):
        return [Request(item.id, self.conversation([], item.prompt), max_new_tokens=self.max_new_tokens)]

    def judge(self, item, request, response):
        strict, loose = verdicts(response["text"], item)
        return {"item": item.id, "right": all(strict), "loose_prompt": all(loose), "strict": strict,
                "loose": loose, "cut": not response["stopped"]}
