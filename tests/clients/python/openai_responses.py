"""The OpenAI SDK for Python, Responses."""

import json

import openai
from cells import ASK, MESSAGES, OPENAI, WEATHER, is_count, leave, raises, run

CLIENT = openai.OpenAI(**OPENAI)
TOOLS = [{"type": "function", "name": "weather", "description": "The weather.", "parameters": WEATHER, "strict": False}]


def create(model="good", **more):
    return CLIENT.responses.create(**{"model": model, "input": ASK, **more})


def chat():
    answer = create(instructions="Be brief.")
    assert answer.output_text and answer.status in ("completed", "incomplete"), answer
    assert answer.usage.input_tokens > 0 and is_count(answer.usage.output_tokens), answer.usage


def stream():
    with CLIENT.responses.stream(model="good", input=ASK) as got:
        kinds = [event.type for event in got]
        final = got.get_final_response()
    assert kinds[0] == "response.created" and kinds.count("response.output_text.delta") > 5, kinds
    assert final.output_text and is_count(final.usage.output_tokens), final


def tools():
    answer = create(tools=TOOLS, tool_choice={"type": "function", "name": "weather"})
    call = next(item for item in answer.output if item.type == "function_call")
    assert call.name == "weather" and "city" in json.loads(call.arguments), answer
    items = [
        *MESSAGES,
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."},
    ]
    assert create(input=items, tools=TOOLS).output_text


def errors():
    error = raises(openai.NotFoundError, lambda: create("nobody"), "nobody")
    assert error.code == "model_not_found", error
    raises(openai.RateLimitError, lambda: create("busy"))
    raises(openai.BadRequestError, lambda: create(previous_response_id="resp_nobody"), "previous_response_id")


def cancel():
    leave(create("slow", stream=True))


def break_off():
    raises((openai.APIError, openai.APIConnectionError), lambda: list(create("breaks", stream=True)))


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
