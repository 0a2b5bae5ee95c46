"""The built-in model's encoder as an ONNX graph, and the process that runs it with ONNX Runtime.

The int8 weights are unfolded to f32, so that both sides compute with the same numbers. The graph uses the operators
that ONNX Runtime's own optimiser makes of a BERT (Attention, SkipLayerNormalization, BiasGelu), which are faster than
what a plain export gives; `--plain` builds the latter.

    python onnx_model.py --weights model.safetensors --config config.json --tokenizer tokenizer.json --threads 1

answers lines of JSON like `forward.rs` does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

OURS = "com.microsoft"
EPSILON = 1e-12


def unfolded(path: Path) -> dict[str, np.ndarray]:
    """Reads all tensors as f32: int8 rows are multiplied by their scales."""
    raw = load_file(path)
    out = {}
    for name, tensor in raw.items():
        if tensor.dtype == np.int8:
            tensor = tensor.astype(np.float32) * raw[f"{name}.scale"][:, None]
        out[name] = np.ascontiguousarray(tensor, dtype=np.float32)
    return out


class Graph:
    """A graph under construction."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes, self.constants = [], []

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str) -> str:
        return self.constant(self.weights[name])

    def node(self, kind: str, inputs: list[str], outputs: int = 1, domain: str = "", **attributes) -> list[str]:
        names = [f"node{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def one(self, kind: str, *inputs: str, domain: str = "", **attributes) -> str:
        return self.node(kind, list(inputs), domain=domain, **attributes)[0]

    def norm(self, rows: str, name: str) -> str:
        gain, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.one("LayerNormalization", rows, gain, shift, axis=-1, epsilon=EPSILON)

    def product(self, rows: str, name: str) -> str:
        return self.one("MatMul", rows, self.constant(self.weights[f"{name}.weight"].T))

    def add_norm(self, rows: str, residual: str, bias: str, norm: str, plain: bool) -> str:
        bias = self.weight(bias)
        if plain:
            return self.norm(self.one("Add", self.one("Add", rows, bias), residual), norm)
        gain, shift = self.weight(f"{norm}.weight"), self.weight(f"{norm}.bias")
        name = "SkipLayerNormalization"
        return self.one(name, rows, residual, gain, shift, bias, domain=OURS, epsilon=EPSILON)

    def attention(self, rows: str, layer: str, heads: int, width: int, plain: bool) -> str:
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = self.constant(np.concatenate([self.weights[f"{part}.weight"] for part in parts]).T)
        bias = self.constant(np.concatenate([self.weights[f"{part}.bias"] for part in parts]))
        if not plain:
            return self.one("Attention", rows, weight, bias, domain=OURS, num_heads=heads)
        qkv = self.one("Add", self.one("MatMul", rows, weight), bias)
        split = self.constant(np.array([0, 0, heads, width // heads], np.int64))
        query, key, value = (
            self.one("Transpose", self.one("Reshape", part, split), perm=order)
            for part, order in zip(
                self.node("Split", [qkv], 3, axis=-1, num_outputs=3),
                ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),
                strict=True,
            )
        )
        query = self.one("Mul", query, self.constant(np.float32((width // heads) ** -0.5)))
        shares = self.one("Softmax", self.one("MatMul", query, key), axis=-1)
        mixed = self.one("Transpose", self.one("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self.one("Reshape", mixed, self.constant(np.array([0, 0, width], np.int64)))

    def layer(self, rows: str, layer: str, heads: int, width: int, plain: bool) -> str:
        seen = self.product(self.attention(rows, layer, heads, width, plain), f"{layer}.attention.output.dense")
        output = f"{layer}.attention.output"
        mixed = self.add_norm(seen, rows, f"{output}.dense.bias", f"{output}.LayerNorm", plain)
        wide, bias = self.product(mixed, f"{layer}.intermediate.dense"), self.weight(f"{layer}.intermediate.dense.bias")
        wide = self.one("Gelu", self.one("Add", wide, bias)) if plain else self.one("BiasGelu", wide, bias, domain=OURS)
        narrow = self.product(wide, f"{layer}.output.dense")
        return self.add_norm(narrow, mixed, f"{layer}.output.dense.bias", f"{layer}.output.LayerNorm", plain)


def encoder(weights: dict[str, np.ndarray], shape: dict, plain: bool) -> bytes:
    """Builds the graph: ids and positions (texts, tokens) to states (texts, tokens, width)."""
    graph = Graph(weights)
    words = graph.one("Gather", graph.weight("embeddings.word_embeddings.weight"), "ids")
    places = graph.one("Gather", graph.weight("embeddings.position_embeddings.weight"), "positions")
    rows = graph.norm(graph.one("Add", words, places), "embeddings.LayerNorm")
    for at in range(shape["layers"]):
        rows = graph.layer(rows, f"encoder.layer.{at}", shape["heads"], shape["width"], plain)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in ("ids", "positions")
    ]
    outputs = [helper.make_tensor_value_info(rows, TensorProto.FLOAT, ["texts", "tokens", shape["width"]])]
    whole = helper.make_graph(graph.nodes, "trunk", inputs, outputs, graph.constants)
    versions = [helper.make_opsetid("", 20), helper.make_opsetid(OURS, 1)]
    return helper.make_model(whole, opset_imports=versions, ir_version=9).SerializeToString()


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="no fused operators")
    options = parser.parse_args()
    shape = json.loads(options.config.read_text(encoding="utf-8"))["trunk"]
    running = session(encoder(unfolded(options.weights), shape, options.plain), options.threads)
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        ids = np.array([encoding.ids for encoding in tokenizer.encode_batch(request["texts"])], np.int64)
        if ids.shape[1] != request["tokens"]:
            sys.exit(f"{ids.shape[1]} tokens, {request['tokens']} were meant")
        feed = {"ids": ids, "positions": np.broadcast_to(np.arange(ids.shape[1]), ids.shape)}
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(request["calls"]):
            (states,) = running.run(None, feed)
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        means = states.mean(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        print(json.dumps({"wall": wall, "cpu": cpu, "embeddings": means.tolist()}), flush=True)


if __name__ == "__main__":
    main()
