"""Spans of a window's tokens and their pooled states, as the gateway lays and pools them; kept on disk in pieces.

A window's tokens are cut into units of 8 to 16 tokens, after the last end of a sentence where there is one; a span is as many
units as fit into its size. Knows nothing of labels.
"""

import hashlib
import time

import numpy as np

import encoder
from store import key

UNIT, LEAST = 16, 8  # tokens of a unit: at most, and at least before an end of a sentence
SIZES = (32, 64, 128)
STATES = (2, 4, 6)
ENDS = (999, 1012, 1025, 1029, 1636, 1986, 1994)  # ! . ; ? and the wide ones in the vocabulary
PIECE = 512  # windows that are computed and written together


def units(ids, ends=ENDS):
    """Where a window's units begin, and its end."""
    found, at = [0], 0
    while len(ids) - at > UNIT:
        cut = next((i + 1 for i in range(at + UNIT - 1, at + LEAST - 2, -1) if ids[i] in ends), at + UNIT)
        found.append(cut)
        at = cut
    return [*found, len(ids)]


def spans(begins):
    """The spans over units that begin there, as (first unit, one after the last); the whole window is none of them."""
    found, last = [], len(begins) - 1
    for size in SIZES:
        for first in range(0, last, size // 32):
            end = first + 1
            while end < last and begins[end + 1] - begins[first] <= size:
                end += 1
            if (first, end) != (0, last):
                found.append((first, end))
            if end == last:
                break
    return found


def pooled(states, begins, pairs):
    """Means and maxima of one state over spans; `states` are a window's tokens without the special ones."""
    sums = np.add.reduceat(states, begins[:-1], axis=0)
    tops = np.maximum.reduceat(states, begins[:-1], axis=0)
    most = np.stack([tops[a:b].max(0) for a, b in pairs])
    mean = np.stack([sums[a:b].sum(0) / (begins[b] - begins[a]) for a, b in pairs])
    return mean, most


class Pools:
    """Every window's pooled rows, f16: the whole window first, its special tokens included, then its spans."""

    def __init__(self, trunk, work, states=STATES, ends=ENDS):
        self.trunk, self.states, self.ends = trunk, states, ends
        self.folder, self.known, self.pieces = work, {}, []
        for path in sorted(work.glob("pools-*.npz")):
            self.take(np.load(path))

    def take(self, piece):
        """Adds one written piece."""
        begin = piece["begin"]
        self.pieces.append((begin, piece["rows"], piece["tokens"]))
        for place, name in enumerate(piece["names"]):
            self.known[name.tobytes()] = (len(self.pieces) - 1, place)

    def compute(self, windows):
        """Computes and writes what is not there yet."""
        fresh = list({name: w for w in windows if (name := key(w)) not in self.known}.values())
        fresh.sort(key=len)
        # Short and long pieces in turn, so that the time left can be told.
        for at in range(0, len(fresh), PIECE):
            part, since = fresh[at : at + PIECE], time.time()
            rows, tokens = [None] * len(part), [None] * len(part)
            for chunk, found, keep in encoder.states(part, self.trunk):
                read = [found[s].float().numpy() for s in self.states]
                for place, i in enumerate(chunk):
                    size = len(part[i])
                    begins = units(part[i], self.ends)
                    pairs = spans(begins)
                    whole = [x[place, : size + self.trunk.framing] for x in read]
                    one = np.concatenate([x.mean(0) for x in whole] + [x.max(0) for x in whole])[None]
                    if pairs:
                        each = [pooled(x[len(self.trunk.before) :][:size], begins, pairs) for x in whole]
                        more = np.concatenate([m for m, _ in each] + [m for _, m in each], 1)
                        one = np.concatenate([one, more])
                    rows[i] = one.astype(np.float16)
                    tokens[i] = [(0, size)] + [(begins[a], begins[b]) for a, b in pairs]
            begin = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
            names = np.array([np.frombuffer(key(w), np.uint8) for w in part])
            piece = {"names": names, "begin": begin, "rows": np.concatenate(rows), "tokens": np.concatenate(tokens)}
            np.savez(self.folder / f"pools-{hashlib.sha256(names.tobytes()).hexdigest()[:16]}.npz", **piece)
            self.take(piece)
            print(f"{at + len(part)} of {len(fresh)} windows, {sum(map(len, part))} tokens in {time.time() - since:.0f} s", flush=True)

    def rows(self, windows):
        """Returns (rows, window of each row, the row's tokens as begin and end)."""
        self.compute(windows)
        rows, window, tokens = [], [], []
        for number, w in enumerate(windows):
            piece, place = self.known[key(w)]
            begin, found, at = self.pieces[piece]
            part = slice(begin[place], begin[place + 1])
            rows.append(found[part])
            tokens.append(at[part])
            window.append(np.full(len(found[part]), number))
        return np.concatenate(rows), np.concatenate(window), np.concatenate(tokens)
