//! The legacy interface's address space: a container of groups (`/dev/vfio/vfio`, type 1).

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_TYPE1v2_IOMMU, vfio_iommu_type1_dma_unmap,
};

use super::capability::{limits, word};
use super::{Access, AddressSpace, AttachedGroup, Group, Limits, VfioError, sys};
use crate::mapping::Mapping;
use crate::vmm::VfioFiles;

/// `struct vfio_iommu_type1_info` without capabilities, as old kernels have it.
const INFO: usize = 16;
/// Most bytes of capabilities that are read: thousands of ranges.
const MOST: usize = 1 << 20;

/// An open container. Its mappings are those of all its groups, and end when it is closed or its
/// last group leaves.
#[derive(Debug)]
pub struct Container {
    file: OwnedFd,
    /// Held while a group comes: the first one decides the kind of IOMMU.
    attaching: Mutex<()>,
}

impl Container {
    /// Opens `/dev/vfio/vfio`.
    ///
    /// # Errors
    /// No VFIO, no permission, or not with type 1 IOMMUs.
    pub fn open() -> Result<Self, VfioError> {
        let path = PathBuf::from("/dev/vfio/vfio");
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|source| {
            let advice = "load the modules vfio-pci and vfio_iommu_type1";
            VfioError::Open { path, advice, source }
        })?;
        Self::of_file(file.into())
    }

    /// The container behind `file`, which somebody else opened, and may have groups already.
    ///
    /// # Errors
    /// Not a container, or not with type 1 IOMMUs.
    pub fn of_file(file: OwnedFd) -> Result<Self, VfioError> {
        let version = sys::api_version(file.as_fd())
            .map_err(VfioError::refused("asking a VFIO container for its version"))?;
        if version != VFIO_API_VERSION {
            return Err(VfioError::Unsupported {
                what: format!("version {version} of VFIO"),
                why: "this crate knows version 0",
            });
        }
        let has = sys::has_extension(file.as_fd(), VFIO_TYPE1v2_IOMMU)
            .map_err(VfioError::refused("asking a VFIO container for type 1 IOMMUs"))?;
        if !has {
            return Err(VfioError::Unsupported {
                what: "this kernel's VFIO".to_owned(),
                why: "it has no type 1 IOMMU: load the module vfio_iommu_type1",
            });
        }
        Ok(Self { file, attaching: Mutex::new(()) })
    }

    /// Puts `group` into the container and, when there is one, tells the hypervisor.
    ///
    /// # Errors
    /// The kernel refuses, for example because the IOMMU cannot share the container's mappings,
    /// or without interrupt remapping. The group is closed then.
    pub fn attach(
        self: &Arc<Self>,
        group: Group,
        hypervisor: Option<Arc<dyn VfioFiles>>,
    ) -> Result<Arc<AttachedGroup>, VfioError> {
        let number = group.number();
        let attaching = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
        sys::set_container(group.as_fd(), self.as_fd()).map_err(VfioError::refused(format!(
            "putting IOMMU group {number} into a container"
        )))?;
        if self.info().is_err() {
            let what = format!("using the IOMMU for group {number}");
            sys::set_iommu(self.as_fd(), VFIO_TYPE1v2_IOMMU)
                .map_err(VfioError::not_used(what, "vfio_iommu_type1"))?;
        }
        drop(attaching);
        AttachedGroup::new(group, Arc::clone(self), hypervisor).map(Arc::new)
    }

    /// `group`, which was put into this container by whoever opened both.
    ///
    /// # Errors
    /// The hypervisor cannot be told.
    pub fn adopt(
        self: &Arc<Self>,
        group: Group,
        hypervisor: Option<Arc<dyn VfioFiles>>,
    ) -> Result<Arc<AttachedGroup>, VfioError> {
        AttachedGroup::new(group, Arc::clone(self), hypervisor).map(Arc::new)
    }

    /// `VFIO_IOMMU_GET_INFO`, with the capabilities.
    fn info(&self) -> Result<Vec<u8>, VfioError> {
        let mut length = INFO;
        loop {
            let mut answer = vec![0; length];
            sys::call_tailed(self.as_fd(), sys::Tailed::HotResetInfoOrIommuInfo, &mut answer)
                .map_err(VfioError::refused(
                    "asking a container for its IOMMU (it has one when it has a group)",
                ))?;
            match word(&answer, 0).and_then(|wanted| usize::try_from(wanted).ok()) {
                Some(wanted) if wanted > length && wanted <= MOST => length = wanted,
                _ => return Ok(answer),
            }
        }
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AddressSpace for Container {
    fn limits(&self) -> Result<Limits, VfioError> {
        limits(&self.info()?).ok_or(VfioError::Unsupported {
            what: "this kernel's VFIO".to_owned(),
            why: "it says nothing about its IOMMU",
        })
    }

    fn map(&self, iova: u64, memory: &Mapping, access: Access) -> Result<(), VfioError> {
        sys::map_dma(self.as_fd(), iova, memory, access).map_err(VfioError::refused(format!(
            "mapping {:#x} bytes for DMA at {iova:#x}",
            memory.size()
        )))
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<(), VfioError> {
        let what = format!("unmapping {size:#x} bytes for DMA at {iova:#x}");
        let mut argument = vfio_iommu_type1_dma_unmap { iova, size, ..Default::default() };
        sys::call(self.as_fd(), &mut argument).map_err(VfioError::refused(what.as_str()))?;
        if argument.size == size {
            Ok(())
        } else {
            Err(VfioError::OutOfBounds {
                what: format!("{what}: {:#x} were mapped there; the rest", argument.size),
            })
        }
    }
}
