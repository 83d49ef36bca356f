//! Configuration spaces to order.

/// 4096 bytes of a function with these IDs. `word` looks up an argument: `header=1`,
/// `bus-master`, `pcie=root|up|down|bridge|endpoint`, `acs=CONTROL` (hexadecimal), `ats`,
/// `pri`, `pasid`, `gone`, `short` (only the 64 bytes shown without privilege).
pub fn space<'a>(ids: &str, class: &str, word: impl Fn(&str) -> Option<&'a str>) -> Vec<u8> {
    if word("gone").is_some() {
        return vec![0xff; 4096];
    }
    let number = |text: &str| u16::from_str_radix(text, 16).unwrap();
    let mut bytes = vec![0u8; 4096];
    let mut put = |offset: usize, value: u16| {
        bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    };
    let (vendor, device) = ids.split_once(':').unwrap();
    put(0x00, number(vendor));
    put(0x02, number(device));
    put(0x04, if word("bus-master").is_some() { 0x0406 } else { 0x0402 });
    put(0x08, number(&class[4..]) << 8 | 1);
    put(0x0a, number(&class[..4]));
    if word("header").is_some() {
        put(0x0e, 1);
    }
    if let Some(kind) = word("pcie") {
        let kind = match kind {
            "root" => 4,
            "up" => 5,
            "down" => 6,
            "bridge" => 7,
            _ => 0,
        };
        put(0x06, 1 << 4);
        put(0x34, 0x40);
        put(0x40, 0x0010);
        put(0x42, kind << 4 | 2);
    }
    let mut extended = Vec::new();
    for (name, id) in [("acs", 0x0d), ("ats", 0x0f), ("pri", 0x13), ("pasid", 0x1b)] {
        if let Some(value) = word(name) {
            extended.push((id, number(if value.is_empty() { "0" } else { value })));
        }
    }
    for (place, (id, control)) in extended.iter().enumerate() {
        let offset = 0x100 + place * 0x20;
        let next = if place + 1 < extended.len() { offset + 0x20 } else { 0 };
        put(offset, *id);
        put(offset + 2, u16::try_from(next).unwrap() << 4 | 1);
        put(offset + 6, *control);
    }
    if word("short").is_some() {
        bytes.truncate(64);
    }
    bytes
}
