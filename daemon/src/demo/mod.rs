//! `chand demo`: the tour, by real processes.
//!
//! In: this very program, started again as a chain, as Alice, Bob, Carol and Dave. Out: a story in which every number was read
//! back from one of them, and an exit status that is 0 only when every check of it held.
//! Read next: `story` (what happens), `stage` (who runs), `tell` (how it is told).

mod across;
mod alone;
mod cheat;
mod ending;
mod line;
mod look;
mod money;
mod rush;
mod silent;
mod stage;
mod story;
mod tell;

use stage::Stage;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tell::{Manner, Teller};
use tokio::signal::unix::{signal, SignalKind};

/// What the tour can be told on its command line.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// Which part of the story
    #[arg(default_value = ALL)]
    pub chapter: String,
    /// Leave everything running at the end and say where the sockets are
    #[arg(long)]
    pub stay: bool,
    /// Print the figures only
    #[arg(long)]
    pub quiet: bool,
    /// Wait for Enter between the scenes
    #[arg(long, conflicts_with = "json")]
    pub step: bool,
    /// One JSON object a line instead of prose
    #[arg(long)]
    pub json: bool,
}

/// Why the tour stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Somebody answered with an error, or not at all.
    #[error("{who}, asked for {method}: {why}")]
    Call {
        /// Who was asked.
        who: String,
        /// For what.
        method: String,
        /// What came back.
        why: line::CallError,
    },
    /// A file, port or process could not be had.
    #[error("{what}: {why}")]
    Io {
        /// What was wanted.
        what: String,
        /// The system's words.
        why: std::io::Error,
    },
    /// Something did not come about in time.
    #[error("waited {seconds} s for {what}; last seen: {seen}")]
    Late {
        /// For how long.
        seconds: u64,
        /// For what.
        what: String,
        /// How it stood.
        seen: String,
    },
    /// An answer without what it must have.
    #[error("{0}")]
    Odd(String),
}

/// How long one thing may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(15);

/// The only chapter so far.
const ALL: &str = "all";

/// Runs the tour; success only when every check held.
pub async fn run(args: Args) -> ExitCode {
    let manner = match (args.json, args.quiet) {
        (true, _) => Manner::Json,
        (false, true) => Manner::Quiet,
        (false, false) => Manner::Story,
    };
    let mut teller = Teller::new(manner, args.step);
    if args.chapter != ALL {
        teller.broke_off(&format!("there is no chapter “{}” yet; the whole tour is “{ALL}”", args.chapter));
        return ExitCode::FAILURE;
    }
    let home = match private_folder() {
        Ok(home) => home,
        Err(error) => {
            teller.broke_off(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let mut stage = Stage::new(home.clone());
    let told = tokio::select! {
        told = story::tell(&mut stage, &mut teller) => told,
        () = interrupted() => Err(DemoError::Odd("interrupted".into())),
    };
    if let Err(error) = &told {
        teller.broke_off(&error.to_string());
        for (who, tail) in stage.log_tails() {
            teller.log_tail(who, &tail);
        }
    }
    let well = teller.finish();
    if args.stay && told.is_ok() {
        teller.stay(&stage.addresses());
        interrupted().await;
    }
    stage.end().await;
    if well || args.stay {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_dir_all(&home);
    } else {
        teller.kept(&home);
    }
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// SIGINT or SIGTERM.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A fresh folder that only we may enter.
fn private_folder() -> Result<PathBuf, DemoError> {
    use std::os::unix::fs::DirBuilderExt;
    let path = std::env::temp_dir().join(format!("chand-demo-{}", std::process::id()));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|why| DemoError::Io { what: path.display().to_string(), why })?;
    Ok(path)
}

/// Asks again and again until there is an answer; `Err` is what was seen instead.
async fn wait_for<T, F, A>(what: &str, mut probe: F) -> Result<T, DemoError>
where
    F: FnMut() -> A,
    A: std::future::Future<Output = Result<T, String>>,
{
    let since = std::time::Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(seen) if since.elapsed() > PATIENCE => {
                return Err(DemoError::Late { seconds: PATIENCE.as_secs(), what: what.into(), seen })
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
