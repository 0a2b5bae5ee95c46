#!/usr/bin/env python3
"""Fails unless two rendered files hold the same objects: what the chart makes and what the kustomization makes.

    same.py ONE.yaml OTHER.yaml

Left out are the Namespace (Helm makes it), the labels of objects, the label and annotation with which Helm knows its own, the
order of named things, comments and the way YAML inside a ConfigMap is written.
"""

import sys

import yaml

# Lists whose items have a name, or a path, and no order.
UNORDERED = {"volumes", "volumeMounts", "env", "ports"}


# Kinds of no namespace; kustomize gives one to those that it does not know.
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "GatewayClass"}


def plain(value, key=""):
    if isinstance(value, dict):
        ours = {k: v for k, v in value.items() if k not in ("app.kubernetes.io/instance", "checksum/server")}
        return {k: plain(v, k) for k, v in ours.items() if v not in (None, {}, [])}
    if isinstance(value, list):
        items = [plain(item) for item in value]
        return sorted(items, key=lambda item: str(item.get("name"))) if key in UNORDERED else items
    return value


def objects(path):
    found = {}
    for o in yaml.safe_load_all(open(path)):
        if not o or o["kind"] == "Namespace":
            continue
        meta = o["metadata"]
        if o["kind"] in CLUSTER_WIDE:
            meta["namespace"] = ""
        name = (o["kind"], meta["namespace"], meta["name"])
        if name in found:
            sys.exit(f"{path} has {name} twice")
        meta.pop("labels", None)
        if o["kind"] == "ConfigMap":
            o["data"] = {file: yaml.safe_load(text) for file, text in o["data"].items()}
        # A pod template without annotations of ours has none.
        annotations = o.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {})
        annotations.pop("checksum/server", None)
        found[name] = plain(o)
    return found


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(set(one) | set(other), key=str):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (a, b) in enumerate(zip(one, other)):
            yield from differences(a, b, f"{path}[{index}]")
    elif one != other:
        yield f"{path}: {one!r} is {other!r} in the other"


one, other = objects(sys.argv[1]), objects(sys.argv[2])
faults = [f"{name} is in one alone" for name in sorted(set(one) ^ set(other))]
for name in sorted(set(one) & set(other)):
    faults += [f"{'/'.join(name)}{fault}" for fault in differences(one[name], other[name])]
sys.exit("\n".join(faults) if faults else 0)
