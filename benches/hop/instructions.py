#!/usr/bin/env python3
"""How many instructions a hop takes: what does not change with how busy the machine is, unlike `run.py`'s CPU time.

    cargo build --release --bin signalbox
    benches/hop/instructions.py --signalbox target/release/signalbox
    benches/hop/instructions.py --signalbox NEW/signalbox --against OLD/signalbox
    benches/hop/instructions.py --signalbox NEW/signalbox --keep FOLDER    # what `callgrind_annotate` reads

Needs Linux, Python 3.9 or newer and valgrind, under whose callgrind Signalbox runs. The client and the upstream are this
process; they take turns, so that every event of a stream is written by itself. Counted are the instructions of all of
Signalbox's threads outside of the kernel, from after a warm-up on; two runs of one binary differ by up to a hundredth,
since its timers go on meanwhile. Copies of many kilobytes count an instruction a byte, where processors take many bytes
at a time.

Cases named `auto` leave the model to a policy with keyword, structure, language, context and conversation signals, none
of which matches. The instructions of a stream are those of its request and of its 200 events, for each event.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from contestants import MODEL, SETUPS, free_port, wait_ready

EVENTS = 200
WARM_UP = 60
WORDS = "the quick brown fox jumps over the lazy dog while seventeen gateways count their bytes and "
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two three"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103},
    }
).encode()  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kind of request, and how many are counted."""

    name: str
    setup: str
    prompt_bytes: int
    requests: int
    stream: bool = False


CASES = (
    Case("named, 1 KB", "signalbox", 1_000, 500),
    Case("named, 32 KiB", "signalbox", 32_768, 300),
    Case("event of a stream", "signalbox", 1_000, 10, stream=True),
    Case("auto, 1 KB", "auto", 1_000, 500),
    Case("auto, 32 KiB", "auto", 32_768, 200),
)


def read_message(stream: BinaryIO) -> bytes | None:
    """Reads one message with a Content-Length; gives its body, or nothing at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return stream.read(int(length[1])) if length else b""


def event(at: int) -> bytes:
    """Gives one chunk with one event; the last one ends the stream."""
    delta = {"index": 0, "delta": {"content": f" word{at % 10}"}, "finish_reason": None}
    piece = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [delta]}
    text = b"data: [DONE]\n\n" if at == EVENTS else b"data: " + json.dumps(piece).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(text), text)


class Upstream:
    """Answers at once; of a stream it sends each event when the client has the one before."""

    def __init__(self) -> None:
        self.taken = threading.Semaphore(0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        requests = connection.makefile("rb")
        while (body := read_message(requests)) is not None:
            if b'"stream": true' not in body:
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                connection.sendall(head % len(ANSWER) + ANSWER)
                continue
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.sendall(head)
            for at in range(EVENTS + 1):
                connection.sendall(event(at))
                self.taken.acquire()
            connection.sendall(b"0\r\n\r\n")


class Client:
    """One connection to the gateway, on which requests follow each other."""

    def __init__(self, port: int, upstream: Upstream, case: Case):
        prompt = (WORDS * (case.prompt_bytes // len(WORDS) + 1))[: case.prompt_bytes]
        messages = [{"role": "user", "content": prompt}]
        body = {"model": SETUPS[case.setup].model, "messages": messages, "max_tokens": 8, "stream": case.stream}
        text = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\nuser-agent: hop\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        self.upstream, self.stream = upstream, case.stream
        self.request = head.encode() + text
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")

    def ask(self) -> None:
        """Sends the request and reads the whole answer; another one than the upstream's ends the count."""
        self.socket.sendall(self.request)
        if not self.stream:
            if read_message(self.answers) != ANSWER:
                raise ValueError("an answer is not the upstream's")
            return
        while self.answers.readline() not in (b"\r\n", b""):
            pass
        events = 0
        while size := int(self.answers.readline(), 16):
            for _ in range(self.answers.read(size + 2).count(b"\n\n")):
                events += 1
                self.upstream.taken.release()
        self.answers.readline()
        if events != EVENTS + 1:
            raise ValueError(f"{events} events came of {EVENTS + 1}")


@contextlib.contextmanager
def gateway(binary: Path, case: Case, upstream: Upstream, folder: Path) -> Iterator[tuple[int, int]]:
    """Runs Signalbox under callgrind, which counts nothing yet; gives its process id and its port."""
    port, admin = free_port(), free_port()
    policy, server = folder / "policy.yaml", folder / "server.yaml"
    policy.write_text(
        f"version: 1\nmodels: {{{MODEL}: {{pools: [upstream]}}}}\n"
        f'pools: {{upstream: {{endpoints: ["127.0.0.1:{upstream.port}"]}}}}\n' + SETUPS[case.setup].policy,
        encoding="utf-8",
    )
    server.write_text(
        f"listeners: [{{address: 127.0.0.1:{port}}}]\nadmin: {{address: 127.0.0.1:{admin}}}\n", encoding="utf-8"
    )
    command = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / 'count'}",
        binary, "serve", "--policy", policy, "--server", server,
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(list(map(str, command)), **quiet) as running:
        try:
            wait_ready(running, f"http://127.0.0.1:{admin}/readyz")
            yield running.pid, port
        finally:
            running.kill()


def count(binary: Path, case: Case, folder: Path) -> float:
    """Counts the instructions of one request, or of one event of a stream."""
    folder.mkdir(parents=True, exist_ok=True)
    upstream = Upstream()

    def control(option: str, *rest: str) -> None:
        subprocess.run(["callgrind_control", option, *rest, str(pid)], check=True, capture_output=True)

    with gateway(binary, case, upstream, folder) as (pid, port):
        client = Client(port, upstream, case)
        warm_up = 3 if case.stream else WARM_UP
        for _ in range(warm_up):
            client.ask()
        control("-i", "on")
        client.ask()
        control("-z")
        for _ in range(case.requests):
            client.ask()
        control("-d")
        control("-i", "off")
    totals = (re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.M) for path in folder.glob("count.*"))
    instructions = max(int(total[1]) for total in totals if total)
    return instructions / case.requests / (EVENTS if case.stream else 1)


def main() -> None:
    built = Path(__file__).resolve().parents[2] / "target" / "release" / "signalbox"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signalbox", type=Path, default=built)
    parser.add_argument("--against", type=Path, metavar="PATH", help="another signalbox, counted too")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose names hold this")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the counts of each function are kept")
    options = parser.parse_args()
    print("| instructions | Signalbox | to the named path |" + " other | to the other |" * bool(options.against))
    print("| --- | ---: | ---: |" + " ---: | ---: |" * bool(options.against))
    named: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        for at, case in enumerate(case for case in CASES if options.only in case.name):
            own = count(options.signalbox, case, folder / f"{at}-own")
            if case.setup == "signalbox" and not case.stream:
                named[case.prompt_bytes] = own
            base = named.get(case.prompt_bytes) if case.setup != "signalbox" else None
            cells = [case.name, f"{own:,.0f}", f"{own / base:.2f} ×" if base else ""]
            if options.against:
                other = count(options.against, case, folder / f"{at}-other")
                cells += [f"{other:,.0f}", f"{own / other:.3f} ×"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
