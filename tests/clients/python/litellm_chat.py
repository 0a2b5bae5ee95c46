"""LiteLLM's SDK, over OpenAI's API or Anthropic's: named by the first argument."""

import json
import sys

import litellm
from cells import MESSAGES, SDK, TOOL, URL, is_count, is_idle, raises, run

IS_OPENAI = sys.argv[1] == "openai"


def create(name="good", messages=MESSAGES, tokens=24, **more):
    return litellm.completion(
        model=f"{sys.argv[1]}/{name}", messages=messages, api_base=f"{URL}/v1" if IS_OPENAI else URL, num_retries=0,
        **SDK, **({} if IS_OPENAI else {"max_tokens": tokens}), **more,
    )


def chat():
    answer = create()
    assert answer.choices[0].message.content and is_count(answer.usage.completion_tokens), answer


def stream():
    chunks = list(create(stream=True, stream_options={"include_usage": True}))
    assert len(chunks) > 5 and "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def tools():
    forced = {"type": "function", "function": {"name": "weather"}}
    message = create(tools=[TOOL], tool_choice=forced, tokens=200).choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments), message
    said = MESSAGES + [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "Rain."}]
    assert create(messages=said, tools=[TOOL]).choices[0].message.content


def errors():
    raises(litellm.NotFoundError, lambda: create("nobody"), "nobody")
    raises(litellm.RateLimitError, lambda: create("busy"))


def cancel():
    got = create("slow", stream=True)
    next(got)
    inner = got.completion_stream
    (inner.close if hasattr(inner, "close") else inner.response_iterator.close)()
    del got, inner
    is_idle()


def break_off():
    raises(Exception, lambda: list(create("breaks", stream=True)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
