"""What the tests of data/new_news and data/new_news_hard share: files, and how words are found in a text."""

import re

import yaml
from conftest import ROOT

FOLDER = ROOT / "data" / "new_news"
HARD = ROOT / "data" / "new_news_hard"
DOMAINS = ("math", "coding", "discoveries", "leaderboards", "events")
NEEDS = ["recall", "application", "reversal", "background", "two_steps"]


def rows(name, folder=FOLDER):
    """The rows of a file as its YAML has them: rows("math"), rows("dev/math"), rows("locality/math")."""
    return yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def statements(item):
    return [item["statement"], *item["worlds"]]


def says(text, words):
    """Whether the words stand in the text as whole words, in upper or lower case."""
    return re.search(rf"(?<!\w){re.escape(words.casefold())}(?!\w)", text.casefold()) is not None
