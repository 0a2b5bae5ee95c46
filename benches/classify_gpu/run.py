#!/usr/bin/env python3
"""Models on a GPU: Signalbox against PyTorch (SDPA, compiled, CUDA graphs), on the same random weights.

    cargo build --release --features flash-attn --example classify_forward
    benches/classify_gpu/run.py --python PATH          # an interpreter with torch, transformers and tokenizers
    benches/classify_gpu/run.py --device cpu --quick   # tries the script itself, in f32

Two shapes: the built-in model's encoder (MiniLM-L6) and ModernBERT-base. Two figures of each: how long one text of 128
tokens takes, alone, and how many texts a second are answered for 64 clients that each ask again as soon as they have
their answer. Signalbox does all of its usual work through its public API: it queues, tokenises, batches, computes, pools;
its clients are 64. PyTorch has the token ids ready, and gets the 64 texts as one batch. The contestants take turns within
each round, in an order that rotates; medians of the rounds. The embeddings of both must agree.

Markdown goes to standard output, everything measured as JSON to `--out`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORCH = Path(__file__).with_name("torch_model.py")
TOKENIZER = ROOT / "models" / "builtin" / "tokenizer.json"
SHAPES = ["minilm-l6", "modernbert-base"]
WORDS = ["the", "river", "runs", "through", "every", "old", "city", "and"]
OURS, PYTORCH = "Signalbox", "PyTorch"
AGREE = 0.99


class Contestant:
    """A process that computes what it is told to."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.ready = self.answer()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended: {self.process.wait()}")
        return json.loads(line)

    def compute(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()


@contextlib.contextmanager
def started(command: list) -> Iterator[Contestant]:
    argv = [str(part) for part in command]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Contestant(process)
        finally:
            process.kill()


def request(texts: int, tokens: int, calls: int) -> dict:
    """Each word is one token; two more tokens frame a text."""
    turned = [WORDS[at % len(WORDS)] for at in range(tokens + texts)]
    bodies = [" ".join([WORDS[at % 7], *turned[at : at + tokens - 3]]) for at in range(texts)]
    return {"texts": bodies, "tokens": tokens, "calls": calls, "all": False, "apart": texts > 1}


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def compete(options: argparse.Namespace, shape: str) -> list[dict]:
    folder = options.models / shape
    if not (folder / "model.safetensors").exists():
        make = ["--make", folder, "--shape", shape, "--tokenizer", TOKENIZER]
        subprocess.run([options.python, TORCH, *make], check=True)
    ours = [options.forward, "--model", folder, "--device", options.device, "--threads", options.threads]
    torch = [options.python, TORCH, "--model", folder, "--device", options.device, "--threads", options.threads]
    torch += ["--dtype", options.precision] + ["--no-compile"] * options.no_compile
    if options.device != "cpu":
        ours += ["--precision", options.precision]
    cases = [("one", request(1, options.tokens, options.calls))]
    cases += [("many", request(options.clients, options.tokens, max(2, options.calls // 10)))]
    samples = []
    with started(torch) as pytorch, started(ours) as signalbox:
        contestants = [(OURS, signalbox), (PYTORCH, pytorch)]
        for case, asked in cases:
            for turn in range(-1, options.rounds):
                found = {}
                for name, contestant in contestants if turn % 2 else contestants[::-1]:
                    found[name] = contestant.compute(asked)
                for one, other in zip(found[OURS]["embeddings"], found[PYTORCH]["embeddings"], strict=True):
                    if cosine(one, other) < AGREE:
                        sys.exit(f"{shape}: the embeddings differ, cosine {cosine(one, other)}")
                # The round before the first warms up.
                for name, answer in found.items() if turn >= 0 else ():
                    waited = sorted(answer["latencies_ms"])
                    samples.append({
                        "shape": shape, "case": case, "contestant": name, "round": turn,
                        "p50_ms": statistics.median(waited), "p99_ms": waited[int(0.99 * (len(waited) - 1))],
                        "texts_a_second": len(asked["texts"]) * asked["calls"] / answer["wall"],
                    })  # fmt: skip
            print(f"{shape}, {case}: done", file=sys.stderr)
    return samples


def report(options: argparse.Namespace, samples: list[dict]) -> str:
    def middle(shape: str, case: str, name: str, key: str) -> float:
        own = [s for s in samples if (s["shape"], s["case"], s["contestant"]) == (shape, case, name)]
        return statistics.median(s[key] for s in own)

    lines = [f"| {options.tokens} tokens, {options.device} | {OURS} | {PYTORCH} |", "| --- | ---: | ---: |"]
    for shape in SHAPES:
        pairs = [[f"{middle(shape, 'one', name, key):.2f}" for key in ("p50_ms", "p99_ms")] for name in (OURS, PYTORCH)]
        lines.append(f"| {shape}, one text: p50 / p99 ms | {' | '.join(' / '.join(pair) for pair in pairs)} |")
        many = [f"{middle(shape, 'many', name, 'texts_a_second'):,.0f}" for name in (OURS, PYTORCH)]
        lines.append(f"| {shape}, {options.clients} clients: texts a second | {' | '.join(many)} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    release = ROOT / "target" / "release"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forward", type=Path, default=release / "examples" / "classify_forward")
    parser.add_argument("--python", type=Path, default=sys.executable, help="has torch, transformers and tokenizers")
    parser.add_argument("--models", type=Path, default=release.parent / "classify_gpu", help="where models are made")
    parser.add_argument("--out", type=Path, default=release.parent / "classify_gpu.json")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["f32", "f16", "bf16"], help="default: bf16, on the CPU f32")
    parser.add_argument("--threads", type=int, default=2, help="of Signalbox, and of PyTorch on the CPU")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=300, help="a round of one text; a tenth for each client")
    parser.add_argument("--no-compile", action="store_true", help="run PyTorch as it is")
    parser.add_argument("--quick", action="store_true", help="a look: one round of few calls, eight clients, short texts")
    options = parser.parse_args()
    options.precision = options.precision or ("f32" if options.device == "cpu" else "bf16")
    if options.quick:
        options.rounds, options.calls, options.clients, options.tokens = 1, 3, 8, 32
    return options


def main() -> None:
    options = arguments()
    options.models.mkdir(parents=True, exist_ok=True)
    samples = [sample for shape in SHAPES for sample in compete(options, shape)]
    options.out.write_text(json.dumps({"samples": samples}, indent=1), encoding="utf-8")
    print(report(options, samples))


if __name__ == "__main__":
    main()
