//! Text to raw declaration: TOML syntax, keys and TOML types, with every mistake found.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::raw::RawDeclaration;

/// Most mistakes of keys and types that are reported; each costs one more pass over the file.
const MISTAKES_MAX: usize = 50;

/// What could be read of a file.
#[derive(Debug)]
pub(super) struct Reading {
    /// Everything that had the right key and type; `None` if the file is not TOML.
    pub raw: Option<RawDeclaration>,
    /// What had not.
    pub problems: Vec<Problem>,
    /// Where values of the wrong type were: in the table whose place starts there, that key.
    pub dropped: Vec<(usize, String)>,
}

/// Reads `text`.
///
/// serde stops at the first mistake, so the mistake is noted, what it is about is taken out of the
/// tree, and the rest is read again.
pub(super) fn read(text: &str) -> Reading {
    let (mut tree, mistakes) = DeTable::parse_recoverable(text);
    if !mistakes.is_empty() {
        let problems = mistakes.iter().map(|mistake| syntax_problem(text, mistake)).collect();
        return Reading { raw: None, problems, dropped: Vec::new() };
    }
    let mut problems = Vec::new();
    let mut dropped = Vec::new();
    loop {
        let mistake = match RawDeclaration::deserialize(toml::Deserializer::from(tree.clone())) {
            Ok(raw) => return Reading { raw: Some(raw), problems, dropped },
            Err(mistake) => mistake,
        };
        problems.push(type_problem(text, &mistake));
        let root = tree.span().start;
        let taken = mistake.span().and_then(|span| take_out(tree.get_mut(), root, &span));
        match taken {
            Some(place) if problems.len() < MISTAKES_MAX => dropped.push(place),
            _ => return Reading { raw: None, problems, dropped },
        }
    }
}

/// Removes the entry whose key or value is at `span` from `table` or from what is in it. Returns
/// the start of the table that it was in, and its key.
fn take_out(table: &mut DeTable<'_>, start: usize, span: &Range<usize>) -> Option<(usize, String)> {
    let found = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span)
        .map(|(key, _)| key.clone());
    if let Some(key) = found {
        table.remove(&key);
        return Some((start, key.into_inner().into_owned()));
    }
    table.iter_mut().find_map(|(key, value)| take_out_of_value(key.get_ref(), value, start, span))
}

fn take_out_of_value(
    key: &str,
    value: &mut Spanned<DeValue<'_>>,
    start: usize,
    span: &Range<usize>,
) -> Option<(usize, String)> {
    let own_start = value.span().start;
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, own_start, span),
        DeValue::Array(array) => {
            if array.iter().any(|element| element.span() == *span) {
                *array = array.iter().filter(|element| element.span() != *span).cloned().collect();
                return Some((start, key.to_owned()));
            }
            array.iter_mut().find_map(|element| take_out_of_value(key, element, start, span))
        }
        _ => None,
    }
}

fn span_of(text: &str, mistake: &toml::de::Error) -> Range<usize> {
    let span = mistake.span().unwrap_or(0..0);
    let end = span.end.min(text.len());
    span.start.min(end)..end
}

fn syntax_problem(text: &str, mistake: &toml::de::Error) -> Problem {
    Problem::error(
        "netvm::toml::syntax",
        span_of(text, mistake),
        format!("Not TOML: {}", mistake.message()),
        "here",
    )
    .help("see https://toml.io; texts stand in \"double quotes\", tables begin with [name]")
}

fn type_problem(text: &str, mistake: &toml::de::Error) -> Problem {
    let span = span_of(text, mistake);
    let message = mistake.message();
    // serde words these two the same for every format and type, with names in backquotes.
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let key = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return Problem::error(
            "netvm::key::unknown",
            span,
            format!("Unknown key `{key}`"),
            "not known here",
        )
        .help(suggestion(key, &known));
    }
    if message.starts_with("unknown variant") {
        let value = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return Problem::error(
            "netvm::value::unknown",
            span,
            format!("Unknown value \"{value}\""),
            "not known here",
        )
        .help(suggestion(value, &known));
    }
    let wanted = message.rsplit_once("expected ").map_or("", |(_, wanted)| wanted);
    let (wanted, fix) = match wanted {
        "a string" => ("a text", "put the value in \"double quotes\""),
        "i64" => ("a whole number", "write a whole number without quotes"),
        "a boolean" => ("true or false", "write true or false, without quotes"),
        "a sequence" => (
            "a list",
            "put values in [brackets]; a table that can occur several times begins with \
             [[two brackets]]",
        ),
        struct_name if struct_name.starts_with("struct ") => {
            ("a table", "begin the table with its name in [brackets] on a line of its own")
        }
        other => (other, "write a value of that type"),
    };
    Problem::error("netvm::value::type", span, "The value has the wrong type", "this value")
        .help(format!("{wanted} is expected: {fix}"))
}

/// `did you mean ...`, if something is near, and all that is known.
fn suggestion(written: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(written, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let all = known.join(", ");
    match near {
        Some((_, candidate)) => format!("did you mean `{candidate}`? Known here: {all}"),
        None => format!("known here: {all}"),
    }
}
