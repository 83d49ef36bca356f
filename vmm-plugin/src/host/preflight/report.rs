//! What checks find, and how it is told.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A check, by the name it has in reports and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Check {
    /// An IOMMU that translates, and a group.
    R1,
    /// Interrupts are remapped.
    R2,
    /// The group holds nothing but what is given away.
    R3,
    /// The host does not use the device.
    R4,
    /// It does not carry this session.
    D27,
    /// An endpoint, without virtual functions of others.
    R5,
    /// It can be reset without harm to others.
    R6,
    /// The platform keeps no memory mapped for it.
    R7,
    /// Isolation on the path upwards is real.
    R8,
    /// Nobody else has it.
    R9,
    /// The IOMMU protects the host after the NIC has come back.
    W10,
    /// The device cannot bypass translation.
    W11,
    /// Devices given away cannot reach each other.
    W12,
    /// Nothing ran on, or was started by, the device before the host did.
    W13,
    /// The VMM may lock the guest's memory.
    R17,
}

/// What a finding means for going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Go on, knowing it.
    Warn,
    /// Do not go on.
    Refuse,
}

/// A refusal the operator may decide to ignore, as a flag on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// R2: a guest may be able to inject interrupts into the host.
    AllowUnsafeInterrupts,
    /// R4: the host loses the network it has through the NIC.
    TakeFromHost,
    /// R6: what one guest leaves in the device is seen by the next, and by the host.
    AllowNoReset,
    /// R8: groups are smaller than the hardware can keep apart.
    AllowAcsOverride,
    /// D27: the session that types the command ends.
    CutMeOff,
}

impl Override {
    /// Every override.
    pub const ALL: [Self; 5] = [
        Self::AllowUnsafeInterrupts,
        Self::TakeFromHost,
        Self::AllowNoReset,
        Self::AllowAcsOverride,
        Self::CutMeOff,
    ];

    /// The flag without its dashes.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::AllowUnsafeInterrupts => "allow-unsafe-interrupts",
            Self::TakeFromHost => "take-from-host",
            Self::AllowNoReset => "allow-no-reset",
            Self::AllowAcsOverride => "allow-acs-override",
            Self::CutMeOff => "cut-me-off",
        }
    }

    /// What is at stake, for `--help`.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::AllowUnsafeInterrupts => {
                "Go on although a guest may be able to inject interrupts into the host (VFIO itself \
                 wants vfio_iommu_type1's allow_unsafe_interrupts=1 then)"
            }
            Self::TakeFromHost => "Take a NIC the host uses: it loses that network",
            Self::AllowNoReset => "Give away a device that cannot be reset",
            Self::AllowAcsOverride => {
                "Go on although pcie_acs_override makes groups look smaller than they are"
            }
            Self::CutMeOff => "Take the NIC that carries this very SSH session",
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag())
    }
}

/// The text names no override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an override; there are: allow-unsafe-interrupts, take-from-host, allow-no-reset, allow-acs-override, cut-me-off"
)]
pub struct OverrideError(String);

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|o| o.flag() == text)
            .ok_or_else(|| OverrideError(text.to_owned()))
    }
}

/// The overrides in force.
pub type Overrides = BTreeSet<Override>;

/// What one check found on one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub id: Check,
    /// What it means.
    pub severity: Severity,
    /// A device, a group, or `host`.
    pub subject: String,
    /// What is the case.
    pub finding: String,
    /// What to do; empty when all is well.
    pub action: String,
    /// The flag that turns this refusal into a warning, if there is one.
    #[serde(rename = "override")]
    pub overridable: Option<Override>,
    /// Whether that flag was given.
    pub overridden: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.severity, self.overridden) {
            (Severity::Ok, _) => "ok",
            (Severity::Warn, false) => "warning",
            (Severity::Warn, true) => "overridden",
            (Severity::Refuse, _) => "REFUSED",
        };
        write!(f, "{mark:<10} {:<4} {}: {}", format!("{:?}", self.id), self.subject, self.finding)?;
        if !self.action.is_empty() {
            write!(f, "\n{:16}-> {}", "", self.action)?;
        }
        if let (Severity::Refuse, Some(flag)) = (self.severity, self.overridable) {
            write!(f, "\n{:16}-> or, knowing the risk: --{flag}", "")?;
        }
        Ok(())
    }
}

/// Everything that was found, ordered by check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether anything forbids going on.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.refusals().next().is_some()
    }

    /// What forbids going on.
    pub fn refusals(&self) -> impl Iterator<Item = &Finding> {
        self.of(Severity::Refuse)
    }

    /// What is worth knowing.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.of(Severity::Warn)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |f| f.severity == severity)
    }

    fn push(
        &mut self,
        (id, severity): (Check, Severity),
        subject: impl fmt::Display,
        (finding, action): (String, String),
        overridable: Option<Override>,
    ) {
        self.findings.push(Finding {
            id,
            severity,
            subject: subject.to_string(),
            finding,
            action,
            overridable,
            overridden: false,
        });
    }

    pub(super) fn ok(&mut self, id: Check, subject: impl fmt::Display, finding: impl Into<String>) {
        let text = (finding.into(), String::new());
        self.push((id, Severity::Ok), subject, text, None);
    }

    pub(super) fn warn(
        &mut self,
        id: Check,
        subject: impl fmt::Display,
        finding: impl Into<String>,
        action: impl Into<String>,
    ) {
        let text = (finding.into(), action.into());
        self.push((id, Severity::Warn), subject, text, None);
    }

    pub(super) fn refuse(
        &mut self,
        id: Check,
        subject: impl fmt::Display,
        finding: impl Into<String>,
        action: impl Into<String>,
    ) {
        let text = (finding.into(), action.into());
        self.push((id, Severity::Refuse), subject, text, None);
    }

    pub(super) fn refuse_unless(
        &mut self,
        (id, flag): (Check, Override),
        subject: impl fmt::Display,
        finding: impl Into<String>,
        action: impl Into<String>,
    ) {
        let text = (finding.into(), action.into());
        self.push((id, Severity::Refuse), subject, text, Some(flag));
    }

    /// Notes `text` as fine when nothing since `before` (a length of `findings`) says otherwise
    /// for this check and subject.
    pub(super) fn ok_if_silent(
        &mut self,
        before: usize,
        id: Check,
        subject: impl fmt::Display,
        text: impl Into<String>,
    ) {
        let subject = subject.to_string();
        let said = |f: &Finding| f.id == id && f.subject == subject;
        if !self.findings.iter().skip(before).any(said) {
            self.ok(id, subject, text);
        }
    }

    pub(super) fn apply(&mut self, overrides: &Overrides) {
        for finding in &mut self.findings {
            if finding.severity == Severity::Refuse
                && finding.overridable.is_some_and(|o| overrides.contains(&o))
            {
                finding.severity = Severity::Warn;
                finding.overridden = true;
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}
