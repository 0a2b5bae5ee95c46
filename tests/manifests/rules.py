#!/usr/bin/env python3
"""Fails unless every alert is of metrics that the gateway has, is tested to fire, and is explained; and unless every panel of the
dashboard is of such metrics. Writes the panels' expressions as rules, for promtool to judge their syntax.

    rules.py RULES.yaml TESTS.yaml TELEMETRY_FOLDER EXPLANATIONS.md DASHBOARD.json PANELS.yaml
"""

import json
import pathlib
import re
import sys

import yaml

rules_file, tests_file, telemetry, explanations, dashboard, panels_file = sys.argv[1:]
rules = [rule for group in yaml.safe_load(open(rules_file))["groups"] for rule in group["rules"]]
source = "".join(path.read_text() for path in pathlib.Path(telemetry).rglob("*.rs"))
fired = {
    case["alertname"]
    for test in yaml.safe_load(open(tests_file))["tests"]
    for case in test["alert_rule_test"] if case.get("exp_alerts")
}
explained = set(re.findall(r"^\| `(Signalbox\w+)` \|", open(explanations).read(), re.MULTILINE))
panels = [
    (f"panel {panel['title']}", target["expr"])
    for panel in json.load(open(dashboard))["panels"] for target in panel["targets"]
]
faults = []
for name, expression in [(rule["alert"], rule["expr"]) for rule in rules] + panels:
    for metric in re.findall(r"signalbox_(\w+)", expression):
        family = re.sub(r"_(bucket|count|sum)$", "", metric) if f'"{metric}"' not in source else metric
        if f'"{family}"' not in source:
            faults.append(f"{name}: no metric signalbox_{metric}")
plain = [expression.replace("$__rate_interval", "5m").replace("$namespace", ".*") for _, expression in panels]
recorded = [{"record": f"panel:{index}", "expr": expression} for index, expression in enumerate(plain)]
pathlib.Path(panels_file).write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
alerts = {rule["alert"] for rule in rules}
faults += [f"{alert} is never tested to fire" for alert in sorted(alerts - fired)]
faults += [f"{alert} is not explained" for alert in sorted(alerts - explained)]
faults += [f"{alert} is explained and no alert" for alert in sorted(explained - alerts)]
sys.exit("\n".join(faults) if faults else 0)
