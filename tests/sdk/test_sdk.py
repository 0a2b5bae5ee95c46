"""The official OpenAI SDK against a running gateway: every call of the guides, and its typed errors for our rejections.

Run by tests/plane/sdk.rs, which sets SIGNALBOX_URL and serves the models named here; ENDLESS_URL is the upstream of
`endless`.
"""

import asyncio
import os
import time
import urllib.request

import openai

BASE = os.environ["SIGNALBOX_URL"] + "/v1"
CLIENT = openai.OpenAI(base_url=BASE, api_key="sk-mine", max_retries=0, timeout=30)
MATH = [{"role": "user", "content": "What is 2+2 * (5-1)?"}]


def chat():
    raw = CLIENT.chat.completions.with_raw_response.create(model="auto", messages=MATH, max_tokens=8)
    answer = raw.parse()
    assert raw.headers["x-vsr-selected-category"] == "math", raw.headers
    assert raw.headers["x-vsr-selected-model"] == "phi4-mini", raw.headers
    assert answer._request_id == raw.headers["x-request-id"], answer._request_id
    assert answer.object == "chat.completion" and answer.model == "phi4-mini", answer
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 8, answer


def stream_with_usage():
    chunks = list(
        CLIENT.chat.completions.create(
            model="auto", messages=MATH, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks), chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True], chunks
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 8, chunks[-1]


def stream_helper():
    with CLIENT.chat.completions.stream(model="llama3-8b", messages=MATH) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.content, final


def models():
    listed = {model.id: model for model in CLIENT.models.list()}
    assert {"auto", "llama3-8b", "phi4-mini", "org/family/model"} <= set(listed), listed
    assert all(model.object == "model" and model.created > 0 and model.owned_by for model in listed.values()), listed
    for name in ["llama3-8b", "org/family/model", "auto"]:
        assert CLIENT.models.retrieve(name).id == name
    assert expect(openai.NotFoundError, lambda: CLIENT.models.retrieve("org/nobody")).code == "model_not_found"


def completions():
    answer = CLIENT.completions.create(model="org/family/model", prompt="San Francisco is a", max_tokens=8)
    assert answer.object == "text_completion" and answer.choices[0].text, answer
    pieces = CLIENT.completions.create(model="llama3-8b", prompt="San Francisco is a", max_tokens=8, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices)


def expect(kind, call):
    """The error of exactly this kind that a call ends with; checked for all that our errors have."""
    try:
        answer = call()
    except openai.APIStatusError as error:
        assert type(error) is kind, (type(error), error)
        assert error.request_id and error.request_id == error.response.headers["x-request-id"], error
        assert error.response.headers["x-vsr-response-path"] == "error", error.response.headers
        assert error.body["message"] and error.body["type"] == error.type, error.body
        assert "127.0.0.1" not in str(error), error
        return error
    raise AssertionError(f"no error, but {answer}")


def ask(model, **more):
    return CLIENT.chat.completions.create(model=model, messages=MATH, **more)


def errors():
    error = expect(openai.BadRequestError, lambda: ask(""))
    assert (error.status_code, error.code, error.param) == (400, "model_required", "model"), error
    assert error.type == "invalid_request_error", error
    error = expect(openai.BadRequestError, lambda: ask(7))
    assert (error.code, error.param) == ("invalid_type", "model"), error
    error = expect(openai.NotFoundError, lambda: ask("nobody/at-all"))
    assert (error.code, error.param) == ("model_not_found", "model"), error
    error = expect(openai.NotFoundError, lambda: CLIENT.post("/nope", cast_to=object))
    assert error.code == "unknown_url", error
    error = expect(openai.APIStatusError, lambda: CLIENT.get("/chat/completions", cast_to=object))
    assert (error.status_code, error.code) == (405, "method_not_allowed"), error
    error = expect(openai.APIStatusError, lambda: ask("llama3-8b", user="u" * 70_000))
    assert (error.status_code, error.code) == (413, "request_too_large"), error
    for model, status, code in [
        ("down", 503, "no_healthy_endpoint"),
        ("refused", 502, "upstream_unreachable"),
        ("slow", 504, "upstream_timeout"),
    ]:
        error = expect(openai.InternalServerError, lambda: ask(model))
        assert (error.status_code, error.code, error.type) == (status, code, "server_error"), error
        streamed = expect(openai.InternalServerError, lambda: ask(model, stream=True))
        assert streamed.status_code == status, streamed
        assert ("retry-after" in error.response.headers) == (status in (502, 503)), error.response.headers


def upstreams_error():
    """An upstream's own error comes as that upstream wrote it."""
    try:
        ask("llama3-8b", max_tokens=-1)
    except openai.BadRequestError as error:
        assert error.response.headers["x-vsr-response-path"] == "upstream", error.response.headers
    else:
        raise AssertionError("the upstream took it")


def broken_stream():
    """A stream that its upstream breaks off ends as an error, not as if it were whole."""
    try:
        chunks = list(ask("breaks", stream=True, max_tokens=32))
    except openai.APIError as error:
        assert error.body["code"] == "upstream_reset", error.body
    else:
        raise AssertionError(f"the stream ended as if it were whole, after {len(chunks)} chunks")


def until_running(count):
    """Waits until so many requests run on the upstream of `endless`."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with urllib.request.urlopen(os.environ["ENDLESS_URL"] + "/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        running = [float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running")]
        if sum(running) == count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count} requests never ran on `endless`")


async def leave():
    """Leaves a stream under way; the caller looks whether its upstream heard of it."""
    async with openai.AsyncOpenAI(base_url=BASE, api_key="sk-mine", max_retries=0) as client:
        stream = await client.chat.completions.create(model="endless", messages=MATH, max_tokens=4000, stream=True)
        seen = 0
        async for _chunk in stream:
            seen += 1
            if seen == 3:
                break
        await stream.close()
        # One that is awaited, not streamed, is cancelled as a task.
        await asyncio.to_thread(until_running, 0)
        waiting = asyncio.create_task(client.chat.completions.create(model="endless", messages=MATH, max_tokens=4000))
        await asyncio.to_thread(until_running, 1)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)


async def many_at_once():
    async with openai.AsyncOpenAI(base_url=BASE, api_key="sk-mine", max_retries=0) as client:
        calls = [client.chat.completions.create(model=model, messages=MATH, max_tokens=4) for model in ["auto"] * 16]
        answers = await asyncio.gather(*calls)
    assert {answer.model for answer in answers} == {"phi4-mini"}, answers


if __name__ == "__main__":
    checks = [chat, stream_with_usage, stream_helper, models, completions, errors, upstreams_error, broken_stream]
    for check in checks:
        check()
        print("ok", check.__name__, flush=True)
    for task in [many_at_once, leave]:
        asyncio.run(task())
        print("ok", task.__name__, flush=True)
