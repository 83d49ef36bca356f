//! The uncompressed kernel inside a bzImage.
//!
//! A guest of the emulated PC spends seconds on decompressing its kernel. QEMU and
//! cloud-hypervisor start the uncompressed ELF file directly through its PVH entry
//! (Documentation/arch/x86/boot.rst, "payload_offset"; boot protocol 2.08 and later).

use std::io::Read;

/// Largest uncompressed kernel accepted, in bytes: several times what distributions ship.
const LIMIT: u64 = 512 << 20;

/// Extracts the ELF file, or gives nothing for an image that is compressed in a way this does not
/// know, or is not a bzImage at all: the caller boots the image as it is then.
pub(crate) fn extract(image: &[u8]) -> Option<Vec<u8>> {
    if image.get(0x202..0x206)? != b"HdrS" || u16_at(image, 0x206)? < 0x0208 {
        return None;
    }
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = ((setup_sectors + 1) * 512).checked_add(u32_at(image, 0x248)?)?;
    let payload = image.get(start..start.checked_add(u32_at(image, 0x24c)?)?)?;
    let mut elf = Vec::new();
    // Behind the compressed stream lies its uncompressed size: stop at the stream's own end.
    if payload.starts_with(b"\xfd7zXZ\0") {
        lzma_rust2::XzReader::new(payload, false).take(LIMIT).read_to_end(&mut elf).ok()?;
    } else if payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::stream::read::Decoder::with_buffer(payload).ok()?.single_frame();
        decoder.take(LIMIT).read_to_end(&mut elf).ok()?;
    }
    elf.starts_with(b"\x7fELF").then_some(elf)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<usize> {
    let value = u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?);
    usize::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn extract_zstd_payload_followed_by_its_size_is_found() {
        let elf = b"\x7fELF and the rest".repeat(100);
        let mut payload = zstd::encode_all(elf.as_slice(), 3).unwrap();
        payload.extend_from_slice(&[1, 2, 3, 4]);
        assert_eq!(extract(&bzimage(&payload)), Some(elf));
    }

    #[test]
    fn extract_unknown_or_cut_payload_gives_nothing() {
        let mut payload = zstd::encode_all(b"\x7fELF".as_slice(), 3).unwrap();
        payload.truncate(8);
        assert_eq!(extract(&bzimage(&payload)), None);
        assert_eq!(extract(&bzimage(b"something else")), None);
        assert_eq!(extract(b"\x7fELF"), None);
        let mut beyond = bzimage(b"short");
        beyond[0x24f] = 0xff;
        assert_eq!(extract(&beyond), None);
    }
}
