#!/usr/bin/env python3
"""Replays what Claude Code and Codex send, request by request, and checks what comes back.

    tests/clients/replay.py http://127.0.0.1:8080 MODEL

Only the standard library. Each step that passes prints `ok NAME`; the first that fails ends it with 1. The model must call
the tools that it is forced to call, as `signalbox sim` and vLLM do.
"""

import base64
import gzip
import http.client
import json
import os
import sys
import urllib.parse

BASE, MODEL = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2]
CLAUDE = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "x-api-key": "sk-none",
    "user-agent": "claude-cli/2.0 (external, cli)",
    "x-claude-code-session-id": "4f6f0d5e-0000-4000-8000-000000000000",
}
CODEX = {"authorization": "Bearer sk-none", "originator": "codex_cli_rs", "user-agent": "codex_cli_rs/0.60"}


def ask(method, path, headers, body=None, coding=None):
    """Sends one request; gives status, headers and text."""
    connection = http.client.HTTPConnection(BASE.hostname, BASE.port, timeout=60)
    headers = dict(headers)
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["content-type"] = "application/json"
        if coding is not None:
            data = {"gzip": gzip.compress, "zstd": zstd}[coding](data)
            headers["content-encoding"] = coding
    connection.request(method, BASE.path.rstrip("/") + path, data, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text


def zstd(data):
    """A frame as Codex sends bodies (RFC 8878), of blocks that are stored as they are."""
    blocks = [data[at:at + (128 << 10)] for at in range(0, len(data), 128 << 10)]
    frame = b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little")
    for at, block in enumerate(blocks):
        frame += (len(block) << 3 | (at + 1 == len(blocks))).to_bytes(3, "little") + block
    return frame


def events(text):
    """The events of a stream; each must be named as its data's type."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if not lines:
            continue
        data = json.loads(lines["data"])
        check(lines.get("event") == data["type"], f"an event without its name: {block}")
        found.append(data)
    return found


def check(condition, why):
    if not condition:
        sys.exit(f"failed: {why}")


def ok(name):
    print(f"ok {name}", flush=True)


def claude_code():
    status, _, _ = ask("HEAD", "/", CLAUDE)
    check(status < 500, f"the probe of the root: {status}")
    ok("claude: probe")

    status, _, text = ask("GET", "/v1/models?limit=1000", CLAUDE)
    models = json.loads(text)
    check(status == 200 and models["has_more"] is False, f"the list of models: {text}")
    check(any(model["id"] == MODEL and model["type"] == "model" for model in models["data"]), f"no {MODEL}: {text}")
    ok("claude: models")

    tools = [
        {"name": "Bash", "description": "Runs a command.", "input_schema": {
            "type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}},
        {"name": "Read", "description": "Reads a file.", "input_schema": {
            "type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
         "cache_control": {"type": "ephemeral"}},
    ]
    request = {
        "model": MODEL, "max_tokens": 1024, "stream": True, "metadata": {"user_id": "user_0_account__session_0"},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.0.1; cc_entrypoint=cli; cch=00000;"},
            {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>Today is Monday.</system-reminder>"},
                {"type": "text", "text": "What is in the file notes?", "cache_control": {"type": "ephemeral"}}]}],
        "tools": tools, "tool_choice": {"type": "tool", "name": "Read"},
    }
    status, headers, text = ask("POST", "/v1/messages?beta=true", CLAUDE, request)
    check(status == 200 and "request-id" in headers, f"a turn: {status} {headers} {text}")
    turn = events(text)
    names = [event["type"] for event in turn]
    check(names.count("message_start") == 1 and names[-1] == "message_stop", f"the events: {names}")
    usage = turn[0]["message"]["usage"]
    check(usage["input_tokens"] > 0, f"no tokens of the prompt: {usage}")
    begun = [event["content_block"] for event in turn if event["type"] == "content_block_start"]
    use = next((block for block in begun if block["type"] == "tool_use"), None)
    check(use is not None and use["name"] == "Read", f"no call of the tool: {begun}")
    written = "".join(event["delta"].get("partial_json", "") for event in turn if event["type"] == "content_block_delta")
    check("file_path" in json.loads(written), f"the tool's input: {written}")
    end = next(event for event in turn if event["type"] == "message_delta")
    check(end["delta"]["stop_reason"] == "tool_use", f"the end: {end}")
    ok("claude: a turn that calls a tool")

    request["messages"] += [
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": use["id"], "name": use["name"], "input": json.loads(written)}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": use["id"], "content": "1\tone\n2\ttwo", "is_error": False}]},
        {"role": "system", "content": "The user opened another file."},
        {"role": "user", "content": "Go on."}]
    request["tool_choice"] = {"type": "auto"}
    status, _, text = ask("POST", "/v1/messages?beta=true", CLAUDE, request)
    turn = events(text)
    said = "".join(event["delta"].get("text", "") for event in turn if event["type"] == "content_block_delta")
    check(status == 200 and said, f"the turn after the tool: {text}")
    ok("claude: the turn after it")

    small = {"model": MODEL, "max_tokens": 32, "messages": [{"role": "user", "content": "Title of this?"}]}
    status, _, text = ask("POST", "/v1/messages?beta=true", CLAUDE, small)
    check(status == 200 and json.loads(text)["type"] == "message", f"the background model: {text}")
    ok("claude: a title")

    count = {key: request[key] for key in ("model", "system", "messages", "tools")}
    status, _, text = ask("POST", "/v1/messages/count_tokens?beta=true", CLAUDE, count)
    check(status == 200 and json.loads(text)["input_tokens"] > 0, f"the count: {text}")
    ok("claude: count_tokens")

    status, _, text = ask("POST", "/v1/messages", CLAUDE, {**small, "model": "nobody"})
    error = json.loads(text)
    check(status == 404 and error["type"] == "error" and error["error"]["type"] == "not_found_error", f"an error: {text}")
    status, _, text = ask("POST", "/v1/v1/messages", CLAUDE, small)
    check(status == 404 and "`/v1` twice" in text, f"a doubled path: {text}")
    ok("claude: errors")


def codex():
    upgrade = {**CODEX, "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": base64.b64encode(os.urandom(16)).decode()}
    status, _, _ = ask("GET", "/v1/responses", upgrade)
    check(status == 426, f"the WebSocket: {status}")
    ok("codex: the WebSocket is refused")

    status, _, text = ask("GET", "/v1/models?client_version=0.60.0", CODEX)
    check(status == 200 and any(model["id"] == MODEL for model in json.loads(text)["data"]), f"the models: {text}")
    ok("codex: models")

    shell = {"type": "function", "name": "shell", "description": "Runs a command.", "strict": False, "parameters": {
        "type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
        "required": ["command"]}}
    patch = {"type": "custom", "name": "apply_patch", "description": "Edits files.",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}}
    git = {"type": "namespace", "name": "mcp__git__", "description": "git", "tools": [
        {"type": "function", "name": "log", "description": "The log.", "parameters": {"type": "object", "properties": {}}}]}
    request = {
        "model": MODEL, "instructions": "You are a coding agent. " * 400, "stream": True, "store": False,
        "parallel_tool_calls": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "session",
        "reasoning": {"effort": "medium", "summary": "auto"}, "tools": [shell, patch, git],
        "tool_choice": {"type": "function", "name": "shell"},
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: on."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]}],
    }
    call = turn(request, "codex: a turn that calls a function", "gzip")
    check(call["type"] == "function_call" and call["name"] == "shell", f"the call: {call}")
    check(json.loads(call["arguments"])["command"], f"the arguments: {call}")
    request["input"] += [
        {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "sealed"},
        {"type": "function_call", "call_id": call["call_id"], "name": "shell", "arguments": call["arguments"]},
        {"type": "function_call_output", "call_id": call["call_id"], "output": "a\nb"}]

    request["tool_choice"] = {"type": "custom", "name": "apply_patch"}
    call = turn(request, "codex: a turn that calls a tool with a grammar", "zstd")
    check(call["type"] == "custom_tool_call" and call["name"] == "apply_patch" and call["input"], f"the call: {call}")
    request["input"] += [
        {"type": "custom_tool_call", "call_id": call["call_id"], "name": "apply_patch", "input": call["input"]},
        {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "Done."}]

    request["tool_choice"] = {"type": "function", "namespace": "mcp__git__", "name": "log"}
    call = turn(request, "codex: a turn that calls a tool in a namespace")
    check((call.get("namespace"), call["name"]) == ("mcp__git__", "log"), f"the call: {call}")

    request["tool_choice"] = "auto"
    said = turn(request, "codex: a turn that answers")
    check(said["type"] == "message" and said["content"][0]["text"], f"the answer: {said}")


def turn(request, name, coding=None):
    """Asks for one turn; gives its last item."""
    status, _, text = ask("POST", "/v1/responses", CODEX, request, coding)
    check(status == 200, f"{name}: {status} {text}")
    got = events(text)
    numbers = [event["sequence_number"] for event in got]
    check(numbers == list(range(len(got))), f"{name}: the numbers of the events: {numbers}")
    check(got[0]["type"] == "response.created" and got[-1]["type"] == "response.completed", f"{name}: {text}")
    check(got[-1]["response"]["usage"]["input_tokens"] > 0, f"{name}: {got[-1]}")
    items = [event["item"] for event in got if event["type"] == "response.output_item.done"]
    check(items == got[-1]["response"]["output"], f"{name}: the items differ from the response's")
    ok(name)
    return items[-1]


claude_code()
codex()
