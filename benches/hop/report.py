"""The tables of `benches/hop`: samples in, Markdown out. It measures nothing; `run.py` does."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import sub, truediv

BASELINE = "pingora"
ORDER = ("direct", "pingora", "signalbox", "envoy")
TITLES = {"direct": "direct", "pingora": "bare Pingora", "signalbox": "Signalbox", "envoy": "Envoy"}


@dataclass
class Sample:
    """What one run of one case on one contestant gave."""

    case: str
    contestant: str
    round: int
    cpu_us_per_request: float
    cpu_us_per_event: float
    load: dict = field(default_factory=dict)


Measure = Callable[[Sample], float]


def paired(samples: list[Sample], case: str, names: tuple[str, str], measure: Measure, combine: Callable) -> float:
    """Combines the figures of two contestants, round by round, with `combine(own, other)`; the median of that."""

    def by_round(contestant: str) -> dict[int, float]:
        chosen = (s for s in samples if (s.case, s.contestant) == (case, contestant))
        return {s.round: measure(s) for s in chosen}

    own, other = map(by_round, names)
    return statistics.median(combine(value, other[turn]) for turn, value in own.items())


def alone(samples: list[Sample], case: str, name: str, measure: Measure) -> float:
    """Gives the median of one contestant's figure."""
    return paired(samples, case, (name, name), measure, lambda own, _: own)


def p50(sample: Sample) -> float:
    return sample.load["p50_us"]


def p99(sample: Sample) -> float:
    return sample.load["p99_us"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cpu_table(samples: list[Sample], names: list[str], measure: Measure, what: str) -> str:
    rows = []
    for case in dict.fromkeys(s.case for s in samples):
        row = [case]
        for name in names:
            times = paired(samples, case, (name, BASELINE), measure, truediv)
            row.append(f"{alone(samples, case, name, measure):.1f} µs ({times:.2f} ×)")
        rows.append(row)
    return table([what] + [TITLES[name] for name in names], rows)


def latency_table(samples: list[Sample], names: list[str]) -> str:
    rows = []
    for case in dict.fromkeys(s.case for s in samples):
        row = [case]
        for name in names:
            added = [paired(samples, case, (name, "direct"), m, sub) for m in (p50, p99)]
            row.append(" / ".join(f"{value:.0f} µs" for value in added))
        above = paired(samples, case, ("signalbox", BASELINE), p50, sub)
        rows.append([*row, f"{above:+.0f} µs"])
    head = ["added latency, p50 / p99", *(TITLES[name] for name in names), "Signalbox above bare Pingora, p50"]
    return table(head, rows)


def rate_table(samples: list[Sample], names: list[str]) -> str:
    rows = []
    for case in dict.fromkeys(s.case for s in samples):
        row = [case]
        for name in names:
            a_core = 1e6 / alone(samples, case, name, lambda s: s.cpu_us_per_request)
            seen = alone(samples, case, name, lambda s: s.load["rps"])
            row.append(f"{a_core:,.0f} ({seen:,.0f})")
        rows.append(row)
    return table(["requests/s a core (reached here)"] + [TITLES[name] for name in names], rows)


def memory_table(memory: dict, soak: int) -> str:
    rows = []
    for name, seen in memory.items():
        loaded = " → ".join(f"{mark:.0f}" for mark in seen["loaded_mib"])
        rows.append([TITLES[name], f"{seen['start_s'] * 1_000:.0f} ms", f"{seen['idle_mib']:.0f} MiB", f"{loaded} MiB"])
    return table(["", "start to ready", "resident, idle", f"after each quarter of {soak:,} requests"], rows)


def report(requests: list[Sample], streams: list[Sample], memory: dict, soak: int) -> str:
    names = [name for name in ORDER[1:] if any(s.contestant == name for s in requests + streams)]
    parts = []
    if requests:
        parts += [
            cpu_table(requests, names, lambda s: s.cpu_us_per_request, "CPU per request (against bare Pingora)"),
            latency_table(requests, names),
            rate_table(requests, names),
        ]
    if streams:
        parts.append(cpu_table(streams, names, lambda s: s.cpu_us_per_event, "CPU per event (against bare Pingora)"))
    if memory:
        parts.append(memory_table(memory, soak))
    return "\n\n".join(parts)
