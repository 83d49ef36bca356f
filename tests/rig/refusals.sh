# What is refused, and that a refusal touches nothing.
export NETVM_DECLARATION=$OUT/netvm.toml
facts() { for device in /sys/bus/pci/devices/*; do echo "$device $(readlink "$device/driver") $(cat "$device/driver_override")"; done; }
before=$(facts)
refused() { # ID EXIT-CODE WORDS COMMAND...
    id=$1 code=$2 words=$3
    shift 3
    said=$("$@" 2>&1)
    got=$?
    echo "$said"
    if [ $got = "$code" ] && echo "$said" | grep -q "$words"; then
        claim "$id" pass "exit $got: $(echo "$said" | grep "$words" | head -n 1)"
    else
        claim "$id" fail "exit $got instead of $code, or without '$words': $(echo "$said" | tail -n 3)"
    fi
    [ "$(facts)" = "$before" ] || claim "$id-untouched" fail "a driver has changed"
    [ ! -e /run/netvm/journal ] || claim "$id-untouched" fail "there is a journal"
}
declare_nic() { printf 'scenario = "secure"\nnic = [{ pci = "%s" }]\nguest = [{ name = "a" }]\nnetvm = { vmm = "qemu" }\n' "$1" >"$NETVM_DECLARATION"; }

step "A declaration with errors"
printf 'scenario = "secure"\nnic = [{ pci = "0000:00:03.0" }]\nguest = [{ name = "a" }, { name = "a" }]\nspare_link = 2\n' >"$NETVM_DECLARATION"
refused duplicate-guest 2 "line\|netvm.toml:3\|:3:" netvm up
refused unknown-key 2 spare_link netvm up

step "Devices that must not leave the host"
declare_nic 0000:00:1f.2
refused south-bridge-group 3 "R3" netvm up
declare_nic 0000:00:1d.7
refused no-such-device 3 "0000:00:1d.7" netvm up

step "A NIC that the host uses"
declare_nic $nic
interface=$(ls /sys/bus/pci/devices/$nic/net)
ip link set "$interface" up
ip address add 10.0.2.15/24 dev "$interface"
refused nic-in-use 3 "R4" netvm up
export SSH_CONNECTION="10.0.2.2 4000 10.0.2.15 22"
refused nic-of-this-session 3 "D27" netvm up --take-from-host
unset SSH_CONNECTION
claim_that override-is-possible netvm check --take-from-host
ip address flush dev "$interface"
ip link set "$interface" down

step "The NIC alone in its group, not in use"
claim_that own-group-passes netvm check
