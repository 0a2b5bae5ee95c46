#!/usr/bin/env python3
"""Fails unless every alert is of metrics that the gateway has, is tested to fire, and is explained.

    rules.py RULES.yaml TESTS.yaml TELEMETRY_FOLDER EXPLANATIONS.md
"""

import pathlib
import re
import sys

import yaml

rules_file, tests_file, telemetry, explanations = sys.argv[1:]
rules = [rule for group in yaml.safe_load(open(rules_file))["groups"] for rule in group["rules"]]
source = "".join(path.read_text() for path in pathlib.Path(telemetry).rglob("*.rs"))
fired = {
    case["alertname"]
    for test in yaml.safe_load(open(tests_file))["tests"]
    for case in test["alert_rule_test"] if case.get("exp_alerts")
}
explained = set(re.findall(r"^\| `(Signalbox\w+)` \|", open(explanations).read(), re.MULTILINE))
faults = []
for rule in rules:
    for metric in re.findall(r"signalbox_(\w+)", rule["expr"]):
        family = re.sub(r"_(bucket|count|sum)$", "", metric) if f'"{metric}"' not in source else metric
        if f'"{family}"' not in source:
            faults.append(f"{rule['alert']}: no metric signalbox_{metric}")
alerts = {rule["alert"] for rule in rules}
faults += [f"{alert} is never tested to fire" for alert in sorted(alerts - fired)]
faults += [f"{alert} is not explained" for alert in sorted(alerts - explained)]
faults += [f"{alert} is explained and no alert" for alert in sorted(explained - alerts)]
sys.exit("\n".join(faults) if faults else 0)
