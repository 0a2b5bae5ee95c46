"""The OpenAI SDK for Python, Chat Completions."""

import json

import openai
from cells import MESSAGES, OPENAI, TOOL, is_count, leave, raises, run

CLIENT = openai.OpenAI(**OPENAI)


def create(model="good", **more):
    return CLIENT.chat.completions.create(model=model, messages=MESSAGES, **more)


def chat():
    answer = create()
    assert answer.choices[0].message.content and is_count(answer.usage.completion_tokens), answer
    assert answer.model == "good" and answer.choices[0].finish_reason in ("stop", "length"), answer


def stream():
    chunks = list(create(stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks
    assert len(chunks) > 5 and is_count(chunks[-1].usage.completion_tokens), chunks[-1]


def tools():
    forced = {"type": "function", "function": {"name": "weather"}}
    message = create(tools=[TOOL], tool_choice=forced).choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments), message
    said = MESSAGES + [message, {"role": "tool", "tool_call_id": call.id, "content": "Rain."}]
    assert CLIENT.chat.completions.create(model="good", messages=said, tools=[TOOL]).choices[0].message.content
    names = [
        part.function.name
        for chunk in create(tools=[TOOL], tool_choice=forced, stream=True)
        for part in (chunk.choices[0].delta.tool_calls or [] if chunk.choices else [])
        if part.function.name
    ]
    assert names == ["weather"], names


def errors():
    error = raises(openai.NotFoundError, lambda: create("nobody"), "nobody")
    assert error.code == "model_not_found", error
    raises(openai.RateLimitError, lambda: create("busy"))
    raises(openai.BadRequestError, lambda: CLIENT.chat.completions.create(model="", messages=MESSAGES))


def cancel():
    leave(create("slow", stream=True))


def break_off():
    raises((openai.APIError, openai.APIConnectionError), lambda: list(create("breaks", stream=True)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
