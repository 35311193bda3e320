#!/usr/bin/env bash
# The benchmark, from nothing to docs: builds chand and LDK, measures both, rewrites the table and the plot.
#
#   tests/bench/run.sh                 everything, about twenty minutes after building
#   tests/bench/run.sh --quick         one run with few payments
#   tests/bench/run.sh --without-ldk   spares the build of LDK, some minutes the first time
#   tests/bench/run.sh --keep-docs     leaves docs as they are; the table goes to the terminal
#
# Other options go to `bench` (target/release/bench --help). Measure on a machine that does nothing else: `bench` says
# when others took part of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

RESULTS=${RESULTS:-target/bench-results.jsonl}
ldk=yes
docs=yes
options=()
for option in "$@"; do
    case $option in
        --without-ldk) ldk=no ;;
        --keep-docs) docs=no ;;
        *) options+=("$option") ;;
    esac
done

cargo build --release --locked --workspace --bins
if [ "$ldk" = yes ]; then
    (cd tests/bench/ldk && cargo build --release --locked)
    options+=(--ldk target/bench-ldk/release/ldk-bench)
fi

target/release/bench ${options[@]+"${options[@]}"} >"$RESULTS"
echo "the measurements are in $RESULTS" >&2
if [ "$docs" = yes ]; then
    mkdir -p docs/img
    target/release/bench report "$RESULTS" --svg docs/img/performance.svg --into docs/PERFORMANCE.md
    echo "docs/PERFORMANCE.md and docs/img/performance.svg are rewritten" >&2
else
    target/release/bench report "$RESULTS"
fi
