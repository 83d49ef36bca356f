//! `rate` of a guest: what its link carries at most.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::at::At;
use super::check::{Check, Field};
use super::raw::RawRate;

/// Frames a second that can be asked for: more than any link carries.
const FRAMES: RangeInclusive<u32> = 1..=1_000_000_000;

/// Bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRate(u64);

/// Why a text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitRateError {
    /// Not a number with a unit behind it.
    #[error("it is not a whole number followed by kbit, Mbit or Gbit")]
    Syntax,
    /// Less than a byte a second, or more than any network has.
    #[error("it is not between 1kbit and 1000Gbit")]
    Range,
}

impl BitRate {
    /// In bytes a second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for BitRate {
    type Err = BitRateError;

    /// Reads `500kbit`, `100Mbit` or `2Gbit`: decimal units a second, as networks are sold.
    fn from_str(text: &str) -> Result<Self, BitRateError> {
        let units = [("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];
        let (number, factor) = units
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
            .ok_or(BitRateError::Syntax)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BitRateError::Syntax);
        }
        let number: u64 = number.parse().map_err(|_| BitRateError::Range)?;
        match number.checked_mul(factor) {
            Some(bits @ 1..=1_000_000_000_000) => Ok(BitRate(bits)),
            _ => Err(BitRateError::Range),
        }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}kbit", self.0 / 1_000)
    }
}

impl Serialize for BitRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a guest's link carries in a second; `None` leaves it to the link: any number of bytes and frames, and its
/// default of broadcast, multicast, ARP and neighbour discovery frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// From the guest.
    pub up: Option<BitRate>,
    /// To the guest.
    pub down: Option<BitRate>,
    /// Frames from the guest.
    pub up_frames: Option<u32>,
    /// Frames to the guest.
    pub down_frames: Option<u32>,
    /// Broadcast, multicast, ARP and neighbour discovery frames, in each direction.
    pub control_frames: Option<u32>,
}

impl Rate {
    /// Options and values for the link's command line.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let bytes = |rate: Option<BitRate>| rate.map(|rate| rate.bytes_per_second().to_string());
        let frames = |frames: Option<u32>| frames.map(|frames| frames.to_string());
        [
            ("--rate-up", bytes(self.up)),
            ("--rate-down", bytes(self.down)),
            ("--frames-up", frames(self.up_frames)),
            ("--frames-down", frames(self.down_frames)),
            ("--rate-control", frames(self.control_frames)),
        ]
        .into_iter()
        .filter_map(|(option, value)| Some((option, value?)))
        .collect()
    }
}

/// Validates the `rate` of a guest.
pub(super) fn check_rate(
    check: &mut Check,
    guest: &Range<usize>,
    raw: Option<&At<RawRate>>,
) -> Field<Rate> {
    let Some(At { span, value: raw }) = raw else {
        return if check.was_dropped(guest, "rate") { Field::Bad } else { Field::Absent };
    };
    let mut bits = |key, text: Option<&At<String>>| -> Field<BitRate> {
        let fix = "write a number and kbit, Mbit or Gbit, such as \"100Mbit\", or leave it out for \
                   no limit";
        check.parsed(span, key, text, ("netvm::guest::rate", "a rate", fix))
    };
    let (up, down) = (bits("up", raw.up.as_ref()), bits("down", raw.down.as_ref()));
    let mut frames = |key, number: Option<&At<i64>>| -> Field<u32> {
        check.number(span, key, number, FRAMES, "netvm::guest::rate_frames")
    };
    let up_frames = frames("up_frames", raw.up_frames.as_ref());
    let down_frames = frames("down_frames", raw.down_frames.as_ref());
    let control_frames = frames("control_frames", raw.control_frames.as_ref());
    let rate = || {
        Some(Rate {
            up: up.optional()?,
            down: down.optional()?,
            up_frames: up_frames.optional()?,
            down_frames: down_frames.optional()?,
            control_frames: control_frames.optional()?,
        })
    };
    rate().map_or(Field::Bad, |value| Field::Good(At { span: span.clone(), value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_decimal_bits() {
        let bytes = |text: &str| text.parse().map(BitRate::bytes_per_second);
        assert_eq!(bytes("1kbit"), Ok(125));
        assert_eq!(bytes("100Mbit"), Ok(12_500_000));
        assert_eq!(bytes("1000Gbit"), Ok(125_000_000_000));
        for text in ["", "100", "Mbit", "100M", "-1Mbit", "+1Mbit", "1.5Mbit", "100 Mbit", "1mbit"]
        {
            assert_eq!(bytes(text), Err(BitRateError::Syntax), "{text}");
        }
        for text in ["0kbit", "1001Gbit", "99999999999999999999Gbit", "18446744073709551615Gbit"] {
            assert_eq!(bytes(text), Err(BitRateError::Range), "{text}");
        }
    }

    #[test]
    fn only_what_is_declared_is_told_to_the_link() {
        assert!(Rate::default().words().is_empty());
        let rate = Rate { up: "8kbit".parse().ok(), down_frames: Some(5), ..Rate::default() };
        let words = [("--rate-up", "1000".to_owned()), ("--frames-down", "5".to_owned())];
        assert_eq!(rate.words(), words);
    }
}
