# Sourced: drivers for the devices that are there, without a device manager.

# coldplug: loads the modules that the devices' aliases name. Called again and again: a
# controller's driver brings new devices (USB). One modprobe for all that is new.
coldplug() {
	local now
	now=$(cat /sys/bus/pci/devices/*/modalias /sys/bus/usb/devices/*/modalias \
		/sys/bus/virtio/devices/*/modalias /sys/bus/platform/devices/*/modalias 2>/dev/null |
		sort -u)
	[ "$now" = "$coldplugged" ] && return 0
	coldplugged=$now
	modprobe -abq $now 2>/dev/null
	return 0
}
