#!/usr/bin/env bash
# Fetches Debian's arm64 kernel, its modules and board trees, and busybox, into the directory $1, and unpacks them:
#   $1/root/boot/vmlinuz-*  $1/root/lib/modules/*  $1/root/usr/lib/linux-image-*/*/*.dtb  $1/root/bin/busybox
# Nothing is installed, and this machine's apt keeps its architecture: apt gets a private root below $1. What is there
# already is not fetched again; remove $1 for a newer kernel.
set -euo pipefail
cache=$1
# Of this release, whatever this machine runs: its apt sources and keys are read, its package state is not.
packages=(linux-image-arm64 busybox-static)
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

exec 9>"$cache/lock"
flock 9
if [ -e "$cache/root/complete" ]; then exit 0; fi

private=$cache/apt
mkdir -p "$private"/{lists/partial,archives/partial,state,dpkg}
: >"$private/dpkg/status"
# Only Debian's own archive: a machine may know others that have no arm64. Ubuntu keeps arm64 on another host.
apt_arm64() {
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
    -o Dir::State="$private/state" -o Dir::State::lists="$private/lists" \
    -o Dir::State::status="$private/dpkg/status" -o Dir::Cache="$private" \
    -o Dir::Cache::archives="$private/archives" -o Dir::Etc::sourcelist="$private/sources.list" \
    -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root -o Debug::NoLocking=1 "$@"
}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(sed -n 's/^URIs: *\([^ ]*\/debian\)\/\{0,1\} *$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} bookworm main" >"$private/sources.list"
apt_arm64 update
# The package of that name only depends on the one with the kernel.
kernel=$(apt-cache -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$private/state" \
  -o Dir::State::lists="$private/lists" -o Dir::State::status="$private/dpkg/status" -o Dir::Cache="$private" \
  -o Dir::Etc::sourcelist="$private/sources.list" -o Dir::Etc::sourceparts=- \
  depends "${packages[0]}" | sed -n 's/^ *Depends: \(linux-image-[0-9].*-arm64\).*/\1/p' | head -1)
[ -n "$kernel" ] || { echo "Debian's archive names no arm64 kernel" >&2; exit 1; }
(cd "$private/archives" && apt_arm64 download "$kernel" "${packages[1]}")
rm -rf "$cache/root"
mkdir "$cache/root"
for package in "$private"/archives/*_arm64.deb; do dpkg-deb -x "$package" "$cache/root"; done
rm -f "$private"/archives/*.deb
touch "$cache/root/complete"
