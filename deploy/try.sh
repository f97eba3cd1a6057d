#!/usr/bin/env bash
# A real Prosody with mucplex in front of it, on this machine alone, to look at and to log in to.
#
#   ./deploy/try.sh          shows what it does, then stays up until Ctrl-C
#   ./deploy/try.sh --once   ends after the demonstration; exit code 0 only if it showed all
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    "" | --once) ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac

command -v cargo >/dev/null || {
    echo "mucplex is built with Rust: install a toolchain first (https://rustup.rs)" >&2
    exit 1
}
deploy/install-packages.sh gcc libc6-dev prosody

echo "Building mucplex and its demonstration (the first time this takes a few minutes)."
cargo build --locked --package mucplex --bin mucplex --package mucplex-testkit --example try
exec "${CARGO_TARGET_DIR:-target}/debug/examples/try" "$@"
