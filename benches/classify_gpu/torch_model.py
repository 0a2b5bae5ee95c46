"""PyTorch's side of `benches/classify_gpu`: makes models with random weights, and runs one with SDPA, compiled.

    python torch_model.py --make FOLDER --shape modernbert-base --tokenizer tokenizer.json
    python torch_model.py --model FOLDER --device cuda --dtype bf16

The second answers lines of JSON like `../classify_ort/forward.rs` does. Its clock covers the token ids' way to the device,
the encoder, the mean over the tokens and its way back, but no tokenising.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, BertConfig, BertModel, ModernBertConfig, ModernBertModel

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SHAPES = {
    # The built-in model's encoder.
    "minilm-l6": (BertModel, BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536,
        max_position_embeddings=512,
    )),
    "modernbert-base": (ModernBertModel, ModernBertConfig(
        vocab_size=50_368, hidden_size=768, num_hidden_layers=22, num_attention_heads=12, intermediate_size=1_152,
        max_position_embeddings=8_192, local_attention=128, global_attn_every_n_layers=3, pad_token_id=0,
        bos_token_id=101, cls_token_id=101, sep_token_id=102, eos_token_id=102,
    )),
}  # fmt: skip


def make(folder: Path, shape: str, tokenizer: Path) -> None:
    torch.manual_seed(0)
    kind, config = SHAPES[shape]
    kind(config).save_pretrained(folder)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")


class Encoder(torch.nn.Module):
    """A text's tokens to the mean of their states."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float().mean(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", type=Path, help="make a model here, and end")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--threads", type=int, default=1, help="how many threads compute on the CPU")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    if options.make:
        make(options.make, options.shape, options.tokenizer)
        return
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    dtype = DTYPES[options.dtype]
    model = AutoModel.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa")
    encoder = Encoder(model.to(options.device).eval())
    if not options.no_compile:
        # CUDA graphs where there is a GPU.
        encoder = torch.compile(encoder, mode="default" if options.device == "cpu" else "reduce-overhead", dynamic=False)
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    print(json.dumps({"ready": True, "device": options.device, "dtype": options.dtype}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(request["texts"])])
        if ids.shape[1] != request["tokens"]:
            sys.exit(f"{ids.shape[1]} tokens, {request['tokens']} were meant")
        latencies, begun = [], time.perf_counter()
        for _ in range(request["calls"]):
            asked = time.perf_counter()
            means = encoder(ids.to(options.device)).cpu()
            latencies.append((time.perf_counter() - asked) * 1e3)
        wall = time.perf_counter() - begun
        print(json.dumps({"wall": wall, "latencies_ms": latencies, "embeddings": means.tolist()}), flush=True)


if __name__ == "__main__":
    main()
