//! A PCI function of the host's that a guest has.
//!
//! [`Function`] stands between a [`Device`](crate::vfio::Device) and a VMM's
//! [`Seam`](crate::vmm::Seam): the VMM sends it the guest's accesses to configuration space
//! ([`Function::config_read`], [`Function::config_write`]), and it places BARs, maps their pages
//! into the guest and routes interrupts. In steady state nothing is trapped: registers are mapped
//! and MSI-X goes from the host's kernel to the guest ([`Function::counters`] says whether that is
//! so). The guest, its driver and the device are all hostile; a guest that writes nonsense harms
//! itself only.
//!
//! # Configuration space
//! Every register that a guest sees is an entry of a table: which bits are emulated, which the
//! guest may write. Bytes without an entry read as zeros and are not written; bytes beyond the
//! end (256, or 4096 with PCIe) read as ones. Accesses of any width and alignment are the sum of
//! their bytes. Sections are those of PCI 3.0 and PCIe 5.0.
//!
//! | register | the guest reads | the guest writes |
//! |---|---|---|
//! | vendor, device, subsystem, class, revision (6.2.1) | the device's | nothing |
//! | COMMAND: I/O, memory (6.2.2) | what it wrote | decides whether BARs are placed; the device always decodes, so that no access finds it deaf |
//! | COMMAND: bus master | what it wrote, off at first | passed |
//! | COMMAND: parity, SERR#, INTx disable | what it wrote | passed |
//! | STATUS (6.2.3) | the device's, but for the capability list | ones clear |
//! | cache line size | the device's | passed |
//! | latency timer | what it wrote | kept: the bus is the host's |
//! | header type | 0: one function, the VMM says what is beside it | nothing |
//! | BIST | 0 | nothing: it stops the device for seconds |
//! | BARs (6.2.5.1) | emulated, with sizing | placed if decoding is on and the address is in the VMM's [`Windows`], else nowhere |
//! | expansion ROM (6.2.5.2) | 0 | nothing: it is code from the device for the host's processor |
//! | interrupt line | what it wrote | kept |
//! | interrupt pin | INTA if the VMM gave a line, else none | nothing |
//!
//! # Capabilities
//! The list is rebuilt from an allow-list; what is on it keeps its offset. Whatever is unknown,
//! does not fit where it is, or comes twice, is hidden.
//!
//! | capability | policy |
//! |---|---|
//! | power management | D0 and D3 are passed, BARs are nowhere in D3; D1, D2 and power management events are not offered: a wake-up is the host's |
//! | MSI, MSI-X (6.8) | emulated; as many vectors as the kernel has |
//! | PCIe (7.5.3) | read request size and ordering are passed; payload size, error reporting, link control are kept, because they concern the link and the host; function-level reset becomes [`Device::reset`](crate::vfio::Device::reset), and is offered if that is there; without a port ([`Policy::below_root_port`]) an integrated endpoint without a link |
//! | advanced features | function-level reset, likewise |
//! | vendor-specific | read; written by [`Policy::vendor_writes`] |
//! | vital product data | [`Policy::vital_product_data`], never written |
//! | extended: device serial number (7.9.3), vendor-specific (7.9.5) | read |
//! | extended: ATS, PRI, PASID | hidden: a device that translates addresses itself goes past the IOMMU |
//! | extended: SR-IOV | hidden: it makes functions that nobody has isolated |
//! | extended: resizable BAR | hidden: sizes are the host's bus windows' |
//! | extended: AER, DPC | hidden: errors are the host's, which tells with [`Function::errors`] |
//! | extended: ACS, ARI, multicast | hidden: they say which functions can reach which |
//! | extended: L1 substates, LTR, PTM, TPH, power budgeting | hidden: the link and its power are the host's |
//! | all others | hidden |
//!
//! # BARs
//! One trap lies over all of a placed BAR, and its direct pages over that, so a BAR works even
//! where the VMM runs out of slots. [`direct_areas`] alone decides which pages are direct.
//!
//! # Interrupts
//! A function has one of INTx, MSI and MSI-X at a time. Masked vectors stay pending in their
//! eventfd and are delivered when unmasked; the pending bits say so. A kernel that adds no vectors
//! later (`VFIO_IRQ_INFO_NORESIZE`) is asked for all at once.
//!
//! A VMM must be able to trust interrupt remapping of the host: a device can write any message
//! anywhere by DMA. [`crate::host::preflight`] checks that.

mod area;
mod bar;
mod capability;
mod express;
mod function;
mod header;
mod host_bridge;
pub mod index;
mod interrupting;
mod layout;
mod live;
mod msi;
mod msix;
mod options;
mod passed;
mod place;
mod policy;
mod register;
mod report;
mod reset;
mod trap;
mod vector;

pub use self::area::direct_areas;
pub use self::bar::{Bar, BarKind};
pub use self::function::{AttachError, Counters, Function};
pub use self::host_bridge::HostBridge;
pub use self::options::{Options, Windows};
pub use self::policy::Policy;
pub use self::report::Report;
pub use self::reset::{HostAddress, ResetError, ResetScope, foreign};
