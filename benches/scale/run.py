#!/usr/bin/env python3
"""What another gateway process costs: CPU a request with one, two and four processes before the same engines, and memory an endpoint.

    benches/scale/run.py [--binary target/release/signalbox] [--requests 4000]

Processes share nothing, so CPU a request should not depend on how many there are; throughput is then cores over CPU a request.
Each has two clients of its own, with a connection each, that send one request after the other: 1 KB prompts to a model that is
named, answers of one token. CPU is that of the gateways' own processes. Memory is what a process holds after its start, with
endpoints that nothing is asked of. Rounds take turns; medians of the rounds are printed.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from replicas import Replica  # noqa: E402

PROCESSES = (1, 2, 4)
CLIENTS = 2
ENGINES = 4
ROUNDS = 5
ENDPOINTS = (100, 1000, 10000)
POOLS = 50
BODY = json.dumps({"model": "bench", "max_tokens": 1, "messages": [{"role": "user", "content": "word " * 200}]})
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Process:
    """A started process, and where it listens."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = next(line for line in self.child.stdout if '"event":"listening"' in line)
        self.address = json.loads(line)["listeners"][0]
        threading.Thread(target=self.child.stdout.read, daemon=True).start()

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def end(self):
        self.child.kill()
        self.child.wait()


def policy(folder, pools):
    lines = ["version: 1", "models:"]
    lines += [f"  {name}: {{pools: [{name}]}}" for name in pools]
    lines.append("pools:")
    for name, endpoints in pools.items():
        listed = ", ".join(f'"{endpoint}"' for endpoint in endpoints)
        lines.append(f"  {name}: {{endpoints: [{listed}], health: {{enabled: false}}, metrics: off}}")
    file = pathlib.Path(folder) / "policy.yaml"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def gateway(binary, file):
    return Process([binary, "serve", "--policy", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])


def client(address, requests):
    connection = http.client.HTTPConnection(address)
    for _ in range(requests):
        connection.request("POST", "/v1/chat/completions", BODY, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status


def load(gateways, requests):
    """Sends so many requests through each; returns CPU a request in µs, and requests a second of all together."""
    before, began = sum(g.cpu_s() for g in gateways), time.monotonic()
    clients = [
        multiprocessing.Process(target=client, args=(g.address, requests // CLIENTS)) for g in gateways for _ in range(CLIENTS)
    ]
    for process in clients:
        process.start()
    for process in clients:
        process.join()
        assert process.exitcode == 0
    sent = requests // CLIENTS * len(clients)
    cpu = sum(g.cpu_s() for g in gateways) - before
    return cpu / sent * 1e6, sent / (time.monotonic() - began)


def processes(binary, folder, requests):
    engines = [Replica(binary, number) for number in range(ENGINES)]
    for engine in engines:
        engine.start([])
    for engine in engines:
        engine.wait()
    file = policy(folder, {"bench": [f"127.0.0.1:{engine.port}" for engine in engines]})
    gateways = [gateway(binary, file) for _ in range(max(PROCESSES))]
    for one in gateways:
        load([one], 200)
    figures = {count: [] for count in PROCESSES}
    for _ in range(ROUNDS):
        for count in PROCESSES:
            figures[count].append(load(gateways[:count], requests))
    print(f"\n| gateways | CPU a request | of one gateway's | requests/s, on {os.cpu_count()} cores with clients and engines |")
    print("| ---: | ---: | ---: | ---: |")
    alone = statistics.median(cpu for cpu, _ in figures[1])
    for count, rounds in figures.items():
        cpu = statistics.median(cpu for cpu, _ in rounds)
        rate = statistics.median(rate for _, rate in rounds)
        print(f"| {count} | {cpu:.0f} µs | {cpu / alone:.2f} × | {rate:,.0f} |")
    for process in [*gateways, *engines]:
        process.end()


def memory(binary, folder):
    print(f"\n| endpoints in {POOLS} pools | resident | for each endpoint more |")
    print("| ---: | ---: | ---: |")
    first = None
    for count in ENDPOINTS:
        each = count // POOLS
        pools = {f"p{p}": [f"127.1.{p}.{1 + e % 250}:{9000 + e // 250}" for e in range(each)] for p in range(POOLS)}
        one = gateway(binary, policy(folder, pools))
        # What it holds is settled once it serves; this is after the listeners are open.
        kib = max(one.resident_kib() for _ in range(10) if not time.sleep(0.2))
        one.end()
        more = "" if first is None else f"{(kib - first[1]) / (count - first[0]):.1f} KiB"
        first = first or (count, kib)
        print(f"| {count:,} | {kib / 1024:.0f} MiB | {more} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/signalbox")
    parser.add_argument("--requests", type=int, default=4000, help="through each gateway, in each round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes(arguments.binary, folder, arguments.requests)
        memory(arguments.binary, folder)


main()
