#!/bin/sh
# Fuzz every parser of foreign bytes: fuzz.sh [SECONDS_PER_TARGET]
# Coverage needs unstable compiler flags, which RUSTC_BOOTSTRAP lets a stable toolchain take.
set -eu
seconds=${1:-60}
command -v cargo-fuzz >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    echo "== $target, $seconds s"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -print_final_stats=1 -rss_limit_mb=4096
done
