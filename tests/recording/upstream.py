"""An upstream of every dialect whose responses are scripted, and which keeps the requests that it gets.

The model that a request names selects the script: `plain`, `pii`, `words`, `tool`, `cut`, `empty`, or `status-NNN`.
Streams are sent in small pieces, so that texts that a guard looks for are split between events.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXTS = {
    "plain": "The answer is forty-two, as everyone on the ship knew.",
    "pii": "Write to ann@example.org, or pay with 4111 1111 1111 1111 before Friday.",
    "words": "This is project bluebird, which stays secret until spring.",
    "cut": "The answer breaks off before its",
    "empty": "",
}
ARGUMENTS = '{"to": "ann@example.org", "subject": "project bluebird"}'
PIECE = 7
# Between two events, so that a gateway handles each by itself and not as many as happen to have arrived.
PAUSE_S = 0.01


class Upstream:
    """A running upstream; `requests` maps a request's id to what arrived under it."""

    def __init__(self):
        self.requests: dict[str, list[dict]] = {}
        self.lock = threading.Lock()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments):
                pass

            def do_GET(self):
                self.send_document(200, {"status": "ok"})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream.keep(self, body)
                try:
                    request = json.loads(body)
                except ValueError:
                    request = {}
                script = str(request.get("model", "plain"))
                if script.startswith("status-"):
                    self.send_error_document(int(script.removeprefix("status-")))
                elif request.get("stream"):
                    self.send_stream(stream(self.path, script, request), is_cut=script == "cut")
                else:
                    self.send_document(200, document(self.path, script), is_cut=script == "cut")

            def send_document(self, status, value, is_cut=False):
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.send_header("x-vsr-selected-model", "forged")
                self.send_header("x-upstream", "scripted")
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if is_cut else data)
                self.close_connection = is_cut

            def send_error_document(self, status):
                error = {"message": f"scripted {status}", "type": "scripted", "param": None, "code": status}
                self.send_document(status, {"error": error})

            def send_stream(self, events, is_cut):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                events = list(events)
                for event in events[: len(events) // 2] if is_cut else events:
                    data = event.encode()
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
                    time.sleep(PAUSE_S)
                if not is_cut:
                    self.wfile.write(b"0\r\n\r\n")
                self.close_connection = is_cut

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def keep(self, handler, body):
        kept = {
            "line": handler.requestline,
            "headers": [list(pair) for pair in handler.headers.items()],
            "body": body.decode("utf-8", "backslashreplace"),
        }
        with self.lock:
            self.requests.setdefault(handler.headers.get("x-request-id", ""), []).append(kept)

    def of(self, request_id):
        with self.lock:
            return list(self.requests.get(request_id, []))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def pieces(text):
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def openai_usage():
    return {
        "prompt_tokens": 21, "completion_tokens": 12, "total_tokens": 33,
        "prompt_tokens_details": {"cached_tokens": 4},
    }  # fmt: skip


def responses_usage():
    return {
        "input_tokens": 21, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 33,
    }  # fmt: skip


def document(path, script):
    """The whole response of a script in the dialect of a path."""
    text = TEXTS.get(script, TEXTS["plain"])
    path = path.split("?")[0]
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": text, "refusal": None}
        if script == "tool":
            call = {"id": "call_1", "type": "function", "function": {"name": "send_mail", "arguments": ARGUMENTS}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        finish = "tool_calls" if script == "tool" else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": script, "odd": [1.0, 2e3],
            "choices": [choice], "usage": openai_usage(),
        }  # fmt: skip
    if path.endswith("/completions"):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
        return {
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": script, "choices": [choice],
            "usage": openai_usage(),
        }  # fmt: skip
    if path.endswith("/responses"):
        return response_object(script, text, "completed")
    if path.endswith("/messages"):
        content = [{"type": "text", "text": text}]
        stop = "end_turn"
        if script == "tool":
            content = [{"type": "tool_use", "id": "toolu_1", "name": "send_mail", "input": json.loads(ARGUMENTS)}]
            stop = "tool_use"
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": script, "content": content,
            "stop_reason": stop, "stop_sequence": None,
            "usage": {"input_tokens": 17, "cache_read_input_tokens": 4, "output_tokens": 12},
        }  # fmt: skip
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1.0]}]
        return {"object": "list", "data": data, "model": script, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    if path.endswith("/rerank"):
        results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
        return {"id": "rerank-1", "model": script, "usage": {"total_tokens": 9}, "results": results}
    return {"object": "list", "model": script, "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def response_object(script, text, status):
    item = {
        "type": "message", "id": "msg_1", "status": status, "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }  # fmt: skip
    if script == "tool":
        item = {
            "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "send_mail", "arguments": ARGUMENTS,
            "status": status,
        }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": script, "output": [item],
        "usage": responses_usage(),
    }  # fmt: skip


def stream(path, script, request):
    """The events of a script in the dialect of a path."""
    path = path.split("?")[0]
    text = TEXTS.get(script, TEXTS["plain"])
    if path.endswith("/responses"):
        yield from responses_stream(script, text)
    elif path.endswith("/messages"):
        yield from messages_stream(script, text)
    elif path.endswith("/chat/completions"):
        yield from chat_stream(script, text, request)
    else:
        yield from completions_stream(script, text, request)


def chat_stream(script, text, request):
    def event(choices, **more):
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": script, "choices": choices}
        return f"data: {json.dumps(chunk | more)}\n\n"

    def delta(finish=None, **value):
        return event([{"index": 0, "delta": value, "logprobs": None, "finish_reason": finish}])

    yield delta(role="assistant", content="")
    if script == "tool":
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "send_mail", "arguments": ""}}
        yield delta(tool_calls=[call])
        for piece in pieces(ARGUMENTS):
            yield delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
    else:
        for piece in pieces(text):
            yield delta(content=piece)
    yield delta(finish="tool_calls" if script == "tool" else "stop")
    if (request.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=openai_usage())
    yield "data: [DONE]\n\n"


def completions_stream(script, text, request):
    def event(choices, **more):
        chunk = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": script, "choices": choices}
        return f"data: {json.dumps(chunk | more)}\n\n"

    for piece in pieces(text):
        yield event([{"index": 0, "text": piece, "logprobs": None, "finish_reason": None}])
    yield event([{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}])
    if (request.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=openai_usage())
    yield "data: [DONE]\n\n"


def named(kind, **value):
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | value)}\n\n"


def responses_stream(script, text):
    number = iter(range(1000))

    def event(kind, **value):
        return named(f"response.{kind}", sequence_number=next(number), **value)

    at = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    yield event("created", response=response_object(script, "", "in_progress") | {"output": [], "usage": None})
    if script == "tool":
        item = response_object(script, "", "in_progress")["output"][0] | {"arguments": ""}
        yield event("output_item.added", output_index=0, item=item)
        for piece in pieces(ARGUMENTS):
            yield event("function_call_arguments.delta", output_index=0, item_id="fc_1", delta=piece)
        yield event("function_call_arguments.done", output_index=0, item_id="fc_1", arguments=ARGUMENTS)
    else:
        item = response_object(script, "", "in_progress")["output"][0] | {"content": []}
        yield event("output_item.added", output_index=0, item=item)
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("content_part.added", **at, part=part)
        for piece in pieces(text):
            yield event("output_text.delta", **at, delta=piece)
        yield event("output_text.done", **at, text=text)
        yield event("content_part.done", **at, part=part | {"text": text})
    whole = response_object(script, text, "completed")
    yield event("output_item.done", output_index=0, item=whole["output"][0])
    yield event("completed", response=whole)


def messages_stream(script, text):
    start = document("/messages", script) | {"content": [], "stop_reason": None}
    yield named("message_start", message=start | {"usage": {"input_tokens": 17, "output_tokens": 1}})
    if script == "tool":
        block = {"type": "tool_use", "id": "toolu_1", "name": "send_mail", "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(ARGUMENTS)]
    else:
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(text)]
    yield named("content_block_start", index=0, content_block=block)
    yield named("ping")
    for delta in deltas:
        yield named("content_block_delta", index=0, delta=delta)
    yield named("content_block_stop", index=0)
    stop = "tool_use" if script == "tool" else "end_turn"
    yield named("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 12})
    yield named("message_stop")
