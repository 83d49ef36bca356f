//! What the PC says while it runs: lines of tab-separated fields on its second serial port.

/// Something that happened in the PC, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The PC is up and waits for scenarios.
    Booted {
        /// Seconds since its kernel started, as /proc/uptime has it.
        uptime: String,
    },
    /// A scenario starts.
    Begin {
        /// Its name.
        scenario: String,
    },
    /// `step TEXT` in a script: what is done next.
    Step {
        /// The text.
        text: String,
    },
    /// `note TEXT` in a script, or a remark of the PC's own.
    Note {
        /// The text.
        text: String,
    },
    /// `claim ID pass|fail EVIDENCE` in a script.
    Claim {
        /// The claim's identifier.
        id: String,
        /// Whether it held.
        pass: bool,
        /// What shows it.
        evidence: String,
    },
    /// A scenario ended.
    End {
        /// Its name.
        scenario: String,
        /// Its exit code; nothing when it ran out of time.
        code: Option<i32>,
    },
    /// The PC cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// Reads a line; lines that are none of ours give nothing.
    pub(crate) fn parse(line: &str) -> Option<Event> {
        let line = line.trim_end_matches(['\r', '\n']);
        let mut fields = line.split('\t');
        if fields.next()? != "rig" {
            return None;
        }
        let kind = fields.next()?;
        let fields: Vec<&str> = fields.collect();
        let text = |index: usize| fields.get(index).map(|field| (*field).to_owned());
        Some(match kind {
            "ready" => Event::Booted { uptime: text(0)? },
            "begin" => Event::Begin { scenario: text(0)? },
            "step" => Event::Step { text: text(0)? },
            "note" => Event::Note { text: text(0)? },
            "claim" => Event::Claim {
                id: text(0)?,
                // Anything but a clear pass is a failure.
                pass: text(1)? == "pass",
                evidence: text(2).unwrap_or_default(),
            },
            "end" => {
                let code = match text(1)?.as_str() {
                    "timeout" => None,
                    code => Some(code.parse().ok()?),
                };
                Event::End { scenario: text(0)?, code }
            }
            "failed" => Event::Failed { reason: text(0)? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_claim_anything_but_pass_fails() {
        let claim = |verdict: &str| Event::Claim {
            id: "a-b".into(),
            pass: verdict == "pass",
            evidence: "two words".into(),
        };
        for verdict in ["pass", "fail", "passed", ""] {
            let line = format!("rig\tclaim\ta-b\t{verdict}\ttwo words\r\n");
            assert_eq!(Event::parse(&line), Some(claim(verdict)));
        }
    }

    #[test]
    fn parse_end_timeout_has_no_code() {
        let end = |code| Some(Event::End { scenario: "a".into(), code });
        assert_eq!(Event::parse("rig\tend\ta\t3"), end(Some(3)));
        assert_eq!(Event::parse("rig\tend\ta\ttimeout"), end(None));
        assert_eq!(Event::parse("rig\tend\ta\tnonsense"), None);
    }

    #[test]
    fn parse_foreign_lines_give_nothing() {
        for line in ["", "rig", "rig step", "SeaBIOS", "rig\tunknown\tx"] {
            assert_eq!(Event::parse(line), None, "{line:?}");
        }
    }
}
