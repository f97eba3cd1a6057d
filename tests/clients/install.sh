#!/usr/bin/env bash
# Makes the Python environment in which the client libraries run, in the target directory, with
# exactly what requirements.txt names. Quick when it is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."

wanted=tests/clients/requirements.txt
venv=${CARGO_TARGET_DIR:-target}/clients-venv
installed=$venv/installed.txt
if cmp --quiet "$wanted" "$installed" && "$venv/bin/python" -c 'import slixmpp, aioxmpp' 2>/dev/null; then
    exit 0
fi

# slixmpp 1.17 needs Python 3.11, and aioxmpp 0.13 ssl.match_hostname, which Python 3.12 took out.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3 /usr/bin/python3; do
        if "${candidate:-false}" -c 'import ensurepip, venv, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
        then
            echo "$candidate"
            return
        fi
    done
}
python=$(find_python)
if [ -z "$python" ]; then
    deploy/install-packages.sh python3-venv
    python=$(find_python)
fi
[ -n "$python" ] || {
    echo "The client libraries run on Python 3.11 only, with its module venv; name one: PYTHON=/path/to/python3.11" >&2
    exit 1
}

echo "Installing slixmpp and aioxmpp into $venv"
rm -rf "$venv"
"$python" -m venv "$venv"
pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}
# aioxmpp and its libraries come as source: what builds them is named here, or it would be the
# newest there is.
pip install setuptools==80.9.0 wheel==0.45.1
pip install --no-build-isolation --no-deps --requirement "$wanted"
pip check
"$venv/bin/python" -W ignore -c 'import slixmpp, aioxmpp'
cp "$wanted" "$installed"
