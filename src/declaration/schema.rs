//! The JSON schema of netvm.toml, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::raw::RawDeclaration;

/// The schema of the file as it is written, as JSON text that ends with a line feed.
///
/// docs/netvm.schema.json holds it.
pub fn schema() -> String {
    let settings =
        SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_what_toml_lacks));
    let schema = settings.into_generator().into_root_schema_for::<RawDeclaration>();
    format!("{:#}\n", schema.as_value())
}

/// Takes out `null`, which TOML cannot express, and formats that only restate integer sizes.
fn without_what_toml_lacks(schema: &mut Schema) {
    schema.remove("format");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = &choices[..] {
        let only = only.clone();
        schema.remove("anyOf");
        let own = schema.ensure_object();
        for (key, value) in only {
            // The field's own description says more than its type's.
            own.entry(key).or_insert(value);
        }
    }
}
