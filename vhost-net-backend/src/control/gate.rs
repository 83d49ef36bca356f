//! The session gate: between a frontend and the vhost-user library.
//!
//! One message at a time: checked, forwarded, its reply awaited, then the next. So replies keep
//! their order, also those that the gate gives itself.

use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::message::{Message, MessageError, wait};
use super::refusal::Refusal;
use super::ring_rules::double_base;
use super::rules::Rules;
use super::vring::RingContext;

/// How long a frontend may stay silent after it connected. Later it may be silent for ever.
pub const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the library may take for a reply: longer than the packet worker may.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The frontend could not be spoken to.
    #[error("The frontend broke off")]
    Frontend(#[source] MessageError),
    /// The frontend broke a rule.
    #[error("The frontend broke a rule of the protocol")]
    Refused(#[from] Refusal),
    /// The library ended the session.
    #[error("The vhost-user library refused a request")]
    Library(#[source] MessageError),
}

/// A gate over two connected sockets.
#[derive(Debug)]
pub struct Gate<'a> {
    /// The VMM.
    pub frontend: &'a UnixStream,
    /// The vhost-user library, by a private connection.
    pub library: &'a UnixStream,
    /// Where the frontend's channel for requests of the link goes.
    pub channel: &'a Mutex<Option<UnixStream>>,
    /// The end and its workers.
    pub context: &'a RingContext,
}

impl Gate<'_> {
    /// Passes messages until the frontend closes the connection, which is the good end.
    pub fn run(&self, mut rules: Rules) -> Result<(), GateError> {
        let first = Instant::now() + FIRST_MESSAGE_TIMEOUT;
        wait(self.frontend, PollFlags::IN, Some(first)).map_err(GateError::Frontend)?;
        loop {
            self.wait_for_message()?;
            let message = match Message::receive(self.frontend) {
                Ok(message) => message,
                Err(MessageError::Closed) => return Ok(()),
                Err(error) => return Err(GateError::Frontend(error)),
            };
            self.pass(&mut rules, message)?;
        }
    }

    /// Waits for the frontend's next message. The library ends the session when it refuses a
    /// request, and the frontend must learn of it though it said nothing more.
    fn wait_for_message(&self) -> Result<(), GateError> {
        loop {
            let mut sockets = [
                PollFd::new(self.library, PollFlags::RDHUP),
                PollFd::new(self.frontend, PollFlags::IN),
            ];
            match poll(&mut sockets, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(GateError::Frontend(error.into())),
            }
            let [library, frontend] = sockets.map(|socket| !socket.revents().is_empty());
            if library {
                return Err(GateError::Library(MessageError::Closed));
            }
            if frontend {
                return Ok(());
            }
        }
    }

    fn pass(&self, rules: &mut Rules, message: Message) -> Result<(), GateError> {
        let admission = rules.admit(message)?;
        if let Some(log) = admission.log {
            self.context.set_log(log);
        }
        if let Some(mac) = admission.announce {
            self.context.placement.announce(self.context.end, mac);
        }
        if let Some(channel) = admission.channel {
            *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
        }
        if let Some(answer) = admission.answer {
            answer.send(self.frontend).map_err(GateError::Frontend)?;
        }
        if let Some(message) = admission.forward {
            message.send(self.library).map_err(GateError::Library)?;
            // The library has its own copies of the descriptors now.
            drop(message);
        }
        if admission.reply {
            let deadline = Instant::now() + REPLY_TIMEOUT;
            wait(self.library, PollFlags::IN, Some(deadline)).map_err(GateError::Library)?;
            let mut reply = Message::receive_reply(self.library).map_err(GateError::Library)?;
            if admission.packed_base {
                double_base(&mut reply);
            }
            reply.send(self.frontend).map_err(GateError::Frontend)?;
        }
        for message in admission.then {
            message.send(self.library).map_err(GateError::Library)?;
        }
        Ok(())
    }
}
