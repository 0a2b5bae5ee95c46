"""LlamaIndex, by its model for servers like OpenAI's."""

import gc
from typing import Literal

import openai
from cells import ASK, URL, is_idle, raises, run
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

MESSAGES = [ChatMessage(role="user", content=ASK)]


def model(name="good"):
    return OpenAILike(
        model=name, api_base=f"{URL}/v1", api_key="sk-none", is_chat_model=True, is_function_calling_model=True,
        max_retries=0, timeout=30, context_window=8192,
    )


def weather(city: Literal["Tulcea", "Galati"]) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


def chat():
    assert model().chat(MESSAGES).message.content


def stream():
    got = list(model().stream_chat(MESSAGES))
    assert len(got) > 5 and got[-1].message.content, got


def tools():
    tool = FunctionTool.from_defaults(fn=weather)
    answer = model().chat_with_tools([tool], user_msg=ASK, tool_required=True)
    call = model().get_tool_calls_from_response(answer)[0]
    assert call.tool_name == "weather" and "city" in call.tool_kwargs, answer


def errors():
    raises(openai.NotFoundError, lambda: model("nobody").chat(MESSAGES), "nobody")
    raises(openai.RateLimitError, lambda: model("busy").chat(MESSAGES))


def cancel():
    got = model("slow").stream_chat(MESSAGES)
    next(got)
    got.close()
    # Its wrappers hold on to the SDK's stream until they are collected.
    del got
    gc.collect()
    is_idle()


def break_off():
    raises(openai.APIError, lambda: list(model("breaks").stream_chat(MESSAGES)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
