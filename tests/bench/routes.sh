#!/usr/bin/env bash
# Route search beside LDK's, in one process on the same graph; prints the tables of docs/PERFORMANCE.md.
#
#   tests/bench/routes.sh                  on a map grown to the public network's shape, about twenty minutes after building
#   tests/bench/routes.sh --quick          few queries and payments
#   tests/bench/routes.sh FILE.csv         on a table of channels (its columns: tests/src/map/mod.rs); - for stdin
#   tests/bench/routes.sh --payments 500   more of those with unknown liquidity
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
(cd "$root/tests/bench/ldk" && cargo build --release --locked -p ldk-routes)
exec "$root/target/bench-ldk/release/ldk-routes" "$@"
