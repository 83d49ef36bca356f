//! Sends a number of frames each way through a link, and ends when all have arrived: for counting what a link does.
//!
//!     frames GUEST_SOCKET NETVM_SOCKET FRAMES BYTES|gso [split|packed]

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use netvm_bench::card::{Card, CardConfig};
use netvm_bench::features;
use netvm_bench::frame::{GSO_LEN, Station, TCP_HEADERS, UDP_HEADERS, tcp_gso, udp};
use netvm_bench::header::NetHeader;
use netvm_bench::load::{Load, Template, finish};
use netvm_bench::ring::RingKind;

const GUEST: Station = Station { mac: [2, 0, 0, 0, 0, 0x0a], ip: Ipv4Addr::new(198, 18, 0, 1) };
const NETVM: Station = Station { mac: [2, 0, 0, 0, 0, 0x01], ip: Ipv4Addr::new(198, 18, 0, 2) };

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (sockets, frames, bytes, ring) = match arguments.as_slice() {
        [guest, netvm, frames, bytes, ring @ ..] => ([guest, netvm], frames, bytes.as_str(), ring),
        _ => return Err("give GUEST_SOCKET NETVM_SOCKET FRAMES BYTES [split|packed]".into()),
    };
    let frames: u64 = frames.parse()?;
    let gso = bytes == "gso";
    let bytes: usize = if gso { GSO_LEN } else { bytes.parse()? };
    let ring = match ring.first().map(String::as_str) {
        None | Some("split") => RingKind::Split,
        Some("packed") => RingKind::Packed,
        Some(other) => return Err(format!("{other} is neither split nor packed").into()),
    };
    let mut config = CardConfig::new(ring);
    if gso {
        config.features |= features::GSO;
        config.receive_buffer = 4096;
        config.receive_size = 1024;
        config.longest_frame = 65536;
    }
    let [guest, netvm] = sockets.map(|socket| Card::connect(&config, Path::new(socket)));
    let (mut guest, mut netvm) = (guest?, netvm?);
    if gso && guest.features() & features::GSO != features::GSO {
        return Err("The backend does not offer what GSO needs".into());
    }
    let template = |from, to| {
        let template = if gso {
            let (header, frame) = tcp_gso(from, to);
            Template { header, frame, stamp_at: TCP_HEADERS, window: 32 }
        } else {
            let (header, frame) = (NetHeader::default(), udp(from, to, bytes));
            Template { header, frame, stamp_at: UDP_HEADERS, window: 128 }
        };
        Some(template)
    };
    let templates = [template(GUEST, NETVM), template(NETVM, GUEST)];
    let mut loads = [Load::new([guest.pair(), netvm.pair()], templates)];
    let [load] = &mut loads;
    while load.counts().iter().any(|count| count.frames < frames) {
        load.turn(true)?;
        load.check(Instant::now())?;
    }
    finish(&mut loads)?;
    let [load] = &loads;
    let arrived: u64 = load.counts().iter().map(|count| count.frames).sum();
    let lost: u64 = load.counts().iter().map(|count| count.lost).sum();
    println!("{arrived} frames arrived, {lost} were lost");
    Ok(())
}
