//! User, group, capabilities and limits.

use caps::CapSet;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, geteuid, getrlimit, set_dumpable_behavior,
    setrlimit,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{Identity, PartError};

/// Descriptors a link may have open: two frontends with 509 memory regions and a few eventfds
/// each, and messages in flight.
const MAX_FDS: u64 = 1280;

/// Limits what the process may use: no core dumps (they would hold the guests' memory), and few
/// descriptors. There is no limit on file sizes, as standard error may be a file.
pub fn limit() -> Result<(), PartError> {
    let set = |resource, value: u64| {
        // Without privilege a limit can be lowered only.
        let value = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .map_err(PartError::system("set resource limits"))
    };
    set(Resource::Core, 0)?;
    set(Resource::Nofile, MAX_FDS)
}

/// Becomes `identity`, with no supplementary group; drops every capability from every set, the
/// bounding set included; sees to it that none comes back, and that no process of the same user
/// can look into this one.
pub fn drop_all(identity: Option<Identity>) -> Result<(), PartError> {
    let was_root = geteuid().is_root();
    // Needs CAP_SETPCAP, so it goes before the user changes.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false) {
        caps::clear(None, CapSet::Bounding).map_err(PartError::Capabilities)?;
    }
    if let Some(Identity { uid, gid }) = identity {
        let action = PartError::system("change the group");
        let gid = Gid::from_raw(gid);
        set_thread_groups(&[]).map_err(PartError::system("drop supplementary groups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(action)?;
        let uid = Uid::from_raw(uid);
        set_thread_res_uid(uid, uid, uid).map_err(PartError::system("change the user"))?;
    }
    caps::clear(None, CapSet::Ambient).map_err(PartError::Capabilities)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(PartError::Capabilities)?;
    }
    set_no_new_privs(true).map_err(PartError::system("set no_new_privs"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(PartError::system("become not dumpable"))?;
    if was_root && identity.is_none() { Err(PartError::Root) } else { Ok(()) }
}
