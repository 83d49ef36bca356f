//! What is wrong with a declaration: every problem with its place, its reason and its fix.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};

/// One finding about a declaration.
#[derive(Clone, Debug)]
pub struct Problem {
    code: &'static str,
    severity: Severity,
    message: String,
    /// Primary place first.
    labels: Vec<LabeledSpan>,
    help: String,
}

impl Problem {
    /// An error at `span`: `message` says what is wrong, `label` is written below the place.
    pub(super) fn error(
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Problem {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: vec![LabeledSpan::new_primary_with_span(Some(label.into()), span)],
            help: String::new(),
        }
    }

    /// Adds a second place, such as the first use of a name that is used twice.
    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.labels.push(LabeledSpan::new_with_span(Some(label.into()), span));
        self
    }

    /// Adds what to do about it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Makes it something that is worth knowing, but no reason to refuse the declaration.
    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Stable identity of the kind of problem, such as `netvm::guest::duplicate_mac`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn fix(&self) -> &str {
        &self.help
    }

    /// Bytes of the file that the problem is about.
    pub fn span(&self) -> Range<usize> {
        self.labels.first().map_or(0..0, |label| label.offset()..label.offset() + label.len())
    }

    /// Whether it makes the declaration unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        if self.help.is_empty() { None } else { Some(Box::new(&self.help)) }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// All findings about one file, as a single report that shows the lines in question.
///
/// Print it with `{:?}` of [`miette::Report`], or walk [`Findings::problems`].
#[derive(Clone, Debug)]
pub struct Findings {
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

impl Findings {
    pub(super) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (!problem.is_error(), problem.span().start));
        Findings { source: NamedSource::new(name, text.to_owned()).with_language("toml"), problems }
    }

    /// Other findings about the same file.
    pub(super) fn with(&self, problems: Vec<Problem>) -> Self {
        Findings::new(self.source.name(), self.source.inner(), problems)
    }

    /// Errors first, then warnings, each in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.is_error()).count()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors();
        let warnings = self.problems.len() - errors;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(f, "{}: ", self.source.name())?;
        match (errors, warnings) {
            (0, _) => write!(f, "{warnings} warning{}", plural(warnings)),
            (_, 0) => write!(f, "{errors} error{}", plural(errors)),
            _ => write!(
                f,
                "{errors} error{} and {warnings} warning{}",
                plural(errors),
                plural(warnings)
            ),
        }
    }
}

impl std::error::Error for Findings {}

impl Diagnostic for Findings {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new("netvm::declaration"))
    }

    fn severity(&self) -> Option<Severity> {
        Some(if self.errors() > 0 { Severity::Error } else { Severity::Warning })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (self.errors() > 0).then(|| -> Box<dyn fmt::Display> {
            Box::new("nothing was touched; `netvm schema` prints every key with its meaning")
        })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// Why there is no [`Declaration`](super::Declaration).
#[derive(Debug, thiserror::Error, Diagnostic)]
#[non_exhaustive]
pub enum DeclarationError {
    /// The file could not be read.
    #[error("Could not read the declaration {}", path.display())]
    #[diagnostic(
        code(netvm::declaration::unreadable),
        help("name another file with --file, or start from one of the examples")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any declaration.
    #[error("{} is larger than {limit} bytes, so it is no declaration", path.display())]
    #[diagnostic(code(netvm::declaration::too_large), help("name another file with --file"))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Largest size in bytes.
        limit: u64,
    },
    /// The file is wrong in one or more places.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(Box<Findings>),
}
