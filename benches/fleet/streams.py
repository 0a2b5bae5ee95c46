"""The clients of `benches/fleet`: one request each over a connection of its own, and how that ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

# A request that takes longer than this hangs.
HANGS_AFTER_S = 70.0


@dataclass(frozen=True)
class StreamEnd:
    """How one stream ended: `whole`, `broken` by an error event after it had begun, `left` by its client, or how it must not."""

    kind: str
    seen: str = ""
    # From the request to the first event.
    first_s: float = 0.0


class Stream:
    """One client."""

    def __init__(self, port: int):
        self.port = port

    async def run(self, body: bytes, leaves: bool = False) -> StreamEnd:
        """Reads a stream to its end, or leaves without a word once its first event is there."""
        try:
            async with asyncio.timeout(HANGS_AFTER_S):
                return await self._run(body, leaves)
        except TimeoutError:
            return StreamEnd("hangs")
        except OSError as error:
            return StreamEnd("connection", repr(error))

    async def _run(self, body: bytes, leaves: bool) -> StreamEnd:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        began = time.monotonic()
        try:
            writer.write(head(body) + body)
            await writer.drain()
            status = await reader.readuntil(b"\r\n\r\n")
            if not status.startswith(b"HTTP/1.1 200"):
                return StreamEnd("status", (status + await reader.read(400)).decode(errors="replace"))
            text = await reader.readuntil(b"data:")
            first_s = time.monotonic() - began
            if leaves:
                writer.transport.abort()
                return StreamEnd("left")
            text += await reader.read(-1)
            if b"data: [DONE]" in text:
                return StreamEnd("whole", first_s=first_s)
            is_told = b'"error"' in text and b'"content"' in text
            return StreamEnd("broken" if is_told else "cut", text[-400:].decode(errors="replace"))
        except asyncio.IncompleteReadError as error:
            return StreamEnd("cut", error.partial[-400:].decode(errors="replace"))
        finally:
            writer.close()

    async def whole(self, body: bytes) -> tuple[int, bytes]:
        """Reads a whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head(body) + body)
        await writer.drain()
        status = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.read(-1)
        writer.close()
        return int(status.split()[1]), answer


def head(body: bytes) -> bytes:
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
