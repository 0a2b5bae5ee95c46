"""curl, as a shell calls it."""

import json
import subprocess

from cells import MESSAGES, TOOL, URL, is_idle, run

CHAT = f"{URL}/v1/chat/completions"


def curl(body, *options, code=0):
    command = ["curl", "-sS", "-N", *options, CHAT, "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, f"curl ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"
    return done.stdout


def body(model="good", **more):
    return {"model": model, "messages": MESSAGES, **more}


def chat():
    for version in ["--http1.1", "--http2-prior-knowledge"]:
        assert json.loads(curl(body(), version))["choices"][0]["message"]["content"]


def stream():
    text = curl(body(stream=True))
    assert text.count("data: ") > 5 and text.endswith("data: [DONE]\n\n"), text


def tools():
    answer = json.loads(curl(body(tools=[TOOL], tool_choice="required")))
    assert "city" in json.loads(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]), answer


def errors():
    answer = json.loads(curl(body("nobody")))
    assert answer["error"]["code"] == "model_not_found", answer
    curl(body("nobody"), "-f", code=22)
    assert curl(body("busy"), "-w", "%{http_code}").endswith("429")


def cancel():
    curl(body("slow", stream=True, min_tokens=500), "--max-time", "1", code=28)
    is_idle()


def break_off():
    assert '"error"' in curl(body("breaks", stream=True), "--http1.1", code=18)
    assert '"error"' in curl(body("breaks", stream=True), "--http2-prior-knowledge", code=92)


run(chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel, break_off=break_off)
