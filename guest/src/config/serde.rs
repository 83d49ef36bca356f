//! JSON and TOML forms of the checked values: their text.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Domain, HostName, MacAddress};

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                output.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                String::deserialize(input)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text!(Domain, HostName, MacAddress);
