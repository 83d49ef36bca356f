//! One case for each thing that a declaration is refused for: its code, and the text in the file
//! that is pointed at.

mod file;
mod guest;
mod network;
mod nic;
mod rules;

use netvm::declaration::{Problem, parse};

/// A declaration that lacks only what `rest` says about keys outside of tables, and tables.
fn secure(rest: &str) -> String {
    format!("scenario = \"secure\"\nnic = [{{ pci = \"0000:00:03.0\" }}]\n{rest}")
}

fn found(text: &str) -> Vec<(&'static str, &str)> {
    let problems = match parse("netvm.toml", text) {
        Ok(parsed) => {
            assert!(parsed.warnings.problems().iter().all(|problem| !problem.is_error()));
            return Vec::new();
        }
        Err(findings) => findings.problems().to_vec(),
    };
    let errors = problems.iter().filter(|problem| problem.is_error());
    errors
        .inspect(|problem| assert!(has_fix(problem), "{problem:?} has no fix"))
        .map(|problem| (problem.code(), &text[problem.span()]))
        .collect()
}

fn has_fix(problem: &Problem) -> bool {
    !problem.fix().is_empty() && !problem.message().is_empty()
}

/// Checks bodies that `secure` completes.
#[track_caller]
fn refuse(body: &str, wanted: &[(&str, &str)]) {
    let text = secure(body);
    assert_eq!(found(&text), wanted, "in:\n{text}");
}

#[track_caller]
fn accept(body: &str) {
    refuse(body, &[]);
}
