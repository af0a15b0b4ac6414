# The commands that this project is worked on with. `just` alone lists them.

default:
    @just --list

# Format, lints and the tests of behaviour: what to run while you write.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    @if command -v cargo-nextest >/dev/null; then \
        cargo nextest run --all-features --lib --test it; \
    else \
        cargo test --all-features --lib --test it; \
    fi

# Everything that `cargo test` runs: behaviour, proofs in their short forms, examples in the documentation.
test:
    cargo test --all-features

# What a change must pass before it lands, as on a fresh machine. Installs what it lacks.
gate:
    .ci/run

# Write docs/public_api.txt anew, after a change of the public interface that is meant.
api:
    python3 tests/public_api.py --write

# The figures of docs/BENCHMARKS.md, with the command, the machine and the date.
bench:
    cargo bench --bench figures

# Seed faults whose name or file holds one of the texts, and show that their tests catch them.
faults *TEXT:
    python3 tests/faults.py {{TEXT}}

# Run every fuzz target for so many seconds.
fuzz SECONDS="60":
    fuzz/run.sh {{SECONDS}}
