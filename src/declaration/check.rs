//! The state of one validation: what was found so far, and fields on their way from raw to plain.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;

use super::at::At;
use super::error::Problem;

/// A field after a look at it.
#[derive(Clone, Debug)]
pub(super) enum Field<T> {
    /// Not written: the default applies.
    Absent,
    /// Written, wrong and reported: nothing may be concluded from it.
    Bad,
    /// Written and right.
    Good(At<T>),
}

impl<T> Field<T> {
    /// The value with its place, if it is there and right.
    pub(super) fn good(&self) -> Option<&At<T>> {
        match self {
            Field::Good(at) => Some(at),
            Field::Absent | Field::Bad => None,
        }
    }

    /// The value, or the default for an absent one; `None` for a wrong one.
    pub(super) fn or(self, default: T) -> Option<T> {
        match self {
            Field::Absent => Some(default),
            Field::Bad => None,
            Field::Good(at) => Some(at.value),
        }
    }

    /// The value if there is one; the outer `None` is a wrong one.
    pub(super) fn optional(self) -> Option<Option<T>> {
        match self {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(at) => Some(Some(at.value)),
        }
    }
}

/// One validation.
#[derive(Debug)]
pub(super) struct Check {
    pub problems: Vec<Problem>,
    dropped: Vec<(usize, String)>,
}

impl Check {
    pub(super) fn new(problems: Vec<Problem>, dropped: Vec<(usize, String)>) -> Self {
        Check { problems, dropped }
    }

    /// Notes a problem.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether anything is wrong so far, warnings aside.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }

    /// Whether the value of `key` in the table at `table` had the wrong TOML type.
    pub(super) fn was_dropped(&self, table: &Range<usize>, key: &str) -> bool {
        self.dropped.iter().any(|(start, name)| *start == table.start && name == key)
    }

    /// A field that needs no look of its own.
    pub(super) fn plain<T: Clone>(
        &self,
        table: &Range<usize>,
        key: &str,
        raw: Option<&At<T>>,
    ) -> Field<T> {
        match raw {
            Some(at) => Field::Good(at.clone()),
            None if self.was_dropped(table, key) => Field::Bad,
            None => Field::Absent,
        }
    }

    /// A text that is parsed as `T`; `what` names it in the message, `fix` says how to write it.
    pub(super) fn parsed<T>(
        &mut self,
        table: &Range<usize>,
        key: &str,
        raw: Option<&At<String>>,
        (code, what, fix): (&'static str, &str, &str),
    ) -> Field<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.plain(table, key, raw) {
            Field::Absent => Field::Absent,
            Field::Bad => Field::Bad,
            Field::Good(At { span, value }) => match value.parse() {
                Ok(parsed) => Field::Good(At { span, value: parsed }),
                Err(reason) => {
                    let message = format!("\"{value}\" is not {what}: {reason}");
                    self.report(Problem::error(code, span, message, "this value").help(fix));
                    Field::Bad
                }
            },
        }
    }

    /// A number that has to be in `range`.
    pub(super) fn number<T>(
        &mut self,
        table: &Range<usize>,
        key: &str,
        raw: Option<&At<i64>>,
        range: RangeInclusive<T>,
        code: &'static str,
    ) -> Field<T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let at = match self.plain(table, key, raw) {
            Field::Absent => return Field::Absent,
            Field::Bad => return Field::Bad,
            Field::Good(at) => at,
        };
        match T::try_from(at.value) {
            Ok(value) if range.contains(&value) => Field::Good(At { span: at.span, value }),
            _ => {
                let (low, high) = (range.start(), range.end());
                let message =
                    format!("`{key}` is {}, but goes from {low} to {high} only", at.value);
                self.report(
                    Problem::error(code, at.span, message, "out of range")
                        .help(format!("write a number from {low} to {high}")),
                );
                Field::Bad
            }
        }
    }

    /// A path that must not depend on where the command is started.
    pub(super) fn path(
        &mut self,
        table: &Range<usize>,
        key: &str,
        raw: Option<&At<String>>,
    ) -> Field<PathBuf> {
        let at = match self.plain(table, key, raw) {
            Field::Absent => return Field::Absent,
            Field::Bad => return Field::Bad,
            Field::Good(at) => at,
        };
        let path = PathBuf::from(&at.value);
        if !path.is_absolute() || at.value.contains('\0') {
            self.report(
                Problem::error(
                    "netvm::path::not_absolute",
                    at.span,
                    format!("`{key}` is \"{}\", which is not a whole path", at.value),
                    "does not start at /",
                )
                .help("write the path from / on: it must not depend on where netvm is started"),
            );
            return Field::Bad;
        }
        Field::Good(At { span: at.span, value: path })
    }

    /// Like [`Check::plain`], but reports an absent field.
    pub(super) fn required<T>(
        &mut self,
        field: Field<T>,
        table: &Range<usize>,
        code: &'static str,
        message: &str,
        fix: &str,
    ) -> Field<T> {
        if let Field::Absent = field {
            self.report(Problem::error(code, table.clone(), message, "missing here").help(fix));
            return Field::Bad;
        }
        field
    }
}
