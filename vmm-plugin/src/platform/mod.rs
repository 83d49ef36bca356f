//! A device of the host's device tree that a guest has: a NIC of a system on a chip.
//!
//! [`PlatformDevice`] maps the device's regions into the guest and routes its interrupts;
//! [`PlatformNode`] is what the guest's device tree has to say about it, plain data from which a
//! tree or an overlay is written. VFIO numbers regions and interrupts as the host's node has them
//! in `reg` and `interrupts`, and so does the guest's.
//!
//! # When interrupts begin
//! The kernel masks a level-triggered interrupt each time it comes, until the guest has
//! acknowledged it. A device that asserts while the guest's interrupt controller is not there yet
//! (GICv3 refuses injections until it is initialised), or is being reset, would stay masked for
//! ever: the guest's driver loads, the link comes up, and no packet ever arrives. So the device
//! gets no trigger before [`PlatformDevice::start`], which a VMM calls when the controller is
//! there; and [`PlatformDevice::unmask`] makes everything that is still asserted come again. It is
//! harmless at any time: call it after the guest's controller was reset or restored.

mod device;
mod host_node;
mod node;
mod placement;

pub use self::device::{AttachError, PlatformDevice, StartError};
pub use self::host_node::{HostNode, HostNodeError};
pub use self::node::{NodeInterrupt, NodeRegion, PlatformNode, Trigger};
pub use self::placement::{Line, Placement, PlacementError};
