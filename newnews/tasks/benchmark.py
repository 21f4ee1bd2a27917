"""What the benchmarks share: prompts with worked examples, with or without the chat template.

A benchmark is a task (newnews/tasks/base.py) that also has

    items(path)                 the questions of its file, each with an `id`
    examples(path)              the same of a file of worked examples
    columns                     {field of a verdict: title}: shares that a table shows, "right" the main one.
                                The field holds true or false, or a list of them (of a prompt's instructions)
    merged(verdicts)            one verdict an item
"""

from collections import Counter

from newnews.reading import shown


def unlike(items, path):
    """The items, at least one, no two of which may have the same id."""
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice or not items:
        raise ValueError(f"{path}: {f'the id {twice[0]} occurs twice' if twice else 'holds no questions'}")
    return items


def item_id(name):
    """An item's id, a number or a text, as text."""
    if type(name) not in (int, str):
        raise ValueError(f"id: expected a number or a text, found {shown(name)}")
    return str(name)


def check_category(name):
    if not isinstance(name, str):
        raise ValueError(f"category: expected a text, found {shown(name)}")
    if name == "all":
        raise ValueError("category: 'all' is what tables call their totals; give it another name")


class Benchmark:
    max_new_tokens = 0          # of a reply, where none are given

    def __init__(self, shots=(), n_shots=0, turns=False, plain=False, max_new_tokens=None):
        """shots: Items, of which n_shots stand before a question.

        turns   each example is a user's and an assistant's turn; else all stand before the question in one
                text, an empty line between them
        plain   no chat template: the text alone, which the model continues
        """
        self.shots, self.n_shots, self.turns, self.plain = list(shots), n_shots, turns, plain
        self.max_new_tokens = self.max_new_tokens if max_new_tokens is None else max_new_tokens
        if turns and plain:
            raise ValueError("examples as turns need the chat template; give them as plain text")

    def examples(self, path):
        raise ValueError(f"{self.name} has no worked examples")

    def chosen(self, fits):
        """The first n_shots of the examples that fit; fits(example) leaves out the question itself."""
        found = [shot for shot in self.shots if fits(shot)][:self.n_shots]
        if len(found) < self.n_shots:
            raise ValueError(f"{len(found)} worked examples fit, expected {self.n_shots}")
        return found

    def conversation(self, shots, asked):
        """The messages of a Request: shots [(asked, answered)], then what is asked."""
        if self.turns:
            said = [{"role": role, "content": text.strip()} for shot in shots
                    for role, text in zip(("user", "assistant"), shot)]
            return [*said, {"role": "user", "content": asked}]
        text = "".join(f"{question}{answer}\n\n" for question, answer in shots) + asked
        return text if self.plain else [{"role": "user", "content": text}]

    def merged(self, verdicts):
        return verdicts


def before_next_question(response):
    """(reply, was it cut?): a base model goes on with a question of its own, which ends its answer."""
    text, went_on, _ = response["text"].partition("Question:")
    return text, not response["stopped"] and not went_on
