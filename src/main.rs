//! The operator's command.

use std::process::ExitCode;

use clap::Parser as _;
use netvm::cli::Cli;
use netvm::cli::run::run;
use netvm::exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors, and clap knows which stream each belongs to.
            let _ = error.print();
            return if error.use_stderr() { Exit::Declaration.into() } else { Exit::Done.into() };
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .without_time()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("NETVM_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    run(cli).into()
}
