"""LangChain's models for chats, over OpenAI's API or Anthropic's: named by the first argument."""

import sys
from typing import Literal

import anthropic
import openai
from cells import ASK, OPENAI, SDK, URL, is_count, leave, raises, run
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

IS_OPENAI = sys.argv[1] == "openai"
ERRORS = openai if IS_OPENAI else anthropic


@tool
def weather(city: Literal["Tulcea", "Galati"]) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


def model(name="good", tokens=24):
    if IS_OPENAI:
        # With another base URL than OpenAI's own it asks for no usage by itself.
        return ChatOpenAI(model=name, stream_usage=True, **OPENAI)
    return ChatAnthropic(model=name, base_url=URL, max_tokens=tokens, **SDK)


def chat():
    answer = model().invoke(ASK)
    assert answer.text and is_count(answer.usage_metadata["output_tokens"]), answer


def stream():
    chunks = list(model().stream(ASK))
    whole = sum(chunks[1:], chunks[0])
    assert len(chunks) > 5 and whole.text and is_count(whole.usage_metadata["output_tokens"]), whole


def tools():
    bound = model(tokens=200).bind_tools([weather], tool_choice="weather")
    answer = bound.invoke(ASK)
    call = answer.tool_calls[0]
    assert call["name"] == "weather" and "city" in call["args"], answer
    said = [HumanMessage(ASK), answer, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert model().bind_tools([weather]).invoke(said).text


def errors():
    raises(ERRORS.NotFoundError, lambda: model("nobody").invoke(ASK), "nobody")
    raises(ERRORS.RateLimitError, lambda: model("busy").invoke(ASK))


def cancel():
    leave(model("slow", 2000).stream(ASK))


def break_off():
    raises(ERRORS.APIError, lambda: list(model("breaks", 200).stream(ASK)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
