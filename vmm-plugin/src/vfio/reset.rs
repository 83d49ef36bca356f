//! What a bus reset would reset (`VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`).

use std::io;
use std::os::fd::BorrowedFd;

use vfio_bindings::bindings::vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID;

use super::capability::word;
use super::{ResetPeer, VfioError, sys};

/// argsz, flags, count.
const HEADER: usize = 12;
/// `struct vfio_pci_dependent_device`.
const ENTRY: usize = 8;
/// Most functions that are listed: a bus has 256, and buses below it more.
const MOST: usize = 4096;

/// Everything that a reset of `device`'s bus would reset.
pub(super) fn peers(device: BorrowedFd<'_>, name: &str) -> Result<Vec<ResetPeer>, VfioError> {
    let refused = || VfioError::refused(format!("asking what a reset of {name}'s bus resets"));
    // Usually enough; the kernel says how many there are when it is not.
    let mut room = 8;
    loop {
        let mut answer = vec![0; HEADER + room * ENTRY];
        let done = sys::call_tailed(device, sys::Tailed::HotResetInfoOrIommuInfo, &mut answer);
        let count = word(&answer, 8).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        match done {
            Ok(()) => return Ok(parse(&answer, count)),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                if count <= room || count > MOST {
                    return Err(refused()(error));
                }
                room = count;
            }
            Err(error) => return Err(refused()(error)),
        }
    }
}

fn parse(answer: &[u8], count: usize) -> Vec<ResetPeer> {
    let by_device = word(answer, 4).unwrap_or(0) & VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0;
    let entries = answer.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY).take(count);
    entries
        .map(|entry| {
            let id = word(entry, 0).unwrap_or_default();
            // A device id is signed: 0 is one of ours that is not open, -1 somebody else's.
            let group = if by_device { id.cast_signed().into() } else { id.into() };
            let segment = u16::from_ne_bytes([entry[4], entry[5]]);
            ResetPeer { group, segment, bus: entry[6], devfn: entry[7] }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_devices_of_iommufd() {
        let mut answer: Vec<u8> = Vec::new();
        for word in [28_u32, 0, 2, 7, 0, u32::MAX, 0] {
            answer.extend(word.to_ne_bytes());
        }
        answer[18..20].copy_from_slice(&[3, 0x08]);
        let peers = parse(&answer, 2);
        assert_eq!(peers[0], ResetPeer { group: 7, segment: 0, bus: 3, devfn: 8 });
        assert_eq!(peers[1].group, i64::from(u32::MAX));
        answer[4] = 1;
        assert_eq!(parse(&answer, 2)[1].group, -1);
        assert_eq!(parse(&answer[..20], 2).len(), 1);
        assert_eq!(parse(&[], 2), []);
    }
}
