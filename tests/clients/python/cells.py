"""What every client's script shares: where the gateway is, and how a cell is said."""

import os
import re
import sys
import time
import traceback
import urllib.request

URL = os.environ["SIGNALBOX_URL"]
ADMIN = os.environ["SIGNALBOX_ADMIN"]
# How many tokens an answer has; none where only the engine knows.
TOKENS = int(os.environ.get("SIGNALBOX_TOKENS", 0))
# What every SDK is told.
SDK = {"api_key": "sk-none", "max_retries": 0, "timeout": 30}
OPENAI = {"base_url": f"{URL}/v1", **SDK}
ASK = "Where does the Danube end?"
MESSAGES = [{"role": "user", "content": ASK}]
# Of two cities: an engine whose model is untrained would go on with a name for long.
WEATHER = {"type": "object", "properties": {"city": {"enum": ["Tulcea", "Galati"]}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER}}


def in_flight():
    text = urllib.request.urlopen(f"{ADMIN}/metrics", timeout=5).read().decode()
    return float(re.search(r"^signalbox_requests_in_flight (\S+)$", text, re.M)[1])


def is_idle():
    """Waits until the gateway has nothing in flight: an upstream goes on for a hundred seconds unless it is told."""
    end = time.monotonic() + 5
    while in_flight() > 0:
        assert time.monotonic() < end, "the gateway works on for a client that has left"
        time.sleep(0.05)


def leave(stream):
    """Takes the first piece of a stream, and leaves."""
    next(iter(stream))
    stream.close()
    is_idle()


def is_count(tokens):
    """Whether this is how many tokens an answer has."""
    return tokens == TOKENS if TOKENS else tokens > 0


def raises(kind, call, says=""):
    """Calls it, which must fail with this kind of error."""
    try:
        call()
    except kind as error:
        assert says in str(error), f"the error does not say {says!r}: {error}"
        return error
    raise AssertionError(f"no {kind}")


def run(**cells):
    """Runs each cell and says what came of it; None where the client has no such thing."""
    failed = False
    for name, cell in cells.items():
        name = name.replace("_", "-")
        if cell is None:
            print(f"cell {name} none", flush=True)
            continue
        try:
            cell()
            print(f"cell {name} ok", flush=True)
        except Exception as error:
            failed = True
            traceback.print_exc()
            said = f"{type(error).__name__}: {error}".replace("\n", " ")[:400]
            print(f"cell {name} failed {said}", flush=True)
    sys.stdout.flush()
    # Some clients leave threads behind that nobody ends.
    os._exit(1 if failed else 0)
