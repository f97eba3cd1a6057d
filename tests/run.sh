#!/usr/bin/env bash
# Everything that must hold: lint, unit and property tests, and the contract on real servers.
# Installs what it needs, and closes with the counts.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install-packages.sh gcc libc6-dev prosody prosody-modules ejabberd
tests/clients/install.sh
command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest
# A backtrace needs line tables; where nobody looks at one, builds are faster without.
[ -z "${CI:-}" ] || export CARGO_PROFILE_DEV_DEBUG=0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed_steps=()

step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee -a "$log" || failed_steps+=("$name")
}

step "format" cargo fmt --all --check
step "lint" cargo clippy --workspace --all-targets --locked -- -D warnings
step "build" cargo build --locked --package mucplex
step "unit and property tests" \
    cargo nextest run --locked --workspace --exclude mucplex-testkit --exclude mucplex-e2e
step "documentation examples" cargo test --locked --workspace --doc --quiet
# One process each, so that their tests share the servers they start.
# Most of these wait for servers.
step "the test kit on real servers" \
    cargo test --locked --package mucplex-testkit --tests -- --test-threads 6
step "the contract on real servers" cargo test --locked --package mucplex-e2e

# cargo test and libtest-mimic say "N passed; M failed", nextest "N passed, M failed".
count() {
    sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^test result:|^ *Summary ' \
        | grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'
}
printf '\n%s passed, %s failed\n' "$(count passed)" "$(count failed)"
if [ ${#failed_steps[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed_steps[@]}"
    exit 1
fi
