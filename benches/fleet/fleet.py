"""The processes of `benches/fleet`: simulated replicas and gateways before them. It asks nothing but how they are."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from replicas import Replica, free_port, get, on_cores, wait_for

POLICY = """
version: 1
models:
  bench: {{pools: [replicas]}}
pools:
  replicas:
    endpoints: [{endpoints}]
    health: {{interval: 500ms, timeout: 500ms}}
    timeouts: {{connect: 1s, first_byte: 5s, idle: 5s, total: 60s}}
    {more}
retry:
  reissue: {{after: 2s, share: 1}}
"""

SERVER = """
listeners: [{{address: "127.0.0.1:{port}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
limits: {{max_in_flight: 8000}}
drain: {{delay: 0s, timeout: 10s}}
upgrade: {{socket: {folder}/upgrade.sock}}
{threads}
"""

SETTLES_WITHIN_S = 30.0


class Gateway:
    """One gateway before all replicas."""

    def __init__(
        self, binary: Path, replicas: list[Replica], core: int | None, threads: int | None, more: str = ""
    ):
        self.scratch = tempfile.TemporaryDirectory()
        folder = Path(self.scratch.name)
        self.port, self.admin = free_port(), free_port()
        endpoints = ", ".join(f'"127.0.0.1:{replica.port}"' for replica in replicas)
        policy, server = folder / "policy.yaml", folder / "server.yaml"
        policy.write_text(POLICY.format(endpoints=endpoints, more=more), encoding="utf-8")
        threads = f"threads: {threads}" if threads else ""
        text = SERVER.format(port=self.port, admin=self.admin, folder=folder, threads=threads)
        server.write_text(text, encoding="utf-8")
        self.log = (folder / "gateway.log").open("wb")
        command = [*on_cores([core] if core is not None else None), binary, "serve"]
        self.process = subprocess.Popen(
            [*command, "--policy", policy, "--server", server], stdout=self.log, stderr=self.log
        )
        wait_for(lambda: get(self.admin, "/readyz"), "the gateway is not ready")

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.scratch.cleanup()

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def cpu_ns(self) -> int:
        """The process's CPU time, user and system, of all its threads."""
        return time.clock_gettime_ns(~self.process.pid << 3 | 2)

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a family's series, of those alone that have a label, such as `result="won"`."""
        page = get(self.admin, "/metrics").splitlines()
        lines = (line for line in page if line.startswith((name + "{", name + " ")) and label in line)
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def left_over(self) -> int:
        """What is still in flight once all clients have gone, on the gateway and by its count on the replicas."""
        deadline, left = time.monotonic() + SETTLES_WITHIN_S, -1.0
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = self.metric("signalbox_requests_in_flight") + self.metric("signalbox_endpoint_in_flight")
        return int(left)


class Fleet:
    """Replicas, started and ready."""

    def __init__(self, binary: Path, count: int, options: list[str], cores: list[int] | None = None):
        self.binary = binary
        self.replicas = [Replica(binary, number, cores) for number in range(count)]
        for replica in self.replicas:
            replica.start(options)

    def __enter__(self) -> Fleet:
        for replica in self.replicas:
            replica.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.end()

    def gateway(self, core: int | None = None, threads: int | None = None, more: str = "") -> Gateway:
        """A gateway whose pool says `more` than the usual."""
        return Gateway(self.binary, self.replicas, core, threads, more)

    def running(self) -> int:
        """Requests on the replicas by their own count, once that is 0 or has not become so in time."""
        deadline, running = time.monotonic() + SETTLES_WITHIN_S, -1
        while running and time.monotonic() < deadline:
            time.sleep(0.1)
            loads = (get(replica.port, "/load") for replica in self.replicas)
            running = sum(int(re.search(r"\d+", load)[0]) for load in loads)
        return running
