#!/usr/bin/env python3
"""Runs what a guide's page tells its reader to type, and fails unless the answers are those that the page shows.

    guides.py SIGNALBOX README.md RENDERED.yaml

The policy is the rendered ConfigMap's, but that addresses are those of a simulated engine for each pool on this machine, without
TLS and without a key. InferencePools are found as deployed, from an API server that allows what the rendered Roles allow. All
else is as deployed too: server.yaml, the classifier, the proxy. GUIDE_SECONDS is how long to wait for the gateway, 60 by default.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import yaml
from cluster import Cluster

# How pages write requests to the gateway.
REQUEST = r"curl -s?i (?:\$GATEWAY|localhost:8080)"
DEADLINE_S = float(os.environ.get("GUIDE_SECONDS", "60"))


def main():
    binary, page, rendered = sys.argv[1:]
    objects = [o for o in yaml.safe_load_all(open(rendered)) if o]
    [config] = [o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("-policy")]
    text = open(page).read()
    cases = re.findall(rf"^({REQUEST}[^`]*)```\n\n```text\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    if not cases or len(cases) != len(re.findall(rf"^{REQUEST}", text, re.MULTILINE)):
        sys.exit(f"{page} has requests without answers, or none")
    faults = []
    with contextlib.ExitStack() as stack:
        cluster = Cluster(objects)
        stack.callback(cluster.end)
        gateway = start(stack, binary, {name: yaml.safe_load(text) for name, text in config["data"].items()}, cluster)
        for request, expected in cases:
            answer = ask(request, gateway)
            missing = [line for line in expected.splitlines() if line not in answer.splitlines()]
            if missing:
                faults.append(f"{page}:\n{request}has not {missing} in\n{answer}")
        faults += [f"no Role allows: {request}" for request in sorted(set(cluster.refused))]
    sys.exit("\n".join(faults) if faults else 0)


def start(stack, binary, config, cluster):
    """Starts the engines and the gateway; returns where it listens."""
    policy = config["policy.yaml"]
    for name, pool in policy["pools"].items():
        models = [arg for model in served(policy, name) for arg in ("--model", model)]
        engine = listen(stack, [binary, "sim", "--listen", "127.0.0.1:0", *models])
        found = [e for e in pool["endpoints"] if isinstance(e, dict) and "inference_pool" in e]
        for source in found:
            cluster.add_pool(source["inference_pool"], source["namespace"], engine)
        pool["endpoints"] = found or [engine]
        pool.pop("tls", None)
        pool.pop("credential", None)
        external = pool.get("balance", {}).get("external")
        if external:
            # No picker is there: what the policy says of that holds.
            external["address"] = "127.0.0.1:9"
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for file, content in config.items():
        (folder / file).write_text(yaml.safe_dump(content))
    where = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    files = ["--policy", str(folder / "policy.yaml"), "--server", str(folder / "server.yaml")]
    environment = {**os.environ, "KUBECONFIG": cluster.kubeconfig(folder)}
    return f"http://{listen(stack, [binary, 'serve', *files, *where], environment)}"


def served(policy, pool):
    """The names under which a pool is asked."""
    for name, model in policy["models"].items():
        for item in model["pools"]:
            if (item if isinstance(item, str) else item["pool"]) == pool:
                own = item.get("upstream_model") if isinstance(item, dict) else None
                yield own or model.get("upstream_model", name)


def listen(stack, command, environment=None):
    """Starts a process that prints where it listens, and returns that."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    stack.callback(end, process)
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if '"event":"listening"' in line:
            watchdog.cancel()
            # What it prints later has to be read, or it would be dropped and counted.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return json.loads(line)["listeners"][0]
    watchdog.cancel()
    sys.exit(f"{' '.join(command)} ended:\n{''.join(lines)}")


def end(process):
    process.kill()
    process.wait()


def ask(request, gateway):
    """Types a request, again for as long as the gateway has not seen its engines."""
    until = time.monotonic() + DEADLINE_S
    while True:
        environment = {**os.environ, "GATEWAY": gateway}
        typed = request.replace("localhost:8080", "$GATEWAY")
        result = subprocess.run(["bash", "-c", typed], env=environment, capture_output=True, text=True)
        answer = result.stdout.replace("\r\n", "\n")
        is_early = result.returncode != 0 or answer.startswith("HTTP/1.1 503")
        if not is_early or time.monotonic() > until:
            return answer + result.stderr
        time.sleep(0.2)


main()
