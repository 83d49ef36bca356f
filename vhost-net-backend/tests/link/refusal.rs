//! One bad message, and what must come of it.

use crate::common::guest::{Guest, LOG_ALL, MRG_RXBUF, RING_PACKED};
use crate::common::link::TestLink;
use crate::common::{GUEST, NETVM, frame};
use crate::raw::{
    ACK, GET_FEATURES, GET_PROTOCOL_FEATURES, PLAIN, Raw, SET_FEATURES, SET_OWNER,
    SET_PROTOCOL_FEATURES,
};

/// VHOST_USER_PROTOCOL_F_BACKEND_REQ.
const BACKEND_REQ: u64 = 0x20;

/// Sends one bad message in a session past its negotiation; the session must end, for `reason`.
pub fn refused(link: &TestLink, reason: &str, act: impl FnOnce(&mut Raw)) {
    let mut raw = negotiated(link);
    act(&mut raw);
    assert!(raw.is_closed(), "{reason}");
    let report = link.report_when(|report| !report.guest.connected);
    let error = report.guest.last_error.unwrap_or_default();
    assert!(error.contains(reason), "{error:?} is not about {reason:?}");
}

/// A session in which features are negotiated, those of split rings, and all protocol features but the channel for
/// requests of the link.
pub fn negotiated(link: &TestLink) -> Raw {
    let mut raw = Raw::connect(&link.guest_socket());
    raw.send(SET_OWNER, PLAIN, &[], &[]);
    let features = raw.ask(GET_FEATURES, PLAIN, &[], &[]) & !(LOG_ALL | RING_PACKED);
    let protocol = raw.ask(GET_PROTOCOL_FEATURES, PLAIN, &[], &[]) & !BACKEND_REQ;
    raw.send(SET_PROTOCOL_FEATURES, PLAIN, &protocol.to_ne_bytes(), &[]);
    assert_eq!(raw.ask(SET_FEATURES, ACK, &features.to_ne_bytes(), &[]), 0);
    raw
}

/// The end works for the next frontend.
pub fn next_session_works(link: &TestLink) {
    let (mut guest, mut netvm) = (Guest::new(MRG_RXBUF, 64), Guest::new(MRG_RXBUF, 64));
    netvm.fill_rx();
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    let sent = frame(NETVM, GUEST, 60, 1);
    guest.send(&sent);
    assert_eq!(netvm.receive(), sent);
}
