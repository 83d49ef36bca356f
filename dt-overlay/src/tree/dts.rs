//! A tree as source text (Devicetree 0.4, chapter 6): what dtc compiles to the same tree again.

use std::collections::HashMap;
use std::fmt::Write as _;

use dtoolkit::{Node as _, Property as _};

use super::{Node, Tree, value};

/// Writing to a `String` does not fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { let _ = write!($out, $($arg)*); };
}

pub(super) fn write(tree: &Tree) -> String {
    let mut out = String::from("/dts-v1/;\n");
    for (address, size) in tree.reservations() {
        put!(out, "/memreserve/ {address:#x} {size:#x};\n");
    }
    out.push('\n');
    let labels = labels(tree);
    node(&mut out, tree.root(), 0, &mut String::new(), &labels);
    out
}

/// From a path to its label; comments only, so that compiling adds no symbols twice.
fn labels(tree: &Tree) -> HashMap<&str, String> {
    let symbols = super::exact_child(tree.root(), "__symbols__");
    let pairs = symbols.into_iter().flat_map(|symbols| {
        symbols.properties().filter_map(|symbol| {
            Some((value::string(symbols, symbol.name())?, symbol.name().to_owned()))
        })
    });
    pairs.collect()
}

fn node(
    out: &mut String,
    it: &Node,
    depth: usize,
    path: &mut String,
    labels: &HashMap<&str, String>,
) {
    let indent = "\t".repeat(depth);
    if let Some(label) = labels.get(path.as_str()) {
        put!(out, "{indent}/* {label} */\n");
    }
    let name = if depth == 0 { "/" } else { it.name() };
    put!(out, "{indent}{name} {{\n");
    for property in it.properties() {
        put!(out, "{indent}\t{}", property.name());
        match property.value() {
            [] => {}
            bytes => {
                out.push_str(" = ");
                data(out, bytes);
            }
        }
        out.push_str(";\n");
    }
    for child in it.children() {
        out.push('\n');
        let len = path.len();
        put!(path, "/{}", child.name());
        node(out, child, depth + 1, path, labels);
        path.truncate(len);
    }
    put!(out, "{indent}}};\n");
}

fn data(out: &mut String, bytes: &[u8]) {
    if let Some(strings) = text(bytes) {
        let quoted: Vec<String> = strings.iter().map(|text| quote(text)).collect();
        out.push_str(&quoted.join(", "));
        return;
    }
    let (cells, rest) = bytes.as_chunks();
    let words: Vec<String> = if rest.is_empty() {
        cells.iter().map(|cell| format!("{:#x}", u32::from_be_bytes(*cell))).collect()
    } else {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (open, close) = if rest.is_empty() { ('<', '>') } else { ('[', ']') };
    put!(out, "{open}{}{close}", words.join(" "));
}

/// The strings, if that is what it looks like: each printable and none empty.
fn text(bytes: &[u8]) -> Option<Vec<&str>> {
    let parts = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    parts
        .map(|part| {
            let good = !part.is_empty() && part.iter().all(printable);
            good.then(|| std::str::from_utf8(part).ok()).flatten()
        })
        .collect()
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
