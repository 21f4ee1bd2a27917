"""The questions of news items, closed book or in context, in several formats.

    letter   the options are shown, in an order drawn per question from the seed; the letter with the
             highest log-probability as the first token of the answer is the pick
    text     no options are shown; each option is scored as the whole answer: summed log-probability
             ("right"), and the same per byte of the option ("per_byte")
    free     a greedy short reply, judged by newnews/tasks/judge.py: "contains" is the headline, "exact"
             beside it
    reason   the same, after up to REASON_TOKENS tokens of thought
    cloze    as text, but what is asked is the neutral request ("What is new?") and the options are whole
             sentences that differ in one place (newnews/studies/ways.py makes such questions)
"""

import numpy as np

from newnews.randomness import stream
from newnews.reading import whole
from newnews.tasks.base import Request
from newnews.tasks.judge import VERSION, judge
from newnews.words import letters

WAYS = ("closed_book", "in_context")
FORMATS = ("letter", "text", "free", "reason")
CLOZE = "cloze"         # of questions that are made for it
FREE_TOKENS = 32        # a free reply that has not ended by then is cut
REASON_TOKENS = 288     # 256 for the thought, the rest for the answer


def shown_order(question, seed):
    """The order in which a question's options are shown: shown place -> index of the option."""
    return np.random.default_rng([seed, stream("options", question.id)]).permutation(
        len(question.options)).tolist()


class NewsTask:
    name, version = "news", VERSION

    def __init__(self, prompts, in_context, seed=0, formats=("letter", "text", "free")):
        self.prompts, self.in_context, self.seed, self.formats = prompts, in_context, seed, tuple(formats)
        unknown = set(formats) - {*FORMATS, CLOZE}
        if unknown or not formats or len(set(formats)) < len(formats):      # twice would count twice
            raise ValueError(f"formats {list(formats)}: expected some of {', '.join(FORMATS)}, once each")
        whole("seed", seed, 0, 2 ** 63 - 1)

    def requests(self, item):
        return [self.request(item, question, format) for question in item.questions
                for format in self.formats]

    def request(self, item, question, format):
        prompts, name = self.prompts, f"{question.id}/{format}"
        if format == "letter":
            shown = [question.options[i] for i in shown_order(question, self.seed)]
            return Request(name, self.messages(item, prompts.ask_choice(question.text, shown)),
                           list(letters(len(shown))), end=False)
        if format in ("text", CLOZE):
            asked = question.ask if format == "text" else prompts.naive
            return Request(name, self.messages(item, asked), list(question.options))
        text, limit = (prompts.ask_free, FREE_TOKENS) if format == "free" else (prompts.ask_reason,
                                                                                REASON_TOKENS)
        return Request(name, self.messages(item, text(question.ask)), max_new_tokens=limit)

    def messages(self, item, text):
        text = self.prompts.with_news(item.statement, text) if self.in_context else text
        return [{"role": "user", "content": text}]

    def judge(self, item, request, response):
        """{"question", "domain", "needs", "steps", "format", "right", ...}: "right" is what the headline
        counts."""
        name, _, format = request.id.rpartition("/")
        question = next(q for q in item.questions if q.id == name)
        row = {"news": item.id, "domain": item.domain, "question": question.id, "needs": question.needs,
               "steps": question.steps, "format": format}
        if format == "letter":
            pick = shown_order(question, self.seed)[int(np.argmax(response["logprobs"]))]
            return {**row, "pick": pick, "right": pick == question.answer}
        if format in ("text", CLOZE):
            sizes = [len(option.encode()) for option in question.options]
            pick = int(np.argmax(response["logprobs"]))
            per_byte = int(np.argmax(np.divide(response["logprobs"], sizes)))
            return {**row, "pick": pick, "right": pick == question.answer,
                    "per_byte": per_byte == question.answer}
        forms = [question.ways(k) for k in range(len(question.options))]
        found = judge(response["text"], response["stopped"], forms, question.answer,
                      self.prompts.answer_marker)
        return {**row, **found, "right": found["contains"]}
