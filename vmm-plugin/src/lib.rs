//! The host side of giving a NIC away: sysfs facts, preflight, journaled driver binding.
