"""OpenAI's Agents SDK, over Responses or Chat Completions: named by the first argument."""

import asyncio
import sys
from typing import Literal

import openai
from agents import (
    Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled,
)
from cells import ASK, OPENAI, is_idle, raises, run

set_tracing_disabled(True)
MODEL = OpenAIResponsesModel if sys.argv[1] == "responses" else OpenAIChatCompletionsModel
CALLS = []


@function_tool
def weather(city: Literal["Tulcea", "Galati"]) -> str:
    """The weather of a city."""
    CALLS.append(city)
    return f"Rain in {city}."


def agent(name="good", **more):
    client = openai.AsyncOpenAI(**OPENAI)
    return Agent(name="guide", instructions="Be brief.", model=MODEL(model=name, openai_client=client), **more)


def ask(**more):
    return asyncio.run(Runner.run(agent(**more), ASK))


def chat():
    assert ask().final_output


def stream():
    async def read():
        got = Runner.run_streamed(agent(), ASK)
        kinds = [event.data.type async for event in got.stream_events() if event.type == "raw_response_event"]
        return kinds, got.final_output

    kinds, said = asyncio.run(read())
    assert kinds.count("response.output_text.delta") > 5 and said, kinds


def tools():
    answer = ask(tools=[weather], model_settings=ModelSettings(tool_choice="weather"))
    assert CALLS and answer.final_output, (CALLS, answer)


def errors():
    raises(openai.NotFoundError, lambda: ask(name="nobody"), "nobody")
    raises(openai.RateLimitError, lambda: ask(name="busy"))


def cancel():
    async def leave():
        got = Runner.run_streamed(agent("slow"), ASK)
        async for event in got.stream_events():
            if event.type == "raw_response_event":
                got.cancel()
                break
        await asyncio.sleep(0.2)

    asyncio.run(leave())
    is_idle()


def break_off():
    async def read():
        got = Runner.run_streamed(agent("breaks"), ASK)
        return [event async for event in got.stream_events()]

    raises(Exception, lambda: asyncio.run(read()))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
