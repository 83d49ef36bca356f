//! The ioctls of `linux/vfio.h` and `linux/iommufd.h`, each with the argument that the kernel
//! expects for it.
//!
//! vfio-ioctls 0.10 has most of them, but privately. Its `VfioDevice` logs errors instead of
//! returning them, panics when it is dropped after its device vanished, and leaves a group in its
//! container when opening fails midway; its `VfioContainer` cannot be made of a descriptor that
//! somebody else opened, and lets nobody but `VfioDevice` put a group into it. So only the
//! structures come from libraries, vfio-bindings and iommufd-bindings.
#![expect(unsafe_code, reason = "ioctls")]

use std::ffi::{CStr, c_int, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use iommufd_bindings::{
    IOMMUFD_CMD_DESTROY, IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_IOVA_RANGES,
    IOMMUFD_CMD_IOAS_MAP, IOMMUFD_CMD_IOAS_UNMAP, iommu_destroy, iommu_ioas_alloc,
    iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_unmap, iommu_iova_range,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE,
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_info, vfio_group_status,
    vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap, vfio_irq_info,
};
use vmm_sys_util::ioctl::{
    _IOC_NONE, ioctl, ioctl_expr, ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ptr,
    ioctl_with_ref, ioctl_with_val,
};

use super::Access;
use crate::mapping::Mapping;

/// Request `number` of VFIO or of iommufd, which share their type.
const fn request(number: u32) -> c_ulong {
    ioctl_expr(_IOC_NONE, VFIO_TYPE as u32, number, 0)
}

/// An ioctl's result.
fn result(returned: c_int) -> io::Result<u32> {
    u32::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// A structure that starts with its own length, and that one request takes.
///
/// # Safety
/// For that request the kernel reads and writes nothing but the structure, up to its length, and
/// what it writes are integers.
pub(super) unsafe trait Argument {
    /// The request's number.
    const NUMBER: u32;
    /// Writes the length.
    fn set_length(&mut self, length: u32);
}

macro_rules! argument {
    ($structure:ty, $length:ident, $number:expr) => {
        // SAFETY: integers without pointers; the kernel keeps to the length.
        unsafe impl Argument for $structure {
            const NUMBER: u32 = $number;
            fn set_length(&mut self, length: u32) {
                self.$length = length;
            }
        }
    };
}

argument!(vfio_group_status, argsz, VFIO_BASE + 3);
argument!(vfio_device_info, argsz, VFIO_BASE + 7);
argument!(vfio_irq_info, argsz, VFIO_BASE + 9);
argument!(vfio_iommu_type1_dma_unmap, argsz, VFIO_BASE + 14);
argument!(vfio_device_bind_iommufd, argsz, VFIO_BASE + 18);
argument!(vfio_device_attach_iommufd_pt, argsz, VFIO_BASE + 19);
argument!(iommu_destroy, size, IOMMUFD_CMD_DESTROY);
argument!(iommu_ioas_alloc, size, IOMMUFD_CMD_IOAS_ALLOC);
argument!(iommu_ioas_unmap, size, IOMMUFD_CMD_IOAS_UNMAP);

/// The request of `argument`'s type, with its length filled in.
pub(super) fn call<A: Argument>(file: BorrowedFd<'_>, argument: &mut A) -> io::Result<()> {
    argument.set_length(length_of::<A>());
    // SAFETY: `argument` is borrowed for the call, and the trait promises that the kernel keeps
    // to it.
    result(unsafe { ioctl_with_mut_ref(&file, request(A::NUMBER), argument) }).map(|_| ())
}

const fn length_of<T>() -> u32 {
    // All of these structures are a few dozen bytes.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the assertion")]
    const {
        assert!(size_of::<T>() < 4096);
        size_of::<T>() as u32
    }
}

/// Requests whose argument is a header, which starts with the length of all of it, and a tail.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tailed {
    /// `struct vfio_region_info` and its capabilities.
    RegionInfo = 8,
    /// `struct vfio_irq_set` and its data.
    SetInterrupts = 10,
    /// On a device `struct vfio_pci_hot_reset_info` and its devices; on a container `struct
    /// vfio_iommu_type1_info` and its capabilities.
    HotResetInfoOrIommuInfo = 12,
}

/// A request with a tail; the first word becomes the length of `argument`, whatever it was.
pub(super) fn call_tailed(
    file: BorrowedFd<'_>,
    which: Tailed,
    argument: &mut [u8],
) -> io::Result<()> {
    let length = u32::try_from(argument.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The shortest header of them; the kernel refuses what is too short for its own.
    let (first, _) = argument.split_first_chunk_mut::<4>().ok_or(io::ErrorKind::InvalidInput)?;
    *first = length.to_ne_bytes();
    let number = request(VFIO_BASE + which as u32);
    // SAFETY: the kernel reads and writes at most the length that the first word says, for each
    // of these requests (it checks SET_IRQS's count against it), and all of it is borrowed here.
    match result(unsafe { ioctl_with_mut_ptr(&file, number, argument.as_mut_ptr()) })? {
        0 => Ok(()),
        // SET_IRQS alone: so many vectors are to be had, fewer than asked for, and none was set.
        available => Err(io::Error::other(format!("the host has {available} vectors left"))),
    }
}

/// `VFIO_GET_API_VERSION`.
pub(super) fn api_version(container: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: no argument.
    result(unsafe { ioctl(&container, request(VFIO_BASE)) })
}

/// `VFIO_CHECK_EXTENSION`.
pub(super) fn has_extension(container: BorrowedFd<'_>, extension: u32) -> io::Result<bool> {
    // SAFETY: the argument is a number.
    let has = unsafe { ioctl_with_val(&container, request(VFIO_BASE + 1), extension.into()) };
    Ok(result(has)? > 0)
}

/// `VFIO_SET_IOMMU`.
pub(super) fn set_iommu(container: BorrowedFd<'_>, kind: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    result(unsafe { ioctl_with_val(&container, request(VFIO_BASE + 2), kind.into()) }).map(|_| ())
}

/// `VFIO_GROUP_SET_CONTAINER`.
pub(super) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    let container = container.as_raw_fd();
    // SAFETY: the argument is a descriptor's number, borrowed for the call.
    result(unsafe { ioctl_with_ref(&group, request(VFIO_BASE + 4), &container) }).map(|_| ())
}

/// `VFIO_GROUP_GET_DEVICE_FD`.
pub(super) fn device(group: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the argument is a string that ends with a zero, borrowed for the call.
    let file = unsafe { ioctl_with_ptr(&group, request(VFIO_BASE + 6), name.as_ptr()) };
    result(file)?;
    // SAFETY: the kernel just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// `VFIO_DEVICE_RESET`.
pub(super) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no argument.
    result(unsafe { ioctl(&device, request(VFIO_BASE + 11)) }).map(|_| ())
}

/// `VFIO_DEVICE_PCI_HOT_RESET`: what it reads is bounded by a count of its own, not by the length.
pub(super) fn hot_reset(device: BorrowedFd<'_>, groups: &[BorrowedFd<'_>]) -> io::Result<()> {
    let count = u32::try_from(groups.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = count.checked_add(3).and_then(|words| words.checked_mul(4));
    let mut words: Vec<u32> = vec![length.ok_or(io::ErrorKind::InvalidInput)?, 0, count];
    words.extend(groups.iter().map(|group| group.as_raw_fd().cast_unsigned()));
    // SAFETY: the kernel reads three words and `count` more, which is what the vector has.
    result(unsafe { ioctl_with_ptr(&device, request(VFIO_BASE + 13), words.as_ptr()) }).map(|_| ())
}

/// `VFIO_IOMMU_MAP_DMA`.
///
/// The kernel pins the pages, so they stay what they are until they are unmapped, even if
/// `memory` goes first; and nothing in Rust borrows the bytes of a [`Mapping`].
pub(super) fn map_dma(
    container: BorrowedFd<'_>,
    iova: u64,
    memory: &Mapping,
    access: Access,
) -> io::Result<()> {
    let flags = match access {
        Access::ReadOnly => VFIO_DMA_MAP_FLAG_READ,
        Access::ReadWrite => VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    };
    let argument = vfio_iommu_type1_dma_map {
        argsz: length_of::<vfio_iommu_type1_dma_map>(),
        flags,
        vaddr: memory.address(),
        iova,
        size: memory.size(),
    };
    // SAFETY: the kernel reads the structure, which is borrowed for the call, and lends the
    // mapping's bytes to devices, which is what a mapping is for.
    result(unsafe { ioctl_with_ref(&container, request(VFIO_BASE + 13), &argument) }).map(|_| ())
}

/// `IOMMU_IOAS_MAP` at a fixed address; as [`map_dma`].
pub(super) fn map_ioas(
    iommufd: BorrowedFd<'_>,
    ioas: u32,
    iova: u64,
    memory: &Mapping,
    access: Access,
) -> io::Result<()> {
    let flags = match access {
        Access::ReadOnly => FIXED_IOVA | READABLE,
        Access::ReadWrite => FIXED_IOVA | READABLE | WRITEABLE,
    };
    let mut argument = iommu_ioas_map {
        size: length_of::<iommu_ioas_map>(),
        flags,
        ioas_id: ioas,
        __reserved: 0,
        user_va: memory.address(),
        length: memory.size(),
        iova,
    };
    let number = request(IOMMUFD_CMD_IOAS_MAP);
    // SAFETY: the kernel reads and writes the structure, which is borrowed for the call, and
    // lends the mapping's bytes to devices, which is what a mapping is for.
    result(unsafe { ioctl_with_mut_ref(&iommufd, number, &mut argument) }).map(|_| ())
}

/// `IOMMU_IOAS_IOVA_RANGES`: the alignment, how many ranges there are, and as many of them as
/// `ranges` has room for.
pub(super) fn iova_ranges(
    iommufd: BorrowedFd<'_>,
    ioas: u32,
    ranges: &mut [iommu_iova_range],
) -> io::Result<(u64, u32)> {
    let room = u32::try_from(ranges.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut argument = iommu_ioas_iova_ranges {
        size: length_of::<iommu_ioas_iova_ranges>(),
        ioas_id: ioas,
        num_iovas: room,
        __reserved: 0,
        allowed_iovas: ranges.as_mut_ptr() as u64,
        out_iova_alignment: 0,
    };
    let number = request(IOMMUFD_CMD_IOAS_IOVA_RANGES);
    // SAFETY: the kernel writes the structure and at most `num_iovas` ranges, which `ranges` has;
    // both are borrowed for the call.
    let done = result(unsafe { ioctl_with_mut_ref(&iommufd, number, &mut argument) });
    match done {
        // EMSGSIZE: there are more, and `num_iovas` says how many.
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {
            Err(error)
        }
        _ => Ok((argument.out_iova_alignment, argument.num_iovas)),
    }
}

/// The descriptor of `device`.
#[cfg(feature = "vfio-ioctls")]
pub(super) fn descriptor(device: &vfio_ioctls::VfioDevice) -> BorrowedFd<'_> {
    // SAFETY: the device owns its file, never hands it over, and closes it when it is dropped,
    // which it cannot be while it is borrowed. A `File`'s descriptor is not -1.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}
