# Everything that is done to this tree. `./dev RECIPE` installs what is missing first.
# CI runs these and nothing else.

set shell := ["bash", "-euo", "pipefail", "-c"]

# nextest where it is there; plain cargo runs the same tests, more slowly.
runner := `command -v cargo-nextest >/dev/null 2>&1 && echo "cargo nextest run" || echo "cargo test"`

# What ends tests that hang: nextest does so one by one, a person at a terminal by hand, and this where there is neither.
bound := `command -v cargo-nextest >/dev/null 2>&1 || [ -t 0 ] || echo "timeout --kill-after=30s 60m"`

# Tests may kill `sbx` at any step; what is shipped has no such switch.
features := "--features sbx-cli/failpoints"

_default:
    @just --list --unsorted

# Format all code.
fmt:
    cargo fmt --all

# Formatting and lints; warnings are errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets {{ features }} --quiet -- -D warnings
    @! grep -rnE '\benv::(var|vars|var_os|vars_os)\b' schema/src reconciler/src egress/src || { echo "libraries read no environment" >&2; exit 1; }

# examples/quickstart.yaml on a real engine: plan, apply, a second plan that is empty.
quickstart:
    cargo build --release --bin sbx
    @! grep -qaE 'SBX_DAEMON_WITHOUT|SBX_FAILPOINT' target/release/sbx || { echo "built with switches that are for tests only" >&2; exit 1; }
    examples/quickstart.sh target/release/sbx

# All there is: lints, dependencies, docs, units, snapshots, and end to end on Podman 4 and 5, rootful and rootless.
test: lint deny doc editor _engines
    {{ if env("SBX_TEST_WITHOUT_PODMAN", "") != "" { "just unit" } else { "just _bounded " + runner + " --workspace --no-fail-fast " + features } }}

# Tests that need no engine.
unit:
    @if [ -n "${SBX_TEST_WITHOUT_PODMAN:-}" ]; then just _loudly; fi
    {{ if runner == "cargo test" { "just _bounded cargo test --workspace --exclude sbx-cli && just _bounded cargo test --package sbx-cli --bins " + features } else { "cargo nextest run --workspace --no-fail-fast " + features + " -E 'not (binary(podman) or binary(escape) or binary(clients))'" } }}

# End to end only; FILTER selects by name, as in `just e2e rootless_5`.
e2e FILTER="": _engines
    {{ runner }} --package sbx-cli --test podman --test escape --test clients --no-fail-fast {{ features }} {{ FILTER }}

# That nothing gets out: real engines, with a hostile process in each sandbox.
escape FILTER="": _engines
    {{ runner }} --package sbx-cli --test escape --no-fail-fast {{ features }} {{ FILTER }}

# What has to go well each time: a thousand starts, ten thousand changes of policy; some ten minutes. CI does fewer.
soak: _engines
    NEXTEST_PROFILE=soak SBX_SOAK_STARTS=1000 SBX_SOAK_UPDATES=10000 {{ runner }} --package sbx-cli --test escape {{ features }} -- start_window policy_updates

# Speed beside the floor and other tools: tables, and target/bench.json; GROUPS selects, as in `just bench P1 P3`.
bench *GROUPS:
    tests/bench/peers.sh
    cargo bench --package sbx-cli --bench sbx -- {{ GROUPS }}

# That the measurements work: everything once, with two sandboxes. Says nothing about speed.
bench-works:
    cargo test --quiet --package sbx-cli --bench sbx {{ features }}

# The root directory of the Podman 5 engines, built once.
_engines:
    @[ -n "${SBX_TEST_WITHOUT_PODMAN:-}" ] || tests/podman/trixie.sh >/dev/null

_bounded +COMMAND:
    @{{ bound }} {{ COMMAND }} || { code=$?; [ "$code" != 124 ] || echo "the tests have not ended within an hour: one of them hangs" >&2; exit "$code"; }

_loudly:
    @printf '\n  *** SBX_TEST_WITHOUT_PODMAN is set: the tests on a real Podman DO NOT RUN. ***\n\n' >&2

# Licences, bans and sources of dependencies.
deny:
    if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else python3 .config/deny.py; fi

# Known vulnerabilities; the list comes from the network, and cargo-deny from `cargo install --locked cargo-deny`.
advisories:
    cargo deny check advisories

# Documentation of the code; a broken link is an error.
doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --quiet

# The JSON Schema as editors use it: ajv in strict mode, yaml-language-server over its protocol. Needs node and npm.
editor:
    cd tests/editor && npm ci --silent && node --test
