//! What the gate makes of the bases of packed rings, between a frontend and a library that are
//! both played by the test.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vhost_net_backend::control::gate::{Gate, GateError};
use vhost_net_backend::control::message::Message;
use vhost_net_backend::control::placement::Placement;
use vhost_net_backend::control::refusal::Refusal;
use vhost_net_backend::control::rules::{EndConfig, Rules};
use vhost_net_backend::control::vring::RingContext;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::command::command_channel;

use crate::common::GUEST;
use crate::common::guest::{PROTOCOL, VERSION_1};
use crate::raw::{
    GET_VRING_BASE, PLAIN, Raw, SET_FEATURES, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_NUM, pair,
};

const PACKED: u64 = 1 << 34;

/// A frontend and a library, and how the gate between them ended once the frontend is gone.
fn session(act: impl FnOnce(&mut Raw, &UnixStream)) -> Result<(), GateError> {
    let (frontend, gate_frontend) = UnixStream::pair().unwrap();
    let (gate_library, library) = UnixStream::pair().unwrap();
    let gate = std::thread::spawn(move || {
        let (worker, _requests) = command_channel().unwrap();
        let context = RingContext {
            end: EndId::Guest,
            queue_pairs: 1,
            placement: Arc::new(Placement::new(vec![worker])),
            features: Arc::default(),
            counters: Arc::default(),
            log: Arc::default(),
        };
        let end = EndConfig { unsealed: false, mac: GUEST, mtu: 1500, queue_pairs: 1 };
        let gate = Gate {
            frontend: &gate_frontend,
            library: &gate_library,
            channel: &Mutex::new(None),
            context: &context,
        };
        gate.run(Rules::new(end).unwrap())
    });
    for stream in [&frontend, &library] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    let mut raw = Raw { stream: frontend };
    act(&mut raw, &library);
    drop(raw);
    gate.join().unwrap()
}

/// Passes one message through the gate; returns what the library got.
fn pass(raw: &Raw, library: &UnixStream, code: u32, body: &[u8]) -> Message {
    raw.send(code, PLAIN, body, &[]);
    let message = Message::receive(library).unwrap();
    assert_eq!(u32::from(message.request), code);
    message
}

fn negotiate(raw: &Raw, library: &UnixStream, features: u64) {
    let features = features | PROTOCOL | VERSION_1;
    pass(raw, library, SET_FEATURES, &features.to_ne_bytes());
}

#[test]
fn base_of_a_packed_ring_goes_in_with_16_bits_and_comes_out_twice() {
    session(|raw, library| {
        negotiate(raw, library, PACKED);
        pass(raw, library, SET_VRING_NUM, &pair(1, 256));
        let message = pass(raw, library, SET_VRING_BASE, &pair(1, 0x0011_8022));
        assert_eq!(message.body, pair(1, 0x0011), "the library would cut off the upper half");
        let request = pass(raw, library, GET_VRING_BASE, &pair(1, 0));
        request.reply(pair(1, 0x8033)).send(library).unwrap();
        assert_eq!(raw.reply(), (GET_VRING_BASE, pair(1, 0x8033_8033)));
    })
    .unwrap();
}

#[test]
fn base_of_a_split_ring_passes_as_it_is() {
    session(|raw, library| {
        negotiate(raw, library, 0);
        let message = pass(raw, library, SET_VRING_BASE, &pair(1, 0x8022));
        assert_eq!(message.body, pair(1, 0x8022));
        let request = pass(raw, library, GET_VRING_BASE, &pair(1, 0));
        request.reply(pair(1, 0x8033)).send(library).unwrap();
        assert_eq!(raw.reply(), (GET_VRING_BASE, pair(1, 0x8033)));
    })
    .unwrap();
}

#[test]
fn t35_packed_ring_that_does_not_fit_ends_the_session() {
    let refusal = |code: u32, body: Vec<u8>| {
        let result = session(|raw, library| {
            negotiate(raw, library, PACKED);
            pass(raw, library, SET_VRING_NUM, &pair(0, 256));
            raw.send(code, PLAIN, &body, &[]);
        });
        match result {
            Err(GateError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let base = refusal(SET_VRING_BASE, pair(0, 0x0100_0100));
    assert!(matches!(base, Refusal::PackedBase { base: 256, size: 256 }), "{base}");
    // The driver's area at an address that only a split ring may have.
    let addresses = [0x1000_u64, 0x2000, 0x3002, 0].map(u64::to_ne_bytes).concat();
    let misaligned = refusal(SET_VRING_ADDR, [pair(0, 0), addresses].concat());
    assert!(matches!(misaligned, Refusal::RingMisaligned { address: 0x3002, alignment: 4 }));
}
