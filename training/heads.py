"""The heads: one hidden layer over frozen states, trained in torch; a text's logits may be the worst window's.

Knows nothing of texts or files.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional


SAMPLE = 20_000  # rows of many whose means and deviations are enough


@dataclass(frozen=True)
class Recipe:
    """What is chosen on the validation split."""

    states: tuple = (1, 2, 3, 4, 5, 6)
    pooling: str = "mean"
    context: int = 0
    hidden: int = 256
    dropout: float = 0.4
    blank: float = 0.1
    decay: float = 0.05
    smoothing: float = 0.05
    rate: float = 1e-3
    epochs: int = 16
    batch: int = 128
    copies: int = 1
    hard: float = 0.0  # how much more a text without the label counts the worse it is judged


def inputs(mean, most, recipe):
    """Concatenates the chosen states of each window: means of all, then maxima of all."""
    parts = [mean[:, s] for s in recipe.states]
    if recipe.pooling == "mean_max":
        parts += [most[:, s - 1] for s in recipe.states]
    return np.concatenate(parts, 1, dtype=np.float32)


class Head(nn.Module):
    """Standardise, hidden layer, GELU, output."""

    def __init__(self, x, classes, recipe):
        super().__init__()
        self.register_buffer("mean", x.mean(0))
        # Inputs that hardly vary are not blown up: their weights would spoil the rounding of all others.
        deviation = x.std(0)
        self.register_buffer("deviation", deviation.clamp(min=0.3 * float(deviation.median())))
        self.blank, self.drop = nn.Dropout(recipe.blank), nn.Dropout(recipe.dropout)
        self.hidden, self.output = nn.Linear(x.shape[1], recipe.hidden), nn.Linear(recipe.hidden, classes)
        nn.init.normal_(self.hidden.weight, 0, x.shape[1] ** -0.5)
        nn.init.normal_(self.output.weight, 0, recipe.hidden**-0.5)
        nn.init.zeros_(self.hidden.bias), nn.init.zeros_(self.output.bias)

    def forward(self, x):
        return self.judged(self.blank(self.scaled(x)))

    def scaled(self, x):
        """Rows with a mean of zero and a deviation of one."""
        return (x - self.mean) / self.deviation

    def judged(self, x):
        """The logits of scaled rows."""
        return self.output(self.drop(functional.gelu(self.hidden(x))))

    def named(self, name):
        """The head's arrays, with the standardisation folded into the hidden layer."""
        with torch.no_grad():
            weight = self.hidden.weight / self.deviation
            bias = self.hidden.bias - weight @ self.mean
        return {
            f"{name}.hidden.weight": weight.numpy(),
            f"{name}.hidden.bias": bias.numpy(),
            f"{name}.output.weight": self.output.weight.detach().numpy().copy(),
            f"{name}.output.bias": self.output.bias.detach().numpy().copy(),
        }


def merged(parts, name):
    """Puts heads that were trained apart side by side: one head whose answer is the mean of theirs."""
    beside = {"hidden.weight": 0, "hidden.bias": 0, "output.weight": 1}
    found = {
        f"{name}.{part}": np.concatenate([named[f"{name}.{part}"] for named in parts], axis)
        for part, axis in beside.items()
    }
    found[f"{name}.output.weight"] = found[f"{name}.output.weight"] / len(parts)
    found[f"{name}.output.bias"] = np.mean([named[f"{name}.output.bias"] for named in parts], 0, dtype=np.float32)
    return found


def loop(head, recipe, count, loss, seed):
    """AdamW over shuffled batches of `count` items with a warm-up and a cosine; `loss` takes the picked items."""
    matrices = [p for p in head.parameters() if p.ndim == 2]
    vectors = [p for p in head.parameters() if p.ndim != 2]
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.decay}, {"params": vectors, "weight_decay": 0.0}], lr=recipe.rate
    )
    total = recipe.epochs * -(-count // recipe.batch)
    plan = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda s: min(1, (s + 1) / 200) * 0.5 * (1 + np.cos(np.pi * min(s, total) / total))
    )
    mixer = np.random.default_rng(seed)
    head.train()
    for _ in range(recipe.epochs):
        order = mixer.permutation(count)
        for at in range(0, count, recipe.batch):
            adam.zero_grad(set_to_none=True)
            loss(order[at : at + recipe.batch]).backward()
            adam.step()
            plan.step()
    head.eval()
    return head


def train(x, y, weight, classes, recipe, seed):
    """Fits a head to inputs, labels and weights: one row, one label."""
    torch.manual_seed(seed)
    x, y, weight = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(weight)

    def loss(pick):
        each = functional.cross_entropy(head(x[pick]), y[pick], reduction="none", label_smoothing=recipe.smoothing)
        return (each * weight[pick]).sum() / weight[pick].sum()

    head = Head(x, classes, recipe)
    return loop(head, recipe, len(x), loss, seed)


def prepared(head, x, share, kind):
    """All rows scaled, as large as they are to be once that share of them is blank, in their own place: `x` is half precision too."""
    found = x.view(kind)
    for at in range(0, len(x), SAMPLE):
        found[at : at + SAMPLE] = head.scaled(x[at : at + SAMPLE].float()) / (1 - share)
    return found


def blanked(x, share, mixer):
    """Rows without that share of their inputs: dropout, whose own random numbers take as long as the head."""
    dropped = np.frombuffer(mixer.bytes(x.numel()), np.uint8).reshape(x.shape) < round(share * 256)
    return x.masked_fill_(torch.from_numpy(dropped), 0)


def train_worst(x, text, y, weight, recipe, seed, half=False):
    """Fits a head whose answer for a text is its worst window's (the last label's logit above the first's, at most).

    `x`, f16, is overwritten; `half`: matrix products in bfloat16.
    """
    torch.manual_seed(seed)
    x, mixer = torch.from_numpy(x), np.random.default_rng(seed)
    head = Head(x[:: max(1, len(x) // SAMPLE)].float(), 2, recipe)
    x = prepared(head, x, recipe.blank, torch.bfloat16 if half else torch.float16)
    places = [np.zeros(0, int)] * len(y)
    order = np.argsort(text, kind="stable")
    for number, part in zip(*(lambda n, at: (n, np.split(order, at[1:])))(*np.unique(text[order], return_index=True))):
        places[number] = part
    y_, weight_ = torch.from_numpy(y.astype(np.float32)), torch.from_numpy(weight)
    soft = y_ * (1 - recipe.smoothing) + recipe.smoothing / 2

    def loss(pick):
        rows = np.concatenate([places[i] for i in pick])
        owner = torch.from_numpy(np.repeat(np.arange(len(pick)), [len(places[i]) for i in pick]))
        read = blanked(x[rows], recipe.blank, mixer)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = head.judged(read if half else read.float()).float()
        margin = logits[:, 1] - logits[:, 0]
        worst = torch.full((len(pick),), -1e4).scatter_reduce(0, owner, margin, "amax")
        each = functional.binary_cross_entropy_with_logits(worst, soft[pick], reduction="none")
        # Thresholds stand where few texts without the label come.
        counts = weight_[pick] * torch.where(y_[pick] > 0, 1.0, 1 + recipe.hard * (torch.sigmoid(worst.detach()) - 0.75))
        return (each * counts).sum() / counts.sum()

    return loop(head, recipe, len(y), loss, seed)


def logits(x, named, name, chunk=8192):
    """Runs a head from its arrays."""
    arrays = [
        torch.from_numpy(named[f"{name}.{part}"])
        for part in ("hidden.weight", "hidden.bias", "output.weight", "output.bias")
    ]
    with torch.inference_mode():
        return np.concatenate(
            [
                functional.linear(
                    functional.gelu(
                        functional.linear(torch.from_numpy(np.asarray(x[at : at + chunk], np.float32)), *arrays[:2])
                    ),
                    *arrays[2:],
                ).numpy()
                for at in range(0, len(x), chunk)
            ]
        )


def softmax(found):
    """Probabilities of each row."""
    shifted = np.exp(found - found.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def temperature(found, y):
    """Returns the divisor of the logits under which the labels are most probable."""

    def loss(log_t):
        return -np.log(softmax(found / np.exp(log_t[0]))[np.arange(len(y)), y] + 1e-12).mean()

    return float(np.exp(minimize(loss, [0.0], method="Nelder-Mead").x[0]))


def scale(margin, y, weight):
    """Returns (temperature, bias) for a two-label head's margin: sigmoid(margin / temperature + bias)."""

    def loss(v):
        z = margin / np.exp(v[0]) + v[1]
        return (weight * (np.logaddexp(0, -z) * y + np.logaddexp(0, z) * (1 - y))).sum() / weight.sum()

    found = minimize(loss, [0.0, 0.0], method="Nelder-Mead").x
    return float(np.exp(found[0])), float(found[1])


def worst(margin, text, count):
    """The largest margin of each text's windows."""
    found = np.full(count, -np.inf, np.float32)
    np.maximum.at(found, text, margin)
    return found
