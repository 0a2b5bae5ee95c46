"""The labelled texts: reading, grouping near-duplicates and splitting.

Knows nothing of the model. Splits are by group, so that no text has a near-copy on the other side.
"""

import gzip
import json
import pathlib
import re

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

TRAIN, VALIDATION, TEST, DROPPED = 0, 1, 2, 3
NEAR = 0.92


def read(folder, name):
    """Reads one gzipped JSON-lines file of the data folder."""
    with gzip.open(pathlib.Path(folder) / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def shape_of(text):
    """Reduces a text to its words, with every number alike."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "0", text.lower()).split())


def near_pairs(unit, block=2048):
    """Yields index pairs of unit vectors whose cosine is above NEAR."""
    for at in range(0, len(unit), block):
        cosine = unit[at : at + block] @ unit[at:].T
        first, second = np.nonzero(cosine > NEAR)
        keep = second > first
        yield first[keep] + at, second[keep] + at


def groups(texts, last_states):
    """Returns a group number for each text: same words, or (where there are any) sentence embeddings with a cosine above NEAR."""
    pairs = []
    if last_states is not None:
        pairs = list(near_pairs(last_states / np.linalg.norm(last_states, axis=1, keepdims=True)))
    seen = {}
    same = [(seen.setdefault(shape_of(text), i), i) for i, text in enumerate(texts)]
    first = np.concatenate([p[0] for p in pairs] + [np.array([a for a, _ in same])])
    second = np.concatenate([p[1] for p in pairs] + [np.array([b for _, b in same])])
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(texts), len(texts)))
    return connected_components(graph, directed=False)[1]


def split(group, bound, seed, shares=(0.72, 0.10, 0.18)):
    """Assigns each row to a split by its group; a group with a row of `bound` (our own texts) is wholly for training."""
    random = np.random.default_rng(seed)
    side = random.choice(3, size=group.max() + 1, p=shares)[group]
    side[np.isin(group, np.unique(group[bound]))] = TRAIN
    return side


def near_any(states, others):
    """Marks the rows of `states` that have a near-copy among `others`."""
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    other = others / np.linalg.norm(others, axis=1, keepdims=True)
    return (unit @ other.T).max(1) > NEAR
