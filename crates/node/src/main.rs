//! `replsync-node`: moves live Redis and Valkey data between servers and versions.
//!
//! A thin layer over the library: arguments, progress, logs, exit codes.

mod args;
mod commands;
mod exit;
mod output;
mod progress;
mod telemetry;

use clap::Parser;

use args::{Args, Command};
use exit::ExitCode;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let bar = progress::bar(&args.output);
    telemetry::start(&args.output, bar.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let code = match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(run(&args, bar));
            // The thread that parses an RDB may still wait for bytes that will not come.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            output::error(&args.output, &format!("cannot start: {error}"), ExitCode::Unreachable);
            ExitCode::Unreachable
        }
    };
    code.into()
}

async fn run(args: &Args, bar: Option<indicatif::ProgressBar>) -> ExitCode {
    let ended = match &args.command {
        Command::Migrate(migrate) => commands::migrate::run(migrate, &args.output, bar).await,
        Command::Doctor(doctor) => commands::doctor::run(doctor, &args.output).await,
    };
    ended.unwrap_or_else(|failure| {
        output::error(&args.output, &failure.message, failure.code);
        failure.code
    })
}
