//! Logs, on standard error.

use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, Output};
use crate::stderr::Stderr;

/// Starts logging: warnings and errors; with `-v` what happens; with `-vv` details.
pub fn start(output: &Output, stderr: Stderr, is_terminal: bool) {
    let level = match output.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("REPLSYNC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_target(false);
    let builder = builder.with_ansi(is_terminal).with_writer(move || stderr.clone());
    match output.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
