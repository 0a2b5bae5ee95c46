"""All texts, read and made: the data folder's files and our own, as lists of rows.

Knows nothing of the model.
"""

import zlib

import attacks
import benign
import data
import personal
import synthetic

CARRYING = ("gpteacher_roleplay", "gpteacher_codegen", "selfinstruct_seed", "selfinstruct_user", "presidio_text", "mmlu", "clinc")


def carriers(guard):
    """Benign texts that may be built into our own ones; they are for training only, with all their near-copies."""
    return [row["text"] for row in guard if row["source"] in CARRYING and zlib.crc32(row["text"].encode()) % 2]


def read(folder, seed):
    """Returns the rows of every part by name; those that begin with `own` are for training only."""
    parts = {name: data.read(folder, f"{name}.jsonl.gz") for name in ("domain", "domain_freeform", "guard", "guard_benign", "pii")}
    texts = carriers(parts["guard"])
    parts["own_domain"] = synthetic.rows(seed)
    parts["own_attacks"] = attacks.rows(seed, texts)
    parts["own_benign"] = benign.rows(seed, texts)
    parts["own_pii"] = personal.rows(seed)
    return parts
