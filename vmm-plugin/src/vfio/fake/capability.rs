//! Bytes of capabilities, without their two bytes of header, for [`Shape`](super::Shape).

/// Power management (PCI Power Management 1.2, 3.2): version 3, PME from D3, D1 and D2.
#[must_use]
pub fn power() -> (u8, Vec<u8>) {
    (0x01, vec![0x03, 0xfe, 0x08, 0x01, 0, 0])
}

/// MSI with `1 << log2` messages, 64 bit addresses, and per-vector masking if `maskable`.
#[must_use]
pub fn msi(log2: u8, maskable: bool) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; if maskable { 22 } else { 12 }];
    bytes[0] = 0x80 | log2 << 1;
    bytes[1] = maskable.into();
    (0x05, bytes)
}

/// MSI-X with `count` vectors; `table` and `pending` are BAR and offset, a multiple of 8.
#[must_use]
pub fn msix(count: u16, table: (u8, u32), pending: (u8, u32)) -> (u8, Vec<u8>) {
    let mut bytes = (count.wrapping_sub(1) & 0x7ff).to_le_bytes().to_vec();
    bytes.extend((table.1 | u32::from(table.0)).to_le_bytes());
    bytes.extend((pending.1 | u32::from(pending.0)).to_le_bytes());
    (0x11, bytes)
}

/// PCIe, version 2, an endpoint with function-level reset.
#[must_use]
pub fn express() -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 0x3a];
    bytes[0] = 2;
    // Device capabilities: function-level reset, payload of 256 bytes.
    bytes[2..6].copy_from_slice(&0x1000_0001_u32.to_le_bytes());
    // Device control: read requests of 512 bytes, relaxed ordering.
    bytes[6..8].copy_from_slice(&0x2010_u16.to_le_bytes());
    // Link capabilities and status: 2.5 GT/s, one lane.
    bytes[10..14].copy_from_slice(&0x11_u32.to_le_bytes());
    bytes[16..18].copy_from_slice(&0x11_u16.to_le_bytes());
    (0x10, bytes)
}

/// Vendor-specific: its length, then `bytes`.
#[must_use]
pub fn vendor(bytes: &[u8]) -> (u8, Vec<u8>) {
    let length = u8::try_from(bytes.len() + 3).unwrap_or(u8::MAX);
    (0x09, [&[length], bytes].concat())
}
