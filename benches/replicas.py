"""Simulated replicas (`signalbox sim`) for benches that put a gateway before several of them."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def wait_for(condition, complaint: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(complaint)


def on_cores(cores: list[int] | None) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores))] if cores else []


class Replica:
    """One simulated vLLM, well or in its turn of being faulty."""

    def __init__(self, binary: Path, number: int, cores: list[int] | None = None):
        self.binary, self.number, self.cores, self.port = binary, number, cores, free_port()
        self.process: subprocess.Popen | None = None

    def start(self, options: list[str]) -> None:
        self.end()
        command = [
            *on_cores(self.cores), self.binary, "sim", "--listen", f"127.0.0.1:{self.port}", "--model", "bench",
            "--pod", f"sim-{self.number}", *options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def turn(self, fault: list[str] | str) -> None:
        """Starts it with a fault's options, or stops or kills its process."""
        match fault:
            case "stop":
                self.process.send_signal(signal.SIGSTOP)
            case "kill":
                self.end()
            case _:
                self.start(fault)

    def wait(self) -> None:
        wait_for(lambda: get(self.port, "/health") is not None, f"replica {self.number} does not start")

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
