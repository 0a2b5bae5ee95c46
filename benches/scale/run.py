#!/usr/bin/env python3
"""What another gateway process costs: CPU a request with one, two and four processes before the same engines, memory an endpoint,
and what it costs to follow pods.

    benches/scale/run.py [--binary target/release/signalbox] [--requests 4000]

Processes share nothing, so CPU a request should not depend on how many there are; throughput is then cores over CPU a request.
Each has two clients of its own, with a connection each, that send one request after the other: 1 KB prompts to a model that is
named, answers of one token. CPU is that of the gateways' own processes. Memory is what a process holds after its start, with
endpoints that nothing is asked of. Rounds take turns; medians of the rounds are printed. Pods are followed on 50 watches of an
API server of this script, which tells of changes, 8 KiB each as of real pods, as fast as they are read.
"""

import argparse
import http.client
import http.server
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
PODS = 20
CHANGES = 50
POD_BYTES = 8192
BODY = json.dumps({"model": "bench", "max_tokens": 1, "messages": [{"role": "user", "content": "word " * 200}]})
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Process:
    """A started process, and where it listens."""

    def __init__(self, command, **environment):
        variables = {**os.environ, **environment}
        self.child = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = next(line for line in self.child.stdout if '"event":"listening"' in line)
        said = json.loads(line)
        self.address, self.admin = said["listeners"][0], said.get("admin")
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
        listed = ", ".join(json.dumps(endpoint) for endpoint in endpoints)
        lines.append(f"  {name}: {{endpoints: [{listed}], health: {{enabled: false}}, metrics: off}}")
    file = pathlib.Path(folder) / "policy.yaml"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def gateway(binary, file, **environment):
    where = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    return Process([binary, "serve", "--policy", file, *where], **environment)


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


def pod(pool, index, is_ready):
    """A pod as the API has it."""
    ready = {"type": "Ready", "status": "True" if is_ready else "False"}
    return {
        "metadata": {"name": f"{pool}-{index}", "namespace": "n", "resourceVersion": "1", "labels": {"app": pool},
                     "annotations": {"filler": "x" * POD_BYTES}},
        "spec": {"containers": [{"name": "vllm", "ports": [{"containerPort": 8000}]}]},
        "status": {"phase": "Running", "podIP": f"10.{pool[1:]}.0.{index + 1}", "conditions": [ready]},
    }


class Api(http.server.BaseHTTPRequestHandler):
    """Lists the pods of a pool, and tells of their changes once it may: each is unready and ready by turns, at last ready."""

    begin = threading.Event()
    end = threading.Event()

    def do_GET(self):
        pool = self.path.split("app%3D")[1].split("&")[0]
        self.send_response(200)
        self.end_headers()
        if "watch=" not in self.path:
            pods = [pod(pool, index, True) for index in range(PODS)]
            listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": pods}
            self.wfile.write(json.dumps(listed).encode())
            return
        self.begin.wait()
        for change in range(CHANGES):
            for index in range(PODS):
                event = {"type": "MODIFIED", "object": pod(pool, index, change % 2 == 1)}
                self.wfile.write(json.dumps(event).encode() + b"\n")
        self.wfile.write(json.dumps({"type": "ADDED", "object": pod(pool, PODS, True)}).encode() + b"\n")
        self.end.wait()

    def log_message(self, *_):
        """Says nothing."""


class ApiServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # All watches come at once.
    request_queue_size = 4 * POOLS


def endpoints(one):
    connection = http.client.HTTPConnection(one.admin)
    connection.request("GET", "/readyz")
    return sum(pool["endpoints"] for pool in json.loads(connection.getresponse().read())["pools"])


def wait_for_endpoints(one, count):
    until = time.monotonic() + 120
    while endpoints(one) != count:
        assert time.monotonic() < until, f"{endpoints(one)} endpoints, not {count}"
        time.sleep(0.05)


def watches(binary, folder):
    server = ApiServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "c", "cluster": {"server": address}}], "users": [{"name": "u", "user": {"token": "t"}}],
    }
    kubeconfig = pathlib.Path(folder) / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    pools = {f"p{index}": [{"pods": {"app": f"p{index}"}, "port": 8000}] for index in range(POOLS)}
    one = gateway(binary, policy(folder, pools), KUBECONFIG=str(kubeconfig))
    wait_for_endpoints(one, POOLS * PODS)
    before, cpu = one.resident_kib(), one.cpu_s()
    Api.begin.set()
    wait_for_endpoints(one, POOLS * (PODS + 1))
    events = POOLS * (PODS * CHANGES + 1)
    spent, after = one.cpu_s() - cpu, one.resident_kib()
    Api.end.set()
    one.end()
    print(f"\n{events:,} changes of {POOLS * PODS:,} pods on {POOLS} watches: {spent / events * 1e6:.0f} µs CPU each; resident "
          f"{before / 1024:.0f} MiB before, {after / 1024:.0f} MiB after")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/signalbox")
    parser.add_argument("--requests", type=int, default=4000, help="through each gateway, in each round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes(arguments.binary, folder, arguments.requests)
        memory(arguments.binary, folder)
        watches(arguments.binary, folder)


main()
