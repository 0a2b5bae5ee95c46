"""The domain head: split, recipes, calibration.

Knows nothing of files; the hand-written prompts come in only to be measured and to drop what is near them.
"""

import numpy as np

import data
import heads
import store

RECIPES = (heads.Recipe(states=(1, 2, 3, 4, 5, 6), pooling="mean_max", hidden=256, epochs=14, copies=3),)


class Domain:
    """All texts of the domain task with their windows' states."""

    def __init__(self, rows, text, size, mean, most, seed, near, work=None):
        self.work = work
        self.rows, self.text, self.size, self.mean, self.most, self.seed = rows, text, size, mean, most, seed
        self.labels = sorted({row["label"] for row in rows})
        self.y = np.array([self.labels.index(row["label"]) for row in rows])
        self.first = np.unique(text, return_index=True)[1]
        source = [row["source"] for row in rows]
        group = data.groups([row["text"] for row in rows], np.asarray(mean[self.first][:, -1], np.float32))
        self.side = data.split(group, np.array([s.startswith("ours/") for s in source]), seed)
        self.side[near & (self.side != data.TEST)] = data.DROPPED
        self.exam = np.array([s.startswith("mmlu_pro/") for s in source])

    def fit(self, x, recipe, sides=(data.TRAIN,)):
        """Trains on the first windows of the texts of these sides; returns the arrays of heads with other seeds side by side."""
        used = np.isin(self.side, sides)
        parts = (x[self.first[used]], self.y[used], np.ones(used.sum(), np.float32), len(self.labels), recipe)
        one = lambda seed: store.kept(self.work, (*parts, seed), lambda: heads.train(*parts, seed).named("domain"))
        return heads.merged([one(self.seed + copy) for copy in range(recipe.copies)], "domain")

    def held(self, x, named):
        """The validation texts' logits and labels, and which are exam questions."""
        validation = self.side == data.VALIDATION
        return heads.logits(x[self.first[validation]], named, "domain"), self.y[validation], self.exam[validation]

    def score(self, x, named):
        """Half for exam questions, half for everything else: people type both."""
        found, y, exam = self.held(x, named)
        right = found.argmax(1) == y
        return float(right[exam].mean() + right[~exam].mean()) / 2

    def temperature(self, x, named):
        """The divisor of the logits."""
        found, y, _ = self.held(x, named)
        return heads.temperature(found, y)


def shares(x, named, cooled, text, size, count):
    """Probabilities of each text: its windows' ones, weighted by their tokens."""
    each = heads.softmax(heads.logits(x, named, "domain") / cooled) * size[:, None]
    found = np.zeros((count, each.shape[1]))
    np.add.at(found, text, each)
    return found / found.sum(1, keepdims=True)
