# Runs one scenario with the functions of lib.sh; init starts it in a session of its own.
. /rig/lib.sh
. "$OUT/script"
