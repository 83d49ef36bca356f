//! Builds initramfs images from installed Debian packages: netvm's own, and those of the rig.
