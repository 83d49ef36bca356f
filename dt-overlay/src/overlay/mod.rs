//! Overlays: applied, and made for the host and the guest of a NIC that is given away.

mod apply;
mod build;
mod clock;
mod guest;
mod host;
mod request;

pub use apply::apply;
pub use guest::{GuestVmm, guest_overlay, label};
pub use host::{NATIVE, PASSTHROUGH, host_overlay};
pub use request::{Choices, Request, choose};
