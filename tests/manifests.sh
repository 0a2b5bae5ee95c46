#!/usr/bin/env bash
# Validates what Rust's own tools don't see: Kubernetes manifests (as written, as kustomize renders them and as Helm renders
# the chart), that both are the same objects, the guides' pages, alerts, the Dockerfile, YAML style and shell scripts. Any
# fault ends it with a non-zero status.
#
#   tests/manifests.sh [FOLDER]
#
# FOLDER holds the linters (tests/manifests/tools.sh) and is kept for the next run; without it a temporary one is used. With
# SIGNALBOX=path/to/signalbox every policy is also judged by Signalbox itself, the guides' requests are made, and the image's
# file system is run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The oldest and the newest Kubernetes that the manifests are held to.
readonly KUBERNETES_VERSIONS=(1.32 1.37)
readonly GUIDES=(two-local-models local-and-openai inference-pool llm-d inference-extension production-stack)
readonly KUSTOMIZATIONS=(
    k8s k8s/discovery k8s/examples/sim k8s/examples/vllm k8s/gateway k8s/metallb tests/manifests/everything
    "${GUIDES[@]/#/deploy/guides/}"
)
# The only kinds that may go without a schema, which kubernetes-validate has for Kubernetes' own kinds alone.
WITHOUT_SCHEMA='kind (IPAddressPool|L2Advertisement) with api version metallb\.io/v1beta1'
WITHOUT_SCHEMA+='|kind GatewayClass with api version gateway\.networking\.k8s\.io/v1'
WITHOUT_SCHEMA+='|kind (PodMonitor|ServiceMonitor|PrometheusRule) with api version monitoring\.coreos\.com/v1'
readonly WITHOUT_SCHEMA
# Deliberate: no CPU limit (it would show as latency); tags that are never moved, so that a pull policy of IfNotPresent and no
# digest do; the guides' models are in the namespace default. Of model servers alone, the gateway's own being held to them by
# promises.py: vLLM writes to its file system, runs as user 2000 and takes its token from the environment.
readonly NOT_CHECKED=CKV_K8S_11,CKV_K8S_15,CKV_K8S_43,CKV_K8S_21,CKV_K8S_22,CKV_K8S_40,CKV_K8S_35
readonly RULES=deploy/chart/files/rules.yaml

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
venv=${1:-$scratch/venv}

say() { printf '== %s\n' "$*"; }

python() { "$venv/bin/python" "$@"; }

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

# Renders a kustomization, or a release of the chart with what Helm is to be told of it, into $scratch/rendered/NAME.yaml.
kustomize() { "$venv/bin/kubectl" kustomize "$1" >"$(rendered "$1")"; }
chart() {
    local name=$1 release=$2
    shift 2
    "$venv/bin/helm" template "$release" deploy/chart --namespace signalbox "$@" >"$(rendered "$name")"
}
rendered() { printf '%s/rendered/%s.yaml' "$scratch" "${1//\//-}"; }

# Fails unless the command fails: a check that cannot fail is no check.
refuses() {
    local what=$1
    shift
    if "$@" >"$scratch/refused" 2>&1; then
        printf 'a broken file passed: %s\n' "$what" >&2
        return 1
    fi
}

promises() { python tests/manifests/promises.py "$@"; }

render_all() {
    local folder
    local given=(--set-json 'models=[]' --set-file policy=k8s/base/config/policy.yaml)
    mkdir "$scratch/rendered"
    for folder in "${KUSTOMIZATIONS[@]}"; do
        kustomize "$folder"
    done
    chart chart-defaults signalbox
    chart chart-base signalbox "${given[@]}"
    chart chart-discovery signalbox "${given[@]}" --set discovery.enabled=true
    chart chart-gateway signalbox "${given[@]}" --set gatewayApi.enabled=true
    chart chart-sim signalbox --values deploy/chart/sim.yaml --set service.type=LoadBalancer
    chart chart-everything signalbox "${given[@]}" --values tests/manifests/everything/values.yaml
    chart chart-more signalbox --values tests/manifests/more.yaml
    chart chart-router vllm-router --values deploy/guides/vllm-router-chart/values.yaml
}

check_manifests() {
    local version guide
    for version in "${KUBERNETES_VERSIONS[@]}"; do
        say "manifests, Kubernetes $version"
        validate "$version" "$scratch"/rendered/*.yaml k8s/secret.example.yaml
    done
    say 'promises'
    for guide in k8s k8s/discovery k8s/gateway tests/manifests/everything "${GUIDES[@]/#/deploy/guides/}"; do
        promises "$(rendered "$guide")"
    done
    promises "$(rendered k8s/examples/sim)" --backends
    promises "$(rendered k8s/examples/vllm)" --backends
    promises "$(rendered chart-more)"
    promises "$(rendered chart-router)" vllm-router --backends
    say 'one truth: the chart and the kustomizations'
    "$venv/bin/helm" lint --strict --quiet deploy/chart
    same chart-defaults k8s/examples/vllm
    same chart-base k8s
    same chart-discovery k8s/discovery
    same chart-gateway k8s/gateway
    same chart-sim k8s/examples/sim
    same chart-everything tests/manifests/everything
    say 'checkov'
    checkov "$scratch"/rendered/*.yaml
}

same() { python tests/manifests/same.py "$(rendered "$1")" "$(rendered "$2")"; }

checkov() {
    local files=() file
    for file in "$@"; do
        files+=(--file "$file")
    done
    LOG_LEVEL=ERROR "$venv/checkov/bin/checkov" "${files[@]}" --skip-download --framework kubernetes --compact --quiet --skip-check "$NOT_CHECKED"
}

check_alerts() {
    say 'alerts'
    cp "$RULES" tests/manifests/rules.test.yaml "$scratch"
    judge_rules "$RULES"
    promtool check rules "$scratch/rules.yaml" "$scratch/panels.yaml" >/dev/null
    promtool test rules "$scratch/rules.test.yaml" >/dev/null
}

judge_rules() {
    python tests/manifests/rules.py "$1" tests/manifests/rules.test.yaml src/telemetry deploy/alerts.md \
        deploy/chart/files/dashboard.json "$scratch/panels.yaml"
}

# Outside Debian and Ubuntu it may be lacking, which tools.sh says.
promtool() {
    if [[ -x $venv/bin/promtool ]]; then
        "$venv/bin/promtool" "$@"
    fi
}

# What Signalbox itself says of a rendered policy and server file; only the files of Secrets may be lacking here.
judge() {
    local folder=$scratch/judged
    rm -rf "$folder"
    python tests/manifests/config.py "$1" "$folder"
    "$SIGNALBOX" check "$folder/policy.yaml" --server "$folder/server.yaml" >"$folder/said" 2>&1 && return
    if ! grep -q ' issue(s):$' "$folder/said" \
        || grep -Ev ' issue\(s\):$|^ +[0-9]* +\|' "$folder/said" | grep -Ev ': ok|: cannot read `/var/run/' | grep -q .; then
        cat "$folder/said"
        return 1
    fi
}

check_behaviour() {
    local file guide
    say 'policies'
    for file in "$scratch"/rendered/*.yaml; do
        if grep -q '^kind: ConfigMap' "$file"; then
            judge "$file"
        fi
    done
    for guide in "${GUIDES[@]}"; do
        say "guide $guide"
        python tests/manifests/guides.py "$SIGNALBOX" "deploy/guides/$guide/README.md" "$(rendered "deploy/guides/$guide")"
    done
    say 'guide vllm-router-chart'
    python tests/manifests/guides.py "$SIGNALBOX" deploy/guides/vllm-router-chart/README.md "$(rendered chart-router)"
    say 'README.md and deploy/README.md'
    python tests/manifests/guides.py "$SIGNALBOX" README.md "$(rendered chart-sim)"
    python tests/manifests/guides.py "$SIGNALBOX" deploy/README.md "$(rendered k8s/examples/sim)"
    say 'image'
    python tests/manifests/image.py "$scratch/image" --binary "$SIGNALBOX" 2>/dev/null
}

# Breaks good files in ways that are easily made and sees each refused.
check_the_checks() {
    local plain
    say 'self-check'
    plain=$(rendered k8s)
    sed 's/maxUnavailable: 0/maxUnavailabel: 0/' k8s/base/deployment.yaml >"$scratch/typo.yaml"
    refuses 'a misspelt key' validate 1.37 "$scratch/typo.yaml"
    sed 's/containerPort: 8080/containerPort: eighty/' k8s/base/deployment.yaml >"$scratch/type.yaml"
    refuses 'a wrong type' validate 1.37 "$scratch/type.yaml"
    sed 's/IPAddressPool/IPAdressPool/' k8s/metallb/pool.yaml >"$scratch/kind.yaml"
    refuses 'an unknown kind' validate 1.37 "$scratch/kind.yaml"
    sed 's/terminationGracePeriodSeconds: 330/terminationGracePeriodSeconds: 30/' "$plain" >"$scratch/grace.yaml"
    refuses 'a grace period shorter than the drain' promises "$scratch/grace.yaml"
    refuses 'a policy that names absent Services' promises "$plain" --backends
    sed 's/verbs: \[list, watch\]/verbs: ["*"]/; s/- watch$/- delete/' "$(rendered k8s/discovery)" >"$scratch/rights.yaml"
    refuses 'a Role that allows too much' promises "$scratch/rights.yaml"
    sed 's/runAsNonRoot: true/runAsNonRoot: false/' "$plain" >"$scratch/root.yaml"
    refuses 'a pod that is not restricted' promises "$scratch/root.yaml"
    sed 's/minReadySeconds: 5/minReadySeconds: 6/' "$plain" >"$scratch/drifted.yaml"
    refuses 'a kustomization unlike the chart' python tests/manifests/same.py "$(rendered chart-base)" "$scratch/drifted.yaml"
    sed 's/allowPrivilegeEscalation: false/allowPrivilegeEscalation: true/' "$plain" >"$scratch/privileged.yaml"
    refuses 'a container that may gain privileges' checkov "$scratch/privileged.yaml"
    refuses 'a misspelt value' chart refused signalbox --set replica=3
    refuses 'two models of one name' chart refused signalbox --set-json 'models=[{"name":"a/b"},{"name":"a.b"}]'
    refuses 'HTTPS without a certificate' chart refused signalbox --set tls.enabled=true
    refuses 'no models and no policy' chart refused signalbox --set-json 'models=[]'
    sed 's/signalbox_endpoint_up/signalbox_endpoint_upp/' "$RULES" >"$scratch/metric.yaml"
    refuses 'an alert of no metric' judge_rules "$scratch/metric.yaml"
    sed 's/> 0\.05/> 0.5/' "$RULES" >"$scratch/rules.yaml"
    if [[ -x $venv/bin/promtool ]]; then
        refuses 'an alert that does not fire' promtool test rules "$scratch/rules.test.yaml"
    fi
    { cat Dockerfile; echo 'RUN cd /tmp && sudo ls'; } >"$scratch/Dockerfile"
    refuses 'a Dockerfile with sudo' "$venv/bin/hadolint" --config .hadolint.yaml "$scratch/Dockerfile"
    printf 'a: 1\na: 2\n' >"$scratch/twice.yaml"
    refuses 'a key twice' "$venv/bin/yamllint" --strict --config-file .yamllint "$scratch/twice.yaml"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nrm -rf $1/*\n' >"$scratch/unquoted.sh"
    refuses 'an unquoted variable' "$venv/bin/shellcheck" "$scratch/unquoted.sh"
    if [[ -n ${SIGNALBOX:-} ]]; then
        sed 's/pools: \[phi\]/pools: [phy]/' "$(rendered deploy/guides/inference-extension)" >"$scratch/pool.yaml"
        refuses 'a policy that names no pool' judge "$scratch/pool.yaml"
        sed 's/selected-model: phi4-mini/selected-model: llama3-8b/' deploy/guides/two-local-models/README.md \
            >"$scratch/page.md"
        refuses 'a page that shows another answer' python tests/manifests/guides.py "$SIGNALBOX" "$scratch/page.md" \
            "$(rendered deploy/guides/two-local-models)"
        sed 's/^  - pods$/  - nodes/' "$(rendered deploy/guides/inference-extension)" >"$scratch/nodes.yaml"
        refuses 'a Role that allows too little' env GUIDE_SECONDS=2 "$venv/bin/python" tests/manifests/guides.py \
            "$SIGNALBOX" deploy/guides/inference-extension/README.md "$scratch/nodes.yaml"
    fi
}

# Every file that git knows or would take, with the given endings.
sources() { git ls-files --cached --others --exclude-standard --deduplicate -- "$@" | while read -r file; do
    if [[ -e $file ]]; then printf '%s\n' "$file"; fi
done; }

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
tests/manifests/tools.sh "$venv"
render_all
check_manifests
check_alerts
check_style
if [[ -n ${SIGNALBOX:-} ]]; then
    check_behaviour
fi
check_the_checks
say 'all good'
