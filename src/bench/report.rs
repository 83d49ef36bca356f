//! What was measured.

use netvm_bench::samples::Percentiles;
use serde::Serialize;

/// Everything that was measured. A reader must ignore fields that it does not know.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// How it was measured.
    pub setting: Setting,
    /// Bytes a second that one core copies from memory to memory.
    pub copy_bytes_per_s: Option<f64>,
    /// Frames through one link (or as many as the first count says), by size and way.
    pub throughput: Vec<Throughput>,
    /// Several links at a time.
    pub links: Vec<Links>,
    /// From driver to driver.
    pub latency: Vec<Latency>,
    /// Frames that did not arrive, in words.
    pub losses: Vec<String>,
    /// What was not measured, and why.
    pub not_measured: Vec<String>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its CPU.
    pub cpu: String,
    /// Its kernel.
    pub kernel: String,
    /// CPU of the links.
    pub link_cpu: usize,
    /// CPU of the generator.
    pub generator_cpu: usize,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Seconds for each number.
    pub seconds: f64,
    /// `split` or `packed`.
    pub ring: &'static str,
    /// Entries of a ring.
    pub ring_size: u16,
    /// Virtio features that the link offers.
    pub offered_features: u64,
    /// Parts of the sandbox that the links ran without; empty is as `netvm up` runs them.
    pub sandbox_missing: Vec<String>,
}

/// Which ways frames went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ways {
    /// From the guest to netvm.
    ToNetvm,
    /// From netvm to the guest.
    ToGuest,
    /// Both at a time.
    Both,
}

impl Ways {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToNetvm => "to netvm",
            Self::ToGuest => "to guest",
            Self::Both => "both ways",
        }
    }
}

/// Load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    /// Links that carried it at the same time, all on one CPU.
    pub links: u16,
    /// Bytes of a frame, Ethernet header included.
    pub frame_bytes: usize,
    /// Whether they were GSO frames.
    pub gso: bool,
    /// Which ways.
    pub ways: Ways,
    /// Frames a second that arrived at netvm and at the guest.
    pub frames_per_s: [f64; 2],
    /// Bytes a second of those.
    pub bytes_per_s: [f64; 2],
    /// Frames that were lost.
    pub lost: u64,
    /// Nanoseconds of CPU that the links spent on a frame.
    pub cpu_ns_per_frame: Option<f64>,
    /// Nanoseconds by the clock of a link's turns with frames, by frames: what one costs the link
    /// while it is not waiting for the generator. None with many links, which take turns.
    pub busy_ns_per_frame: Option<f64>,
    /// Bytes a second by those that one core copies in memory.
    pub of_copy_rate: Option<f64>,
}

impl Throughput {
    /// Frames a second at both ends together.
    pub fn frames(&self) -> f64 {
        self.frames_per_s.iter().sum()
    }

    /// Bytes a second at both ends together.
    pub fn bytes(&self) -> f64 {
        self.bytes_per_s.iter().sum()
    }
}

/// Several links, busy and then idle.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Links {
    /// 64-byte frames through all of them, both ways.
    pub busy: Throughput,
    /// Wake-ups of one idle link a second.
    pub wakeups_per_s: Option<f64>,
    /// Bytes of memory that a link has for itself, the mean of all.
    pub private_bytes: Option<u64>,
}

/// A ping-pong.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// What it went through.
    pub path: &'static str,
    /// Times.
    pub times: Percentiles,
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report with something of everything.
    pub fn report() -> Report {
        let row = Throughput {
            links: 1,
            frame_bytes: 64,
            gso: false,
            ways: Ways::ToNetvm,
            frames_per_s: [1.25e6, 0.0],
            bytes_per_s: [80e6, 0.0],
            lost: 0,
            cpu_ns_per_frame: Some(400.0),
            busy_ns_per_frame: Some(300.0),
            of_copy_rate: None,
        };
        let gso = Throughput { gso: true, of_copy_rate: Some(0.8), ..row };
        let times = Percentiles {
            count: 5,
            p50_ns: 9_000,
            p99_ns: 12_300,
            p999_ns: 14_000,
            max_ns: 15_000,
        };
        Report {
            machine: Machine {
                cpu: "CPU <1>".to_owned(),
                kernel: "6.1".to_owned(),
                link_cpu: 0,
                generator_cpu: 1,
            },
            setting: Setting {
                seconds: 2.0,
                ring: "split",
                ring_size: 256,
                offered_features: 1 << 32,
                sandbox_missing: vec!["landlock".to_owned()],
            },
            copy_bytes_per_s: Some(1e10),
            throughput: vec![row, gso],
            links: vec![Links {
                busy: Throughput { links: 16, ..row },
                wakeups_per_s: Some(0.5),
                private_bytes: Some(3 << 19),
            }],
            latency: vec![Latency { path: "link, idle", times }],
            losses: Vec::new(),
            not_measured: vec!["tap + bridge: needs root".to_owned()],
        }
    }

    #[test]
    fn json_names_are_those_documented() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["throughput"][0]["ways"], "to-netvm");
        assert_eq!(json["throughput"][1]["of_copy_rate"], 0.8);
        assert_eq!(json["links"][0]["wakeups_per_s"], 0.5);
        assert_eq!(json["latency"][0]["times"]["p99_ns"], 12_300);
    }
}
