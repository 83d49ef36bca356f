//! The announcement of a guest that has moved here (VHOST_USER_SEND_RARP): the one frame that a
//! link makes itself. It tells the switches behind the other end where the guest's MAC address is
//! now.

use crate::mac::MacAddr;

/// Bytes of the announcement: the shortest Ethernet frame, without its frame check sequence.
pub const ANNOUNCEMENT_LEN: usize = 60;

/// Ethertype of RARP (RFC 903), hardware type Ethernet, protocol type IPv4, lengths of their
/// addresses, and the operation "request reverse".
const RARP: [u8; 10] = [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3];

/// A RARP request for `mac`, from `mac` to everybody, with no protocol address in it.
pub fn rarp(mac: MacAddr) -> [u8; ANNOUNCEMENT_LEN] {
    let mac = mac.octets();
    // Destination, source, fixed part, sender (hardware, protocol), target (the same).
    let parts: [&[u8]; 6] = [&[0xff; 6], &mac, &RARP, &mac, &[0; 4], &mac];
    let mut frame = [0; ANNOUNCEMENT_LEN];
    for (byte, value) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *byte = *value;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcement_is_a_rarp_request_for_oneself() {
        let frame = rarp(MacAddr::new([2, 3, 4, 5, 6, 7]));
        let expected = "ffffffffffff020304050607 8035 0001 0800 06 04 0003 \
                        020304050607 00000000 020304050607 00000000";
        let hex: String = frame[..42].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""));
        assert!(frame[42..].iter().all(|byte| *byte == 0));
    }
}
