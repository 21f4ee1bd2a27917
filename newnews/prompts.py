"""Prompts are data: one YAML holds every word that a model is asked. Its hash is in every manifest."""

import re
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import yaml

DEFAULT = Path(__file__).parent.parent / "configs" / "prompts" / "qwen.yaml"
LETTERS = "ABCD"


def fill(template, **slots):
    """Put values in for {name}, in one pass: braces inside a value (code, say) stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: str(slots[m[1]]) if m[1] in slots else m[0], template)


@dataclass(frozen=True)
class Prompts:
    """configs/prompts/*.yaml, whose comments explain each field."""
    in_context: str
    choice: str
    option: str
    free: str
    answer_marker: str
    naive: str
    paraphrase: list
    implication: list
    question: list
    temperature: float
    answer_temperature: float
    max_new_tokens: int
    deduplicate: bool
    digest: str = ""                # sha256 of the file

    def with_news(self, statement, text):
        return fill(self.in_context, news=statement, text=text)

    def ask_choice(self, question, options):
        lines = (fill(self.option, letter=letter, option=option) for letter, option in zip(LETTERS, options))
        return fill(self.choice, question=question, options="\n".join(lines))

    def ask_free(self, question):
        return fill(self.free, question=question)


def read_prompts(path):
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        d = yaml.safe_load(text)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such prompt file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    wanted = {f.name: f.type for f in fields(Prompts) if f.name != "digest"}
    if not isinstance(d, dict) or set(d) != set(wanted):
        odd = set(d) ^ set(wanted) if isinstance(d, dict) else d
        raise ValueError(f"{path}: expected the keys {', '.join(wanted)}; missing or unknown: {odd}")
    for name, kind in wanted.items():
        value = d[name]
        ok = (isinstance(value, (int, float)) and not isinstance(value, bool) if kind is float
              else type(value) is kind)
        if not ok or kind is list and not (value and all(isinstance(v, str) and v for v in value)):
            raise ValueError(f"{path}: {name}: expected {kind.__name__}, found {value!r}")
    for name, slots in (("in_context", ("{news}", "{text}")), ("choice", ("{question}", "{options}")),
                        ("option", ("{letter}", "{option}")), ("free", ("{question}",))):
        missing = [slot for slot in slots if slot not in d[name]]
        if missing:
            raise ValueError(f"{path}: {name}: lacks {', '.join(missing)}")
    return Prompts(**d, digest=sha256(text.encode()).hexdigest())


def prompts_for(folder):
    """The prompts that a model folder brings (a pocket model knows no others),
    else those for instruction-tuned models."""
    own = Path(folder) / "prompts.yaml"
    return read_prompts(own if own.is_file() else DEFAULT)
