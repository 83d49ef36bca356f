//! What the wire says about the demonstration: decided outside the PC, from its capture.

use netvm_rig::{Claim, Nic, Outcome, RigError, wire};

/// The claims that only the capture of the wire can decide.
pub fn wire_claims(outcome: &Outcome) -> Result<Vec<Claim>, RigError> {
    let nic = Nic::first().mac;
    let (mut ours, mut outside, mut foreign, mut guests) = (0_u64, 0_u64, Vec::new(), 0_u64);
    for frame in wire::frames(&outcome.wire)? {
        let frame = frame?;
        // What the emulated network sends has its own addresses: 52:55:... for every server behind it.
        match frame.source {
            source if source.to_string() == nic => ours += 1,
            source if source.0[..2] == [0x52, 0x55] || source.0[..2] == [0x52, 0x56] => {
                outside += 1
            }
            source => foreign.push(source.to_string()),
        }
        if let Some((std::net::IpAddr::V4(source), _)) = frame.addresses()
            && source.octets()[..3] == [100, 127, 77]
        {
            guests += 1;
        }
    }
    foreign.sort();
    foreign.dedup();
    Ok(vec![
        Claim {
            id: "wire-only-nic".to_owned(),
            pass: foreign.is_empty() && guests == 0 && ours > 0,
            evidence: format!(
                "{ours} frames from {nic}, {outside} from outside, {guests} with a guest's address, foreign MACs: {}",
                if foreign.is_empty() { "none".to_owned() } else { foreign.join(" ") }
            ),
        },
        Claim {
            id: "wire-has-traffic".to_owned(),
            pass: ours > 20 && outside > 20,
            evidence: format!("{ours} frames out, {outside} in"),
        },
    ])
}
