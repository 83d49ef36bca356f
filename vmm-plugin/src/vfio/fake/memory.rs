//! A region's bytes.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::invalid;
use crate::mapping::Mapping;
use crate::vfio::{Area, RegionInfo, VfioError};

/// Memory of a region: read, written and mapped, always the same bytes.
#[derive(Debug)]
pub(super) struct Memory {
    pub info: RegionInfo,
    file: Arc<OwnedFd>,
    bytes: Mapping,
    mapped: Mutex<Vec<Weak<Mapping>>>,
}

impl Memory {
    pub fn new(size: u64, mappable: Vec<Area>) -> std::io::Result<Self> {
        let file = Arc::new(memfd_create("fake region", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, size.next_multiple_of(0x1_0000))?;
        let bytes = Mapping::of_file(&file, 0, size, true).map_err(std::io::Error::other)?;
        let info =
            RegionInfo { size, readable: true, writable: true, mappable, msix_mappable: true };
        Ok(Self { info, file, bytes, mapped: Mutex::default() })
    }

    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), VfioError> {
        self.bytes.read(offset, data).map_err(|error| {
            data.fill(0xff);
            VfioError::OutOfBounds { what: error.to_string() }
        })
    }

    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), VfioError> {
        let out = |error: crate::mapping::MappingError| VfioError::OutOfBounds {
            what: error.to_string(),
        };
        self.bytes.write(offset, data).map_err(out)
    }

    pub fn map(&self, area: Area) -> Result<Arc<Mapping>, VfioError> {
        let what = || format!("mapping {:#x} bytes at {:#x}", area.size, area.offset);
        let end = area.offset.checked_add(area.size).ok_or_else(|| invalid(what()))?;
        let inside = |outer: &Area| {
            outer.offset <= area.offset && end <= outer.offset.saturating_add(outer.size)
        };
        if !self.info.mappable.iter().any(inside)
            || !(area.offset | area.size).is_multiple_of(0x1000)
        {
            return Err(invalid(what()));
        }
        let mapping = Mapping::of_file(&self.file, area.offset, area.size, true)
            .map_err(|error| invalid(error.to_string()))?;
        let mapping = Arc::new(mapping);
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.retain(|mapping| mapping.strong_count() > 0);
        mapped.push(Arc::downgrade(&mapping));
        Ok(mapping)
    }

    /// Mappings that somebody still has.
    pub fn mappings(&self) -> usize {
        let mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.iter().filter(|mapping| mapping.strong_count() > 0).count()
    }
}
