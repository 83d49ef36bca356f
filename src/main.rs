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
    // Commands in messages are there to be copied: they are not broken over lines.
    let options = || miette::MietteHandlerOpts::new().wrap_lines(false);
    // It fails only when it is called twice.
    let _ = miette::set_hook(Box::new(move |_| Box::new(options().build())));
    run(cli).into()
}
