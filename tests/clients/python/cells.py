"""What every client's script shares: where the gateway is, and how a cell is said."""

import os
import re
import sys
import time
import traceback
import urllib.request

URL = os.environ["SIGNALBOX_URL"]
ADMIN = os.environ["SIGNALBOX_ADMIN"]
ASK = "Where does the Danube end?"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def in_flight():
    text = urllib.request.urlopen(f"{ADMIN}/metrics", timeout=5).read().decode()
    return float(re.search(r"^signalbox_requests_in_flight (\S+)$", text, re.M)[1])


def is_idle():
    """Waits until the gateway has nothing in flight: an upstream goes on for a hundred seconds unless it is told."""
    end = time.monotonic() + 5
    while in_flight() > 0:
        assert time.monotonic() < end, "the gateway works on for a client that has left"
        time.sleep(0.05)


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
