"""The Anthropic SDK for Python."""

import anthropic
from cells import MESSAGES, SDK, URL, WEATHER, is_count, is_idle, raises, run

CLIENT = anthropic.Anthropic(base_url=URL, **SDK)
TOOLS = [{"name": "weather", "description": "The weather.", "input_schema": WEATHER}]


def create(model="good", **more):
    return CLIENT.messages.create(**{"model": model, "max_tokens": 24, "messages": MESSAGES, **more})


def chat():
    answer = create(system="Be brief.")
    assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens"), answer
    assert answer.usage.input_tokens > 0 and is_count(answer.usage.output_tokens), answer.usage
    assert CLIENT.messages.count_tokens(model="good", messages=MESSAGES).input_tokens > 0
    assert any(model.id == "good" for model in CLIENT.models.list())


def stream():
    with CLIENT.messages.stream(model="good", max_tokens=24, messages=MESSAGES) as got:
        text = "".join(got.text_stream)
        final = got.get_final_message()
    assert text and final.content[0].text == text and is_count(final.usage.output_tokens), final
    assert final.usage.input_tokens > 0, final.usage


def tools():
    answer = create(tools=TOOLS, tool_choice={"type": "tool", "name": "weather"}, max_tokens=200)
    use = next(block for block in answer.content if block.type == "tool_use")
    assert use.name == "weather" and "city" in use.input and answer.stop_reason == "tool_use", answer
    said = MESSAGES + [
        {"role": "assistant", "content": [{"type": "tool_use", "id": use.id, "name": use.name, "input": use.input}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "Rain."}]},
    ]
    assert create(messages=said, tools=TOOLS).content[0].text


def errors():
    error = raises(anthropic.NotFoundError, lambda: create("nobody"), "nobody")
    assert error.body["error"]["type"] == "not_found_error" and error.request_id, error.body
    error = raises(anthropic.RateLimitError, lambda: create("busy"))
    raises(anthropic.BadRequestError, lambda: create(""))


def cancel():
    with CLIENT.messages.stream(model="slow", max_tokens=2000, messages=MESSAGES) as got:
        next(iter(got.text_stream))
    is_idle()


def break_off():
    def whole():
        with CLIENT.messages.stream(model="breaks", max_tokens=200, messages=MESSAGES) as got:
            return got.get_final_message()

    error = raises(anthropic.APIError, whole)
    assert "before its answer was complete" in str(error), error


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
