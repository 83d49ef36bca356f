//! The JSON schema of netvm.toml, for editors.

use schemars::generate::SchemaSettings;

use super::raw::RawDeclaration;

/// The schema of the file as it is written, as JSON text that ends with a line feed.
///
/// docs/netvm.schema.json holds it.
pub fn schema() -> String {
    let schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<RawDeclaration>();
    format!("{:#}\n", schema.as_value())
}
