//! What netvm says about itself, parsed on the host as hostile input.
//!
//! One JSON object a line. netvm faces the Internet and may lie: a line is taken only if every
//! field is what it must be, and nothing in it is trusted for more than showing it.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::{HostName, MacAddress};

/// Longest line, in bytes.
pub const LINE_MAX: usize = 8 * 1024;
/// Most leases in a line; netvm sends fewer.
const LEASES_MAX: usize = 256;
/// Most DNS servers of an uplink.
const DNS_MAX: usize = 8;
/// Longest text, in characters.
const TEXT_MAX: usize = 200;

/// The state of netvm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of the format: 1.
    #[serde(deserialize_with = "version")]
    v: u8,
    /// How far it is.
    pub phase: Phase,
    /// Why it is not further; may be empty.
    #[serde(deserialize_with = "text")]
    pub reason: String,
    /// The uplink, when it has an address.
    pub uplink: Option<Uplink>,
    /// Whether the ruleset is loaded.
    pub ruleset: bool,
    /// Whether packets are forwarded.
    pub forwarding: bool,
    /// Who has which address.
    #[serde(deserialize_with = "leases")]
    pub leases: Vec<Lease>,
    /// Packets that policy refused.
    pub denied: u64,
}

/// How far netvm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not yet serving guests.
    Starting,
    /// Serving guests, but without a way out.
    NoUplink,
    /// The uplink's network overlaps the guests' subnet: nothing is forwarded.
    Overlap,
    /// Routing.
    Ready,
    /// Gave up: nothing is forwarded.
    Failed,
}

impl fmt::Display for Phase {
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

/// netvm's way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Its interface in netvm.
    #[serde(deserialize_with = "text")]
    pub interface: String,
    /// Its MAC.
    #[serde(deserialize_with = "mac", serialize_with = "display")]
    pub mac: MacAddress,
    /// Its driver.
    #[serde(deserialize_with = "text")]
    pub driver: String,
    /// Its address and prefix length.
    pub address: Ipv4Net,
    /// Its default gateway.
    pub gateway: Ipv4Addr,
    /// The DNS servers that are asked.
    #[serde(deserialize_with = "dns")]
    pub dns: Vec<Ipv4Addr>,
}

/// An address that a guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The guest's MAC.
    #[serde(deserialize_with = "mac", serialize_with = "display")]
    pub mac: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name, as declared.
    #[serde(deserialize_with = "name", serialize_with = "display")]
    pub name: HostName,
    /// When it ends, in seconds since 1970 by netvm's clock; 0: never.
    pub expires: u64,
}

/// A line is not a state; it is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Longer than [`LINE_MAX`].
    #[error("The line has {0} bytes, more than {LINE_MAX}")]
    TooLong(usize),
    /// Not JSON, a field is missing or unknown, or a value is not what it must be.
    #[error("The line is not a state")]
    Malformed(#[source] serde_json::Error),
}

impl State {
    /// Parses one line, without its newline.
    ///
    /// # Errors
    /// [`StateError`]; the line is then to be ignored and counted.
    pub fn parse(line: &[u8]) -> Result<State, StateError> {
        if line.len() > LINE_MAX {
            return Err(StateError::TooLong(line.len()));
        }
        serde_json::from_slice(line).map_err(StateError::Malformed)
    }
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        1 => Ok(1),
        other => Err(de::Error::custom(format!("version {other} is not known"))),
    }
}

/// Printable ASCII, bounded: it ends up on a terminal.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > TEXT_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(de::Error::custom("a text is too long or not printable ASCII"));
    }
    Ok(text)
}

fn leases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Lease>, D::Error> {
    bounded(deserializer, LEASES_MAX)
}

fn dns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ipv4Addr>, D::Error> {
    bounded(deserializer, DNS_MAX)
}

fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    most: usize,
) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.len() > most {
        return Err(de::Error::custom(format!("a list has more than {most} entries")));
    }
    Ok(list)
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddress, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HostName, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn display<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"v":1,"phase":"ready","reason":"","uplink":{"interface":"eth0","mac":"52:54:00:12:34:56","driver":"e1000e","address":"10.0.2.15/24","gateway":"10.0.2.2","dns":["10.0.2.3"]},"ruleset":true,"forwarding":true,"leases":[{"mac":"02:00:00:00:00:01","address":"100.127.77.10","name":"a","expires":0}],"denied":3}"#;

    #[test]
    fn parse_of_a_whole_line_survives_a_round_trip() {
        let state = State::parse(LINE.as_bytes()).unwrap();
        assert_eq!(state.phase, Phase::Ready);
        assert_eq!(state.leases[0].name.as_str(), "a");
        let again = serde_json::to_string(&state).unwrap();
        assert_eq!(State::parse(again.as_bytes()).unwrap(), state);
    }

    #[test]
    fn parse_of_hostile_lines_refuses() {
        let changed = |from: &str, to: &str| {
            assert!(LINE.contains(from), "{from}");
            LINE.replace(from, to)
        };
        for line in [
            changed(r#""v":1"#, r#""v":2"#),
            changed("ready", "owned"),
            changed(r#""reason":"""#, "\"reason\":\"\\u001b[2J\""),
            changed(r#""reason":"""#, &format!(r#""reason":"{}""#, "x".repeat(201))),
            changed("52:54:00:12:34:56", "ff:ff:ff:ff:ff:ff"),
            changed("10.0.2.15/24", "10.0.2.15/99"),
            changed(r#""name":"a""#, r#""name":"../a""#),
            changed(r#""denied":3"#, r#""denied":-3"#),
            changed(r#""denied":3"#, r#""denied":3,"extra":1"#),
            changed(r#","denied":3"#, ""),
            changed(r#"["10.0.2.3"]"#, &format!("[{}]", ["\"1.1.1.1\""; 9].join(","))),
            " ".repeat(LINE_MAX + 1),
            "[".repeat(LINE_MAX),
        ] {
            assert!(State::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn parse_of_every_truncation_refuses() {
        for end in 0..LINE.len() {
            assert!(State::parse(&LINE.as_bytes()[..end]).is_err());
        }
    }
}
