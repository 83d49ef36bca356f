# A USB NIC: what can be given away is its host controller, and everything else on that controller goes along.
export NETVM_DECLARATION=$OUT/netvm.toml
step "A NIC declared by its USB vendor and product"
controller=0000:01:00.0
device=$(grep -l '^0525$' /sys/bus/usb/devices/*/idVendor | head -n 1)
id=$(cat "${device%idVendor}idVendor"):$(cat "${device%idVendor}idProduct")
note "the USB NIC is $id, its controller $controller has the driver $(driver_of $controller)"
printf 'scenario = "secure"\nnic = [{ usb = "%s" }]\nguest = [{ name = "a" }]\nnetvm = { vmm = "qemu" }\n' "$id" >"$NETVM_DECLARATION"
said=$(netvm check 2>&1)
code=$?
echo "$said"
claim resolves-to-controller "$([ $code = 0 ] && echo "$said" | grep -q "^NIC $controller" && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 '^NIC')"
claim names-the-nic "$(echo "$said" | grep -q "host controller of .*$id" && echo pass || echo fail)" "$(echo "$said" | grep -m 1 'host controller of')"
claim names-what-leaves-too "$(echo "$said" | grep "leaves the host with it" | grep -q QEMU && echo pass || echo fail)" "$(echo "$said" | grep 'leaves the host with it')"
claim untouched "$([ "$(driver_of $controller)" = xhci_hcd ] && echo pass || echo fail)" "driver $(driver_of $controller)"
