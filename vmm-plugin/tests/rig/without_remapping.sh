# The same PC with intremap=off.
check() {
    give_away check /run/journal pci=0000:00:03.0 >/tmp/said; code=$?
    cat /tmp/said >&2
    grep REFUSED /tmp/said
    [ $code = 3 ]
}
claim_that refused check
claim_that refused-by-R2 grep -E 'REFUSED +R2 .*dmar0 cannot remap' /tmp/said
