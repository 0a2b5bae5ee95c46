"""States of windows, computed once and kept on disk in pieces, so that a stopped run goes on where it was.

Knows nothing of labels.
"""

import hashlib
import pathlib
import time

import numpy as np
import torch

import encoder

PIECE = 1024  # windows that are computed and written together


def key(window):
    """A window's name."""
    return hashlib.sha256(np.array(window, np.int32).tobytes()).digest()[:12]


class Store:
    """Mean (of all states) and maximum (of all but the first) over each window's tokens, f16, by the window's name."""

    def __init__(self, trunk, work):
        self.trunk, self.folder, self.known, self.pieces = trunk, work, {}, []
        for path in sorted(work.glob("windows-*.npz")):
            self.take(np.load(path))

    def take(self, piece):
        """Adds one written piece."""
        names, self.pieces = piece["names"], [*self.pieces, (piece["mean"], piece["most"])]
        for row, name in enumerate(names):
            self.known[name.tobytes()] = (len(self.pieces) - 1, row)

    def compute(self, windows):
        """Computes and writes what is not there yet."""
        fresh = list({name: w for w in windows if (name := key(w)) not in self.known}.values())
        fresh.sort(key=len)
        for at in range(0, len(fresh), PIECE):
            part, since = fresh[at : at + PIECE], time.time()
            mean = np.zeros((len(part), self.trunk.layers + 1, encoder.WIDTH), np.float16)
            most = np.zeros((len(part), self.trunk.layers, encoder.WIDTH), np.float16)
            for chunk, found, keep in encoder.states(part, self.trunk):
                share, hidden = (keep / keep.sum(1, keepdim=True)).unsqueeze(-1), ~keep.unsqueeze(-1)
                mean[chunk] = torch.stack([(x * share).sum(1) for x in found], 1).numpy()
                most[chunk] = torch.stack([x.masked_fill(hidden, -1e4).amax(1) for x in found[1:]], 1).numpy()
            names = np.array([np.frombuffer(key(w), np.uint8) for w in part])
            piece = {"names": names, "mean": mean, "most": most}
            np.savez(self.folder / f"windows-{hashlib.sha256(names.tobytes()).hexdigest()[:16]}.npz", **piece)
            self.take(piece)
            print(
                f"{at + len(part)} of {len(fresh)} windows, {sum(map(len, part))} tokens in {time.time() - since:.0f} s",
                flush=True,
            )

    def pooled(self, windows):
        """Returns (means, maxima) of these windows."""
        self.compute(windows)
        places = [self.known[key(w)] for w in windows]
        return tuple(np.stack([self.pieces[piece][part][row] for piece, row in places]) for part in (0, 1))


def every(texts, trunk, work):
    """Every token's states after all layers, f16 (tokens with the special ones, layers + 1, width), and where each window's begin."""
    path = work / f"tokens-{hashlib.sha256(b''.join(map(key, texts.windows))).hexdigest()[:16]}.npy"
    begin = np.concatenate([[0], np.cumsum(texts.size + trunk.framing)])
    if not path.exists():
        partial = path.with_suffix(".part.npy")
        tokens = np.lib.format.open_memmap(partial, "w+", np.float16, (int(begin[-1]), trunk.layers + 1, encoder.WIDTH))
        for chunk, found, _ in encoder.states(texts.windows, trunk):
            half = torch.stack(found, 2).to(torch.float16).numpy()
            for row, i in enumerate(chunk):
                tokens[begin[i] : begin[i + 1]] = half[row, : texts.size[i] + trunk.framing]
        tokens.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r"), begin


def kept(work, parts, fit):
    """The arrays that `fit` makes of these parts, computed once; with no folder, always."""
    if work is None:
        return fit()
    name = hashlib.sha256((pathlib.Path(__file__).parent / "heads.py").read_bytes())
    for part in parts:
        name.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else repr(part).encode())
    path = work / f"head-{name.hexdigest()[:16]}.npz"
    if not path.exists():
        partial = path.with_suffix(".part.npz")
        np.savez(partial, **fit())
        partial.rename(path)
    return dict(np.load(path))
