//! `replsync-node`: moves live Redis and Valkey data between servers and versions.
//!
//! A thin layer over the library: arguments, progress, logs, exit codes.

mod args;
mod commands;
mod exit;
mod live;
mod offline;
mod output;
mod progress;
mod signals;
mod stderr;
mod telemetry;

use clap::Parser;

use args::{Args, Command};
use exit::{ExitCode, Failure};
use indicatif::ProgressBar;
use stderr::Stderr;

/// How nice the agent is while it makes a backup or a digest, which have time. Only a little: at the end writers may wait for
/// us, for some milliseconds.
const NICENESS: i32 = 5;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    if matches!(args.command, Command::Backup(_) | Command::Digest(_)) {
        // The server and its clients may share this machine with us. Threads inherit it; nothing is lost without.
        let _ = rustix::process::nice(NICENESS);
    }
    let bar = progress::bar(&args.output);
    let stderr = Stderr::start(bar.clone());
    telemetry::start(&args.output, stderr.clone(), bar.is_some());
    // Two for the work, one that a terminal may hold up.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(&args, &stderr, bar));
            // The thread that parses an RDB may still wait for bytes that will not come.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Failure { message: format!("cannot start: {error}"), code: ExitCode::Unreachable }),
    };
    let code = ended.unwrap_or_else(|failure| {
        output::error(&args.output, &stderr, &failure);
        failure.code
    });
    stderr.flush();
    code.into()
}

async fn run(args: &Args, stderr: &Stderr, bar: Option<ProgressBar>) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Migrate(migrate) => commands::migrate::run(migrate, &args.output, stderr, bar).await,
        Command::Backup(backup) => commands::backup::run(backup, &args.output, stderr, bar).await,
        Command::Doctor(doctor) => commands::doctor::run(doctor, &args.output).await,
        Command::Digest(digest) => commands::digest::run(digest, &args.output, stderr, bar).await,
        Command::Compare(compare) => commands::compare::run(compare, &args.output, stderr, bar).await,
        Command::Inspect(inspect) => commands::inspect::run(inspect, &args.output, stderr, bar).await,
        Command::Verify(verify) => commands::verify::run(verify, &args.output, stderr, bar).await,
    }
}
