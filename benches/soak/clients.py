"""The clients of `benches/soak`: what each kind asks, and what it makes of the answer. It starts no process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field

# A request that takes longer than this hangs: the policy ends every one before.
HANGS_AFTER_S = 45.0
CARD = "4111 1111 1111 1111"

# What an answer may be when a replica is at fault or the gateway is full, by its status.
REFUSALS = {429, 503}
# Of a replica that begins to answer 404 or 500 the first few go out, until another has shown that it can answer.
OF_UPSTREAM = {404, 500, 502, 504}


@dataclass
class Tally:
    """What became of the requests of every kind."""

    answered: Counter = field(default_factory=Counter)
    of_faults: Counter = field(default_factory=Counter)
    ours: Counter = field(default_factory=Counter)
    # The first sightings of each error of ours, to look into.
    examples: dict = field(default_factory=dict)

    def ok(self, kind: str) -> None:
        self.answered[kind] += 1

    def fault(self, kind: str, cause: str) -> None:
        self.of_faults[f"{kind}: {cause}"] += 1

    def our(self, kind: str, cause: str, seen: str = "") -> None:
        key = f"{kind}: {cause}"
        self.ours[key] += 1
        self.examples.setdefault(key, seen[:400])


class BrokenAnswer(Exception):
    """An answer that is not HTTP, or ends before its end."""


class BrokenOff(Exception):
    """A whole answer of which the upstream gave a part: what has gone out cannot be taken back."""


class Connection:
    """One HTTP/1.1 connection to the gateway."""

    def __init__(self, port: int):
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, body: dict, path: str = "/v1/chat/completions") -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n\r\n"
        )
        self.writer.write(head.encode() + data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict, bytes]:
        """Reads one whole answer."""
        status, headers = await self.head()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            try:
                while piece := await self.chunk():
                    pieces.append(piece)
            except (OSError, BrokenAnswer, asyncio.IncompleteReadError):
                # A stream that fails ends with its error event, and without the last chunk.
                if not b"".join(pieces)[-2000:].count(b'"error"'):
                    raise
                self.close()
            body = b"".join(pieces)
        else:
            try:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            except asyncio.IncompleteReadError as error:
                raise BrokenOff from error
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    async def head(self) -> tuple[int, dict]:
        line = await self.reader.readline()
        if not line.startswith(b"HTTP/1.1 "):
            raise BrokenAnswer(f"no status line but {line[:60]!r}")
        headers = {}
        while (field_line := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = field_line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(line.split()[1]), headers

    async def chunk(self) -> bytes:
        size = int((await self.reader.readline()).split(b";")[0] or b"-1", 16)
        if size < 0:
            raise BrokenAnswer("the chunks end before the last one")
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None


def request(kind: str, rng: random.Random) -> dict:
    """Gives the body of one request: a few turns of a conversation of its own."""
    words = " ".join(rng.choice(WORDS) for _ in range(rng.choice((8, 40, 200))))
    text = f"{words} my card is {CARD}" if kind == "guarded" else words
    return {
        "model": "guarded" if kind == "guarded" else "bench",
        "messages": [{"role": "user", "content": text}],
        "stream": kind in ("stream", "leaver", "stuck"),
        "max_tokens": 4000 if kind == "stuck" else 32,
    }


WORDS = "which rivers cross three borders and how long do their floods last in the spring of a wet year".split()


def judge(kind: str, tally: Tally, status: int, headers: dict, body: bytes) -> None:
    """Counts one whole answer."""
    if status == 200 and kind == "stream":
        judge_stream(kind, tally, body)
    elif status == 200:
        try:
            json.loads(body)["choices"][0]
            tally.ok(kind)
        except (ValueError, KeyError, IndexError):
            tally.our(kind, "a 200 that is no completion", repr(body))
    elif status in REFUSALS and "retry-after" in headers:
        tally.fault(kind, f"{status} {code(body)}")
    elif status in OF_UPSTREAM:
        tally.fault(kind, f"{status} {code(body)}")
    else:
        tally.our(kind, f"status {status} {code(body)}", repr((headers, body)))


def judge_stream(kind: str, tally: Tally, body: bytes) -> None:
    if body.rstrip().endswith(b"data: [DONE]"):
        tally.ok(kind)
    elif b'"error"' in body[-2000:]:
        tally.fault(kind, "a stream that ends with its error event")
    else:
        tally.our(kind, "a stream that ends without [DONE] and without an error", repr(body[-300:]))


def code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "without an OpenAI error"


async def usual(kind: str, port: int, tally: Tally, seed: int) -> None:
    """Asks again and again on one connection, as SDKs do."""
    rng, connection = random.Random(seed), Connection(port)
    while True:
        try:
            async with asyncio.timeout(HANGS_AFTER_S):
                await connection.send(request(kind, rng))
                judge(kind, tally, *await connection.answer())
        except TimeoutError:
            tally.our(kind, f"no end within {HANGS_AFTER_S:.0f} s")
            connection.close()
        except BrokenOff:
            tally.fault(kind, "an answer that broke off with its replica's")
            connection.close()
        except (OSError, BrokenAnswer, asyncio.IncompleteReadError, ValueError) as error:
            tally.our(kind, f"a broken connection ({type(error).__name__})", str(error))
            connection.close()
        # A refused client waits a little, as it is asked to.
        await asyncio.sleep(rng.uniform(0.0, 0.1))


async def leaver(port: int, tally: Tally, seed: int) -> None:
    """Leaves before the answer, or in the middle of a stream."""
    rng = random.Random(seed)
    while True:
        connection = Connection(port)
        with contextlib.suppress(
            OSError, BrokenAnswer, BrokenOff, asyncio.IncompleteReadError, ValueError, TimeoutError
        ):
            async with asyncio.timeout(HANGS_AFTER_S):
                await connection.send(request("leaver", rng))
                if rng.random() < 0.5:
                    await connection.head()
                    await connection.chunk()
        connection.close()
        tally.ok("leaver")
        await asyncio.sleep(rng.uniform(0.0, 0.3))


async def stuck(port: int, tally: Tally, seed: int) -> None:
    """Asks for a long stream and does not read it, for as long as it may."""
    rng = random.Random(seed)
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            connection = Connection(port)
            connection.reader, connection.writer = reader, writer
            await connection.send(request("stuck", rng))
            await asyncio.sleep(rng.uniform(5.0, 20.0))
            connection.close()
            tally.ok("stuck")
        await asyncio.sleep(0.5)


async def burst(port: int, tally: Tally, clients: int) -> None:
    """Asks once with so many clients at once, more than the gateway takes."""

    async def one(seed: int) -> None:
        connection = Connection(port)
        try:
            async with asyncio.timeout(HANGS_AFTER_S):
                await connection.send(request("burst", random.Random(seed)))
                judge("burst", tally, *await connection.answer())
        except TimeoutError:
            tally.our("burst", f"no end within {HANGS_AFTER_S:.0f} s")
        except BrokenOff:
            tally.fault("burst", "an answer that broke off with its replica's")
        except (OSError, BrokenAnswer, asyncio.IncompleteReadError, ValueError) as error:
            tally.our("burst", f"a broken connection ({type(error).__name__})", str(error))
        finally:
            connection.close()

    await asyncio.gather(*(one(seed) for seed in range(clients)))


async def record(port: int, tally: Tally) -> asyncio.Server:
    """Serves as the upstream behind the masking guard: answers, and looks for the card number."""
    answer = json.dumps({"object": "chat.completion", "choices": [{"message": {"content": "ok"}}]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(fields.partition("content-length:")[2].split()[0])
                if CARD in (await reader.readexactly(length)).decode():
                    tally.our("guarded", "a card number came through the guard")
                writer.write(head.encode() + answer)
                await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port)
