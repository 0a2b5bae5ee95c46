#!/usr/bin/env python3
"""Puts real clients before a gateway and prints what works, as a table in Markdown.

    cargo build && tests/clients/table.py [--only NAME ...] [--speaks chat] [--engine HOST:PORT] [--output FILE]

Each client is installed from PyPI or npm in a folder of its own under `target/clients`, in the versions that stand below, once.
The gateway has four simulated engines behind it: one that answers at once, a slow one, one that breaks off in the middle of a
stream, and one that answers 429; with `--engine` a real one is there in place of the first two. A cell is `ok`, `failed`, or
`–` where the client has no such thing; failures follow the table with what the client said. Ends with 1 if anything failed.
Needs python3 with venv, and npm and curl where they are there: what cannot be run is said, not left out.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CELLS = ["chat", "stream", "tools", "errors", "cancel", "break-off"]

# The row, the script, what it is told, and what is installed for it: the first of these is the client itself.
PYTHON = [
    ("openai-python 1", "openai_sdk.py", [], ["openai==1.109.1"]),
    ("openai-python 2", "openai_sdk.py", [], ["openai==2.54.0"]),
    ("openai-python 3", "openai_sdk.py", [], ["openai==3.57.0"]),
    ("openai-python 3, Responses", "openai_responses.py", [], ["openai==3.57.0"]),
    ("anthropic-python 0", "anthropic_sdk.py", [], ["anthropic==0.125.0"]),
    ("anthropic-python 1", "anthropic_sdk.py", [], ["anthropic==1.17.0"]),
    ("anthropic-python 2", "anthropic_sdk.py", [], ["anthropic==2.14.0"]),
    ("langchain-openai", "langchain_chat.py", ["openai"], ["langchain-openai==1.7.4", "langchain-anthropic==1.7.10"]),
    ("langchain-anthropic", "langchain_chat.py", ["anthropic"], ["langchain-anthropic==1.7.10", "langchain-openai==1.7.4"]),
    ("llama-index", "llama_index_chat.py", [], ["llama-index-llms-openai-like==0.8.1", "llama-index-core==0.14.25"]),
    ("litellm, OpenAI", "litellm_chat.py", ["openai"], ["litellm==1.110.2"]),
    ("litellm, Anthropic", "litellm_chat.py", ["anthropic"], ["litellm==1.110.2"]),
    ("instructor", "instructor_chat.py", [], ["instructor==1.17.0"]),
    ("pydantic-ai", "pydantic_ai_chat.py", ["openai"], ["pydantic-ai-slim[openai,anthropic]==2.68.0"]),
    ("openai-agents, Responses", "agents_chat.py", ["responses"], ["openai-agents==0.24.0"]),
    ("openai-agents, chat", "agents_chat.py", ["chat"], ["openai-agents==0.24.0"]),
]
AI = {"ai": "7.0.173", "@ai-sdk/openai-compatible": "3.0.92", "@ai-sdk/openai": "4.0.118",
      "@ai-sdk/anthropic": "4.0.105", "zod": "4.6.7"}
NODE = [
    ("openai-node 4", "openai.mjs", ["openai-4"], {"openai-4": "npm:openai@4.95.0"}),
    ("openai-node 6", "openai.mjs", ["openai-6"], {"openai-6": "npm:openai@6.30.1"}),
    ("openai-node 7", "openai.mjs", ["openai-7"], {"openai-7": "npm:openai@7.59.0"}),
    ("anthropic-ts 0", "anthropic.mjs", ["anthropic-0"], {"anthropic-0": "npm:@anthropic-ai/sdk@0.137.0"}),
    ("anthropic-ts 1", "anthropic.mjs", ["anthropic-1"], {"anthropic-1": "npm:@anthropic-ai/sdk@1.14.0"}),
    ("ai-sdk, openai-compatible", "ai.mjs", ["compatible"], AI),
    ("ai-sdk, openai (Responses)", "ai.mjs", ["openai"], AI),
    ("ai-sdk, anthropic", "ai.mjs", ["anthropic"], AI),
]

POLICY = """version: 1
retry: {{attempts: 1}}
models:
  good: {{pools: [good]}}
  slow: {{pools: [slow]}}
  breaks: {{pools: [breaks]}}
  busy: {{pools: [busy]}}
pools:
  good: {{endpoints: ["{good}"], health: {{enabled: false}}, speaks: [{speaks}]}}
  slow: {{endpoints: ["{slow}"], health: {{enabled: false}}, speaks: [{speaks}]}}
  breaks: {{endpoints: ["{breaks}"], health: {{enabled: false}}, speaks: [{speaks}]}}
  busy: {{endpoints: ["{busy}"], health: {{enabled: false}}, speaks: [{speaks}]}}
"""
TOKENS = 24
SIMS = {
    "good": ["--answer-tokens", str(TOKENS)],
    "slow": ["--itl", "50ms", "--answer-tokens", "2000"],
    "breaks": ["--fault-reset-after-chunks", "6", "--itl", "2ms", "--answer-tokens", "200"],
    "busy": ["--fault-status", "429"],
}


class Stage:
    """The gateway and its engines, as long as they run."""

    def __init__(self, binary, folder, speaks, engine):
        self.running, self.log = [], open(folder / "log", "w+b")
        addresses = {name: engine for name in ("good", "slow") if engine}
        self.tokens = 0 if engine else TOKENS
        for name, options in SIMS.items():
            if name in addresses:
                continue
            command = [binary, "sim", "--listen", "127.0.0.1:0", "--model", name, *options]
            addresses[name] = self.start(command)
        policy = folder / "policy.yaml"
        policy.write_text(POLICY.format(speaks=speaks, **addresses))
        server = folder / "server.yaml"
        server.write_text(f"upgrade: {{socket: {folder}/upgrade.sock}}\ndrain: {{delay: 0s}}\n")
        command = [binary, "serve", "--policy", policy, "--server", server, "--listen", "127.0.0.1:0",
                   "--admin", "127.0.0.1:0"]
        self.url, self.admin = self.start(command)

    def start(self, command):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        self.running.append(process)
        for line in process.stdout:
            text = line.decode(errors="replace")
            if '"listening"' in text:
                said = json.loads(text)
                self.drain(process)
                address = said["listeners"][0]
                return (f"http://{address}", f"http://{said['admin']}") if "admin" in said else address
        sys.exit(f"{command[1]} did not start: see {self.log.name}")

    def drain(self, process):
        """What it goes on to print is nobody's to wait for."""
        subprocess.Popen(["cat"], stdin=process.stdout, stdout=self.log)

    def stop(self):
        for process in self.running:
            process.send_signal(signal.SIGINT)
        for process in self.running:
            process.wait(timeout=20)


def run(command, cwd, stage, took=150):
    """Runs one client; gives its cells, each with what was said of it."""
    environment = {**os.environ, "SIGNALBOX_URL": stage.url, "SIGNALBOX_ADMIN": stage.admin, "no_proxy": "*",
                   "SIGNALBOX_TOKENS": str(stage.tokens),
                   "OPENAI_API_KEY": "sk-none", "ANTHROPIC_API_KEY": "sk-none", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                   "PYTHONPATH": str(HERE / "python")}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=took)
    except subprocess.TimeoutExpired as late:
        return {}, {"": f"took longer than {took} s: {(late.stdout or b'')[-500:]}"}
    cells, faults = {}, {}
    for line in done.stdout.splitlines():
        if not line.startswith("cell "):
            continue
        _, name, result, *why = line.split(" ", 3)
        cells[name] = {"ok": "ok", "none": "–"}.get(result, "failed")
        if result == "failed":
            faults[name] = why[0] if why else ""
    if done.returncode and not faults:
        faults[""] = (done.stderr or done.stdout)[-1500:]
    return cells, faults


def python_client(script, packages, folder):
    """How a client for Python is run, and its version: a virtual environment with these packages, made once."""
    made = folder / ("py-" + re.sub(r"\[.*?\]", "", min(packages)).replace("==", "-"))
    stamp, python = made / "packages.txt", made / "bin/python"
    wanted = "\n".join(sorted(packages))
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", made], check=True)
        subprocess.run([made / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        stamp.write_text(wanted)
    name = re.split(r"==|\[", packages[0])[0]
    ask = f"import importlib.metadata as m; print(m.version({name!r}))"
    version = subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout.strip()
    return [python, HERE / "python" / script], HERE, version


def node_client(script, packages, folder):
    """The same for Node, of a folder with these packages."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise OSError("there is no node or no npm here")
    name = next(iter(packages))
    made = folder / f"node-{name}"
    text = json.dumps({"private": True, "type": "module", "dependencies": packages}, indent=1)
    if not ((made / "done").exists() and (made / "package.json").read_text() == text):
        made.mkdir(parents=True, exist_ok=True)
        (made / "package.json").write_text(text)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=made, check=True)
        (made / "done").touch()
    for own in (HERE / "node").glob("*.mjs"):
        shutil.copy(own, made / own.name)
    return ["node", script], made, json.loads((made / "node_modules" / name / "package.json").read_text())["version"]


def curl_client(script, _packages, _folder):
    """The same for what is installed already."""
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1]
    return [sys.executable, HERE / "python" / script], HERE, version


def rows(only, folder, stage):
    """Every row with its version, its cells and its faults."""
    kinds = [(PYTHON, python_client), (NODE, node_client), ([("curl", "curl_cli.py", [], [])], curl_client)]
    for clients, prepare in kinds:
        for name, script, told, packages in clients:
            if only and not any(part in name for part in only):
                continue
            try:
                command, cwd, version = prepare(script, packages, folder)
            except (OSError, subprocess.CalledProcessError) as fault:
                yield name, "", {}, {"": f"not run: {fault}"}
                continue
            yield (name, version, *run([*command, *told], cwd, stage))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="rows whose names contain one of these")
    parser.add_argument("--signalbox", default=ROOT / "target/debug/signalbox")
    parser.add_argument("--speaks", default="chat, messages, responses", help="what the engines speak, such as `chat`")
    parser.add_argument("--engine", help="the address of a real engine with the models `good` and `slow`")
    parser.add_argument("--output", help="a file that gets the table too")
    arguments = parser.parse_args()
    folder = ROOT / "target" / "clients"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        stage = Stage(str(arguments.signalbox), pathlib.Path(scratch), arguments.speaks, arguments.engine)
        try:
            found = []
            for row in rows(arguments.only, folder, stage):
                found.append(row)
                print(row[0], row[1], row[2], row[3] or "", file=sys.stderr, flush=True)
        finally:
            stage.stop()
    lines = ["| client | version | " + " | ".join(CELLS) + " |", "| --- | --- |" + " --- |" * len(CELLS)]
    for name, version, cells, _ in found:
        lines.append(f"| {name} | {version} | " + " | ".join(cells.get(cell, "not run") for cell in CELLS) + " |")
    table = "\n".join(lines)
    print(table)
    faults = [f"{name}, {cell or 'as a whole'}: {why}" for name, _, _, told in found for cell, why in told.items()]
    print("\n".join(["", *faults]) if faults else "")
    if arguments.output:
        pathlib.Path(arguments.output).write_text(table + "\n")
    sys.exit(1 if faults else 0)


main()
