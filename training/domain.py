"""The domain head: split, recipes, calibration.

Knows nothing of files; the hand-written prompts come in only to be measured and to drop what is near them.
"""

import numpy as np

import data
import heads

RECIPES = (
    heads.Recipe(states=(1, 2, 3, 4, 5, 6), hidden=256, epochs=14),
    heads.Recipe(states=(1, 2, 3, 4, 5, 6), hidden=512, dropout=0.5, epochs=14),
    heads.Recipe(states=(1, 2, 3, 4, 5, 6), pooling="mean_max", hidden=256, dropout=0.5, blank=0.2, epochs=10),
)


class Domain:
    """All texts of the domain task with their windows' states."""

    def __init__(self, rows, text, size, mean, most, seed, near):
        self.rows, self.text, self.size, self.mean, self.most, self.seed = rows, text, size, mean, most, seed
        self.labels = sorted({row["label"] for row in rows})
        self.y = np.array([self.labels.index(row["label"]) for row in rows])
        self.first = np.unique(text, return_index=True)[1]
        source = [row["source"] for row in rows]
        group = data.groups([row["text"] for row in rows], np.asarray(mean[self.first][:, -1], np.float32))
        self.side = data.split(group, np.array([s.startswith("ours/") for s in source]), seed)
        self.side[near & (self.side != data.TEST)] = data.DROPPED
        self.exam = np.array([s.startswith("mmlu_pro/") for s in source])

    def fit(self, x, recipe):
        """Trains on the first windows of the training texts; returns the arrays and the temperature."""
        train, validation = self.side == data.TRAIN, self.side == data.VALIDATION
        head = heads.train(x[self.first[train]], self.y[train], np.ones(train.sum(), np.float32), len(self.labels), recipe, self.seed)
        named = head.named("domain")
        return named, heads.temperature(heads.logits(x[self.first[validation]], named, "domain"), self.y[validation])

    def score(self, x, named):
        """Half for exam questions, half for everything else, on the validation split: people type both."""
        validation = self.side == data.VALIDATION
        right = heads.logits(x[self.first[validation]], named, "domain").argmax(1) == self.y[validation]
        exam = self.exam[validation]
        return float(right[exam].mean() + right[~exam].mean()) / 2, float(right[exam].mean())


def shares(x, named, cooled, text, size, count):
    """Probabilities of each text: its windows' ones, weighted by their tokens."""
    each = heads.softmax(heads.logits(x, named, "domain") / cooled) * size[:, None]
    found = np.zeros((count, each.shape[1]))
    np.add.at(found, text, each)
    return found / found.sum(1, keepdims=True)
