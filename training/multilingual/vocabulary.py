"""Which pieces of the encoder's vocabulary are kept: every single character, and those that texts in its languages need most.

The texts are those of training/language (fetched with cargo and apt-get), some more languages of the same kinds, and the labelled
English ones. Nothing of them is kept in the repository.
"""

import collections
import json
import math
import pathlib

import languages
import sources
from phrases import PHRASES
from tokenizers import Tokenizer

import data
import trunk

# More languages than the table of languages tells apart: those that have a script of their own.
SCRIPTED = {
    "zh": ("chinese", "zh_CN zh_TW"), "ja": ("japanese", "ja"), "ko": ("korean", "ko"), "th": ("thai", "th"), "el": ("greek", "el"),
    "he": ("hebrew", "he"), "hy": ("armenian", ""), "ka": ("georgian", "ka"), "bn": ("bengali", "bn"), "ta": ("tamil", "ta"),
    "te": ("telugu", "te"), "gu": ("gujarati", "gu"), "pa": ("punjabi", "pa_IN"),
}  # fmt: skip
# The encoder never learnt these.
UNKNOWN = ("mt", "sn", "yo", "zu")
WEIGHTS = {"en": 5} | dict.fromkeys("es de fr pt it zh ja ko ar hi ru th".split(), 3) | dict.fromkeys("nl pl tr vi id uk sv cs".split(), 2)
KEPT = 80_000
PRIOR = 0.5  # how much the encoder's own frequencies count beside those of thin texts
INTERFACE = 12_000  # texts of programs' interfaces, at most


def read():
    """The languages that are counted, and that the model is said to read."""
    return [code for code in languages.SOURCES if code not in (*languages.NONES, *UNKNOWN)]


def counts(folder, labelled, tokenizer):
    """How often each piece stands in each language's texts; counted once."""
    languages.SOURCES.update(SCRIPTED)
    path = folder / "pieces.json"
    if not path.exists():
        sources.fetch(folder)
        found = {}
        for code in read():
            texts = [text for at, text in enumerate(sources.news(folder, code)) if at % 10]
            if code == "en":
                texts += [row["text"] for name in ("domain", "guard", "guard_more") for row in data.read(labelled, f"{name}.jsonl.gz")]
            else:
                texts += list(sources.interface(folder, code))[:INTERFACE]
            texts += PHRASES.get(code, "").split(" | ") * 3
            seen = collections.Counter()
            for coded in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                seen.update(coded.ids)
            found[code] = dict(seen)
        path.write_text(json.dumps(found))
    return {code: {int(at): count for at, count in seen.items()} for code, seen in json.loads(path.read_text()).items()}


def kept(folder, labelled, spec):
    """The places of the pieces that are kept, in their order."""
    pieces = spec["model"]["vocab"]
    worth = collections.Counter()
    for code, seen in counts(pathlib.Path(folder), labelled, Tokenizer.from_str(json.dumps(spec))).items():
        for at, count in seen.items():
            worth[at] += WEIGHTS.get(code, 1) * count / sum(seen.values())
    # Whatever could be read as single characters can be still.
    single = lambda piece: len(piece) == 1 or (piece[0] == "▁" and len(piece) == 2)
    found = {at for at, (piece, _) in enumerate(pieces[:-1]) if at < trunk.SPECIAL or piece in trunk.PREFIX or single(piece)}
    rest = [at for at in range(trunk.SPECIAL, len(pieces) - 1) if at not in found]
    rest.sort(key=lambda at: -(worth[at] + PRIOR * math.exp(pieces[at][1])))
    return sorted(found | set(rest[: KEPT - len(found)]))
