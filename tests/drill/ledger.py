"""What happened in a drill: counts, and what must not happen; both stay small however long it lasts."""

from collections import Counter

EXAMPLES = 5


class Ledger:
    """Counts of what happened, and violations by promise with their first examples."""

    def __init__(self):
        self.counts = Counter()
        self.violations = Counter()
        self.examples = {}

    def count(self, name, number=1):
        self.counts[name] += number

    def violate(self, promise, example):
        """Note that a promise was broken; tell of the first time at once."""
        if promise not in self.violations:
            print(f"BROKEN: {promise}: {example}", flush=True)
        self.violations[promise] += 1
        examples = self.examples.setdefault(promise, [])
        if len(examples) < EXAMPLES:
            examples.append(str(example)[:300])
