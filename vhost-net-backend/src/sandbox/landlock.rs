//! Landlock: file and network access denied by the process itself.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};

use super::PartError;

/// Denies every kind of file access, TCP ports, and signals and abstract sockets outside of this
/// process, as far as the running kernel knows them. A kernel without landlock denies nothing by
/// it; the empty root and the system call filter do not depend on it.
pub fn restrict() -> Result<(), PartError> {
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(PartError::Landlock)?;
    tracing::debug!(status = ?status.ruleset, "landlock");
    Ok(())
}
