"""The paper's protocols: the news itself, restated, thought through, or asked about by the model itself."""

from newnews.protocols.base import Protocol, conversation


class Naive(Protocol):
    """The news, word for word: one row, no writer needed."""

    name = "naive"

    def write(self, writer, item, n):
        return [{"messages": conversation(self.prompts.naive, item.statement), "news": item.id,
                 "protocol": self.name, "row": 0}], {"drawn": 0, "kept": 1}


class Rehearsal(Protocol):
    """Draws of a writer that has the news in sight. A subclass says what is asked and what is kept."""

    def requests(self):
        raise NotImplementedError

    def second(self, writer, item, rows, first, names):
        """From what was written at first to (user, assistant) texts, None where nothing usable came."""
        return [(self.prompts.naive, first[row]) for row in rows]

    def write(self, writer, item, n):
        prompts, requests = self.prompts, self.requests()
        names = [f"{item.id}/{row}" for row in range(n)]
        # 1. Ask, the YAML's requests taken in turn. Each row's noise hangs on its name alone.
        asked = [requests[row % len(requests)] for row in range(n)]
        first = writer.write([prompts.with_news(item.statement, text) for text in asked], f"{self.name}/1",
                             names, prompts.temperature)
        # 2. Drop what is empty or was cut at the limit; of equal texts keep the first.
        usable = [row for row in range(n) if first[row] is not None]
        kept = []
        for row in usable:
            if not prompts.deduplicate or first[row] not in [first[k] for k in kept]:
                kept.append(row)
        # 3. Make conversations of them; Self-QA asks once more for it.
        pairs = self.second(writer, item, kept, first, [names[row] for row in kept])
        rows = [{"messages": conversation(*pair), "news": item.id, "protocol": self.name, "row": row,
                 "asked": asked[row]} for row, pair in zip(kept, pairs) if pair is not None]
        return rows, {"drawn": n, "unusable": n - len(usable) + len(kept) - len(rows),
                      "repeated": len(usable) - len(kept), "kept": len(rows)}


class Paraphrase(Rehearsal):
    name = "paraphrase"

    def requests(self):
        return self.prompts.paraphrase


class Implication(Rehearsal):
    name = "implication"

    def requests(self):
        return self.prompts.implication


class SelfQA(Rehearsal):
    """A question in one conversation, its answer in a second one, each with the news in sight; trained on
    without."""

    name = "self_qa"

    def requests(self):
        return self.prompts.question

    def second(self, writer, item, rows, first, names):
        if not rows:
            return []
        questions = [first[row] for row in rows]
        answers = writer.write([self.prompts.with_news(item.statement, q) for q in questions],
                               f"{self.name}/2", names, self.prompts.answer_temperature)
        return [None if answer is None else (question, answer)
                for question, answer in zip(questions, answers)]
