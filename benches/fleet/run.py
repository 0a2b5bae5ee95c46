#!/usr/bin/env python3
"""What a pool of four replicas shows under load: faults, clients that leave, two gateways, long prompts, hedged requests.

    cargo build --profile dist --bin signalbox --example hop_load
    benches/fleet/run.py                             # all five, about six minutes
    benches/fleet/run.py faults departures           # some of them
    benches/fleet/run.py departures --clients 2000   # a look

faults        Each of the four replicas (`signalbox sim`) in turn is killed, stopped, resets its connections, breaks its
              streams, or answers twenty times as slowly, and is well again, while clients stream without a pause. A turn
              begins and ends with a restart of its replica. What may end by an error event is a stream that had begun on the
              replica that broke it; anything else fails the run, and so does a count that is not back to 0.
departures    20,000 clients ask for a stream, up to 2,000 at a time, and leave without a word once it has begun. Afterwards
              no request may be in flight, on the gateway or on a replica, and no connection may be left.
two           The same conversations over the same replicas, through one gateway and through two that know nothing of each
              other, by turns: the share of prompt tokens that the replicas had cached. Two may lose a tenth of it.
long-prompts  Streams with prompts of 220 KB through a gateway on one core, over four replicas, and from the replicas
              directly: requests a second, the gateway's CPU for each, and what it adds to the time to the first byte of
              the body (p50 and p99). The load and the replicas share the other cores.
hedging       One of the four takes 600 ms for its first token, the others 20 ms; 50 streams a second arrive at random times. The
              time to the first event, p50 and p99, and how many requests the replicas got for each: without hedging and with
              it after 150 ms, chosen in turn and by default.

Needs Linux, Python 3.11 or newer, two cores, and as many open files as there are clients at a time, three times. All is on
the loopback interface. Markdown goes to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet import Fleet, Gateway
from streams import Stream, StreamEnd

REPOSITORY = Path(__file__).resolve().parents[2]
REPLICAS = 4
FAULTS = {
    "is killed": "kill",
    "is stopped": "stop",
    "resets every second request": ["--fault-reset", "0.5"],
    "breaks streams": ["--fault-reset-after-chunks", "5"],
    "says nothing": ["--fault-stall", "10m"],
    "is slow": ["--ttft", "400ms", "--itl", "40ms"],
}
USUAL = ["--ttft", "20ms", "--itl", "2ms"]


def body(prompt: str, tokens: int) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"model": "bench", "messages": messages, "max_tokens": tokens, "stream": True}).encode()


async def faults(options: argparse.Namespace) -> bool:
    """Every fault in turn, under load."""
    with Fleet(options.binary, REPLICAS, USUAL) as fleet, fleet.gateway() as gateway:
        ends, is_over, rng = [], asyncio.Event(), random.Random(options.seed)

        async def client(number: int) -> None:
            while not is_over.is_set():
                prompt = f"client {number}: " + "What was said before. " * rng.randrange(1, 40)
                ends.append((await Stream(gateway.port).run(body(prompt, 32)), turn))
                await asyncio.sleep(rng.uniform(0, 0.02))

        turn = ""
        clients = [asyncio.create_task(client(number)) for number in range(48)]
        for place, (turn, fault) in enumerate(FAULTS.items()):
            replica = fleet.replicas[place % REPLICAS]
            await asyncio.sleep(options.seconds / 3)
            replica.turn(fault)
            await asyncio.sleep(options.seconds)
            replica.start(USUAL)
            await asyncio.to_thread(replica.wait)
        turn = "all are well"
        await asyncio.sleep(options.seconds)
        is_over.set()
        await asyncio.gather(*clients)
        left = await asyncio.to_thread(gateway.left_over)
    print("### Faults of one of four replicas\n")
    print("| a replica | whole streams | ended by an error event after they had begun | anything else |")
    print("| --- | ---: | ---: | ---: |")
    for turn in [*FAULTS, "all are well"]:
        of_turn = [end for end, at in ends if at == turn]
        counts = [sum(end.kind == kind for end in of_turn) for kind in ("whole", "broken")]
        others = [end for end in of_turn if end.kind not in ("whole", "broken")]
        print(f"| {turn} | {counts[0]:,} | {counts[1]:,} | {len(others)} |")
        for end in others[:3]:
            print(f"  {end}", file=sys.stderr)
    print(f"\nIn flight afterwards: {left}.\n")
    return left == 0 and all(end.kind in ("whole", "broken") for end, _ in ends)


async def departures(options: argparse.Namespace) -> bool:
    """Clients that leave once their stream has begun."""
    with Fleet(options.binary, REPLICAS, ["--ttft", "1ms", "--itl", "50ms", "--max-num-seqs", "4096"]) as fleet:
        with fleet.gateway() as gateway:
            before, places = gateway.rss_mib(), asyncio.Semaphore(options.at_once)
            refused = 0

            async def leaver(number: int) -> None:
                nonlocal refused
                async with places:
                    end = await Stream(gateway.port).run(body(f"client {number}", 1000), leaves=True)
                    refused += end.kind != "left"
                    if end.kind != "left" and refused <= 3:
                        print(f"  {end}", file=sys.stderr)

            await asyncio.gather(*(leaver(number) for number in range(options.clients)))
            left = await asyncio.to_thread(gateway.left_over)
            running = await asyncio.to_thread(fleet.running)
            connections = int(gateway.metric("signalbox_connections"))
            after = gateway.rss_mib()
    print("### Clients that leave in mid-stream\n")
    print(
        f"{options.clients:,} clients, up to {options.at_once:,} at a time; {refused} got no stream. Afterwards in flight on the "
        f"gateway: {left}, on the replicas: {running}, clients' connections: {connections}. Memory: {before:.0f} MiB before, "
        f"{after:.0f} MiB after.\n"
    )
    return not (refused or left or running)


async def two(options: argparse.Namespace) -> bool:
    """The hit rate of one gateway and of two."""
    rates = {}
    # Four replicas hold some 160,000 tokens together; 60 conversations of six turns, five of which begin alike each.
    sim = ["--ttft", "2ms", "--itl", "1ms", "--kv-cache-size", "2600", "--max-model-len", "32768"]
    for count in (1, 2):
        with Fleet(options.binary, REPLICAS, sim) as fleet:
            gateways = [fleet.gateway().__enter__() for _ in range(count)]
            try:
                # Each is where it is asked at random, as behind a Service.
                rates[count] = await hit_rate(gateways, random.Random(options.seed))
            finally:
                for gateway in gateways:
                    gateway.end()
    loss = 1 - rates[2] / rates[1]
    print("### Two gateways before the same replicas\n")
    print("| gateways | prompt tokens that were cached |\n| ---: | ---: |")
    for count, rate in rates.items():
        print(f"| {count} | {rate:.1%} |")
    print(f"\nTwo lose {max(loss, 0):.1%} of the hit rate of one.\n")
    return loss <= 0.10


async def hit_rate(gateways: list[Gateway], rng: random.Random) -> float:
    """Has conversations go on, at random, each turn through any of the gateways."""
    systems = [f"Assistant {number}. " + f"Rule {number} of many is this one. " * 120 for number in range(12)]
    talks = [[{"role": "system", "content": systems[number % 12]}] for number in range(60)]
    order = [number for number in range(60) for _ in range(6)]
    rng.shuffle(order)
    cached = prompt = 0
    running: set[asyncio.Task] = set()

    async def turn(number: int, at: int) -> None:
        nonlocal cached, prompt
        talk = talks[number]
        talk.append({"role": "user", "content": f"{at}: " + f"And what of matter {number}? " * 30})
        request = {"model": "bench", "messages": talk, "max_tokens": 16}
        status, answer = await Stream(rng.choice(gateways).port).whole(json.dumps(request).encode())
        if status != 200:
            raise SystemExit(f"status {status}: {answer[:200]!r}")
        told = json.loads(answer)
        talk.append({"role": "assistant", "content": told["choices"][0]["message"]["content"]})
        prompt += told["usage"]["prompt_tokens"]
        cached += told["usage"]["prompt_tokens_details"]["cached_tokens"]

    for at, number in enumerate(order):
        running = {task for task in running if not task.done() or task.result()}
        running.add(asyncio.create_task(turn(number, at)))
        await asyncio.sleep(rng.expovariate(60))
    await asyncio.gather(*running)
    return cached / prompt


async def long_prompts(options: argparse.Namespace) -> bool:
    """220 KB prompts, through a gateway on one core and without it."""
    cores = sorted(os.sched_getaffinity(0))
    own, others = cores[0], cores[1:] or cores
    words = "the quick brown fox jumps over the lazy dog while seventeen gateways count their bytes and "
    prompt = (words * (220_000 // len(words) + 1))[:220_000]
    sim = ["--ttft", "0s", "--itl", "0s", "--max-model-len", "131072", "--kv-cache-size", "65536"]
    with tempfile.TemporaryDirectory() as scratch, Fleet(options.binary, REPLICAS, sim, cores=others) as fleet:
        file = Path(scratch) / "body.json"
        file.write_bytes(body(prompt, 4))

        def load(ports: list[int], clients: int, requests: int) -> list[dict]:
            def command(port: int) -> list[str]:
                share = [str(clients // len(ports)), str(requests // len(ports))]
                return [
                    "taskset", "-c", ",".join(map(str, others)), str(options.load), "--target", f"127.0.0.1:{port}",
                    "--clients", share[0], "--requests", share[1], "--body", str(file), "--stream",
                ]  # fmt: skip

            running = [subprocess.Popen(command(port), stdout=subprocess.PIPE, text=True) for port in ports]
            told = [json.loads(process.communicate()[0]) for process in running]
            if any(one["errors"] for one in told):
                raise SystemExit(f"requests failed: {[one['last_error'] for one in told]}")
            return told

        print("### 220 KB prompts, streamed, over four replicas\n")
        print(f"The gateway on core {own}, the load and the replicas on {len(others)} other(s); {platform.machine()}.\n")
        print("| clients | | requests/s | first byte p50 | p99 | gateway CPU a request | requests/s a core |")
        print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
        with fleet.gateway(core=own, threads=1) as gateway:
            load([gateway.port], 4, 40)
            for clients in (4, 20, 100):
                told = load([replica.port for replica in fleet.replicas], clients, options.requests)
                rate, p50 = sum(one["rps"] for one in told), max(one["first_p50_us"] for one in told)
                p99 = max(one["first_p99_us"] for one in told)
                print(f"| {clients} | directly | {rate:,.0f} | {p50 / 1e3:.1f} ms | {p99 / 1e3:.1f} ms | | |")
                before = gateway.cpu_ns()
                (one,) = load([gateway.port], clients, options.requests)
                spent = (gateway.cpu_ns() - before) / 1e3 / one["count"]
                print(
                    f"| {clients} | gateway | {one['rps']:,.0f} | {one['first_p50_us'] / 1e3:.1f} ms | "
                    f"{one['first_p99_us'] / 1e3:.1f} ms | {spent:,.0f} µs | {1e6 / spent:,.0f} |"
                )
    print()
    return True


async def hedging(options: argparse.Namespace) -> bool:
    """One replica that is slow to begin, with and without a second that is asked too."""
    print("### One of four replicas takes 600 ms for its first token\n")
    print("| chosen | hedged | streams | first event p50 | p99 | sent twice | won by the second |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    is_well = True
    for strategy in ("round_robin", "auto"):
        for hedge in ("", "hedge: {after: 150ms, share: 0.5}"):
            with Fleet(options.binary, REPLICAS, USUAL) as fleet:
                fleet.replicas[0].start(["--ttft", "600ms", "--itl", "2ms"])
                await asyncio.to_thread(fleet.replicas[0].wait)
                with fleet.gateway(more=f"balance: {{strategy: {strategy}}}\n    {hedge}") as gateway:
                    ends = await arrivals(gateway, options)
                    sent_twice, won = (
                        gateway.metric("signalbox_hedges_total", f'result="{result}"')
                        for result in ("started", "won")
                    )
                    left = await asyncio.to_thread(gateway.left_over)
            firsts = sorted(end.first_s for end in ends)
            p50, p99 = (firsts[int(len(firsts) * share)] * 1e3 for share in (0.5, 0.99))
            print(
                f"| `{strategy}` | {'after 150 ms' if hedge else 'no'} | {len(ends):,} | {p50:.0f} ms | {p99:.0f} ms | "
                f"{sent_twice / len(ends):.1%} | {won / len(ends):.1%} |"
            )
            is_well &= left == 0 and all(end.kind == "whole" for end in ends)
    print()
    return is_well


async def arrivals(gateway: Gateway, options: argparse.Namespace) -> list[StreamEnd]:
    """Streams that come at random times, whatever became of those before."""
    rng, running = random.Random(options.seed), []
    for number in range(int(50 * options.seconds)):
        await asyncio.sleep(rng.expovariate(50))
        running.append(asyncio.create_task(Stream(gateway.port).run(body(f"{number}: what now?", 8))))
    return await asyncio.gather(*running)


SHOWS = {"faults": faults, "departures": departures, "two": two, "long-prompts": long_prompts, "hedging": hedging}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shows", nargs="*", choices=[*SHOWS, []], help="all when none is named")
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/dist/signalbox")
    parser.add_argument("--load", type=Path, default=REPOSITORY / "target/dist/examples/hop_load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each fault lasts")
    parser.add_argument("--clients", type=int, default=20_000, help="clients that leave")
    parser.add_argument("--at-once", type=int, default=2_000, help="of these, connected at a time")
    parser.add_argument("--requests", type=int, default=2_000, help="long prompts in each round")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = [name for name in options.shows or SHOWS if not asyncio.run(SHOWS[name](options))]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
