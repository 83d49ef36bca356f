//! The same ping-pong through two taps on a bridge: what one would have without links.
//!
//! In a network namespace of its own. A thread for each tap does what a VMM's does: woken by a kick it writes the
//! guest's frame into the tap, and when the tap has a frame it takes it and calls the guest.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use netvm_bench::frame::{Station, udp};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use vhost_net_backend::end::tap;

use super::cpus::Cpus;
use super::sys::enter_network_namespace;

const TAPS: [&str; 2] = ["bench-a", "bench-b"];
/// Bytes of the virtio-net header of a tap that was not told otherwise.
const HEADER_LEN: usize = 10;
/// When a frame has not come after so long, it never will.
const PATIENCE: Duration = Duration::from_secs(2);

/// Times of each way of measuring.
#[derive(Debug)]
pub struct Times {
    /// From the kick that a VMM's thread waits for to the call from the other's.
    pub kick_to_call: Vec<Duration>,
    /// From the write into one tap until the other is readable, without a VMM.
    pub write_to_readable: Vec<Duration>,
}

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Not root.
    #[error("needs root, for a network namespace of its own")]
    NotRoot,
    /// The bridge could not be made.
    #[error("{0}")]
    Setup(String),
    /// A system call failed.
    #[error("{0}")]
    System(#[from] io::Error),
    /// Something else.
    #[error("no frame came through the bridge")]
    Nothing,
}

impl From<Errno> for TapError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// Measures both ways for `duration` each.
pub fn measure(
    cpus: Cpus,
    stations: [Station; 2],
    pause: Duration,
    duration: Duration,
) -> Result<Times, TapError> {
    if !rustix::process::geteuid().is_root() {
        return Err(TapError::NotRoot);
    }
    let thread = std::thread::spawn(move || {
        enter_network_namespace()?;
        let taps = make_taps()?;
        let frames = frames(stations);
        let write_to_readable = through_taps(&taps, &frames, pause, duration)?;
        let kick_to_call = through_devices(cpus, taps, &frames, pause, duration)?;
        Ok(Times { kick_to_call, write_to_readable })
    });
    thread.join().unwrap_or_else(|_| Err(TapError::Setup("the measurement panicked".to_owned())))
}

/// The frame of each station, behind an empty header.
fn frames([first, second]: [Station; 2]) -> [Vec<u8>; 2] {
    [(first, second), (second, first)]
        .map(|(from, to)| [vec![0; HEADER_LEN], udp(from, to, 64)].concat())
}

/// Two taps on a bridge.
fn make_taps() -> Result<[OwnedFd; 2], TapError> {
    let open = |name| tap::open(name).map_err(|error| TapError::Setup(error.to_string()));
    let taps = [open(TAPS[0])?, open(TAPS[1])?];
    let mut script = vec!["link add bench-br type bridge".to_owned()];
    for name in TAPS {
        // No address, so no router solicitations.
        script.push(format!("link set {name} addrgenmode none master bench-br up"));
    }
    script.push("link set bench-br addrgenmode none up".to_owned());
    for line in script {
        let output = Command::new("ip").args(line.split(' ')).stdin(Stdio::null()).output();
        let output = output.map_err(|error| {
            TapError::Setup(format!("cannot run ip ({error}): apt-get install iproute2"))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(TapError::Setup(format!("ip {line}: {}", said.trim())));
        }
    }
    // A port of a bridge forwards once it has carrier and has been enabled.
    std::thread::sleep(Duration::from_millis(200));
    Ok(taps)
}

fn through_taps(
    taps: &[OwnedFd; 2],
    frames: &[Vec<u8>; 2],
    pause: Duration,
    duration: Duration,
) -> Result<Vec<Duration>, TapError> {
    let mut times = Vec::new();
    let mut buffer = [0; 2048];
    let (end, mut from) = (Instant::now() + duration, 0);
    while Instant::now() < end {
        let to = 1 - from;
        std::thread::sleep(pause);
        while rustix::io::read(&taps[to], &mut buffer).is_ok() {}
        let start = Instant::now();
        rustix::io::write(&taps[from], &frames[from])?;
        wait(&taps[to], PATIENCE)?;
        times.push(start.elapsed());
        from = to;
    }
    Ok(times)
}

/// A guest's side of a device.
#[derive(Debug)]
struct Device {
    kick: OwnedFd,
    call: OwnedFd,
}

fn through_devices(
    cpus: Cpus,
    taps: [OwnedFd; 2],
    frames: &[Vec<u8>; 2],
    pause: Duration,
    duration: Duration,
) -> Result<Vec<Duration>, TapError> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut devices = Vec::new();
    let mut threads = Vec::new();
    for (tap, frame) in taps.into_iter().zip(frames.clone()) {
        let device = || -> rustix::io::Result<Device> {
            let eventfd = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            Ok(Device { kick: eventfd()?, call: eventfd()? })
        };
        let device = Arc::new(device()?);
        devices.push(device.clone());
        let stop = stop.clone();
        let thread = || std::thread::spawn(move || run_device(&device, &tap, &frame, &stop));
        // Where links are.
        threads.push(cpus.on_measured(thread).map_err(io::Error::other)?);
    }
    let result = ping(&devices, pause, duration);
    stop.store(true, Relaxed);
    for thread in threads {
        let _ = thread.join();
    }
    result
}

fn ping(
    devices: &[Arc<Device>],
    pause: Duration,
    duration: Duration,
) -> Result<Vec<Duration>, TapError> {
    let mut times = Vec::new();
    let (end, mut from) = (Instant::now() + duration, 0);
    while Instant::now() < end {
        let to = 1 - from;
        std::thread::sleep(pause);
        clear(&devices[to].call);
        let start = Instant::now();
        signal(&devices[from].kick)?;
        wait(&devices[to].call, PATIENCE)?;
        times.push(start.elapsed());
        from = to;
    }
    Ok(times)
}

/// A VMM's thread.
fn run_device(device: &Device, tap: &OwnedFd, frame: &[u8], stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    while !stop.load(Relaxed) {
        let mut fds = [PollFd::new(&device.kick, PollFlags::IN), PollFd::new(tap, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).is_err() {
            continue;
        }
        let [kicked, readable] = fds.map(|fd| !fd.revents().is_empty());
        if kicked {
            clear(&device.kick);
            let _ = rustix::io::write(tap, frame);
        }
        if readable && rustix::io::read(tap, &mut buffer).is_ok() {
            let _ = signal(&device.call);
        }
    }
}

fn signal(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::io::write(fd, &1_u64.to_ne_bytes()).map(|_| ())
}

/// Makes an eventfd unreadable.
fn clear(fd: &OwnedFd) {
    let _ = rustix::io::read(fd, &mut [0; 8]);
}

/// Waits until something is readable.
fn wait(fd: impl AsFd, patience: Duration) -> Result<(), TapError> {
    let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout))? {
        0 => Err(TapError::Nothing),
        _ => Ok(()),
    }
}
