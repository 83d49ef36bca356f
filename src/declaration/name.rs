//! Names of guests and domains.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Longest guest name in bytes: a DNS label (RFC 1035 2.3.4).
const LABEL_MAX: usize = 63;

/// Longest domain in bytes that still leaves room for a guest's label in front of it
/// (RFC 1035 2.3.4: 255 bytes with lengths, 253 as text).
const DOMAIN_MAX: usize = 253 - LABEL_MAX - 1;

/// A guest's name: one DNS label in lower case (RFC 952, RFC 1123 2.1).
///
/// Being a label, it is also a safe file name, command line word and configuration value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the `number`th spare link, counted from 1: `spare-1`.
    pub(super) fn spare(number: u16) -> Self {
        HostName(format!("spare-{number}"))
    }

    /// The number of the spare link that is named exactly like this.
    pub(super) fn spare_number(name: &str) -> Option<u16> {
        let number = name.strip_prefix("spare-")?.parse().ok()?;
        (HostName::spare(number).as_str() == name).then_some(number)
    }
}

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// Longer than the limit.
    #[error("it has {length} bytes, and {limit} is the most")]
    TooLong {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// Upper case: DNS does not distinguish case, so one spelling is the rule.
    #[error("it has upper-case letters, and names are compared without case")]
    UpperCase,
    /// A character that no host name has.
    #[error("{0:?} cannot be part of a host name")]
    Character(char),
    /// A hyphen at an end.
    #[error("it starts or ends with a hyphen")]
    Hyphen,
    /// Only digits, which resolvers take for an IPv4 address.
    #[error("it has only digits, so resolvers would take it for an address")]
    OnlyDigits,
}

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(NameError::Character(bad));
    }
    if text.len() > LABEL_MAX {
        return Err(NameError::TooLong { length: text.len(), limit: LABEL_MAX });
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(NameError::UpperCase);
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_label(text)?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NameError::OnlyDigits);
        }
        Ok(HostName(text.to_owned()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The DNS domain of all guests: one or more labels with dots between them, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domain(String);

impl Domain {
    /// The domain as text, without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Domain {
    /// `netvm.internal`: `.internal` is reserved for private use and will never be delegated.
    fn default() -> Self {
        Domain("netvm.internal".to_owned())
    }
}

impl FromStr for Domain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > DOMAIN_MAX {
            return Err(NameError::TooLong { length: text.len(), limit: DOMAIN_MAX });
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(NameError::OnlyDigits);
        }
        Ok(Domain(text.to_owned()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
