#!/usr/bin/env python3
"""Fails on a break of what no schema knows but Signalbox promises about its Deployment.

    promises.py RENDERED.yaml [NAME] [--backends]

NAME is that of the gateway's objects, signalbox by default. With --backends every Service that the policy names must be there.
"""

import re
import sys

import yaml

objects = [o for o in yaml.safe_load_all(open(sys.argv[1])) if o]
faults = []


named = [a for a in sys.argv[2:] if not a.startswith("--")]
release = named[0] if named else "signalbox"


def one(kind, name=release):
    found = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    if len(found) != 1:
        sys.exit(f"{len(found)} objects {kind}/{name}")
    return found[0]


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def unrestricted(pod):
    """What Pod Security's level `restricted` would refuse of a pod."""
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser") == 0:
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace with its node"
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        if not allowed.intersection(volume):
            yield f"has the volume {volume}"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield "may gain privileges"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or set(own["capabilities"].get("add", [])) - {"NET_BIND_SERVICE"}:
            yield "has capabilities"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "takes a port of its node"


for workload in (o for o in objects if o["kind"] == "Deployment"):
    faults += [f"{workload['metadata']['name']} {fault}" for fault in unrestricted(workload["spec"]["template"]["spec"])]

pod = one("Deployment")["spec"]["template"]["spec"]
gateway = pod["containers"][0]
config = one("ConfigMap", f"{release}-policy")["data"]
policy, server = (yaml.safe_load(config[name]) for name in ("policy.yaml", "server.yaml"))

drain = server["drain"]
needed = gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds(drain["delay"]) + seconds(drain["timeout"]) + 10
if pod["terminationGracePeriodSeconds"] < needed:
    faults.append(f"terminationGracePeriodSeconds is under preStop + drain + 10 = {needed}")
if any("subPath" in mount for mount in gateway["volumeMounts"]):
    faults.append("a subPath mount is never updated")
if "envFrom" in gateway or any(variable["name"] != "HF_HOME" for variable in gateway.get("env", [])):
    faults.append("keys belong into files, not into the environment")
if not gateway["securityContext"]["readOnlyRootFilesystem"] or pod["securityContext"]["runAsUser"] < 10000:
    faults.append("the gateway runs as a user of its own, on a file system that it cannot write to")
ports = {p["name"]: p["containerPort"] for p in gateway["ports"]}
listening = [int(l["address"].rsplit(":", 1)[1]) for l in [*server["listeners"], server["admin"]]]
if sorted(ports.values()) != sorted(listening):
    faults.append(f"container ports {ports} are not what server.yaml listens on, {listening}")
admitted = one("NetworkPolicy")["spec"]
if admitted["podSelector"]["matchLabels"].items() - one("Deployment")["spec"]["selector"]["matchLabels"].items():
    faults.append("the NetworkPolicy is not about the gateway's pods")
for rule in admitted["ingress"]:
    if not rule.get("from") and any(port["port"] not in ("http", "https") for port in rule.get("ports", [{"port": "admin"}])):
        faults.append("the NetworkPolicy lets everybody to the admin port")
if any(a["address"].startswith("127.") for a in [*server["listeners"], server["admin"]]):
    faults.append("no probe and no client reaches a pod's loopback")
for service in (o for o in objects if o["kind"] == "Service"):
    if service["spec"].get("type") == "LoadBalancer":
        if any(p["targetPort"] == "admin" for p in service["spec"]["ports"]):
            faults.append("the admin port must not be public")
# To read what names endpoints and routes, to write their states, a Lease, and Secrets one by one.
for rule in (r for o in objects if o["kind"] in ("Role", "ClusterRole") for r in o["rules"]):
    is_status = all(resource.endswith("/status") for resource in rule["resources"])
    verbs = {"patch"} if is_status else {"get", "list", "watch"}
    if rule["resources"] == ["leases"]:
        verbs = {"create"} if "resourceNames" not in rule else {"get", "update"}
    if "secrets" in rule["resources"] and "resourceNames" not in rule:
        verbs = set()
    if set(rule["verbs"]) - verbs or "*" in rule["resources"] + rule["apiGroups"] or "*" in rule["verbs"]:
        faults.append(f"a Role allows more than is needed: {rule}")
has_token = any(s.get("serviceAccountToken") for v in pod["volumes"] for s in v.get("projected", {}).get("sources", []))
if has_token != any(o["kind"] in ("RoleBinding", "ClusterRoleBinding") for o in objects):
    faults.append("a token without a right, or a right without a token")
mounts = {m["name"]: m["mountPath"] for m in gateway["volumeMounts"]}
for pool in policy["pools"].values():
    key = pool.get("credential", {}).get("value", {}).get("file")
    if key and not key.startswith(mounts["keys"] + "/"):
        faults.append(f"no volume holds {key}")
for model in policy["models"].values():
    for pool in model["pools"]:
        if pool not in policy["pools"]:
            faults.append(f"unknown pool {pool}")
for decision in policy.get("decisions", []):
    if decision["model"] not in policy["models"]:
        faults.append(f"unknown model {decision['model']}")
services = {f"{o['metadata']['name']}.{o['metadata'].get('namespace', 'default')}" for o in objects if o["kind"] == "Service"}
addressed = {
    ".".join((e if isinstance(e, str) else e["address"]).split(".")[:2])
    for pool in policy["pools"].values() if "tls" not in pool
    for e in pool["endpoints"] if isinstance(e, str) or "address" in e
}
if "--backends" in sys.argv and addressed - services:
    faults.append(f"the policy names Services that don't exist: {sorted(addressed - services)}")
sys.exit("\n".join(faults) if faults else 0)
