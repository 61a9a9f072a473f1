# Touchstone (试金石). `just` lists what there is.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments := true

bin := justfile_directory() / "target/release"

# List the recipes.
default:
    @just --list --unsorted

# Build every executable, the whole workspace at once: a part alone would give other bytes.
build:
    cargo build --release --locked --workspace

# Run a pipeline: `just pipeline quick`, `just pipeline online-retail data=../shared/data`.
pipeline name *options: build
    @{{ bin }}/touchstone run {{ name }} {{ replace_regex(options, '(^|\s)([a-z-]+)=', '$1--$2=') }}

# Train every model at its published setting and judge it: resumable, at most 150 minutes on two cores.
anchors *options: build
    @{{ bin }}/touchstone run anchors {{ replace_regex(options, '(^|\s)([a-z-]+)=', '$1--$2=') }}
    @cat {{ justfile_directory() }}/artifacts/latest/anchors/report/tables/published.md
    @! grep -q FAIL {{ justfile_directory() }}/artifacts/latest/anchors/report/tables/published.csv

# The command itself: `just touchstone why score[random] quick`.
touchstone *arguments: build
    @{{ bin }}/touchstone "$@"

# Run one stage by hand: `just stage split describe`, `just stage split run --config split.yaml ...`.
stage name *arguments: build
    @shift; {{ bin }}/{{ name }} "$@"

# Build, then run every test: units, properties, oracles, end to end.
test: build
    #!/usr/bin/env bash
    set -euo pipefail
    if command -v cargo-nextest > /dev/null; then
        cargo nextest run --release --locked --workspace
    else
        cargo test --release --locked --workspace --lib --bins --tests
    fi
    cargo test --release --locked --workspace --doc

# Format, lints, tests, documentation, dependencies: what CI runs.
ci: format-check lint test document deny

# Format the code.
format:
    cargo fmt --all

# Check the format.
format-check:
    cargo fmt --all --check

# Lint; warnings are errors.
lint:
    cargo clippy --release --locked --workspace --all-targets -- -D warnings

# Build the documentation; warnings are errors.
document:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

# Check licences, sources and duplicate versions, and advisories where their data can be had.
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v cargo-deny > /dev/null; then
        echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny --locked)"
        exit 0
    fi
    cargo deny check bans licenses sources
    if cargo deny fetch; then
        cargo deny check advisories
    else
        echo "deny: advisories skipped, their data cannot be had here"
    fi
