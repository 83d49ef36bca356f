//! Values of properties: 32-bit cells, strings (Devicetree 0.4, section 2.2.4).

use dtoolkit::{Node as _, Property as _};

use super::Node;

/// The bytes of a property; `None` without it.
#[must_use]
pub fn bytes<'t>(node: &'t Node, name: &str) -> Option<&'t [u8]> {
    // `Property::value` borrows from the handle; this, from the node.
    node.property(name)?.value_as::<&'t [u8]>().ok()
}

/// A property as cells; `None` without it or if it is not a multiple of 4 bytes.
#[must_use]
pub fn cells(node: &Node, name: &str) -> Option<Vec<u32>> {
    let (cells, rest) = bytes(node, name)?.as_chunks();
    rest.is_empty().then(|| cells.iter().copied().map(u32::from_be_bytes).collect())
}

/// A property of one cell; `None` without it or of another length.
#[must_use]
pub fn cell(node: &Node, name: &str) -> Option<u32> {
    bytes(node, name)?.try_into().ok().map(u32::from_be_bytes)
}

/// A property as a list of strings; `None` without it or if it is none.
#[must_use]
pub fn strings<'t>(node: &'t Node, name: &str) -> Option<Vec<&'t str>> {
    let text = bytes(node, name)?.strip_suffix(b"\0")?;
    text.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).ok()).collect()
}

/// A property as one string; `None` without it or if it is none.
#[must_use]
pub fn string<'t>(node: &'t Node, name: &str) -> Option<&'t str> {
    strings(node, name).and_then(|list| match list[..] {
        [one] => Some(one),
        _ => None,
    })
}

/// A node's phandle (section 2.3.3), by either of its names.
#[must_use]
pub fn phandle(node: &Node) -> Option<u32> {
    cell(node, "phandle").or_else(|| cell(node, "linux,phandle"))
}

/// Whether `status` is absent or says so (section 2.3.4).
#[must_use]
pub fn enabled(node: &Node) -> bool {
    bytes(node, "status").is_none_or(|status| matches!(status, b"okay\0" | b"ok\0"))
}

/// Cells as bytes.
#[must_use]
pub fn from_cells(cells: &[u32]) -> Vec<u8> {
    cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
}

/// A list of strings as bytes.
#[must_use]
pub fn from_strings<T: AsRef<str>>(strings: &[T]) -> Vec<u8> {
    strings.iter().flat_map(|text| text.as_ref().bytes().chain([0])).collect()
}
