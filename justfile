# The project's one interface; `just` lists what there is.

default:
    @just --list --unsorted

# A real Prosody with mucplex in front of it, to log in to; Ctrl-C ends it.
try *arguments:
    ./deploy/try.sh {{arguments}}

# Everything that must hold: lint, unit and property tests, the contract on both servers.
test:
    ./tests/run.sh

# Which tests show which behaviour of the contract, and with what result on each server.
behaviours *files:
    cargo run --quiet --package mucplex-behaviours -- {{files}}

# Plays every scenario directly and through the proxy, and writes docs/TRANSPARENCY.md anew.
transparency:
    cargo build --locked --package mucplex
    MUCPLEX_WRITE_REPORT=1 cargo test --locked --package mucplex-e2e -- transparent_

# Formatting and clippy, warnings are errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Formats the code.
fmt:
    cargo fmt --all

# The API documentation, with private items, for those who work on it.
doc:
    cargo doc --workspace --no-deps --document-private-items

# Licences, advisories and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check

# Instruction counts of the hot paths (needs valgrind).
bench:
    ./tests/bench.sh

# Differential fuzzing of the framer against rxml (needs cargo-fuzz and a nightly toolchain).
fuzz seconds="300":
    cd fuzz && cargo +nightly fuzz run framer -- -dict=xml.dict -max_total_time={{seconds}}
