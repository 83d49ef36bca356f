//! What can be asked of `netvm bench`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use netvm_bench::ring::RingKind;

/// Shortest frame that has room for its number.
const SHORTEST: u16 = 50;
/// Longest frame that is not a GSO frame: the link's greatest MTU is 65521.
const LONGEST: u16 = 9216;

/// What to measure, and how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds for each number
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// How many links at a time; the first count is measured with every size
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1,2,16,64",
          value_parser = clap::value_parser!(u16).range(1..=512))]
    pub links: Vec<u16>,
    /// Frame sizes in bytes, Ethernet header included and frame check sequence not; `gso` is 64 KiB of TCP
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "64,256,1518,gso")]
    pub sizes: Vec<Size>,
    /// Format of the rings
    #[arg(long, value_enum, default_value_t = Ring::Split)]
    pub ring: Ring,
    /// Entries of a ring: a power of two
    #[arg(long, value_name = "ENTRIES", default_value_t = 256, value_parser = ring_size)]
    pub ring_size: u16,
    /// Measure this only; may be repeated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,
    /// A fifth of a second for each number, and 1 and 2 links: a look, not a measurement
    #[arg(long, conflicts_with_all = ["seconds", "links"])]
    pub quick: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Draw the numbers into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Frames and bytes a second of each size, one way and both ways
    Throughput,
    /// Many links at a time: frames, CPU, wake-ups and memory
    Links,
    /// Ping-pong, idle and under load, with a tap and a bridge beside it
    Latency,
}

/// The format of rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ring {
    /// Split virtqueues
    Split,
    /// Packed virtqueues
    Packed,
}

impl From<Ring> for RingKind {
    fn from(ring: Ring) -> Self {
        match ring {
            Ring::Split => Self::Split,
            Ring::Packed => Self::Packed,
        }
    }
}

/// A size of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// UDP frames of so many bytes.
    Bytes(u16),
    /// TCP frames of 64 KiB, not segmented.
    Gso,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "gso" {
            return Ok(Self::Gso);
        }
        match text.parse() {
            Ok(bytes @ SHORTEST..=LONGEST) => Ok(Self::Bytes(bytes)),
            _ => Err(format!("give `gso`, or bytes from {SHORTEST} to {LONGEST}")),
        }
    }
}

impl Options {
    /// Time for each number.
    pub fn duration(&self) -> Duration {
        if self.quick { Duration::from_millis(200) } else { self.seconds }
    }

    /// Counts of links.
    pub fn counts(&self) -> &[u16] {
        if self.quick { &[1, 2] } else { &self.links }
    }

    /// Whether a part is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds".to_owned())?;
    if (0.05..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("give 0.05 to 3600 seconds".to_owned())
    }
}

fn ring_size(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(size @ 64..=32768) if size.is_power_of_two() => Ok(size),
        _ => Err("give a power of two from 64 to 32768".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Alone::try_parse_from(["bench"].iter().chain(arguments)).map(|alone| alone.options)
    }

    #[test]
    fn defaults_are_what_the_documentation_says() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.counts(), [1, 2, 16, 64]);
        let sizes = [Size::Bytes(64), Size::Bytes(256), Size::Bytes(1518), Size::Gso];
        assert_eq!(options.sizes, sizes);
        assert!(options.wants(Part::Latency) && options.wants(Part::Links));
    }

    #[test]
    fn lists_and_parts_are_parsed() {
        let options =
            parse(&["--sizes=gso,100", "--links=3", "--only=latency", "--ring=packed"]).unwrap();
        assert_eq!(options.sizes, [Size::Gso, Size::Bytes(100)]);
        assert_eq!(options.counts(), [3]);
        assert!(options.wants(Part::Latency) && !options.wants(Part::Throughput));
        assert_eq!(parse(&["--quick"]).unwrap().counts(), [1, 2]);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for wrong in [
            &["--sizes=49"][..],
            &["--sizes=9217"],
            &["--sizes=big"],
            &["--links=0"],
            &["--seconds=0"],
            &["--seconds=inf"],
            &["--ring-size=100"],
            &["--ring-size=32"],
            &["--quick", "--seconds=1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
