#!/usr/bin/env bash
# Instructions per stanza on the hot paths, counted by callgrind: the same on a busy machine as on
# an idle one. Two lengths are run and subtracted, so start-up does not count.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install-packages.sh valgrind
cargo build --locked --release --package mucplex-xml --package mucplex-muc --examples

instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 >/dev/null \
        | awk '/Collected/ { print $NF }'
}

per_message() {
    local name=$1 example=${CARGO_TARGET_DIR:-target}/release/examples/$2
    local few=1000 many=3000
    local count=$((($(instructions "$example" "$many") - $(instructions "$example" "$few")) / (many - few)))
    printf '%-60s %8d instructions\n' "$name" "$count"
}

per_message "frame a groupchat message, splice to for 4 recipients" frame_messages
per_message "hub: a groupchat message to 4 sessions" fan_out
