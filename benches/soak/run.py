#!/usr/bin/env python3
"""Ten minutes of everything that goes wrong: fails when an error is the gateway's own.

    cargo build --profile dist
    benches/soak/run.py                    # ten minutes
    benches/soak/run.py --minutes 2        # every fault once, shortly
    benches/soak/run.py --binary target/debug/signalbox --seed 7

Four replicas (`signalbox sim`) serve one pool. By turns one of them refuses connections, resets them, breaks streams,
answers 429, 404, 500 or 503, says nothing, says nothing after a stream's first token, is unhealthy, is stopped or is
killed; then it is well again. Meanwhile clients ask for answers and streams, some with a card number before a masking
guard, some leave, some do not read what they asked for; the policy is reloaded every few seconds, and now and then
far more clients ask at once than `max_in_flight` allows.

What may happen: a 429 or 503 that says when to come back, a 502 or 504, the first few 404 and 500 of a replica that
begins to give them, a stream that ends with an error event, and a whole answer that breaks off where its replica's
does, for a replica is at fault. What may not, and fails the run: any other status, a broken connection, an answer
that is no completion, a stream without an end, a request without an end, a card number behind the guard, requests
still in flight or descriptors still open afterwards, a policy that was not taken, more than 512 MiB, or a process
that ended.

Needs Linux and Python 3.11 or newer. All is on the loopback interface.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clients import Tally, burst, leaver, record, stuck, usual
from replicas import Replica, free_port, get, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_RSS_MIB = 512
MAX_IN_FLIGHT = 60
SETTLES_WITHIN_S = 40.0
REPLICAS = 4

# How replicas answer.
USUAL = ["--ttft", "20ms", "--itl", "2ms"]

# What one replica does in its turn; `stop` and `kill` are done to its process.
FAULTS = {
    "refuses connections": ["--fault-refuse"],
    "resets every second request": ["--fault-reset", "0.5"],
    "breaks streams": ["--fault-reset-after-chunks", "5"],
    "answers 429": ["--fault-status", "429"],
    "answers 404": ["--fault-status", "404"],
    "answers 500": ["--fault-status", "500"],
    "answers 503": ["--fault-status", "503"],
    "says nothing": ["--fault-stall", "10m"],
    "says nothing after the first token": ["--fault-stall-stream", "10m"],
    "is unhealthy": ["--fault-unhealthy"],
    "is stopped": "stop",
    "is killed": "kill",
}

POLICY = """
version: 1
models:
  bench: {{pools: [replicas]}}
  guarded: {{pools: [recorder], guards: {{pii: {{action: mask}}}}}}
pools:
  replicas:
    endpoints: [{endpoints}]
    health: {{interval: 500ms, timeout: 500ms}}
    timeouts: {{connect: 1s, first_byte: 5s, idle: 5s, total: 20s}}
    resolve_interval: {reload}s
  recorder:
    endpoints: ["127.0.0.1:{recorder}"]
    health: {{enabled: false}}
"""

SERVER = """
listeners: [{{address: "127.0.0.1:{port}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
limits: {{max_in_flight: {in_flight}}}
drain: {{delay: 0s, timeout: 10s}}
"""


@dataclass
class Gateway:
    """The process under test."""

    process: subprocess.Popen
    port: int
    admin: int
    policy: Path
    places: dict

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def write_policy(self, reload: int) -> None:
        """Replaces the policy by one that differs in what no request notices."""
        text = POLICY.format(**self.places, reload=30 + reload % 30)
        new = self.policy.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.rename(self.policy)

    def metric(self, name: str) -> float:
        lines = (line for line in get(self.admin, "/metrics").splitlines() if line.startswith(name))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def start_gateway(options: argparse.Namespace, folder: Path, replicas: list[Replica]) -> Gateway:
    port, admin = free_port(), free_port()
    (folder / "policies").mkdir()
    endpoints = ", ".join(f'"127.0.0.1:{replica.port}"' for replica in replicas)
    places = {"endpoints": endpoints, "recorder": free_port()}
    server, policy = folder / "server.yaml", folder / "policies" / "policy.yaml"
    server.write_text(SERVER.format(port=port, admin=admin, in_flight=MAX_IN_FLIGHT), encoding="utf-8")
    policy.write_text(POLICY.format(**places, reload=30), encoding="utf-8")
    log = (folder / "gateway.log").open("wb")
    command = [options.binary, "serve", "--policy", policy, "--server", server]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    gateway = Gateway(process, port, admin, policy, places)
    wait_for(lambda: process.poll() is None and get(admin, "/readyz"), "the gateway is not ready", 60)
    return gateway


class Soak:
    """One run: its processes, its clients and what was seen."""

    def __init__(self, options: argparse.Namespace, gateway: Gateway, replicas: list[Replica]):
        self.options, self.gateway, self.replicas = options, gateway, replicas
        self.tally, self.rng = Tally(), random.Random(options.seed)
        self.worst_rss = 0.0

    async def run(self) -> None:
        port, tally = self.gateway.port, self.tally
        # Descriptors and requests at rest are those before the first client.
        self.at_rest = self.gateway.descriptors()
        kinds = ["plain"] * 8 + ["stream"] * 12 + ["guarded"] * 4
        clients = [usual(kind, port, tally, seed) for seed, kind in enumerate(kinds)]
        clients += [leaver(port, tally, seed) for seed in range(4)]
        clients += [stuck(port, tally, seed) for seed in range(4)]
        tasks = [asyncio.create_task(client) for client in clients]
        tasks += [asyncio.create_task(self.reload()), asyncio.create_task(self.watch())]
        recorder = await record(self.gateway.places["recorder"], tally)
        try:
            await self.turns()
        finally:
            recorder.close()
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    self.tally.our("soak", f"the bench itself failed ({type(outcome).__name__})", str(outcome))

    async def turns(self) -> None:
        """Makes one replica after the other faulty, and well again."""
        length = self.options.minutes * 60 / len(FAULTS)
        for turn, (name, fault) in enumerate(FAULTS.items()):
            replica = self.replicas[turn % REPLICAS]
            print(f"{turn * length:5.0f} s  replica {replica.number} {name}", flush=True)
            replica.turn(fault if isinstance(fault, str) else [*USUAL, *fault])
            await asyncio.sleep(length * 0.4)
            await burst(self.gateway.port, self.tally, MAX_IN_FLIGHT * 3)
            await asyncio.sleep(length * 0.2)
            replica.start(USUAL)
            await asyncio.sleep(length * 0.2)

    async def reload(self) -> None:
        for number in range(10**9):
            await asyncio.sleep(3.0)
            self.gateway.write_policy(number)

    async def watch(self) -> None:
        while True:
            if self.gateway.process.poll() is not None:
                self.tally.our("gateway", f"ended with status {self.gateway.process.returncode}")
                return
            self.worst_rss = max(self.worst_rss, self.gateway.rss_mib())
            await asyncio.sleep(0.5)

    def settle(self) -> None:
        """Checks what is left when all clients are gone."""
        gateway, deadline = self.gateway, time.monotonic() + SETTLES_WITHIN_S
        if gateway.process.poll() is not None:
            return
        in_flight, descriptors = -1.0, -1
        while time.monotonic() < deadline:
            in_flight = gateway.metric("signalbox_requests_in_flight")
            # Connections to replicas are kept open.
            descriptors = gateway.descriptors() - self.at_rest - 130 * REPLICAS
            if in_flight == 0 and descriptors <= 0:
                break
            time.sleep(0.5)
        if in_flight:
            self.tally.our("gateway", f"{in_flight:.0f} requests in flight without a client")
        if descriptors > 0:
            self.tally.our("gateway", f"{descriptors} descriptors too many without a client")
        if refused := gateway.metric('signalbox_policy_reloads_total{result="failure"'):
            self.tally.our("gateway", f"{refused:.0f} policies were not taken")
        if self.worst_rss > MAX_RSS_MIB:
            self.tally.our("gateway", f"{self.worst_rss:.0f} MiB of memory")
        gateway.process.terminate()
        try:
            if status := gateway.process.wait(timeout=20):
                self.tally.our("gateway", f"ended with status {status} at the end")
        except subprocess.TimeoutExpired:
            self.tally.our("gateway", "did not end within 20 s of SIGTERM")

    def report(self) -> bool:
        tally = self.tally
        print(f"\nmost memory: {self.worst_rss:.0f} MiB")
        for title, counts in (("whole", tally.answered), ("of faults", tally.of_faults), ("ours", tally.ours)):
            print(f"{title}: {sum(counts.values())}")
            for cause, count in counts.most_common():
                print(f"  {count:7} {cause}")
                if counts is tally.ours and tally.examples.get(cause):
                    print(f"          {tally.examples[cause]}")
        return not tally.ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/dist/signalbox")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for the gateway's log and policy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        replicas = [Replica(options.binary, number) for number in range(REPLICAS)]
        try:
            for replica in replicas:
                replica.start(USUAL)
            gateway = start_gateway(options, folder, replicas)
            soak = Soak(options, gateway, replicas)
            try:
                asyncio.run(soak.run())
                soak.settle()
            finally:
                gateway.process.kill()
        finally:
            for replica in replicas:
                replica.end()
    sys.exit(0 if soak.report() else 1)


if __name__ == "__main__":
    main()
