#!/usr/bin/env python3
"""Compares the shapes of a real vLLM's answers with those of `signalbox sim`.

    compare_vllm.py REAL_BASE_URL SIM_BASE_URL

Both must serve the model names `tiny-llama` and `llama3-8b` with a context of 1024 tokens, the first name first, for
example

    vllm serve models/tiny-llama --served-model-name tiny-llama llama3-8b --port 28100 --max-model-len 1024 \
        --enable-prompt-tokens-details
    signalbox sim --listen 127.0.0.1:28101 --model tiny-llama --model llama3-8b --max-model-len 1024

For each request it compares the status, the header fields, the keys (in their order) and the types of the JSON, the
sequence of a stream's events, the texts of errors, and the families, types, labels and buckets of `/metrics`. Values
that only a model can give are not compared. Exits with 1 when a difference is found that is not listed in EXPECTED.
"""

import json
import re
import sys
import urllib.error
import urllib.request

MODEL = "llama3-8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
TEXT = {"model": MODEL, "prompt": "hello there"}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}

# name, path, body (None: GET; text: sent as it is)
CASES = [
    ("chat", "/v1/chat/completions", CHAT | {"max_tokens": 4}),
    ("chat without model", "/v1/chat/completions", {"messages": CHAT["messages"], "max_tokens": 4}),
    ("chat n=2", "/v1/chat/completions", CHAT | {"max_tokens": 4, "n": 2}),
    ("chat in parts", "/v1/chat/completions",
     {"model": MODEL, "max_tokens": 2,
      "messages": [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}]}),
    ("chat max_completion_tokens", "/v1/chat/completions", CHAT | {"max_completion_tokens": 4}),
    ("chat unknown key", "/v1/chat/completions", CHAT | {"max_tokens": 2, "no_such_key": 1}),
    ("chat stream", "/v1/chat/completions", CHAT | {"max_tokens": 4, "stream": True}),
    ("chat stream usage", "/v1/chat/completions", CHAT | {"max_tokens": 4} | USAGE),
    ("chat stream continuous usage", "/v1/chat/completions", CHAT | {"max_tokens": 4} | CONTINUOUS),
    ("text", "/v1/completions", TEXT | {"max_tokens": 4}),
    ("text default length", "/v1/completions", TEXT | {"ignore_eos": True}),
    ("text array", "/v1/completions", TEXT | {"prompt": ["one", "two"], "max_tokens": 4}),
    ("text ids", "/v1/completions", TEXT | {"prompt": [5, 6, 7], "max_tokens": 4}),
    ("text arrays of ids", "/v1/completions", TEXT | {"prompt": [[5, 6], [7]], "max_tokens": 4}),
    ("text echo", "/v1/completions", TEXT | {"max_tokens": 4, "echo": True}),
    ("text stream", "/v1/completions", TEXT | {"max_tokens": 4, "stream": True}),
    ("text stream usage", "/v1/completions", TEXT | {"max_tokens": 4} | USAGE),
    ("text stream continuous usage", "/v1/completions", TEXT | {"max_tokens": 4} | CONTINUOUS),
    ("models", "/v1/models", None),
    ("one model", "/v1/models/" + MODEL, None),
    ("health", "/health", None),
    ("ping", "/ping", None),
    ("ping posted", "/ping", ""),
    ("version", "/version", None),
    ("load", "/load", None),
    ("tokenize", "/tokenize", TEXT),
    ("tokenize chat", "/tokenize", CHAT),
    ("detokenize", "/detokenize", {"model": MODEL, "tokens": [50, 60]}),
    ("no such path", "/nothing", None),
    ("wrong method", "/v1/chat/completions", None),
    ("wrong method on a getter", "/v1/models", ""),
    ("unknown model", "/v1/chat/completions", CHAT | {"model": "nope"}),
    ("unknown model, text", "/v1/completions", TEXT | {"model": "nope"}),
    ("no messages key", "/v1/chat/completions", {"model": MODEL}),
    ("no messages", "/v1/chat/completions", {"model": MODEL, "messages": []}),
    ("no prompt", "/v1/completions", {"model": MODEL}),
    ("empty prompt", "/v1/completions", TEXT | {"prompt": ""}),
    ("no prompts", "/v1/completions", TEXT | {"prompt": []}),
    ("prompt of another type", "/v1/completions", TEXT | {"prompt": {"a": 1}}),
    ("broken JSON", "/v1/chat/completions", '{"model":"llama3-8b",'),
    ("no object", "/v1/chat/completions", "[1]"),
    ("empty body", "/v1/chat/completions", ""),
    ("max_tokens 0", "/v1/chat/completions", CHAT | {"max_tokens": 0}),
    ("max_tokens negative", "/v1/chat/completions", CHAT | {"max_tokens": -1}),
    ("max_tokens over the context", "/v1/chat/completions", CHAT | {"max_tokens": 2000}),
    ("max_tokens and prompt over it", "/v1/chat/completions", CHAT | {"max_tokens": 1020}),
    ("n 0", "/v1/chat/completions", CHAT | {"n": 0}),
    ("n of another type", "/v1/chat/completions", CHAT | {"n": "a"}),
    ("temperature negative", "/v1/chat/completions", CHAT | {"temperature": -1}),
    ("temperature high", "/v1/chat/completions", CHAT | {"temperature": 5}),
    ("top_p high", "/v1/chat/completions", CHAT | {"top_p": 2}),
    ("stream_options alone", "/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}}),
    ("prompt over the context", "/v1/chat/completions",
     {"model": MODEL, "messages": [{"role": "user", "content": "word " * 1200}]}),
    ("prompt over it, streamed", "/v1/chat/completions",
     {"model": MODEL, "messages": [{"role": "user", "content": "word " * 1200}], "stream": True}),
]

# Header fields whose presence is compared.
SILENT_FIELDS = {"date", "connection", "keep-alive", "vary", "x-inference-pod", "x-inference-namespace", "x-inference-port"}

# What is known to differ, with the reason: (case or "*", text in the difference).
EXPECTED = [
    ("tokenize chat", "tokens"),  # the simulator counts a conversation and lists no ids
    ("wrong method on a getter", "allow:"),  # axum answers HEAD wherever it answers GET; vLLM does not
    # The simulator reads bodies with serde, whose words for what is wrong are other than pydantic's.
    ("no messages key", "text:"),
    ("prompt of another type", "text:"),
    ("broken JSON", "text:"),
    ("no object", "text:"),
    ("empty body", "text:"),
    ("n of another type", "text:"),
]

# The families that the simulator leaves out: the Python process, FastAPI, and features that it does not simulate.
LEFT_OUT = re.compile(
    r"python_|process_|http_|vllm:(estimated_|external_|mm_cache|request_num_preemptions|"
    r"prompt_tokens_cached_by_source)"
)


def fetch(base, path, body):
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    request = urllib.request.Request(base + path, data=data, headers={"content-type": "application/json"})
    try:
        response = urllib.request.urlopen(request, timeout=120)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        fields = {name.lower(): value for name, value in response.headers.items()}
        return response.status, fields, response.read().decode("utf-8", "replace")


def shape(value):
    """The keys and types of a JSON value; a list is the shape of its distinct elements."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        distinct = []
        for item in map(shape, value):
            if item not in distinct:
                distinct.append(item)
        return distinct
    return "number" if type(value) in (int, float) else type(value).__name__


def events(text):
    """The shapes of a stream's events, equal neighbours once."""
    shapes = []
    for event in filter(None, text.split("\n\n")):
        data = event.removeprefix("data: ").strip()
        if data:
            found = data if data == "[DONE]" else shape(json.loads(data))
            if not shapes or json.dumps(shapes[-1]) != json.dumps(found):
                shapes.append(found)
    return shapes


def body_shape(fields, text):
    kind = fields.get("content-type", "")
    if kind.startswith("text/event-stream"):
        return events(text)
    if kind.startswith("application/json"):
        return shape(json.loads(text))
    return text


def differences(real, sim):
    if real[0] != sim[0]:
        yield f"status: {real[0]} / {sim[0]}"
    for name in sorted((set(real[1]) ^ set(sim[1])) - SILENT_FIELDS):
        yield f"field {name}: {real[1].get(name)} / {sim[1].get(name)}"
    for name in ("content-type", "allow"):
        if real[1].get(name) != sim[1].get(name):
            yield f"{name}: {real[1].get(name)} / {sim[1].get(name)}"
    shapes = [json.dumps(body_shape(fields, text), indent=1) for _, fields, text in (real, sim)]
    if shapes[0] != shapes[1]:
        lines = [set(text.splitlines()) for text in shapes]
        odd = sorted(lines[0] ^ lines[1])
        yield f"shape: {' '.join(part.strip() for part in odd) or 'another order'}\n    {real[2][:600]}\n    {sim[2][:600]}"
    if real[0] >= 400 and sim[0] >= 400:
        texts = [re.sub(r"\d+", "0", text) for _, _, text in (real, sim)]
        if texts[0] != texts[1]:
            yield f"text:\n    {real[2][:300]}\n    {sim[2][:300]}"


def families(page):
    """Each family's type, the label names of its series, and its buckets."""
    found = {}
    name = None
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            found[name] = {"type": kind, "labels": set(), "help": helped}
        elif line.startswith("# HELP "):
            helped = line.split(" ", 3)[3]
        elif line:
            labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line)
            kept = [key if key not in ("le", "finished_reason", "reason", "source", "sleep_state")
                    else f"{key}={value}" for key, value in labels]
            series = re.match(r"[^{ ]+", line).group(0)
            found[name]["labels"].add((series, tuple(kept)))
    return found


def metric_differences(real, sim):
    for name in sorted(set(real) | set(sim)):
        if name not in sim:
            if not LEFT_OUT.match(name):
                yield f"{name}: only in the real one"
        elif name not in real:
            yield f"{name}: only in the simulator"
        elif name == "vllm:cache_config_info":
            missing = {key for _, keys in sim[name]["labels"] for key in keys}
            missing -= {key for _, keys in real[name]["labels"] for key in keys}
            if missing:
                yield f"{name}: labels only in the simulator: {sorted(missing)}"
        elif real[name] != sim[name]:
            yield f"{name}: {sorted(real[name]['labels'] ^ sim[name]['labels'])} {real[name]['type']}/{sim[name]['type']}"


def main():
    real, sim = (url.rstrip("/") for url in sys.argv[1:3])
    found = 0
    for name, path, body in CASES:
        for difference in differences(fetch(real, path, body), fetch(sim, path, body)):
            if any(case in ("*", name) and text in difference for case, text in EXPECTED):
                continue
            found += 1
            print(f"{name}: {difference}")
    pages = [fetch(base, "/metrics", None) for base in (real, sim)]
    if pages[0][1]["content-type"] != pages[1][1]["content-type"]:
        found += 1
        print(f"metrics: {pages[0][1]['content-type']} / {pages[1][1]['content-type']}")
    for difference in metric_differences(families(pages[0][2]), families(pages[1][2])):
        found += 1
        print(f"metrics: {difference}")
    print(f"{len(CASES)} requests and /metrics compared, {found} unexpected differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
