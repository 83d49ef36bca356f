//! The outer shape of messages: which requests are taken, how long their bodies are, and how many
//! descriptors come with them.

use vhost::vhost_user::message::{FrontendReq, MAX_ATTACHED_FD_ENTRIES};

use super::message::Message;
use super::refusal::Refusal;
use super::region::Region;

/// Bytes of a region.
const REGION_LEN: usize = size_of::<Region>();

/// Checks the length of a body against its request, and refuses requests the link does not take.
pub fn check_size(message: &Message) -> Result<(), Refusal> {
    use FrontendReq as Req;
    let request = message.request;
    let len = message.body.len();
    let fits = match request {
        Req::GET_FEATURES
        | Req::SET_OWNER
        | Req::RESET_OWNER
        | Req::GET_PROTOCOL_FEATURES
        | Req::GET_QUEUE_NUM
        | Req::GET_MAX_MEM_SLOTS
        | Req::SET_LOG_FD
        | Req::SET_BACKEND_REQ_FD => len == 0,
        Req::SET_FEATURES
        | Req::SET_PROTOCOL_FEATURES
        | Req::SET_VRING_NUM
        | Req::SET_VRING_BASE
        | Req::GET_VRING_BASE
        | Req::SET_VRING_ENABLE
        | Req::SET_VRING_KICK
        | Req::SET_VRING_CALL
        | Req::SET_VRING_ERR
        | Req::SEND_RARP
        | Req::NET_SET_MTU => len == 8,
        // Size and offset.
        Req::SET_LOG_BASE => len == 16,
        Req::SET_VRING_ADDR => len == 40,
        Req::ADD_MEM_REG | Req::REM_MEM_REG => len == 8 + REGION_LEN,
        Req::SET_MEM_TABLE => {
            let count = message.ring_state().map_or(0, |(count, _)| count as usize);
            (1..=MAX_ATTACHED_FD_ENTRIES).contains(&count) && len == 8 + count * REGION_LEN
        }
        // Offset, size and flags, and then `size` bytes.
        Req::GET_CONFIG | Req::SET_CONFIG => {
            let size = message.ring_state().map_or(u32::MAX, |(_, size)| size);
            len.checked_sub(12) == Some(size as usize)
        }
        _ => return Err(Refusal::Unsupported(request)),
    };
    if fits { Ok(()) } else { Err(Refusal::Size { request, len }) }
}

/// Checks how many descriptors came with a request. The ring requests are checked with their body.
pub fn check_fds(message: &mut Message) -> Result<(), Refusal> {
    use FrontendReq as Req;
    let count = message.fds.len();
    let fits = match message.request {
        Req::SET_MEM_TABLE => {
            message.ring_state().is_some_and(|(regions, _)| regions as usize == count)
        }
        Req::ADD_MEM_REG | Req::SET_BACKEND_REQ_FD | Req::SET_LOG_BASE | Req::SET_LOG_FD => {
            count == 1
        }
        Req::SET_VRING_KICK | Req::SET_VRING_CALL | Req::SET_VRING_ERR => count <= 1,
        // Old frontends send one; the specification has it closed unused.
        Req::REM_MEM_REG => {
            message.fds.clear();
            count <= 1
        }
        _ => count == 0,
    };
    if fits { Ok(()) } else { Err(Refusal::Fds { request: message.request, count }) }
}
