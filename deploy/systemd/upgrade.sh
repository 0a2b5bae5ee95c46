#!/usr/bin/env bash
# Replaces the running Signalbox by the one now installed, without refusing a connection: the other instance of
# signalbox@.service starts with --upgrade, the running one hands its listening sockets over on SIGQUIT, finishes
# what it has in flight and ends.
#
# The listen addresses in server.yaml must be the same before and after. Run as root.
set -euo pipefail

readonly RUN=/run/signalbox
readonly SOCKET=$RUN/upgrade.sock # upgrade.socket in server.yaml
readonly WITHIN_S=30

running() { systemctl is-active --quiet "signalbox@$1"; }

# Waits until a command succeeds, for at most WITHIN_S seconds.
until_true() {
    local deadline=$((SECONDS + WITHIN_S))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

if running a && ! running b; then
    old=a new=b
elif running b && ! running a; then
    old=b new=a
else
    echo 'exactly one of signalbox@a and signalbox@b must be running' >&2
    exit 1
fi

# A broken file is found now, while the old process still serves.
/usr/local/bin/signalbox check /etc/signalbox/policy.yaml --server /etc/signalbox/server.yaml

trap 'rm -f "$RUN/$new.env"' EXIT
rm -f "$SOCKET"
echo 'SIGNALBOX_FLAGS=--upgrade' >"$RUN/$new.env"
systemctl start "signalbox@$new"

# The new process waits at the socket, for a few seconds only: the old one is told at once.
if ! until_true test -S "$SOCKET"; then
    echo "signalbox@$new did not ask for the listening sockets; signalbox@$old serves on" >&2
    systemctl stop "signalbox@$new"
    exit 1
fi
systemctl kill --kill-whom=main --signal=SIGQUIT "signalbox@$old"
systemctl enable --quiet "signalbox@$new"
systemctl disable --quiet "signalbox@$old"
echo "signalbox@$new serves; signalbox@$old ends with its last stream (systemctl status signalbox@$old)"
