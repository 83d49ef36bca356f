# A PC without an IOMMU: nothing would confine the NIC's DMA.
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim refused "$([ $code = 3 ] && echo "$said" | grep -q R1 && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 R1)"
claim untouched "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "driver $(driver_of $nic)"
said=$(minivmm --kernel "$(ls /rig/guest/vmlinu[xz] | head -n 1)" --memory 64 --vfio $nic 2>&1)
code=$?
claim minivmm "$([ $code = 1 ] && echo "$said" | grep -q "no IOMMU group.*firmware" && echo pass || echo fail)" "exit $code: $said"
