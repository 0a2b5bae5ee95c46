"""The head: one hidden layer over concatenated mean-pooled states, trained with Adam in numpy.

Knows nothing of texts or files.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from trunk import gelu


@dataclass(frozen=True)
class Recipe:
    """What is chosen on the validation split."""

    states: tuple = (2, 4, 6)
    hidden: int = 256
    dropout: float = 0.4
    decay: float = 0.05
    smoothing: float = 0.05
    rate: float = 1e-3
    epochs: int = 24
    batch: int = 128


def inputs(states, recipe):
    """Concatenates the chosen states of each text."""
    return states[:, list(recipe.states)].reshape(len(states), -1)


def slope(x):
    """The derivative of GELU, by its tanh form; exact enough to descend along."""
    inner = np.float32(0.7978846) * (x + np.float32(0.044715) * x**3)
    tanh = np.tanh(inner)
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * np.float32(0.7978846) * (1 + np.float32(0.134145) * x * x)


def softmax(logits):
    """Probabilities of each row."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def train(x, y, weight, classes, recipe, seed):
    """Fits the head to inputs `x`, labels `y` and a weight for each text; returns its named arrays."""
    random = np.random.default_rng(seed)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x = ((x - mean) / deviation).astype(np.float32)
    wide = recipe.hidden
    arrays = [
        random.normal(0, np.sqrt(1 / x.shape[1]), (x.shape[1], wide)), np.zeros(wide),
        random.normal(0, np.sqrt(1 / wide), (wide, classes)), np.zeros(classes),
    ]
    arrays = [a.astype(np.float32) for a in arrays]
    first, second = [np.zeros_like(a) for a in arrays], [np.zeros_like(a) for a in arrays]
    total = recipe.epochs * -(-len(x) // recipe.batch)
    target = np.full((classes, classes), recipe.smoothing / classes, np.float32)
    target[np.diag_indices(classes)] += 1 - recipe.smoothing
    step = 0
    for _ in range(recipe.epochs):
        order = random.permutation(len(x))
        for at in range(0, len(x), recipe.batch):
            pick = order[at : at + recipe.batch]
            grads = gradients(x[pick], target[y[pick]], weight[pick], arrays, recipe, random)
            step += 1
            rate = recipe.rate * min(1, step / 200) * 0.5 * (1 + np.cos(np.pi * step / total))
            for i, grad in enumerate(grads):
                first[i] += 0.1 * (grad - first[i])
                second[i] += 0.001 * (grad * grad - second[i])
                move = first[i] / (1 - 0.9**step) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8)
                arrays[i] -= np.float32(rate) * (move + (recipe.decay * arrays[i] if arrays[i].ndim == 2 else 0))
    return fold(arrays, mean, deviation)


def gradients(x, target, weight, arrays, recipe, random):
    """Back-propagates one batch's cross-entropy through dropout, GELU and both layers."""
    into, bias, out, shift = arrays
    keep = np.float32(1 - recipe.dropout)
    kept_x = x * (random.random(x.shape, np.float32) < 0.9) / np.float32(0.9)
    before = kept_x @ into + bias
    mask = (random.random(before.shape, np.float32) < keep) / keep
    hidden = gelu(before).astype(np.float32) * mask
    off = (softmax(hidden @ out + shift) - target) * (weight / weight.sum())[:, None]
    back = (off @ out.T) * mask * slope(before)
    return [kept_x.T @ back, back.sum(0), hidden.T @ off, off.sum(0)]


def fold(arrays, mean, deviation):
    """Folds the inputs' standardisation into the first layer; weights become (out, in)."""
    into, bias, out, shift = arrays
    into = into / deviation[:, None]
    return {
        "domain.hidden.weight": np.ascontiguousarray(into.T, np.float32),
        "domain.hidden.bias": (bias - mean @ into).astype(np.float32),
        "domain.output.weight": np.ascontiguousarray(out.T, np.float32),
        "domain.output.bias": shift.astype(np.float32),
    }


def logits(x, named):
    """Runs the head."""
    hidden = gelu(x @ named["domain.hidden.weight"].T + named["domain.hidden.bias"])
    return hidden @ named["domain.output.weight"].T + named["domain.output.bias"]


def temperature(found, y):
    """Returns the divisor of the logits under which the labels are most probable."""
    def loss(log_t):
        shares = softmax(found / np.exp(log_t))
        return -np.log(shares[np.arange(len(y)), y] + 1e-12).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))
