#!/usr/bin/env bash
# Plants bugs in a copy of the sources and asks whether the simulators and the explorer find each of them, or a test.
#
#   tests/plants/run.sh                  all plants; fails when one is not caught, or when a sound node is blamed
#   tests/plants/run.sh NAME…            only these
#   tests/plants/run.sh --table          all, and writes what came out into docs/TESTING.md
#   tests/plants/run.sh --prepare        only makes the copy, applies the patches and builds
#
# Every tests/plants/NAME.patch adds one switch, `planted::is("NAME")`; all are applied together, one build serves all,
# and the environment variable CHAND_PLANT names the one that is on. Nothing of it is in the sources that are shipped.
# The head of a patch says what it breaks, what that is like, and on request
#   Who: Alice     only her node has the bug: two nodes with one and the same bug agree with each other
#   Seeds: N       how many seeds it may take (0: the simulator is not asked, it needs too many)
#   Explore: NAME  the start from which the explorer finds it
#   Towns: N       in how many seeds of many nodes (bin towns) it is found; for what two nodes alone do not have
#   Test: NAME     the test in tests/scenario that fails: for what neither of the two has, the watchtower
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

HERE=tests/plants
WORK=target/plants
TREE=$WORK/tree
BUILD=$WORK/build
SIM=$PWD/$BUILD/release/sim
EXPLORE=$PWD/$BUILD/release/explore
TOWNS=$PWD/$BUILD/release/towns
# Seeds that a plant may need, and seeds that must find nothing while no plant is on.
SEEDS=${SEEDS:-3000}
SOUND_SEEDS=${SOUND_SEEDS:-300}
SOUND_TOWNS=${SOUND_TOWNS:-100}
# States that the explorer may look at.
STATES=${STATES:-30000}
LIMIT_S=${LIMIT_S:-200}

head_of() { sed -n "s/^$2: //p;/^diff /q" "$HERE/$1.patch"; }

names() {
    local file
    for file in "$HERE"/*.patch; do
        file=$(basename "$file" .patch)
        [ "$file" = 00-base ] || echo "$file"
    done
}

# A copy of the sources with every patch; files that came out as last time keep their time, so that cargo leaves them.
make_tree() {
    local fresh=$WORK/fresh file
    rm -rf "$fresh"
    mkdir -p "$fresh" "$TREE"
    cp -r Cargo.toml Cargo.lock clippy.toml rustfmt.toml protocol storage daemon tests "$fresh"
    for file in "$HERE"/*.patch; do
        # Outside of any repository as far as git can see: inside one it would leave these files alone without a word.
        if ! (cd "$fresh" && GIT_CEILING_DIRECTORIES=$(dirname "$PWD") git apply -C1 "../../../$file"); then
            echo "$file does not apply any more: the source it changes has moved on; write it anew"
            return 1
        fi
    done
    (cd "$fresh" && find . -type f) | while read -r file; do
        cmp -s "$fresh/$file" "$TREE/$file" || { mkdir -p "$(dirname "$TREE/$file")"; cp "$fresh/$file" "$TREE/$file"; }
    done
    (cd "$TREE" && find . -type f) | while read -r file; do
        [ -e "$fresh/$file" ] || rm "$TREE/$file"
    done
    rm -rf "$fresh"
}

# What was compiled of other people's crates serves here as well: linked, not copied, and never written to. Ours are
# taken out, so that cargo makes new files for them.
make_build() {
    [ -d "$BUILD/release" ] && return
    mkdir -p "$BUILD"
    [ -d target/release/deps ] || return 0
    rm -rf "$BUILD/half"
    mkdir -p "$BUILD/half"
    cp -al target/release/deps target/release/build target/release/.fingerprint "$BUILD/half"
    find "$BUILD/half/deps" "$BUILD/half/.fingerprint" -maxdepth 1 \
        \( -name '*chand*' -o -name '*chan_cli*' -o -name '*chan-cli*' \) -exec rm -rf {} +
    # Programs and tests of ours, by whatever name, are executable; of the lists of sources (*.d) cargo needs none.
    find "$BUILD/half/deps" -maxdepth 1 -type f -perm -u+x ! -name '*.so' -delete
    find "$BUILD/half/deps" -maxdepth 1 -name '*.d' -delete
    mv "$BUILD/half" "$BUILD/release"
}

prepare() {
    make_tree
    make_build
    (cd "$TREE" && CARGO_TARGET_DIR=../build cargo build --release --locked --workspace "$@")
}

# first LOG COMMAND…: the line with which a runner says what it found, or that it found nothing. What it does after
# that (making a failure smaller) is not waited for.
first() {
    local log=$1 line pid
    shift
    exec 3< <(exec timeout "$LIMIT_S" "$@" 2>"$log")
    pid=$!
    line=$(grep -m 1 -e '^FAILED ' -e '^sim seeds=' -e '^towns seeds=' <&3 || true)
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    exec 3<&-
    printf '%s\n' "$line" >>"$log"
    printf '%s\n' "$line"
}

# sim PLANT SEEDS: "judge seeds" of the first failure, nothing when there was none. The same seed must pass without the
# plant: what a sound node is blamed for is no catch.
sim() {
    local plant=$1 seeds=$2 from=1 line seed
    while [ "$from" -le "$seeds" ]; do
        line=$(CHAND_PLANT=$plant first "$WORK/logs/$plant.sim" "$SIM" --from "$from" --seeds $((seeds - from + 1)) --threads 1)
        seed=$(sed -n 's/^FAILED seed=\([0-9]*\) .*/\1/p' <<<"$line")
        [ -n "$seed" ] || return 0
        if [ "$plant" = none ] || CHAND_PLANT=none timeout "$LIMIT_S" "$SIM" --seed "$seed" >"$WORK/logs/sound" 2>&1; then
            sed -n 's/^FAILED seed=\([0-9]*\) judge=\([a-z_-]*\) .*/\2 \1/p' <<<"$line"
            return 0
        fi
        from=$((seed + 1))
    done
}

# towns PLANT SEEDS: as `sim`, with many nodes.
towns() {
    local plant=$1 seeds=$2 from=1 line seed
    while [ "$from" -le "$seeds" ]; do
        line=$(CHAND_PLANT=$plant first "$WORK/logs/$plant.towns" "$TOWNS" --from "$from" --seeds $((seeds - from + 1)) --threads 1)
        seed=$(sed -n 's/^FAILED seed=\([0-9]*\) .*/\1/p' <<<"$line")
        [ -n "$seed" ] || return 0
        if [ "$plant" = none ] || CHAND_PLANT=none timeout "$LIMIT_S" "$TOWNS" --seed "$seed" >"$WORK/logs/sound" 2>&1; then
            sed -n 's/^FAILED seed=\([0-9]*\) judge=\([a-z_-]*\) .*/\2 \1/p' <<<"$line"
            return 0
        fi
        from=$((seed + 1))
    done
}

# explore PLANT STARTS: "judge moves start" of the first failure, nothing when there was none.
explore() {
    local line
    line=$(CHAND_PLANT=$1 first "$WORK/logs/$1.explore" "$EXPLORE" --start "$2" --max-states "$STATES" --threads 1)
    sed -n 's/^FAILED start=\([^ ]*\) judge=\([a-z_-]*\) depth=\([0-9]*\).*/\2 \3 \1/p' <<<"$line"
}

# test_of PLANT NAME: the test's name when it fails with the plant and passes without.
test_of() {
    local program
    program=$(cat "$WORK/scenario")
    CHAND_PLANT=$1 timeout "$LIMIT_S" "$program" "$2" >"$WORK/logs/$1.test" 2>&1 && return 0
    CHAND_PLANT=none timeout "$LIMIT_S" "$program" "$2" >"$WORK/logs/$1.sound" 2>&1 || return 0
    # A name that no test has would fail neither way.
    grep -q "^test .*$2 .*FAILED" "$WORK/logs/$1.test" && echo "$2"
}

# Builds the tests of tests/scenario, and notes where they are.
prepare_tests() {
    local log=$WORK/logs/tests
    (cd "$TREE" && CARGO_TARGET_DIR=../build cargo test --release --locked --workspace --test scenario --no-run) 2>&1 |
        tee "$log"
    sed -n 's/.*(\(.*scenario-[0-9a-f]*\)).*/\1/p' "$log" | tail -n 1 | sed 's|^\.\./build|'"$BUILD"'|' >"$WORK/scenario"
}

# One plant: a line of the table, in $WORK/results.
try() {
    local name=$1 plant=$1 seeds starts by_sim by_explorer by_towns= by_test=
    [ "$(head_of "$name" Who)" = Alice ] && plant=$name@Alice
    starts=$(head_of "$name" Explore)
    by_explorer=
    [ -z "$starts" ] || by_explorer=$(explore "$plant" "$starts")
    seeds=$(head_of "$name" Seeds)
    seeds=${seeds:-$SEEDS}
    # Found already: only the table wants to know how many seeds it takes.
    [ -z "$by_explorer" ] || [ -n "${WHOLE:-}" ] || seeds=$((seeds < 50 ? seeds : 50))
    by_sim=$(sim "$plant" "$seeds")
    [ -z "$(head_of "$name" Towns)" ] || by_towns=$(towns "$plant" "$(head_of "$name" Towns)")
    [ -z "$(head_of "$name" Test)" ] || by_test=$(test_of "$plant" "$(head_of "$name" Test)" || true)
    printf '%s|%s|%s|%s|%s\n' "$plant" "$by_sim" "$by_explorer" "$by_towns" "$by_test" >"$WORK/results/$name"
    printf '%-34s sim: %-28s explorer: %s towns: %s test: %s\n' \
        "$plant" "${by_sim:-–}" "${by_explorer:-–}" "${by_towns:-–}" "${by_test:-–}"
}

# Without a plant nothing may be found, or a catch would mean nothing.
sound() {
    local by_sim by_explorer by_towns
    towns none "$SOUND_TOWNS" >"$WORK/logs/none.found" &
    by_sim=$(sim none "$SOUND_SEEDS")
    by_explorer=$(explore none A,fee)
    wait
    by_towns=$(<"$WORK/logs/none.found")
    if [ -n "$by_sim$by_explorer$by_towns" ]; then
        echo "no plant is on, and yet: $by_sim $by_explorer $by_towns"
        return 1
    fi
    echo "no plant on: $SOUND_SEEDS seeds, $SOUND_TOWNS of many nodes and the explorer's starts A, fee find nothing"
}

# Markdown, one row a plant.
table() {
    local name plant by_sim by_explorer by_towns by_test
    echo '| plant | what it breaks | simulator: judge, seeds | explorer: judge, moves; or many nodes: judge, seeds; or a test |'
    echo '|---|---|---|---|'
    for name in $(names); do
        IFS='|' read -r plant by_sim by_explorer by_towns by_test <"$WORK/results/$name"
        printf '| `%s` | %s | %s | %s%s%s |\n' "$plant" "$(head_of "$name" Breaks)" \
            "$(awk 'NF { printf "%s, %s", $1, $2 }' <<<"$by_sim")" \
            "$(awk 'NF { printf "%s, %s (`%s`)", $1, $2, $3 }' <<<"$by_explorer")" \
            "$(awk 'NF { printf "many nodes: %s, %s", $1, $2 }' <<<"$by_towns")" \
            "${by_test:+\`$by_test\`}"
    done
}

# Puts the table between its markers in docs/TESTING.md.
keep_table() {
    table >"$WORK/table.md"
    awk -v table="$WORK/table.md" '
        /<!-- plants: table -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
        /<!-- plants: end -->/ { skip = 0 }
        !skip { print }' docs/TESTING.md >"$WORK/TESTING.md"
    cp "$WORK/TESTING.md" docs/TESTING.md
}

main() {
    local keep= chosen=() word missed=0 known plant by_sim by_explorer by_towns by_test
    known=$(names)
    for word in "$@"; do
        case $word in
            --table) keep=yes; export WHOLE=yes ;;
            --prepare) prepare --bin sim --bin explore --bin towns; return ;;
            --try) try "$2"; return ;;
            *) grep -qx -e "$word" <<<"$known" || { echo "no plant is called $word"; return 2; }
               chosen+=("$word") ;;
        esac
    done
    mkdir -p "$WORK/logs" "$WORK/results"
    prepare --bin sim --bin explore --bin towns
    sound
    [ ${#chosen[@]} -gt 0 ] || mapfile -t chosen <<<"$known"
    (cd "$WORK/results" && rm -f -- *)
    for word in "${chosen[@]}"; do
        [ -z "$(head_of "$word" Test)" ] || { prepare_tests; break; }
    done
    printf '%s\n' "${chosen[@]}" | xargs -P "$(nproc)" -n 1 "$HERE/run.sh" --try
    for word in "${chosen[@]}"; do
        IFS='|' read -r plant by_sim by_explorer by_towns by_test <"$WORK/results/$word"
        if [ -z "$by_sim$by_explorer$by_towns$by_test" ]; then
            echo "NOT CAUGHT: $plant: $(head_of "$word" Breaks)"
            missed=$((missed + 1))
        fi
    done
    [ -z "$keep" ] || keep_table
    echo "plants: $((${#chosen[@]} - missed)) of ${#chosen[@]} caught"
    [ "$missed" -eq 0 ]
}

main "$@"
