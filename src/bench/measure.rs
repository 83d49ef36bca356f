//! What is measured, in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use netvm_bench::card::CardConfig;
use netvm_bench::features;
use netvm_bench::frame::{GSO_LEN, TCP_HEADERS, UDP_HEADERS, tcp_gso, udp};
use netvm_bench::header::{HEADER_LEN, NetHeader};
use netvm_bench::load::{Count, Load, Template, drive, finish};
use netvm_bench::memory_rate::copy_rate;
use netvm_bench::pair::QueuePair;
use netvm_bench::ping::{ping, ping_under_load};
use netvm_bench::ring::RingKind;
use netvm_bench::samples::Percentiles;

use super::cpus::Cpus;
use super::link::{BenchLink, STATIONS, Starter};
use super::options::{Options, Part, Ring, Size};
use super::report::{Latency, Links, Machine, Report, Setting, Throughput, Ways};
use super::table::size;
use super::{BenchError, proc, tap};
use crate::run::lines::printable;

/// Bytes of a receive buffer: what Linux takes for mergeable buffers once GSO frames come (a page), and otherwise
/// enough for any frame of the default MTU.
const GSO_BUFFER: u32 = 4096;
const BUFFER: u32 = 2048;
/// Entries of the rings for GSO frames: 64 MiB of buffers each way, which no cache holds.
const GSO_RECEIVE_SIZE: u16 = 16384;
const GSO_TRANSMIT_SIZE: u16 = 1024;
/// How long the receiver is idle before a frame of a ping-pong is sent.
const PAUSE: Duration = Duration::from_micros(500);
/// What features a Linux guest's driver would take.
const FEATURES: u64 = features::MRG_RXBUF | features::INDIRECT_DESC | features::EVENT_IDX;
const ALL_WAYS: [Ways; 3] = [Ways::ToNetvm, Ways::ToGuest, Ways::Both];

/// A measurement under way.
struct Bench<'a> {
    options: &'a Options,
    starter: Starter<'a>,
    report: Report,
}

/// Measures everything that was asked for; says on stderr what it is at.
pub fn run(options: &Options, program: &Path) -> Result<Report, BenchError> {
    let cpus = Cpus::choose()?;
    let longest = options.sizes.iter().map(|size| match size {
        Size::Bytes(bytes) => *bytes,
        Size::Gso => 0,
    });
    let mut starter = Starter::new(program, cpus, longest.max().unwrap_or(0))?;
    let report = Report {
        machine: machine(cpus),
        setting: setting(options),
        copy_bytes_per_s: None,
        throughput: Vec::new(),
        links: Vec::new(),
        latency: Vec::new(),
        losses: Vec::new(),
        not_measured: Vec::new(),
    };
    // Which features there are decides what can be measured, before all else.
    let probe = starter.start(&CardConfig::new(RingKind::Split))?;
    let offered = probe.cards.first().map_or(0, netvm_bench::card::Card::offered);
    drop(probe);
    let mut bench = Bench { options, starter, report };
    bench.report.setting.offered_features = offered;
    if options.ring == Ring::Packed && offered & features::RING_PACKED == 0 {
        bench.skip("everything", "the link does not offer packed rings".to_owned());
        return Ok(bench.report);
    }
    if !cpus.are_two() {
        bench.skip(
            "links and generator on different CPUs",
            "this process may use one CPU only, so they take turns on it".to_owned(),
        );
    }
    if options.wants(Part::Throughput) {
        bench.throughput(offered)?;
    }
    if options.wants(Part::Links) {
        bench.links()?;
    }
    if options.wants(Part::Latency) {
        bench.latency()?;
        bench.tap(cpus);
    }
    bench.report.setting.sandbox_missing = std::mem::take(&mut bench.starter.missing);
    Ok(bench.report)
}

impl Bench<'_> {
    fn skip(&mut self, what: &str, why: String) {
        self.report.not_measured.push(format!("{what}: {why}"));
    }

    /// Says what became of frames that did not arrive, as far as the links know.
    fn note_losses(&mut self, row: &Throughput, links: &[BenchLink]) {
        if row.lost == 0 {
            return;
        }
        let mut drops = BTreeMap::<String, u64>::new();
        for (reason, count) in
            links.iter().filter_map(|link| link.report().ok()).flat_map(|report| report.drops)
        {
            *drops.entry(printable(reason.as_bytes())).or_default() += count;
        }
        let drops: Vec<_> = drops.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        self.report.losses.push(format!(
            "{} of {}, {}, over {} links; dropped by these links so far: {}",
            row.lost,
            size(row),
            row.ways.name(),
            row.links,
            if drops.is_empty() { "none".to_owned() } else { drops.join(", ") }
        ));
    }

    fn config(&self, longest: u32) -> CardConfig {
        CardConfig {
            receive_size: self.options.ring_size,
            transmit_size: self.options.ring_size,
            features: FEATURES,
            receive_buffer: BUFFER,
            longest_frame: longest,
            ..CardConfig::new(self.options.ring.into())
        }
    }

    fn start(&mut self, count: u16, config: &CardConfig) -> Result<Vec<BenchLink>, BenchError> {
        (0..count).map(|_| self.starter.start(config)).collect()
    }

    /// Every size, one way and both.
    fn throughput(&mut self, offered: u64) -> Result<(), BenchError> {
        let count = self.options.counts().first().copied().unwrap_or(1);
        let sizes = self.options.sizes.clone();
        let bytes = |size: &Size| match size {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Gso => None,
        };
        if let Some(longest) = sizes.iter().filter_map(bytes).max() {
            let config = self.config(longest.into());
            let mut links = self.start(count, &config)?;
            for bytes in sizes.iter().filter_map(bytes) {
                for ways in ALL_WAYS {
                    say(&format!("{bytes}-byte frames, {}", ways.name()));
                    let frames = Frames::udp(bytes, &config);
                    let row = load(&mut links, &frames, ways, self.options.duration())?;
                    self.note_losses(&row, &links);
                    self.report.throughput.push(row);
                }
            }
        }
        if sizes.contains(&Size::Gso) {
            if offered & features::GSO == features::GSO {
                self.gso(count)?;
            } else {
                self.skip("64 KiB GSO frames", "not offered by the link".to_owned());
            }
        }
        Ok(())
    }

    fn gso(&mut self, count: u16) -> Result<(), BenchError> {
        say("what one core copies");
        let duration = self.options.duration();
        let rate = self.starter.cpus().on_measured(|| copy_rate(duration))?;
        self.report.copy_bytes_per_s = Some(rate);
        let config = CardConfig {
            receive_size: GSO_RECEIVE_SIZE,
            transmit_size: GSO_TRANSMIT_SIZE,
            features: FEATURES | features::GSO,
            receive_buffer: GSO_BUFFER,
            longest_frame: 65536,
            ..self.config(0)
        };
        let mut links = self.start(count, &config)?;
        for ways in ALL_WAYS {
            say(&format!("64 KiB GSO frames, {}", ways.name()));
            let mut row = load(&mut links, &Frames::gso(&config), ways, duration)?;
            row.of_copy_rate = Some(row.bytes() / rate);
            self.note_losses(&row, &links);
            self.report.throughput.push(row);
        }
        Ok(())
    }

    /// Several links at a time, busy and then idle.
    fn links(&mut self) -> Result<(), BenchError> {
        let config = self.config(BUFFER);
        for count in self.options.counts().to_vec() {
            say(&format!("{count} links"));
            let mut links = self.start(count, &config)?;
            let frames = Frames::udp(64, &config);
            let duration = self.options.duration();
            let busy = load(&mut links, &frames, Ways::Both, duration)?;
            self.note_losses(&busy, &links);
            // As drivers that sleep leave their rings.
            for card in links.iter_mut().flat_map(|link| &mut link.cards) {
                card.pair().enable_receive_calls();
            }
            std::thread::sleep(duration / 2);
            let sleeps = || links.iter().map(|link| proc::sleeps(link.pid())).sum::<Option<u64>>();
            let (before, start) = (sleeps(), Instant::now());
            std::thread::sleep(duration.max(Duration::from_secs(1)));
            let per_s = |count: u64| rate(count, start.elapsed()) / links.len() as f64;
            let wakeups =
                before.zip(sleeps()).map(|(before, after)| per_s(after.saturating_sub(before)));
            let private =
                links.iter().map(|link| proc::private_memory(link.pid())).sum::<Option<u64>>();
            self.report.links.push(Links {
                busy,
                wakeups_per_s: wakeups,
                private_bytes: private.map(|bytes| bytes / links.len() as u64),
            });
        }
        if self.report.links.iter().any(|links| links.private_bytes.is_none()) {
            self.skip("memory of links", "/proc/PID/smaps_rollup cannot be read".to_owned());
        }
        Ok(())
    }

    /// Ping-pong over an idle link, and over one beside a busy one.
    fn latency(&mut self) -> Result<(), BenchError> {
        let config = self.config(BUFFER);
        let duration = self.options.duration();
        say("ping-pong");
        let mut links = self.start(2, &config)?;
        let [link, other] = links.as_mut_slice() else { return Ok(()) };
        let times = ping(ends(link), STATIONS, PAUSE, duration)?;
        self.add_latency("link, idle: kick to call", times);
        say("ping-pong under load");
        let frames = Frames::udp(64, &config);
        let mut loads = [Load::new(ends(other), frames.templates(Ways::Both))];
        drive(&mut loads, duration / 4)?;
        let times = ping_under_load(ends(link), STATIONS, &mut loads, PAUSE, duration)?;
        finish(&mut loads)?;
        self.add_latency("link, with a full one on its CPU: sent to seen", times);
        Ok(())
    }

    fn tap(&mut self, cpus: Cpus) {
        say("tap + bridge");
        match tap::measure(cpus, STATIONS, PAUSE, self.options.duration()) {
            Ok(times) => {
                self.add_latency("tap + bridge, idle: kick to call", times.kick_to_call);
                self.add_latency("tap + bridge, idle: write to readable", times.write_to_readable);
            }
            Err(error) => self.skip("tap + bridge", error.to_string()),
        }
    }

    fn add_latency(&mut self, path: &'static str, times: Vec<Duration>) {
        match Percentiles::of(times) {
            Some(times) => self.report.latency.push(Latency { path, times }),
            None => self.skip(path, "nothing arrived".to_owned()),
        }
    }
}

/// The queue pairs at both ends of a link.
fn ends(link: &mut BenchLink) -> [&mut QueuePair; 2] {
    let [guest, netvm] = link.cards.as_mut_slice() else {
        unreachable!("a link that was started has a card at each end")
    };
    [guest.pair(), netvm.pair()]
}

/// The frames of a load.
struct Frames {
    templates: [Template; 2],
    bytes: usize,
    gso: bool,
}

impl Frames {
    fn udp(bytes: u16, config: &CardConfig) -> Self {
        let bytes = usize::from(bytes);
        let [guest, netvm] = STATIONS;
        let window = window(bytes, config);
        let template = |from, to| Template {
            header: NetHeader::default(),
            frame: udp(from, to, bytes),
            stamp_at: UDP_HEADERS,
            window,
        };
        Self { templates: [template(guest, netvm), template(netvm, guest)], bytes, gso: false }
    }

    fn gso(config: &CardConfig) -> Self {
        let [guest, netvm] = STATIONS;
        let window = window(GSO_LEN, config);
        let template = |from, to| {
            let (header, frame) = tcp_gso(from, to);
            Template { header, frame, stamp_at: TCP_HEADERS, window }
        };
        let templates = [template(guest, netvm), template(netvm, guest)];
        Self { templates, bytes: GSO_LEN, gso: true }
    }

    fn templates(&self, ways: Ways) -> [Option<Template>; 2] {
        let [guest, netvm] = self.templates.clone();
        [(ways != Ways::ToGuest).then_some(guest), (ways != Ways::ToNetvm).then_some(netvm)]
    }
}

/// Frames that may be under way: there must be receive buffers for all.
fn window(bytes: usize, config: &CardConfig) -> usize {
    let buffer = usize::try_from(config.receive_buffer).unwrap_or(usize::MAX);
    let buffers = (bytes + HEADER_LEN).div_ceil(buffer);
    (usize::from(config.receive_size) / buffers).min(config.transmit_size.into()).max(1)
}

/// Drives frames through all the links at a time.
fn load(
    links: &mut [BenchLink],
    frames: &Frames,
    ways: Ways,
    duration: Duration,
) -> Result<Throughput, BenchError> {
    let pids: Vec<_> = links.iter().map(BenchLink::pid).collect();
    let busy_before = busy(links);
    let cpu_time = || pids.iter().map(|pid| proc::cpu_time(*pid)).sum::<Option<Duration>>();
    let mut loads: Vec<_> =
        links.iter_mut().map(|link| Load::new(ends(link), frames.templates(ways))).collect();
    drive(&mut loads, duration / 4)?;
    let (before, cpu_before, start) = (total(&loads), cpu_time(), Instant::now());
    drive(&mut loads, duration)?;
    let (elapsed, cpu_after, after) = (start.elapsed(), cpu_time(), total(&loads));
    finish(&mut loads)?;
    let lost = total(&loads).iter().map(|count| count.lost).sum();
    drop(loads);
    let busy = busy_before.zip(busy(links)).map(|(before, after)| {
        let [time, frames] = [0, 1].map(|index| after[index].saturating_sub(before[index]));
        time as f64 / frames.max(1) as f64
    });
    let count: Vec<_> = before.iter().zip(after).map(|(b, a)| a.frames - b.frames).collect();
    let frames_per_s = [rate(count[0], elapsed), rate(count[1], elapsed)];
    let cpu = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
    let all: u64 = count.iter().sum();
    Ok(Throughput {
        links: u16::try_from(pids.len()).unwrap_or(u16::MAX),
        frame_bytes: frames.bytes,
        gso: frames.gso,
        ways,
        frames_per_s,
        bytes_per_s: frames_per_s.map(|rate| rate * frames.bytes as f64),
        lost,
        cpu_ns_per_frame: cpu.filter(|_| all > 0).map(|cpu| cpu.as_secs_f64() * 1e9 / all as f64),
        busy_ns_per_frame: busy,
        of_copy_rate: None,
    })
}

/// How long the only link was busy, in nanoseconds, and the frames it took. Links that share a CPU
/// take turns on it, and count the others' as well.
fn busy(links: &[BenchLink]) -> Option<[u64; 2]> {
    let [link] = links else { return None };
    let report = link.report().ok()?;
    Some([report.busy_ns, report.guest.frames_in + report.netvm.frames_in])
}

/// What went each way over all links.
fn total(loads: &[Load<'_>]) -> [Count; 2] {
    let mut sum = [Count::default(); 2];
    for (way, count) in loads.iter().flat_map(|load| load.counts().into_iter().enumerate()) {
        sum[way].frames += count.frames;
        sum[way].lost += count.lost;
    }
    sum
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn machine(cpus: Cpus) -> Machine {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let cpu = model.map_or("unknown", |line| line.trim_start_matches([':', '\t', ' ']));
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Machine { cpu: cpu.to_owned(), kernel, link_cpu: cpus.measured, generator_cpu: cpus.generator }
}

fn setting(options: &Options) -> Setting {
    Setting {
        seconds: options.duration().as_secs_f64(),
        ring: if options.ring == Ring::Split { "split" } else { "packed" },
        ring_size: options.ring_size,
        offered_features: 0,
        sandbox_missing: Vec::new(),
    }
}

/// Progress.
fn say(what: &str) {
    eprintln!("measuring {what}");
}
