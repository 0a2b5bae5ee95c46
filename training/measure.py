"""Numbers with their uncertainty: accuracy, F1, calibration.

Knows nothing of models; takes labels and probabilities.
"""

import numpy as np
from scipy.stats import rankdata


def f1(y, guess, classes):
    """F1 of each class; a class that occurs on neither side has none (nan)."""
    both = np.array([((y == c) & (guess == c)).sum() for c in range(classes)], float)
    either = np.array([(y == c).sum() + (guess == c).sum() for c in range(classes)], float)
    return np.divide(2 * both, either, out=np.full(classes, np.nan), where=either > 0)


def ece(y, shares, bins=15):
    """Expected calibration error of the top label, over equally wide bins of confidence."""
    guess, sure = shares.argmax(1), shares.max(1)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        abs((guess == y)[place == b].mean() - sure[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(sum(gaps))


def figures(y, shares, classes):
    """Accuracy, macro-F1 and ECE."""
    guess = shares.argmax(1)
    return np.array([(guess == y).mean(), np.nanmean(f1(y, guess, classes)), ece(y, shares)])


def with_intervals(y, shares, classes, seed, rounds=1000):
    """Returns (value, low, high) for accuracy, macro-F1 and ECE: 95 % percentile bootstrap over texts."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(rounds):
        pick = random.integers(0, len(y), len(y))
        drawn.append(figures(y[pick], shares[pick], classes))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return list(zip(figures(y, shares, classes), low, high))


def wilson(right, total, z=1.96):
    """The 95 % Wilson interval of a share."""
    share = right / total
    middle = share + z * z / (2 * total)
    reach = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (middle - reach) / (1 + z * z / total), (middle + reach) / (1 + z * z / total)


def auroc(scores, y):
    """The chance that a positive text has a higher score than a negative one (ties count half)."""
    rank = rankdata(scores)
    positive = int(y.sum())
    return float((rank[y == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(y) - positive)))


def auroc_interval(scores, y, seed, rounds=200):
    """AUROC with its 95 % interval: percentile bootstrap over texts."""
    random, drawn = np.random.default_rng(seed), []
    for _ in range(rounds):
        pick = random.integers(0, len(y), len(y))
        drawn.append(auroc(scores[pick], y[pick]))
    return [round(float(v), 4) for v in (auroc(scores, y), *np.percentile(drawn, [2.5, 97.5]))]
