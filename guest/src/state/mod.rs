//! netvm's state as it reports it to the host: one JSON object a line.
//!
//! netvm faces the wire, so whoever takes it over writes these lines: they are untrusted input.
//! Each is bounded in length and every field is checked; what is left can be shown to a user, and
//! nothing on the host may be decided by it but what is shown.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::config::{HostName, MacAddress};

/// Longest line in bytes, without its newline.
pub const MAX_LINE: usize = 8192;
/// Most leases in a line.
pub const MAX_LEASES: usize = 64;
/// Most DNS servers in a line.
pub const MAX_DNS: usize = 16;
/// Longest reason in bytes.
pub const MAX_REASON: usize = 256;

/// A line of the state channel was refused. It says nothing about netvm's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The line is longer than [`MAX_LINE`].
    #[error("netvm's state has a line of more than {MAX_LINE} bytes: ignored")]
    TooLong,
    /// The line is not the JSON object that is expected.
    #[error("netvm's state is malformed: {0}")]
    Malformed(String),
}

/// How far netvm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Policy and bridge are being set up; nothing is forwarded.
    Starting,
    /// Guests are served; there is no uplink yet or no more; nothing is forwarded.
    NoUplink,
    /// The uplink's network overlaps the guests' subnet; nothing is forwarded.
    Overlap,
    /// Guests are served and packets are forwarded as declared.
    Ready,
    /// A step failed for good; nothing is forwarded.
    Failed,
}

impl fmt::Display for Phase {
    /// In words, for a user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Starting => "starting",
            Phase::NoUplink => "no uplink",
            Phase::Overlap => "overlap",
            Phase::Ready => "ready",
            Phase::Failed => "failed",
        })
    }
}

/// netvm's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The format's version, always 1.
    #[serde(deserialize_with = "version")]
    pub v: u32,
    /// How far netvm is.
    pub phase: Phase,
    /// Why, in printable ASCII, at most [`MAX_REASON`] bytes; may be empty.
    #[serde(deserialize_with = "reason")]
    pub reason: String,
    /// The uplink that was accepted.
    #[serde(deserialize_with = "present")]
    pub uplink: Option<Uplink>,
    /// Whether the ruleset is loaded.
    pub ruleset: bool,
    /// Whether the kernel forwards packets.
    pub forwarding: bool,
    /// DHCP leases that guests hold, at most [`MAX_LEASES`].
    #[serde(deserialize_with = "leases")]
    pub leases: Vec<Lease>,
    /// Frames and packets that policy refused since netvm started.
    pub denied: u64,
}

/// netvm's uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// The interface's name, 1 to 15 letters, digits, `.`, `_`, `-`.
    #[serde(deserialize_with = "interface")]
    pub interface: String,
    /// The NIC's MAC address.
    pub mac: MacAddress,
    /// The NIC's driver, at most 32 characters of the same kind; empty if it is unknown.
    #[serde(deserialize_with = "driver")]
    pub driver: String,
    /// Its address and prefix length.
    pub address: Ipv4Net,
    /// The default gateway.
    #[serde(deserialize_with = "present")]
    pub gateway: Gateway,
    /// DNS servers named by the uplink's network, at most [`MAX_DNS`].
    #[serde(deserialize_with = "dns")]
    pub dns: Vec<Ipv4Addr>,
}

/// A default gateway, or null when the uplink's network has none and only that network is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gateway(pub Option<Ipv4Addr>);

impl fmt::Display for Gateway {
    /// The address, or "no gateway".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("no gateway"),
        }
    }
}

/// A guest's DHCP lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The guest's MAC address.
    pub mac: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its declared name.
    pub name: HostName,
    /// When the lease ends, in seconds since 1970 by netvm's clock; 0 means never.
    pub expires: u64,
}

impl State {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// [`StateError`] for everything but one complete, valid object.
    pub fn parse(line: &[u8]) -> Result<State, StateError> {
        if line.len() > MAX_LINE {
            return Err(StateError::TooLong);
        }
        serde_json::from_slice(line).map_err(|error| {
            // The parser quotes what it read: keep control characters off the user's terminal.
            let text: String = error.to_string().chars().take(MAX_REASON).collect();
            StateError::Malformed(text.replace(|c: char| !(' '..='~').contains(&c), "?"))
        })
    }
}

fn version<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    match u32::deserialize(input)? {
        1 => Ok(1),
        other => Err(de::Error::custom(format!("version {other} instead of 1"))),
    }
}

/// A field that may be null but not absent, as serde would have it.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    T::deserialize(input)
}

fn text<'de, D: Deserializer<'de>>(
    input: D,
    longest: usize,
    accepted: fn(u8) -> bool,
) -> Result<String, D::Error> {
    let text = String::deserialize(input)?;
    if text.len() <= longest && text.bytes().all(accepted) {
        Ok(text)
    } else {
        Err(de::Error::custom("a text that is too long or holds characters it may not"))
    }
}

fn reason<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    text(input, MAX_REASON, |byte| (b' '..=b'~').contains(&byte))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

fn interface<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = text(input, 15, is_word)?;
    if name.is_empty() { Err(de::Error::custom("an empty interface name")) } else { Ok(name) }
}

fn driver<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    text(input, 32, is_word)
}

fn at_most<'de, D, T>(input: D, most: usize) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    // The line's length bounds what is parsed before this.
    let list = Vec::deserialize(input)?;
    if list.len() <= most {
        Ok(list)
    } else {
        Err(de::Error::custom(format!("more than {most} elements")))
    }
}

fn leases<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Lease>, D::Error> {
    at_most(input, MAX_LEASES)
}

fn dns<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Ipv4Addr>, D::Error> {
    at_most(input, MAX_DNS)
}

#[cfg(test)]
mod tests;
