"""States of texts, computed once and kept on disk: pooled ones of every layer, and tokens' where they are needed.

Knows nothing of labels.
"""

import hashlib
import time

import numpy as np
import torch

import trunk


def digest(windows, tag):
    """A name for these windows under this trunk."""
    hashed = hashlib.sha256(tag.encode())
    for window in windows:
        hashed.update(np.array(window, np.int32).tobytes() + b"/")
    return hashed.hexdigest()[:16]


def pooled(texts, named, work, tag, at=4):
    """Mean (layers 0-6) and maximum (1-6) over each window's tokens, f16; and every token's state after layer `at`.

    Returns (means, maxima, tokens, begin): the tokens of window i are rows begin[i] .. begin[i] + size + 2.
    """
    name = digest(texts.windows, tag)
    paths = [work / f"{name}.{part}.npy" for part in ("mean", "max", f"tokens{at}")]
    begin = np.concatenate([[0], np.cumsum(texts.size + 2)])
    if not paths[2].exists():
        count = len(texts.windows)
        mean = np.zeros((count, trunk.LAYERS + 1, trunk.WIDTH), np.float16)
        most = np.zeros((count, trunk.LAYERS, trunk.WIDTH), np.float16)
        partial = paths[2].with_suffix(".part.npy")
        tokens = np.lib.format.open_memmap(partial, "w+", np.float16, (int(begin[-1]), trunk.WIDTH))
        done, since = 0, time.time()
        for chunk, found, keep in trunk.states(texts.windows, named):
            share = (keep / keep.sum(1, keepdim=True)).unsqueeze(-1)
            mean[chunk] = torch.stack([(x * share).sum(1) for x in found], 1).numpy()
            hidden = ~keep.unsqueeze(-1)
            most[chunk] = torch.stack([x.masked_fill(hidden, -1e4).amax(1) for x in found[1:]], 1).numpy()
            half = found[at].to(torch.float16).numpy()
            for row, i in enumerate(chunk):
                tokens[begin[i] : begin[i + 1]] = half[row, : texts.size[i] + 2]
            done += int(keep.sum())
        print(f"{count} windows, {done} tokens in {time.time() - since:.0f} s", flush=True)
        tokens.flush()
        np.save(paths[0], mean)
        np.save(paths[1], most)
        partial.rename(paths[2])
    mean, most, tokens = (np.load(p, mmap_mode="r") for p in paths)
    return mean, most, tokens, begin


def every(texts, named, work, tag):
    """Every token's states after all layers, f16 (tokens with the special ones, layers + 1, width)."""
    path = work / f"{digest(texts.windows, tag)}.every.npy"
    begin = np.concatenate([[0], np.cumsum(texts.size + 2)])
    if not path.exists():
        partial = path.with_suffix(".part.npy")
        tokens = np.lib.format.open_memmap(partial, "w+", np.float16, (int(begin[-1]), trunk.LAYERS + 1, trunk.WIDTH))
        for chunk, found, _ in trunk.states(texts.windows, named):
            half = torch.stack(found, 2).to(torch.float16).numpy()
            for row, i in enumerate(chunk):
                tokens[begin[i] : begin[i + 1]] = half[row, : texts.size[i] + 2]
        tokens.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r"), begin
