#!/usr/bin/env bash
# Instructions that a link spends on a frame, counted by callgrind: the difference between a long run and a short one,
# so that starting and connecting do not count. Needs neither root nor a quiet machine.
#
#   bench/instructions.sh [BYTES-RING...]     rows such as 64-split or 1518-packed [64-split 1518-split]
set -euo pipefail
target=${CARGO_TARGET_DIR:-target}/release
link=$target/netvm-link frames=$target/examples/frames
command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind" >&2; exit 3; }
[ -x "$link" ] && [ -x "$frames" ] || { echo "Run make bench-instructions, which builds what this needs" >&2; exit 3; }
[ $# -gt 0 ] || set -- 64-split 1518-split
work=$(mktemp -d) valgrind=""
leave() {
  if [ -n "$valgrind" ]; then kill "$valgrind" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap leave EXIT
address=()
# No grep -q on a pipe: it would end before the writer does.
if grep -q -e '--address ' <<<"$("$link" --help)"; then address=(--address 198.18.0.1); fi

# Runs a link for so many frames each way; sets `arrived` and `instructions`.
run() { # frames bytes ring
  local mtu=$(($2 - 14))
  [ $mtu -ge 1500 ] || mtu=1500
  rm -f "$work"/*
  NETVM_LOG=error valgrind --tool=callgrind --callgrind-out-file="$work/callgrind.out" "$link" --name count \
    --guest "$work/guest" --netvm "$work/netvm" --mtu $mtu "${address[@]}" --sandbox off \
    --guest-mac 02:00:00:00:00:0a --netvm-mac 02:00:00:00:00:01 --card-mac 02:00:00:00:00:02 2>"$work/log" &
  valgrind=$!
  for _ in $(seq 300); do [ -S "$work/guest" ] && [ -S "$work/netvm" ] && break; sleep 0.1; done
  arrived=$("$frames" "$work/guest" "$work/netvm" "$1" "$2" "$3" | sed -n 's/ frames arrived.*//p')
  kill "$valgrind"
  wait "$valgrind" 2>/dev/null || true
  valgrind=""
  instructions=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$work/log")
  [ -n "$instructions" ] || { cat "$work/log" >&2; exit 1; }
}

for row in "$@"; do
  bytes=${row%-*} ring=${row#*-}
  run 2000 "$bytes" "$ring"
  few=$arrived fewer=$instructions
  run 52000 "$bytes" "$ring"
  awk -v row="$row" -v i=$((instructions - fewer)) -v n=$((arrived - few)) \
    'BEGIN { printf "instructions %s %.0f per frame (%d over %d frames)\n", row, i / n, i, n }'
done
