//! The program `chand`: the daemon, the embedded chain, the tour.
//!
//! In: the command line. Out: an exit status: 0 when all went well, 1 with one sentence on stderr, 2 for a command line
//! that cannot be read. Read next: `chand::start`.

use chand::config::{Cli, Config, Program};
use chand::{backup, check, demo, manual, passphrase, regtest, start, tower};
use clap::Parser;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::watch;

/// How long tasks that linger may hold up the end.
const LINGER: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the system gives no threads: {error}")),
    };
    let code = run(cli, &runtime);
    runtime.shutdown_timeout(LINGER);
    code
}

fn run(cli: Cli, runtime: &Runtime) -> ExitCode {
    match cli.command {
        Some(Program::Regtest(options)) => runtime.block_on(run_regtest(options)),
        Some(Program::Watchtower(options)) => runtime.block_on(tower::run(options)),
        Some(Program::Demo(args)) => runtime.block_on(demo::run(args)),
        Some(Program::Check(options)) => check::run(&options, &|name| std::env::var_os(name)),
        Some(Program::Recover(options)) => backup::recover::run(&options, &|name| std::env::var_os(name)),
        Some(Program::Backup(command)) => backup::verify::run(&command, &|name| std::env::var_os(name)),
        Some(Program::Passphrase(options)) => passphrase::run(&options, &|name| std::env::var_os(name)),
        Some(Program::Completions { shell }) => {
            print(manual::script(&shell), &format!("no completions for {shell}"))
        }
        Some(Program::Man { page }) => print(
            manual::page(&page),
            &format!("there is no page '{page}': chand, chan-cli, or a method (chan-cli help)"),
        ),
        None => match Config::resolve(&cli.flags, &|name| std::env::var_os(name)) {
            Ok(config) => runtime.block_on(start::run(config)),
            Err(error) => fail(&error.to_string()),
        },
    }
}

/// Text for a pipe or a file; a reader who has enough is no fault.
fn print(text: Option<String>, otherwise: &str) -> ExitCode {
    let Some(text) = text else { return fail(otherwise) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => fail(&format!("not written: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("chand: {message}");
    ExitCode::FAILURE
}

async fn run_regtest(options: regtest::Options) -> ExitCode {
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        if let (Ok(mut term), Ok(mut int)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            stop.send_replace(true);
        } else {
            // Kept alive: a dropped sender would stop it.
            std::future::pending::<()>().await;
        }
    });
    match regtest::run(options, stopping).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}
