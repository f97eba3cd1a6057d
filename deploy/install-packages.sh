#!/usr/bin/env bash
# Installs the Debian packages named as arguments, those that are missing, and starts none of
# their services: what the scripts of this project need are the programs.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed \
        || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "${missing[*]}: not installed, and neither root nor sudo is at hand to install them" >&2
        exit 1
    }
    root=(sudo)
fi
echo "Installing ${missing[*]} from Debian (${root[*]:-as root}); their services stay off."

# policy-rc.d is Debian's own way to say that a package may not start its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
    trap '"${root[@]}" rm -f "$policy"' EXIT
fi
log=$(mktemp)
if ! { "${root[@]}" apt-get update -qq \
    && "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    exit 1
fi
rm -f "$log"
for package in "${missing[@]}"; do
    # Off after the next boot too.
    [ ! -d /run/systemd/system ] || "${root[@]}" systemctl disable --quiet "$package" 2>/dev/null || true
done
