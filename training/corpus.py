"""The texts of the domain and the token task, and what the guard's take from the pool.

Knows nothing of the model.
"""

import zlib

import data
import personal
import synthetic

CARRYING = (
    "gpteacher_roleplay",
    "gpteacher_codegen",
    "selfinstruct_seed",
    "selfinstruct_user",
    "presidio_text",
    "mmlu",
    "clinc",
)


def carriers(guard):
    """Benign texts that may be built into our own ones; they are for training only, with all their near-copies."""
    return [row["text"] for row in guard if row["source"] in CARRYING and zlib.crc32(row["text"].encode()) % 2]


def exams(domain):
    """Some texts of the domain task as benign ones: the long, and a few of the others."""
    return [
        row | {"label": "benign", "source": "domain pool"}
        for row in domain
        if len(row["text"]) > 900 or zlib.crc32(row["text"].encode()) % 20 == 0
    ]


def read(folder, seed):
    """Returns the rows of every part by name; those that begin with `own` are for training only."""
    parts = {name: data.read(folder, f"{name}.jsonl.gz") for name in ("domain", "domain_freeform", "pii")}
    parts["own_domain"] = synthetic.rows(seed)
    parts["own_pii"] = personal.rows(seed)
    return parts
