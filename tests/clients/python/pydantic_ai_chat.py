"""Pydantic AI, over OpenAI's API."""

import asyncio
from typing import Literal

import openai
from cells import ASK, OPENAI, is_idle, raises, run
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    name: Literal["Tulcea", "Galati"]


def agent(name="good", **more):
    client = openai.AsyncOpenAI(**OPENAI)
    return Agent(OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client)), retries=0, **more)


def chat():
    answer = asyncio.run(agent().run(ASK))
    assert answer.output


def stream():
    async def read():
        async with agent().run_stream(ASK) as got:
            return [piece async for piece in got.stream_text(delta=True, debounce_by=None)]

    assert len(asyncio.run(read())) > 5


def tools():
    answer = asyncio.run(agent(output_type=City).run(ASK))
    assert isinstance(answer.output, City), answer


def errors():
    error = raises(ModelHTTPError, lambda: asyncio.run(agent("nobody").run(ASK)), "nobody")
    assert error.status_code == 404, error
    assert raises(ModelHTTPError, lambda: asyncio.run(agent("busy").run(ASK))).status_code == 429


def cancel():
    async def leave():
        got = asyncio.ensure_future(agent("slow").run(ASK))
        await asyncio.sleep(0.5)
        got.cancel()
        try:
            await got
        except asyncio.CancelledError:
            pass

    asyncio.run(leave())
    is_idle()


def break_off():
    async def read():
        async with agent("breaks").run_stream(ASK) as got:
            return [piece async for piece in got.stream_text(delta=True, debounce_by=None)]

    raises((ModelAPIError, openai.APIError), lambda: asyncio.run(read()))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
