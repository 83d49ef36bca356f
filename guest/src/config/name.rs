//! Values that end up in configuration files: each type holds only what is harmless there.

use std::fmt;
use std::str::FromStr;

/// A value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {wanted}")]
pub struct InvalidValue {
    /// The value as given.
    pub value: String,
    /// What is accepted.
    pub wanted: &'static str,
}

/// The MAC address of one card: never multicast, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Accepts a unicast address other than 00:00:00:00:00:00.
    ///
    /// # Errors
    /// [`InvalidValue`] for every other.
    pub fn new(octets: [u8; 6]) -> Result<MacAddress, InvalidValue> {
        let mac = MacAddress(octets);
        if octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(InvalidValue { value: mac.to_string(), wanted: MacAddress::WANTED });
        }
        Ok(mac)
    }

    const WANTED: &str = "a unicast MAC address such as 02:00:00:00:00:01";

    /// The six octets in the order they are sent.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    /// Lower-case hexadecimal with colons, as the kernel prints it in sysfs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<MacAddress, InvalidValue> {
        let refuse = || InvalidValue { value: text.to_owned(), wanted: MacAddress::WANTED };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(refuse)?;
            // from_str_radix alone would accept "+1".
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        MacAddress::new(octets).map_err(|_| refuse())
    }
}

/// A guest's name: one host name label (RFC 1123), lower case, 1 to 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<HostName, InvalidValue> {
        if is_label(text) {
            Ok(HostName(text.to_owned()))
        } else {
            Err(InvalidValue {
                value: text.to_owned(),
                wanted: "a host name: a-z, 0-9 and inner hyphens, at most 63 characters",
            })
        }
    }
}

/// A DNS domain: host name labels joined by dots, at most 253 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(String);

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Domain, InvalidValue> {
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(Domain(text.to_owned()))
        } else {
            Err(InvalidValue {
                value: text.to_owned(),
                wanted: "a domain: host name labels joined by dots, at most 253 characters",
            })
        }
    }
}

/// The name of a kernel module: letters, digits, `_` and `-`, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleName(String);

impl ModuleName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<ModuleName, InvalidValue> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        // A leading hyphen would be an option of modprobe.
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') {
            Ok(ModuleName(text.to_owned()))
        } else {
            Err(InvalidValue {
                value: text.to_owned(),
                wanted: "a module's name: letters, digits, _ and -, at most 64 characters",
            })
        }
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mac_address_group_zero_or_malformed_is_refused() {
        for text in [
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "+2:00:00:00:00:01",
            "2:0:0:0:0:1",
            "02:00:00:00:00:0g",
            "",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
        assert_eq!(
            "02:AB:00:00:00:01".parse::<MacAddress>().unwrap().to_string(),
            "02:ab:00:00:00:01"
        );
    }

    #[test]
    fn host_name_syntax_of_any_file_is_refused() {
        for text in
            ["", "-a", "a-", "a b", "a,b", "a\nb", "a;b", "a\"", "A", "a_b", "a.b", "#a", "é"]
        {
            assert!(text.parse::<HostName>().is_err(), "{text:?}");
        }
        assert!("a".repeat(64).parse::<HostName>().is_err());
        assert!("web-1".parse::<HostName>().is_ok());
    }

    #[test]
    fn domain_empty_label_or_too_long_is_refused() {
        for text in ["", ".", "a..b", "a.", "a/b", "a.b\n"] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
        assert!(["ab"; 90].join(".").parse::<Domain>().is_err());
        assert!("vm.example".parse::<Domain>().is_ok());
    }

    proptest! {
        #[test]
        fn names_accepted_hold_only_harmless_characters(text in "\\PC{0,70}|[a-z0-9.\\-\\n\",;#{}/ ]{0,20}") {
            let harmless = |text: &str| {
                text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
            };
            if let Ok(name) = text.parse::<HostName>() {
                prop_assert!(harmless(name.as_str()) && !name.as_str().contains('.'));
            }
            if let Ok(domain) = text.parse::<Domain>() {
                prop_assert!(harmless(&domain.to_string()));
            }
            if let Ok(mac) = text.parse::<MacAddress>() {
                prop_assert_eq!(mac.to_string(), text.to_lowercase());
            }
        }
    }
}
