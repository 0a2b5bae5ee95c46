#!/usr/bin/env python3
"""What a forward of the built-in model costs: Signalbox against ONNX Runtime, on the same weights.

    cargo build --release --example classify_forward
    benches/classify_ort/run.py                        # everything, about six minutes
    benches/classify_ort/run.py --quick                # a look

Needs Linux, Python 3.11 or newer with venv, and PyPI for ONNX Runtime. The contestants take turns within each round, in
an order that rotates, and are compared within their round before the median is taken: a busy machine slows all of them.

Measured is CPU time (user and system, all threads of the process), in milliseconds a batch. ONNX Runtime computes the
encoder alone, in f32 with its fused BERT operators, from token ids that are ready. Signalbox does all of its usual work
through its public API: it queues the texts, tokenises them, computes the encoder, pools. Its share of tokenising is also
given apart. The embeddings of both must agree.

Markdown goes to standard output, everything measured as JSON to `--out`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "builtin"
PACKAGES = ["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.31.1", "safetensors==0.8.0", "tokenizers==0.23.3"]
WORDS = ["the", "river", "runs", "through", "every", "old", "city", "and"]
ORT, OURS, ALL = "onnxruntime", "signalbox", "signalbox, every question"
# How alike embeddings have to be: where rows are rounded to eight bits, less.
AGREE = {"f32": 0.9999, "auto": 0.998}


@dataclass(frozen=True)
class Case:
    """A batch of texts, all as long, computed on so many threads."""

    texts: int
    tokens: int
    threads: int

    @property
    def name(self) -> str:
        return f"{self.texts} × {self.tokens}"

    def request(self, tokens_a_round: int, every_question: bool) -> dict:
        """Each word is one token; two more tokens frame a text. No two texts are the same."""
        turned = [WORDS[at % len(WORDS)] for at in range(self.tokens + self.texts)]
        return {
            "texts": [" ".join([WORDS[at % 7], *turned[at : at + self.tokens - 3]]) for at in range(self.texts)],
            "tokens": self.tokens,
            "calls": max(2, tokens_a_round // (self.texts * self.tokens)),
            "all": every_question,
        }


class Contestant:
    """A process that computes what it is told to."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def cpu_ns(self) -> int:
        """Reads the process's CPU clock, as clock_getcpuclockid(3) makes it."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended: {self.process.wait()}")
        return json.loads(line)

    def compute(self, request: dict) -> dict:
        """Adds the milliseconds of CPU and wall time a batch to the answer."""
        before = self.cpu_ns()
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        # ONNX Runtime's process tokenises outside its clock, ours inside.
        cpu = answer.get("cpu", (self.cpu_ns() - before) / 1e9)
        per_call = 1_000 / request["calls"]
        answer |= {"cpu_ms": cpu * per_call, "wall_ms": answer["wall"] * per_call}
        answer["tokenize_ms"] = answer.get("tokenize", 0.0) * per_call
        return answer


@contextlib.contextmanager
def started(command: list[str | Path]) -> Iterator[Contestant]:
    argv = [str(part) for part in command]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            contestant = Contestant(process)
            contestant.answer()
            yield contestant
        finally:
            process.kill()


def python(options: argparse.Namespace) -> Path:
    """Installs what ONNX Runtime's side needs into a virtual environment."""
    found = options.venv / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", str(options.venv)], check=True)
    subprocess.run([found, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES], check=True)
    return found


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def compete(options: argparse.Namespace, interpreter: Path, cases: list[Case]) -> list[dict]:
    """Lets the contestants run all cases of one number of threads, round by round."""
    threads = cases[0].threads
    graph = [interpreter, Path(__file__).with_name("onnx_model.py"), "--threads", threads]
    graph += ["--weights", MODEL / "model.safetensors", "--config", MODEL / "config.json"]
    graph += ["--tokenizer", MODEL / "tokenizer.json"] + ["--plain"] * options.plain
    samples = []
    with started(graph) as ort, started([options.forward, "--threads", threads, "--precision", options.precision]) as ours:
        contestants = [(ORT, ort, False), (OURS, ours, False), (ALL, ours, True)]
        for case in cases:
            for turn in range(-1, options.rounds):
                found = {}
                for shift in range(len(contestants)):
                    name, contestant, every = contestants[(turn + shift) % len(contestants)]
                    found[name] = contestant.compute(case.request(options.tokens, every))
                for one, other in zip(found[ORT]["embeddings"], found[OURS]["embeddings"], strict=True):
                    if cosine(one, other) < AGREE[options.precision]:
                        sys.exit(f"{case.name}: the embeddings differ, cosine {cosine(one, other)}")
                # The round before the first warms up.
                if turn >= 0:
                    for name, answer in found.items():
                        times = {key: answer[key] for key in ("cpu_ms", "wall_ms", "tokenize_ms")}
                        samples.append({**vars(case), "contestant": name, "round": turn, **times})
            print(f"{case.name}, {threads} threads: done", file=sys.stderr)
    return samples


def row(case: Case, samples: list[dict]) -> str:
    def series(name: str, key: str) -> list[float]:
        own = [s for s in samples if s["contestant"] == name and all(s[k] == v for k, v in vars(case).items())]
        return [s[key] for s in sorted(own, key=lambda s: s["round"])]

    def ratio(name: str, key: str) -> str:
        pairs = zip(series(name, key), series(ORT, key), strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    def middle(name: str, key: str) -> float:
        return statistics.median(series(name, key))

    cells = [
        case.name, str(case.threads), f"{middle(ORT, 'cpu_ms'):.1f}", f"{middle(OURS, 'cpu_ms'):.1f}", ratio(OURS, "cpu_ms"),
        ratio(OURS, "wall_ms"), ratio(ALL, "cpu_ms"), f"{middle(OURS, 'tokenize_ms'):.2f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def report(cases: list[Case], samples: list[dict]) -> str:
    head = [
        "texts × tokens", "threads", "ONNX Runtime, CPU ms", "Signalbox, CPU ms", "ratio", "ratio, wall clock",
        "ratio, every question", "tokenising, ms",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---:'] * len(head))} |"]
    return "\n".join(lines + [row(case, samples) for case in cases])


def machine() -> dict:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]  # fmt: skip
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()}


def arguments() -> argparse.Namespace:
    release = ROOT / "target" / "release"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forward", type=Path, default=release / "examples" / "classify_forward")
    parser.add_argument(
        "--venv", type=Path, default=release.parent / "ort-venv", help="where ONNX Runtime is installed"
    )
    parser.add_argument("--out", type=Path, default=release.parent / "classify_ort.json")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=2_048, help="how many tokens a contestant computes a round")
    parser.add_argument("--precision", choices=AGREE, default="auto", help="f32 leaves out Signalbox's rows in eight bits")
    parser.add_argument(
        "--plain", action="store_true", help="give ONNX Runtime a plain export, without fused operators"
    )
    parser.add_argument("--quick", action="store_true", help="five rounds of half the tokens")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tokens = 5, options.tokens // 2
    return options


def main() -> None:
    options = arguments()
    interpreter = python(options)
    shapes = [(1, 16), (1, 64), (1, 128), (1, 256), (1, 512), (16, 64)]
    found, cases, samples = machine(), [], []
    for threads in options.threads:
        group = [Case(texts, tokens, threads) for texts, tokens in shapes]
        samples += compete(options, interpreter, group)
        cases += group
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": found, "samples": samples}, indent=1), encoding="utf-8")
    print(f"{found['cpu']}, {found['cores']} cores, medians of {options.rounds} rounds\n")
    print(report(cases, samples))


if __name__ == "__main__":
    main()
