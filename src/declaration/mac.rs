//! Ethernet addresses, and how those that nobody declared come about.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A unicast Ethernet address (IEEE 802 8.2): neither a group address nor all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// Whose address is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacRole {
    /// netvm's bridge: what guests know as their gateway.
    Netvm,
    /// A guest's own card, at the guest end of its link.
    Guest,
    /// netvm's card at the netvm end of a guest's link.
    Card,
}

impl MacRole {
    fn label(self) -> &'static str {
        match self {
            MacRole::Netvm => "netvm",
            MacRole::Guest => "guest",
            MacRole::Card => "card",
        }
    }
}

impl MacAddress {
    /// The six bytes in the order in which they are sent.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address that `name` has in `role` unless the declaration says another: the same at
    /// every start, locally administered, unicast.
    ///
    /// It is the beginning of SHA-256 over role, a zero byte and name, so it tells nothing about
    /// the machine, and 46 of its bits are effectively random.
    pub fn derive(role: MacRole, name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"netvm mac\0");
        hash.update(role.label());
        hash.update(b"\0");
        hash.update(name);
        let digest = hash.finalize();
        let mut octets = [0; 6];
        octets.copy_from_slice(&digest[..6]);
        // Bit 0 is the group bit, bit 1 the local bit (IEEE 802 8.2.2).
        octets[0] = (octets[0] & !0b11) | 0b10;
        MacAddress(octets)
    }

    /// Whether no manufacturer owns the address.
    pub fn is_locally_administered(self) -> bool {
        self.0[0] & 0b10 != 0
    }
}

/// Why a text is not an address that a card can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacError {
    /// Not six pairs of hex digits.
    #[error("it is not six pairs of hex digits with colons between them")]
    Syntax,
    /// The broadcast or a multicast address.
    #[error("it is a group address (the lowest bit of its first byte is set)")]
    Group,
    /// All zero.
    #[error("it is the all-zero address")]
    Zero,
}

impl FromStr for MacAddress {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MacError::Syntax)?;
            // from_str_radix alone would take "+1" as well.
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(MacError::Syntax);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacError::Syntax)?;
        }
        if parts.next().is_some() {
            return Err(MacError::Syntax);
        }
        if octets[0] & 1 != 0 {
            return Err(MacError::Group);
        }
        if octets == [0; 6] {
            return Err(MacError::Zero);
        }
        Ok(MacAddress(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
