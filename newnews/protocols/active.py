"""Active Reading (arXiv 2508.09494): the writer proposes ways to study this very text, then applies each to
it; what comes out is a plain text, loss on every token.

This is the paper's first variant, which knows of no test. Where we differ: there a document is long and gets
one list of strategies; here every four draws share a list of their own, so that more draws mean more
strategies and a row does not depend on n. No code of the paper is public; the wording is ours.
"""

from newnews.protocols.rewrites import Texts, lines

EACH = 4            # draws that share one list of strategies


class ActiveReading(Texts):
    name, words = "active_reading", (*Texts.words, "strategies", "strategy")

    def write(self, item, n):
        prompts = self.prompts
        # 1. A list of strategies for every EACH draws, under the name of the first of them.
        firsts = range(0, n, EACH)
        lists = yield self.ask(item, [prompts.said("strategies")] * len(firsts), 1,
                               [f"{item.id}/{i}" for i in firsts])
        # 2. Each draw applies the next one of its list; of a list that is too short, once more the first.
        plans = [lines(text or "") for text in lists]
        chosen = [plans[i // EACH] for i in range(n)]
        draws = [i for i in range(n) if chosen[i]]
        asked = {i: prompts.apply(chosen[i][i % EACH % len(chosen[i])]) for i in draws}
        if not draws:
            return [], {"drawn": n, "unusable": n, "repeated": 0, "kept": 0}
        written = yield self.ask(item, list(asked.values()), 2, [f"{item.id}/{i}" for i in draws])
        texts = dict(zip(draws, written))
        return self.rows(item, [asked.get(i, "") for i in range(n)], [texts.get(i) for i in range(n)])
