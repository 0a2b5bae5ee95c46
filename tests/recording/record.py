#!/usr/bin/env python3
"""Records what a `signalbox` binary does with a fixed set of requests, and compares two recordings.

    record.py record BINARY RECORDING.json [--only SCENE]
    record.py compare OLD.json NEW.json

A recording holds, for each request, the status, the header fields in their order, the body, the line of the access log
and what the scripted upstream got; for each policy `/metrics`, the process's own log and `explain --json`; and the
output of commands that start no server. Times, ports, ids and the last digits of scores are normalised. A change of
the code that changes no behaviour leaves two recordings equal. `compare` exits with 1 when they differ.
"""

import argparse
import contextlib
import difflib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scenes import COMMANDS, SCENES, Request, Scene
from upstream import Upstream

REPOSITORY = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 120
LINE_WITHIN_S = 20
SETTLED_AFTER_S = 0.5
KEYS = {
    "KEY_ALICE": "key-of-alice",
    "KEY_BOB": "key-of-bob",
    "CLOUD_KEY": "sk-of-the-pool",
    # Without one, placeholders would change with the ports in the policy.
    "PLACEHOLDER_KEY": "the key of placeholders",
}
SIMULATED = {
    "llama_a": ["--model", "small", "--model", "small-legal", "--model", "meta/small", "--pod", "llama-a"],
    "llama_b": ["--model", "small", "--model", "small-legal", "--model", "meta/small", "--pod", "llama-b"],
    "phi": ["--model", "phi", "--pod", "phi"],
    "cloud": ["--model", "cloud", "--openai", "--api-key-env", "CLOUD_KEY", "--pod", "cloud"],
}
# Members of the access log and of `explain` that are times, and header fields that change with each run.
TIMES = re.compile(r"_ms$|_us$|^ts$|^timestamp$|^created(_at)?$|_seconds$")
ADDRESSES = {"client", "endpoint"}
VOLATILE_HEADERS = {"date", "x-inference-port", "openai-processing-ms"}


class Process:
    """A running binary, and the lines that it has printed so far."""

    def __init__(self, command: list, environment: dict):
        self.child = subprocess.Popen(
            [str(word) for word in command], env=os.environ | KEYS | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY,
        )  # fmt: skip
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.readers = [
            threading.Thread(target=self.follow, args=(self.child.stdout, self.lines), daemon=True),
            threading.Thread(target=self.follow, args=(self.child.stderr, self.errors), daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        self.announced = json.loads(self.line('"event":"listening"', READY_WITHIN_S) or self.fail())

    @staticmethod
    def follow(pipe, lines):
        lines.extend(iter(pipe.readline, ""))

    def fail(self):
        self.child.kill()
        sys.exit(f"{self.child.args} did not start:\n" + "".join(self.errors))

    def line(self, text: str, within_s: float) -> str | None:
        """Waits for a printed line with a text."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            for line in list(self.lines):
                if text in line:
                    return line
            if self.child.poll() is not None:
                return None
            time.sleep(0.01)
        return None

    def port(self) -> int:
        return port_of(self.announced["listeners"][0])

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.child.kill()
        for reader in self.readers:
            reader.join(timeout=5)


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def closed_port(stack: contextlib.ExitStack) -> int:
    """A port that refuses connections: taken, so that no other process gets it, but not listened on."""
    taken = stack.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    return taken.getsockname()[1]


class Normal:
    """Replaces what differs between two runs of the same binary."""

    def __init__(self, ports: dict[str, int], scratch: Path):
        self.names = {str(port): name for name, port in ports.items()}
        self.scratch = str(scratch)
        self.ports = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):(%s)\b" % "|".join(self.names)) if ports else None

    def text(self, text: str) -> str:
        text = text.replace(self.scratch, "<scratch>").replace(str(REPOSITORY), "<repository>")
        if self.ports:
            text = self.ports.sub(lambda found: f"<{self.names[found.group(2)]}>", text)
        text = re.sub(r'("created(?:_at)?": ?)\d+', r"\g<1>0", text)
        # Ids that a process makes up itself, of the time or at random.
        text = re.sub(r"(chatcmpl-[a-z-]+)-\d{10}\b", r"\1-<id>", text)
        text = re.sub(r"\b(chatcmpl-|cmpl-|modelperm-|req[_-])?[0-9a-f]{16,32}\b", r"\1<id>", text)
        return re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>", text)

    def value(self, value, key: str = ""):
        """Normalises a JSON value; `key` is the member that it is the value of."""
        if TIMES.search(key) and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return "<time>"
        if isinstance(value, dict):
            return {name: self.value(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, key) for item in value]
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, str):
            text = self.text(value)
            return "<client>" if key in ADDRESSES and text.startswith("127.0.0.1:") else text
        return value

    def body(self, data: bytes) -> str:
        return self.text(data.decode("utf-8", "backslashreplace"))

    def json_text(self, data: bytes) -> object:
        """A JSON body as a value whose members keep their order, any other as its text."""
        try:
            return self.value(json.loads(data))
        except ValueError:
            return self.body(data)

    def headers(self, pairs: list) -> list:
        return [
            [name, "<volatile>" if name.lower() in VOLATILE_HEADERS else self.text(value)] for name, value in pairs
        ]

    def metrics(self, page: str) -> list[str]:
        """The page without the values that are times; histograms of seconds keep their counts alone.

        Series are in the order of their ports, so those of a family are sorted again.
        """
        lines: list[str] = []
        family = 0
        for line in page.splitlines():
            series, _, number = line.rpartition(" ")
            is_time = re.search(r"_seconds_(bucket|sum)|start_time|_memory_|cpu_seconds", series)
            if is_time and 'le="+Inf"' not in series and not line.startswith("#"):
                number = "<time>"
            if line.startswith("#"):
                lines[family:] = sorted(lines[family:])
                family = len(lines) + 1
            lines.append(self.text(f"{series} {number}"))
        lines[family:] = sorted(lines[family:])
        return lines

    def log(self, lines: list[str]) -> list[str]:
        """The process's own log: level, message and members of each line, each kind once."""
        kinds = set()
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                kinds.add(self.text(line.rstrip()))
                continue
            members = sorted(set(entry) - {"ts", "level", "message", "target"})
            kinds.add(self.text(f"{entry.get('level')} {entry.get('message')} {members}"))
        return sorted(kinds)


def send(port: int, request: Request, request_id: str) -> dict:
    headers = {"content-type": "application/json", "x-request-id": request_id, "connection": "close"}
    body = request.body.encode("utf-8", "surrogateescape") if request.body is not None else None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=150)
    try:
        connection.request(request.method, request.path, body, headers | request.headers)
        response = connection.getresponse()
        try:
            data, is_whole = response.read(), True
        except http.client.IncompleteRead as broken:
            data, is_whole = broken.partial, False
        except OSError:
            data, is_whole = b"", False
        return {"status": response.status, "headers": response.getheaders(), "data": data, "is_whole": is_whole}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "headers": [], "data": type(error).__name__.encode(), "is_whole": False}
    finally:
        connection.close()


def exchange(gateway: Process, scripted: Upstream, normal: Normal, request: Request, request_id: str) -> dict:
    """Sends one request and gathers what came of it."""
    port = port_of(gateway.announced["admin"]) if request.is_admin else gateway.port()
    answer = send(port, request, request_id)
    result = {"name": request.name, "status": answer["status"], "is_whole": answer["is_whole"]}
    result["headers"] = normal.headers(answer["headers"])
    if request.is_admin:
        # The length depends on the times in the body.
        result["headers"] = [pair for pair in result["headers"] if pair[0].lower() != "content-length"]
        result["body"] = normal.json_text(answer["data"])
        return result
    result["body"] = normal.body(answer["data"])
    line = gateway.line(f'"request_id":"{request_id}"', LINE_WITHIN_S)
    result["log"] = json.dumps(normal.value(json.loads(line))) if line else None
    # The gateway's own id is what the upstream has seen.
    arrived = scripted.of(json.loads(line).get("gateway_request_id", request_id)) if line else []
    result["upstream"] = [
        {"line": one["line"], "headers": normal.headers(one["headers"]), "body": one["body"]} for one in arrived
    ]
    return result


@contextlib.contextmanager
def upstreams(binary: Path) -> Iterator[tuple[Upstream, dict[str, int]]]:
    with contextlib.ExitStack() as stack:
        scripted = Upstream()
        stack.callback(scripted.stop)
        ports = {"scripted": scripted.port, "closed": closed_port(stack)}
        for name, arguments in SIMULATED.items():
            command = [binary, "sim", "--listen", "127.0.0.1:0", "--answer-tokens", "24", *arguments]
            process = Process(command, {})
            stack.callback(process.stop)
            ports[name] = process.port()
        yield scripted, ports


def play(binary: Path, scene: Scene, scratch: Path) -> dict:
    """Starts fresh upstreams and a gateway with the scene's policy, and sends its requests."""
    folder = scratch / scene.name.replace(" ", "-")
    folder.mkdir()
    with upstreams(binary) as (scripted, ports):
        policy = scene.policy.replace("{repository}", str(REPOSITORY))
        for name, port in ports.items():
            policy = policy.replace("{" + name + "}", str(port))
        (folder / "policy.yaml").write_text(policy, encoding="utf-8")
        server = f"upgrade: {{socket: {folder}/upgrade.sock}}\ndrain: {{delay: 0s, timeout: 5s}}\n" + scene.server
        (folder / "server.yaml").write_text(server, encoding="utf-8")
        files = ["--policy", folder / "policy.yaml", "--server", folder / "server.yaml"]
        gateway = Process([binary, "serve", *files, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], {})
        try:
            ports = ports | {"gateway": gateway.port(), "admin": port_of(gateway.announced["admin"])}
            normal = Normal(ports, scratch)
            exchanges = []
            for at, request in enumerate(scene.requests):
                exchanges.append(exchange(gateway, scripted, normal, request, f"r-{at:03}"))
                print(f"{scene.name}: {request.name}: {exchanges[-1]['status']}", file=sys.stderr)
            # Copies for shadow models and checks after streams may still be under way.
            time.sleep(SETTLED_AFTER_S)
            page = send(ports["admin"], Request("metrics", "/metrics", method="GET"), "metrics")
        finally:
            gateway.stop()
        explained = []
        if scene.prompts:
            arguments = ["explain", "--json", "--policy", folder / "policy.yaml", *scene.prompts]
            explained = [normal.value(json.loads(line)) for line in run(binary, arguments)["stdout"].splitlines()]
    return {
        "exchanges": exchanges,
        "metrics": normal.metrics(page["data"].decode()),
        "log": normal.log(gateway.errors),
        "explain": [json.dumps(one) for one in explained],
    }


def run(binary: Path, arguments: list) -> dict:
    done = subprocess.run(
        [str(binary), *map(str, arguments)], env=os.environ | KEYS, cwd=REPOSITORY, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    return {"exit": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def commands(binary: Path, scratch: Path) -> list[dict]:
    """Runs what starts no server: checks, imports, the schema."""
    normal = Normal({}, scratch)
    invalid = sorted((REPOSITORY / "tests/policies/invalid").glob("*.yaml"))
    sources = sorted(path for path in (REPOSITORY / "tests/import").iterdir() if path.suffix != ".json")
    listed = [(name, arguments) for name, arguments in COMMANDS]
    listed += [(f"check {path.name}", ["check", path]) for path in invalid]
    listed += [(f"import {path.name}", ["import", "--explain", path]) for path in sources]
    listed += [("import the folder as JSON", ["import", "--json", REPOSITORY / "tests/import/decisions.yaml", REPOSITORY / "tests/import/manifests.yaml"])]  # fmt: skip
    recorded = []
    for name, arguments in listed:
        result = run(binary, arguments)
        if "explain" in arguments:
            result["stdout"] = json.dumps(normal.value(json.loads(result["stdout"])))
        texts = {key: normal.text(result[key]) for key in ("stdout", "stderr")}
        recorded.append({"name": name, "exit": result["exit"]} | texts)
        print(f"commands: {name}: {result['exit']}", file=sys.stderr)
    return recorded


def record(binary: Path, only: str) -> dict:
    recording = {}
    with tempfile.TemporaryDirectory() as scratch:
        for scene in SCENES:
            if only in scene.name:
                recording[scene.name] = play(binary, scene, Path(scratch))
        if only in "commands":
            recording["commands"] = commands(binary, Path(scratch))
    return recording


def parts(recording: dict) -> Iterator[tuple[str, str]]:
    """Every part of a recording with its name, as text."""
    for scene, played in recording.items():
        if scene == "commands":
            for one in played:
                yield f"commands / {one['name']}", json.dumps(one, indent=1, ensure_ascii=False).replace("\\n", "\n")
            continue
        for one in played["exchanges"]:
            yield f"{scene} / {one['name']}", json.dumps(one, indent=1, ensure_ascii=False).replace("\\n", "\n")
        for key in ("metrics", "log", "explain"):
            yield f"{scene} / {key}", "\n".join(played[key])


def compare(old: dict, new: dict) -> int:
    before, after = dict(parts(old)), dict(parts(new))
    differing = 0
    for name in before | after:
        if before.get(name) != after.get(name):
            differing += 1
            print(f"== {name}")
            lines = [side.get(name, "").splitlines() for side in (before, after)]
            print("\n".join(difflib.unified_diff(*lines, "old", "new", lineterm="", n=1)))
    print(f"{len(before | after)} parts, {differing} differ")
    return 1 if differing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    recorder = actions.add_parser("record")
    recorder.add_argument("binary", type=Path)
    recorder.add_argument("recording", type=Path)
    recorder.add_argument("--only", default="", metavar="SCENE", help="only scenes whose names hold this")
    comparer = actions.add_parser("compare")
    comparer.add_argument("old", type=Path)
    comparer.add_argument("new", type=Path)
    options = parser.parse_args()
    if options.action == "compare":
        return compare(*(json.loads(path.read_text(encoding="utf-8")) for path in (options.old, options.new)))
    recording = record(options.binary.resolve(), options.only)
    options.recording.write_text(json.dumps(recording, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
