//! What the process gives up before it speaks to anybody.

/// The parts of the sandbox this process does not have.
pub fn missing() -> Vec<String> {
    vec!["everything".to_owned()]
}
