#!/usr/bin/env bash
# netvm-link beside DPDK's vhost: both carry frames between the same two virtio drivers, in turn, and what counts is
# the ratio of each pair of runs. DPDK's testpmd is the generator (virtio_user, on CPU 1); the device under test is
# on CPU 0: testpmd again, forwarding blindly between two vhost ports (io mode), or netvm-link with every filter on.
#
# The generator puts frames between guest and netvm on both ends, and each end sends what it receives back with MAC
# addresses swapped (a frame's IP source is the guest's either way, which is what the link insists on for frames from
# the guest), so that well-formed frames of the right stations go both ways for as long as it runs.
#
# Where the generator is the slower one, rates say nothing about the device: so each device also says, by its own
# clock, what a frame costs it while it has any (testpmd: record-core-cycles; netvm-link: its busy time). That is
# the "cost" line.
set -euo pipefail

usage() {
  cat <<END
Usage: bench/peers.sh [options]
  --pairs N        pairs of runs a row [7]
  --seconds N      seconds a run [4]
  --row ROW        only this row: 64-split, 64-packed or 1518-split; may be repeated
  --link PATH      the netvm-link to measure [target/release/netvm-link]
  --huge-pages     reserve huge pages for as long as it runs
  --best           a run's figure is its best fifth of a second, not its mean: for machines that others use as well,
                   where generator and device seldom run at the same time and every ratio drifts to 1
  --logs DIR       keep the logs of all runs here
END
}

pairs=7 seconds=4 rows=() link=${CARGO_TARGET_DIR:-target}/release/netvm-link huge=false best=false logs=""
while [ $# -gt 0 ]; do
  case $1 in
    --pairs) pairs=${2:?--pairs needs a number}; shift ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --row) rows+=("${2:?--row needs a name}"); shift ;;
    --link) link=${2:?--link needs a path}; shift ;;
    --huge-pages) huge=true ;;
    --best) best=true ;;
    --logs) logs=${2:?--logs needs a directory}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ ${#rows[@]} -gt 0 ] || rows=(64-split 64-packed 1518-split)
[[ $pairs =~ ^[1-9][0-9]*$ && $seconds =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }

# 256 MiB for each of the two DPDK processes, in pages of 2 MiB, and some to spare.
PAGES=288
PAGES_FILE=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

refuse() { printf '%s\n' "$@" >&2; exit 3; }

work=$(mktemp -d)
log=${logs:-$work}
mkdir -p "$log"
pages_before="" mounted=false dut="" generator="" run=0
stop() { # pid
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
leave() {
  stop "$generator"
  stop "$dut"
  rm -rf "$work" "${XDG_RUNTIME_DIR:-/nonexistent}/dpdk/netvm-$$-"* "/var/run/dpdk/netvm-$$-"* \
    "/dev/hugepages/netvm-$$-"*
  if $mounted; then umount /dev/hugepages; fi
  if [ -n "$pages_before" ]; then echo "$pages_before" >$PAGES_FILE; fi
}
trap leave EXIT
trap 'exit 130' INT TERM

# What must be there.
[ "$(id -u)" = 0 ] || refuse "Huge pages and the link's sandbox need root: run it with sudo"
command -v dpdk-testpmd >/dev/null || refuse "dpdk-testpmd is missing: apt-get install dpdk-dev"
[ "$(nproc)" -ge 2 ] || refuse "One CPU is not enough: the generator needs one and the link needs one"
[ -x "$link" ] || refuse "There is no $link: run make build, or say --link PATH"
netvm=$(dirname "$link")/netvm
free_pages() { cat "${PAGES_FILE%/*}/free_hugepages"; }
if [ "$(free_pages)" -lt $PAGES ] && $huge; then
  pages_before=$(cat $PAGES_FILE)
  echo $((pages_before + PAGES - $(free_pages))) >$PAGES_FILE
fi
if ! mountpoint -q /dev/hugepages && $huge; then
  mkdir -p /dev/hugepages
  mount -t hugetlbfs -o pagesize=2M none /dev/hugepages
  mounted=true
fi
if [ "$(free_pages)" -lt $PAGES ] || ! mountpoint -q /dev/hugepages; then
  refuse "DPDK needs $PAGES free huge pages of 2 MiB and finds $(free_pages). Say --huge-pages, or:" \
    "  echo $PAGES > $PAGES_FILE" \
    "  mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages"
fi

GUEST_MAC=02:00:00:00:00:0a NETVM_MAC=02:00:00:00:00:01
GUEST_IP=198.18.0.1 NETVM_IP=198.18.0.2

testpmd() { # cpu name arguments...
  local cpu=$1 prefix=netvm-$$-$2
  shift 2
  exec dpdk-testpmd --lcores "0@$cpu,1@$cpu" --no-pci --no-telemetry --file-prefix "$prefix" -m 256 "$@"
}

wait_until() { # seconds command...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

start_dpdk() { # sockets...
  testpmd 0 dut --vdev "net_vhost0,iface=$1" --vdev "net_vhost1,iface=$2" -- \
    -i --nb-cores=1 --forward-mode=io --total-num-mbufs=16384 <"$work/dut-$run" >"$log/dut-$run.log" 2>&1 &
  dut=$!
  exec 8>"$work/dut-$run"
  printf 'set record-core-cycles on\nstart\n' >&8
}
stop_dpdk() {
  printf 'show fwd stats all\nstop\nquit\n' >&8
  exec 8>&-
  wait_until 10 ended "$dut" || true
  stop "$dut"
  cost=$(awk -F '[=()/@ ]+' '/CPU cycles.packet=/ { cycles = $5 } / at [0-9]+ MHz/ { mhz = $(NF - 2) }
    END { if (mhz) printf "%.1f", cycles * 1000 / mhz }' "$log/dut-$run.log")
}

start_link() { # sockets... frame bytes
  local mtu=$(($3 - 14)) address=()
  [ $mtu -ge 1500 ] || mtu=1500
  if grep -q -e '--address ' <<<"$link_help"; then address=(--address $GUEST_IP); fi
  # Huge pages cannot be sealed.
  taskset -c 0 "$link" --name peers --guest "$1" --netvm "$2" --mtu $mtu \
    --guest-mac $GUEST_MAC --netvm-mac $NETVM_MAC --card-mac 02:00:00:00:00:02 "${address[@]}" \
    --unsealed guest --unsealed netvm --uid 1879048193 --gid 1879048193 --sandbox "$sandbox" \
    </dev/null >"$log/dut-$run.log" 2>&1 &
  dut=$!
}

stop_link() {
  # Its sessions have ended, and what it says of the last comes with the sums.
  wait_until 5 ended_sessions || true
  stop "$dut"
  cost=$(sed -n 's/.*frames_in=\([0-9]*\) frames_out=\([0-9]*\) busy=\([0-9.]*\)\(m\{0,1\}\)s.*/\1 \2 \3 \4/p' \
    "$log/dut-$run.log" | awk '{ frames = $1 + $2; busy = $3 * ($4 == "m" ? 1e6 : 1e9) }
      END { if (frames) printf "%.1f", busy / frames }')
}
ended_sessions() { [ "$(grep -c 'frontend disconnected' "$log/dut-$run.log")" = 2 ]; }

# Runs the generator against a device. Sets `rate`, the frames a second that came back at both ends together, and
# `cost`, the nanoseconds that one costs the device, if it says.
carry() { # dpdk|link, frame bytes, split|packed
  local guest=$work/guest-$run netvm=$work/netvm-$run virtio=queue_size=1024 gen="$log/generator-$run.log"
  [ "$3" = split ] || virtio=$virtio,packed_vq=1
  mkfifo "$work/dut-$run"
  "start_$1" "$guest" "$netvm" "$2"
  wait_until 15 test -S "$guest" -a -S "$netvm" || fail "$1 made no sockets" "$log/dut-$run.log"
  mkfifo "$work/commands-$run"
  testpmd 1 generator --single-file-segments \
    --vdev "net_virtio_user0,path=$guest,mac=$GUEST_MAC,$virtio" \
    --vdev "net_virtio_user1,path=$netvm,mac=$NETVM_MAC,$virtio" -- \
    -i --nb-cores=1 --forward-mode=macswap --port-topology=loop \
    --eth-peer="0,$NETVM_MAC" --eth-peer="1,$GUEST_MAC" --tx-ip="$GUEST_IP,$NETVM_IP" \
    --txpkts="$2" --total-num-mbufs=16384 --burst=64 --txd=1024 --rxd=1024 \
    <"$work/commands-$run" >"$gen" 2>&1 &
  generator=$!
  exec 9>"$work/commands-$run"
  wait_until 30 grep -q 'testpmd>' "$gen" || fail "the generator did not start" "$gen"
  echo "start tx_first 8" >&9
  sleep 1
  # It says how many frames a second came since it was last asked, by its own clock.
  echo "show port stats all" >&9
  if $best; then
    for _ in $(seq $((seconds * 5))); do
      sleep 0.2
      echo "show port stats all" >&9
    done
  else
    sleep "$seconds"
    echo "show port stats all" >&9
  fi
  printf 'stop\nquit\n' >&9
  exec 9>&-
  wait_until 10 ended "$generator" || true
  stop "$generator"
  generator=""
  "stop_$1"
  dut=""
  # Both ports are shown at a time; the first time there is nothing to compare with, and it says 0.
  rate=$(awk '/Forward statistics|Telling cores/ { exit }
    /Rx-pps:/ { sum += $2; if (++ports % 2 == 0) { if (sum > best) best = sum; sum = 0 } }
    END { print best + 0 }' "$gen")
  [ "$rate" -gt 0 ] || fail "no frame came through" "$log/dut-$run.log"
  run=$((run + 1))
}
ended() { ! kill -0 "$1" 2>/dev/null; }
fail() { # what, log
  echo "$1:" >&2
  tail -n 20 "$2" >&2
  exit 1
}

# What the link is and can.
link_help=$("$link" --help)
sandbox=required
offers_packed() {
  local features
  features=$("$netvm" bench --quick --only throughput --sizes 64 --json 2>/dev/null |
    sed -n 's/.*"offered_features": \([0-9]*\).*/\1/p')
  [ $((${features:-0} >> 34 & 1)) = 1 ]
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

for row in "${rows[@]}"; do
  case $row in
    64-split | 64-packed | 1518-split) bytes=${row%-*} ring=${row#*-} ;;
    *) usage >&2; exit 2 ;;
  esac
  if [ "$ring" = packed ] && ! offers_packed; then
    echo "skip  $row: the link does not offer packed rings (VIRTIO_F_RING_PACKED)"
    continue
  fi
  : >"$work/ratios"
  : >"$work/costs"
  for pair in $(seq "$pairs"); do
    # Which one goes first changes, so that a machine that warms up or slows down favours neither.
    order=(dpdk link)
    [ $((pair % 2)) = 1 ] || order=(link dpdk)
    for device in "${order[@]}"; do
      carry "$device" "$bytes" "$ring"
      declare "${device}_rate=$rate" "${device}_cost=${cost:-0}"
    done
    ratio=$(awk -v l="$link_rate" -v d="$dpdk_rate" 'BEGIN { printf "%.3f", l / d }')
    echo "$ratio" >>"$work/ratios"
    if [ "$link_cost" != 0 ] && [ "$dpdk_cost" != 0 ]; then
      awk -v l="$link_cost" -v d="$dpdk_cost" 'BEGIN { printf "%.3f %s %s\n", d / l, l, d }' >>"$work/costs"
    fi
    echo "pair  $row $pair/$pairs: netvm-link $link_rate frames/s, DPDK $dpdk_rate frames/s, $ratio;" \
      "a frame costs $link_cost and $dpdk_cost ns" >&2
  done
  echo "ratio $row $(median <"$work/ratios") (median of $pairs pairs; lowest $(sort -n "$work/ratios" | head -n 1), highest $(sort -n "$work/ratios" | tail -n 1))"
  if [ -s "$work/costs" ]; then
    echo "cost  $row $(awk '{ print $1 }' "$work/costs" | median) (median of DPDK's ns a frame by netvm-link's;" \
      "$(awk '{ print $3 }' "$work/costs" | median) and $(awk '{ print $2 }' "$work/costs" | median))"
  fi
done
