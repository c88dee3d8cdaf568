//! Logs, on standard error.

use std::io::{self, Write};

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{LogFormat, Output};

/// Starts logging: warnings and errors; with `-v` what happens; with `-vv` details.
pub fn start(output: &Output, bar: Option<ProgressBar>) {
    let level = match output.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("REPLSYNC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Standard error that cannot be written is no reason to end, nor to say so there.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_target(false);
    let builder = builder.with_ansi(bar.is_some()).with_writer(AroundBar { bar });
    match output.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Writes to standard error, taking the progress bar away meanwhile.
#[derive(Clone)]
struct AroundBar {
    bar: Option<ProgressBar>,
}

impl Write for AroundBar {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.bar {
            Some(bar) => bar.suspend(|| io::stderr().write(buf)),
            None => io::stderr().write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AroundBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
