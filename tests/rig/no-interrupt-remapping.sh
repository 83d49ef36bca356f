# A PC whose IOMMU does not remap interrupts: a guest could inject them into the host.
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim refused "$([ $code = 3 ] && echo "$said" | grep -q R2 && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 R2)"
claim untouched "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "driver $(driver_of $nic)"
claim_that override-is-possible netvm check --allow-unsafe-interrupts
