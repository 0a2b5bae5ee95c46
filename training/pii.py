"""The token head for personal data: templates, split, training, span scores.

Knows nothing of files. The data folder's TITLE spans (Mr., Dr.) are no entity here.
"""

import dataclasses
import zlib

import numpy as np
import torch
from torch.nn import functional

import heads
import measure
import spans
import store

KINDS = (
    "AGE",
    "CREDIT_CARD",
    "DATE_TIME",
    "DOMAIN_NAME",
    "EMAIL_ADDRESS",
    "GPE",
    "IBAN_CODE",
    "IP_ADDRESS",
    "NRP",
    "ORGANIZATION",
    "PERSON",
    "PHONE_NUMBER",
    "STREET_ADDRESS",
    "US_DRIVER_LICENSE",
    "US_SSN",
    "ZIP_CODE",
)
MOST = 25
LABELS = ["O"] + [f"{mark}-{kind}" for kind in KINDS for mark in "BI"]
RECIPE = heads.Recipe(
    states=(1, 4),
    context=2,
    hidden=256,
    dropout=0.2,
    blank=0.05,
    decay=0.01,
    smoothing=0.02,
    epochs=3,
    batch=512,
    rate=1.5e-3,
)
RECIPES = (RECIPE, dataclasses.replace(RECIPE, states=(1, 3, 5)))


def template(row):
    """A text with its entities' values taken out: what two rows of one template share."""
    text, at, parts = row["text"], 0, []
    for start, end, kind in sorted(row["spans"]):
        parts += [text[at:start], f"[{kind}]"]
        at = end
    return " ".join("".join([*parts, text[at:]]).lower().split())


def truth(row):
    """The entities that count."""
    return [(a, b, kind) for a, b, kind in row["spans"] if kind in KINDS]


def sides(rows):
    """Returns the split of each row: train, templates (unseen ones, for choosing and calibrating), synthetic (seen templates, unseen values), a test, or dropped.

    Beyond MOST rows of one template, no more are trained on.
    """
    found = []
    for number, row in enumerate(rows):
        if row["use"] != "train":
            found.append(row["use"])
        elif zlib.crc32(template(row).encode()) % 100 < 10 and not row.get("form"):
            found.append("templates")
        else:
            found.append("synthetic" if zlib.crc32(row["text"].encode()) % 100 < 7 and not row.get("form") else "train")
    known, seen = {row["text"] for row, side in zip(rows, found) if side != "train"}, {}
    for number, (row, side) in enumerate(zip(rows, found)):
        if side == "train" and not row.get("form"):
            seen[template(row)] = count = seen.get(template(row), 0) + 1
            side = "dropped" if count > MOST else side
        found[number] = "dropped" if side == "train" and row["text"] in known else side
    return np.array(found)


class Pii:
    """All rows of the task with their tokens' states; every row is one window at most."""

    def __init__(self, rows, windows, states, begin, seed, work=None):
        """`windows`: the texts' windows (encoder.Texts); `states`: pieces of (tokens, layers + 1, width), framed by special tokens; `work`: where heads are kept."""
        self.work = work
        self.rows, self.states, self.begin, self.seed = rows, states, begin, seed
        self.edges = np.cumsum([0] + [len(s) for s in states])
        first = np.unique(windows.text, return_index=True)[1]
        self.window, self.offsets = first, [windows.offsets[i] for i in first]
        self.side = sides(rows)
        self.labels = [spans.encode(o, truth(row), LABELS) for o, row in zip(self.offsets, rows)]

    def inputs(self, numbers, recipe):
        """The chosen states of these rows' tokens and their neighbours, f16; the special tokens are neighbours, not rows."""
        found = []
        for n in numbers:
            at, size = int(self.begin[self.window[n]]), len(self.offsets[n])
            piece = int(np.searchsorted(self.edges, at, "right")) - 1
            at -= int(self.edges[piece])
            framed = self.states[piece][at : at + size + 2][:, list(recipe.states)].reshape(size + 2, -1)
            framed = np.pad(framed, ((recipe.context, recipe.context), (0, 0)))
            found.append(
                np.concatenate([framed[1 + shift : 1 + shift + size] for shift in range(2 * recipe.context + 1)], 1)
            )
        return np.concatenate(found)

    def fit(self, recipe):
        """Trains on the training rows."""
        numbers = np.nonzero(self.side == "train")[0]
        inputs, labels = self.inputs(numbers, recipe), np.concatenate([self.labels[n] for n in numbers])
        x, y = torch.from_numpy(inputs), torch.from_numpy(labels)

        def one(seed):
            torch.manual_seed(seed)
            head = heads.Head(x[:: max(1, len(x) // 20000)].float(), len(LABELS), recipe)

            def loss(pick):
                return functional.cross_entropy(head(x[pick].float()), y[pick], label_smoothing=recipe.smoothing)

            return heads.loop(head, recipe, len(x), loss, seed).named("pii")

        fit = lambda: heads.merged([one(self.seed + copy) for copy in range(recipe.copies)], "pii")
        return store.kept(self.work, (inputs, labels, recipe, self.seed), fit)

    def logits(self, numbers, named, recipe):
        """The logits of each of these rows' tokens."""
        found = heads.logits(self.inputs(numbers, recipe), named, "pii")
        return np.split(found, np.cumsum([len(self.offsets[n]) for n in numbers])[:-1])


def decoded(task, numbers, logits, cooled, least):
    """The head's entities of each row, from its logits."""
    found = []
    for n, part in zip(numbers, logits):
        shares = heads.softmax(part / cooled) if len(part) else np.zeros((0, len(LABELS)))
        found.append(
            spans.decode(task.rows[n]["text"], task.offsets[n], shares.argmax(1), shares.max(1), LABELS, least)
        )
    return found


def report(task, side, logits, cooled, least, seed, rounds=300):
    """Span figures of a set, of the head alone and with the patterns, with intervals over rows."""
    numbers = np.nonzero(task.side == side)[0]
    texts = [task.rows[n]["text"] for n in numbers]
    true = [truth(task.rows[n]) for n in numbers]
    alone = [[s[:3] for s in found] for found in decoded(task, numbers, logits, cooled, least)]
    both = [spans.join(found, spans.patterns(text)) for found, text in zip(alone, texts)]
    out = {"texts": len(numbers), "spans": sum(map(len, true))}
    for name, found in (("head", alone), ("with_patterns", both)):
        counts = [spans.score([t], [f]) for t, f in zip(true, found)]
        total = spans.score(true, found)
        random, drawn = np.random.default_rng(seed), []
        each = np.array([[sum(c[i] for c in row.values()) for i in range(3)] for row in counts])
        for _ in range(rounds):
            right, guessed, wanted = each[random.integers(0, len(each), len(each))].sum(0)
            drawn.append(2 * right / max(guessed + wanted, 1))
        precision, recall, f1 = spans.f1(total)
        out[name] = {
            "precision": precision,
            "recall": recall,
            "f1": [f1, *np.percentile(drawn, [2.5, 97.5])],
            "texts_with_false_spans": float(
                np.mean([bool({tuple(s) for s in f} - {tuple(s) for s in t}) for t, f in zip(true, found)])
            ),
            "kinds": {kind: [round(2 * c[0] / max(c[1] + c[2], 1), 3), c[2]] for kind, c in sorted(total.items())},
        }
    return out


def calibration(task, side, logits, cooled):
    """ECE over tokens that are no O in truth or guess."""
    numbers = np.nonzero(task.side == side)[0]
    shares = heads.softmax(np.concatenate(logits) / cooled)
    y = np.concatenate([task.labels[n] for n in numbers])
    said = (y > 0) | (shares.argmax(1) > 0)
    return measure.ece(y[said], shares[said])
