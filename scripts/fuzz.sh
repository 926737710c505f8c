#!/usr/bin/env bash
# Feeds random bytes to the code that reads peers, files and Lua, and reports the first input that
# breaks it.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]
#
# Each target gets SECONDS, a minute by default; without targets all do, as many at a time as there
# are cores. It begins with the inputs in fuzz/corpus. New ones that reach new code stay in
# target/fuzz/corpus and are the start of the next run. Needs no nightly compiler and no cargo-fuzz:
# LLVM has the instruments, and the compiler is asked for them by name.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
shift || true
if ((seconds < 1)); then
    echo "usage: scripts/fuzz.sh [SECONDS [TARGET...]]" >&2
    exit 2
fi
targets=("$@")
if ((${#targets[@]} == 0)); then
    mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)
fi

folder=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
flags=(
    --cfg fuzzing -Ccodegen-units=1
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
# Because the target is named, build scripts and macros do not get the flags.
RUSTFLAGS="${flags[*]}" cargo build --release --locked --manifest-path fuzz/Cargo.toml \
    --target "$host" --target-dir "$folder"

# The target's own words if it found something, else one line.
fuzz() {
    local target=$1
    local corpus=$folder/corpus/$target log=$folder/$target.log
    mkdir -p "$corpus" fuzz/artifacts
    if "$folder/$host/release/$target" "$corpus" "fuzz/corpus/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="fuzz/artifacts/$target-" >"$log" 2>&1; then
        printf '%s: %s\n' "$target" "$(sed -n 's/^Done //p' "$log")"
    else
        tail -n 40 "$log"
        printf '%s: found an input that it does not bear; to see it again:\n' "$target"
        printf '  %s FILE_IN_fuzz/artifacts\n' "$folder/$host/release/$target"
        return 1
    fi
}

failed=0
running=0
for target in "${targets[@]}"; do
    if ((running >= $(nproc))); then
        wait -n || failed=1
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
while ((running > 0)); do
    wait -n || failed=1
    running=$((running - 1))
done
exit "$failed"
