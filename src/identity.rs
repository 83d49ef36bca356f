//! Users and groups that exist only as numbers: every link and netvm's VMM have one of their own.

use std::os::unix::fs::MetadataExt as _;

use vmm_plugin::host::sysfs::Sysfs;

use crate::run::process::Identity;

/// The first of a range that no distribution, container runtime or directory service hands out (systemd's
/// "Users, Groups, UIDs and GIDs" lists 0x70000000 to 0x7fffffff as unused).
const BASE: u32 = 0x7000_0000;

/// Root.
pub const ROOT: Identity = Identity { uid: 0, gid: 0 };

/// Who the link at `index` runs as.
pub fn link(index: u32) -> Identity {
    let id = BASE + 1 + index;
    Identity { uid: id, gid: id }
}

/// Who netvm's VMM runs as: a user of its own unless the declaration names one, in the group that may use
/// `/dev/kvm`.
pub fn vmm(sysfs: &Sysfs, declared: Option<u32>) -> Identity {
    let uid = declared.unwrap_or(BASE);
    let group = std::fs::metadata(sysfs.path("/dev/kvm")).map(|metadata| metadata.gid());
    // The group root would be no restriction.
    let gid = group.ok().filter(|gid| *gid != 0).unwrap_or(uid);
    Identity { uid, gid }
}

/// Whether `identity` may open `/dev/kvm`, as far as its mode says.
pub fn may_use_kvm(sysfs: &Sysfs, identity: Identity) -> bool {
    std::fs::metadata(sysfs.path("/dev/kvm")).is_ok_and(|kvm| {
        let mode = kvm.mode();
        let read_write = |shift: u32| mode >> shift & 0o6 == 0o6;
        identity.uid == 0
            || (kvm.uid() == identity.uid && read_write(6))
            || (kvm.gid() == identity.gid && read_write(3))
            || read_write(0)
    })
}
