//! The seam over kvm-ioctls: [`KvmSlots`], [`KvmInterrupts`], [`KvmVfioFiles`], and for devices of a
//! VMM's own [`KvmDoorbells`].

mod doorbells;
mod files;
mod interrupts;
mod routing;
mod slots;
mod sys;

pub use self::doorbells::KvmDoorbells;
pub use self::files::KvmVfioFiles;
pub use self::interrupts::KvmInterrupts;
#[cfg(target_arch = "x86_64")]
pub use self::routing::pc_pins;
pub use self::slots::KvmSlots;
