//! QEMU's machine protocol, as far as the rig needs it (docs/interop/qmp-spec): one JSON object a
//! line, answered in order, events in between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::RigError;

/// How long QEMU may take to answer: it is busy, but never for long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connected control channel.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Reads QEMU's greeting and leaves negotiation mode.
    pub(crate) fn new(stream: UnixStream) -> Result<Qmp, RigError> {
        let failed = |error| refused("greeting", &error);
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut qmp = Qmp { stream: BufReader::new(stream) };
        qmp.line("greeting")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returns.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, RigError> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        let written = self.stream.get_mut().write_all(request.as_bytes());
        written.map_err(|error| refused(command, &error))?;
        loop {
            let mut answer = self.line(command)?;
            if let Some(error) = answer.get("error") {
                let description = error.get("desc").and_then(Value::as_str).unwrap_or("no reason");
                return Err(refused(command, &description));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self, command: &str) -> Result<Value, RigError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(refused(command, &"the channel is closed")),
            Ok(_) => serde_json::from_str(&line).map_err(|error| refused(command, &error)),
            Err(error) => Err(refused(command, &error)),
        }
    }
}

fn refused(command: &str, reason: &dyn std::fmt::Display) -> RigError {
    RigError::Qmp { command: command.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(answers: &'static str) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answers.as_bytes()).unwrap();
        // Kept open: a command is to be read, not to meet a closed channel.
        std::thread::spawn(move || std::io::copy(&mut theirs, &mut std::io::sink()));
        ours
    }

    #[test]
    fn execute_events_before_the_answer_are_passed_over() {
        let mut qmp = Qmp::new(answering(
            "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"NIC_RX_FILTER_CHANGED\"}\n\
             {\"return\": {\"running\": true}}\n",
        ))
        .unwrap();
        let status = qmp.execute("query-status", json!({})).unwrap();
        assert_eq!(status, json!({ "running": true }));
    }

    #[test]
    fn execute_error_carries_the_reason() {
        let mut qmp = Qmp::new(answering(
            "{\"QMP\": {}}\n{\"return\": {}}\n{\"error\": {\"desc\": \"no such object\"}}\n",
        ))
        .unwrap();
        let message = qmp.execute("object-del", json!({})).unwrap_err().to_string();
        assert_eq!(message, "QEMU refused object-del: no such object");
    }
}
