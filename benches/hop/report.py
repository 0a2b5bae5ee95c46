"""The tables of `benches/hop`: samples in, Markdown out. It measures nothing; `run.py` does."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import sub, truediv

BASELINE = "pingora"
TITLES = {
    "direct": "direct",
    "pingora": "bare Pingora",
    "signalbox": "Signalbox",
    "auto": "Signalbox, auto",
    "unlogged": "Signalbox, no log",
    "filelog": "Signalbox, log to a file",
    "envoy": "Envoy",
}
# Which setups of Signalbox are compared with which, in cases that have both.
COMPARED = (("auto", "signalbox"), ("signalbox", "unlogged"), ("filelog", "unlogged"))


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


def memory_table(memory: dict, soak: int, suffix: str) -> str:
    rows = []
    for name, seen in memory.items():
        title = TITLES[name.removesuffix(suffix)] + (", the other binary" if name.endswith(suffix) else "")
        loaded = " → ".join(f"{mark:.0f}" for mark in seen["loaded_mib"])
        rows.append([title, f"{seen['start_s'] * 1_000:.0f} ms", f"{seen['idle_mib']:.0f} MiB", f"{loaded} MiB"])
    return table(["", "start to ready", "resident, idle", f"after each quarter of {soak:,} requests"], rows)


def setup_table(samples: list[Sample]) -> str:
    """Compares setups of Signalbox with each other, where a case has several."""
    rows = []
    for case, names in contestants(samples).items():
        for pair in COMPARED:
            if set(pair) <= set(names):
                times = paired(samples, case, pair, lambda s: s.cpu_us_per_request, truediv)
                rows.append([case, f"{TITLES[pair[0]]} against {TITLES[pair[1]]}", f"{times:.2f} ×"])
    return table(["case", "CPU per request", "ratio"], rows) if rows else ""


def against_table(requests: list[Sample], streams: list[Sample], suffix: str) -> str:
    """Compares Signalbox with the other binary, case by case."""
    rows = []
    per_request, per_event = (lambda s: s.cpu_us_per_request), (lambda s: s.cpu_us_per_event)
    for samples, measure, unit in ((requests, per_request, "request"), (streams, per_event, "event")):
        for case, names in contestants(samples).items():
            for name in names:
                if name + suffix in names:
                    times = [paired(samples, case, (name, name + suffix), m, truediv) for m in (measure, p50, p99)]
                    rows.append([f"{case}: {TITLES[name]}, CPU per {unit}", *(f"{ratio:.3f} ×" for ratio in times)])
    return table(["against the other binary", "CPU", "p50", "p99"], rows) if rows else ""


def contestants(samples: list[Sample]) -> dict[str, list[str]]:
    """The contestants of each case."""
    found: dict[str, list[str]] = {}
    for sample in samples:
        names = found.setdefault(sample.case, [])
        if sample.contestant not in names:
            names.append(sample.contestant)
    return {case: sorted(names) for case, names in found.items()}


def report(requests: list[Sample], streams: list[Sample], memory: dict, soak: int, suffix: str) -> str:
    """Gives all tables; `suffix` marks contestants that run the other binary."""
    parts = []
    for group in groups(requests, suffix):
        names = [name for name in TITLES if any(s.contestant == name for s in group)][1:]
        parts += [
            cpu_table(group, names, lambda s: s.cpu_us_per_request, "CPU per request (against bare Pingora)"),
            latency_table(group, names),
            rate_table(group, names),
        ]
    parts.append(setup_table(requests))
    for group in groups(streams, suffix):
        names = [name for name in TITLES if any(s.contestant == name for s in group)][1:]
        parts.append(cpu_table(group, names, lambda s: s.cpu_us_per_event, "CPU per event (against bare Pingora)"))
    parts.append(against_table(requests, streams, suffix))
    if memory:
        parts.append(memory_table(memory, soak, suffix))
    return "\n\n".join(filter(None, parts))


def groups(samples: list[Sample], suffix: str) -> list[list[Sample]]:
    """The samples without those of the other binary, cases with the same contestants together."""
    own = [sample for sample in samples if not sample.contestant.endswith(suffix)]
    found: dict[tuple[str, ...], list[Sample]] = {}
    of_case = contestants(own)
    for sample in own:
        found.setdefault(tuple(of_case[sample.case]), []).append(sample)
    return list(found.values())
