//! [`VfioFiles`] of a KVM guest: KVM's own VFIO device.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{
    KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_create_device,
    kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::{DeviceFd, VmFd};

use crate::vmm::{SeamError, VfioFiles};

/// KVM's VFIO device, of which a guest has at most one.
pub struct KvmVfioFiles {
    device: DeviceFd,
}

impl KvmVfioFiles {
    /// Makes the device.
    ///
    /// # Errors
    /// The guest has one already (then take that: [`KvmVfioFiles::of`]), or KVM was built
    /// without VFIO.
    pub fn new(vm: &VmFd) -> Result<Self, SeamError> {
        let mut kind =
            kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 };
        let device = vm.create_device(&mut kind).map_err(|error| {
            SeamError::because("KVM makes no VFIO device", io::Error::from(error))
        })?;
        Ok(Self { device })
    }

    /// The device that the VMM made already.
    #[must_use]
    pub fn of(device: DeviceFd) -> Self {
        Self { device }
    }

    fn set(&self, attribute: u32, file: BorrowedFd<'_>) -> Result<(), SeamError> {
        let number = file.as_raw_fd();
        let attribute = kvm_device_attr {
            flags: 0,
            group: KVM_DEV_VFIO_FILE,
            attr: attribute.into(),
            addr: (&raw const number) as u64,
        };
        self.device.set_device_attr(&attribute).map_err(|error| {
            let what = format!("KVM refuses VFIO file {number} (attribute {})", attribute.attr);
            SeamError::because(what, io::Error::from(error))
        })
    }
}

impl fmt::Debug for KvmVfioFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvmVfioFiles({})", self.device.as_raw_fd())
    }
}

impl VfioFiles for KvmVfioFiles {
    fn add(&self, file: BorrowedFd<'_>) -> Result<(), SeamError> {
        self.set(KVM_DEV_VFIO_FILE_ADD, file)
    }

    fn remove(&self, file: BorrowedFd<'_>) -> Result<(), SeamError> {
        self.set(KVM_DEV_VFIO_FILE_DEL, file)
    }
}
