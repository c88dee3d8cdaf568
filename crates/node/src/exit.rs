//! Exit codes: what scripts may rely on.

use replsync::migrate::{Error, ErrorKind};
use replsync::{backup, capture};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done, and what was asked is true.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// A server could not be reached, or refused.
    Unreachable = 3,
    /// Stopped by a signal.
    Stopped = 4,
    /// The result could not be made exact or safe.
    Unsafe = 5,
    /// Published, but labelled inexact, as was asked.
    Inexact = 6,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// A command that failed: what to say, and how to exit.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub code: ExitCode,
}

impl Failure {
    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: ExitCode::Usage }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Usage => ExitCode::Usage,
            ErrorKind::Unreachable => ExitCode::Unreachable,
            ErrorKind::Unsafe => ExitCode::Unsafe,
            ErrorKind::Stopped => ExitCode::Stopped,
        };
        Self { message: error.to_string(), code }
    }
}

impl From<capture::Error> for Failure {
    fn from(error: capture::Error) -> Self {
        let code = match error {
            capture::Error::Stopped => ExitCode::Stopped,
            _ if error.is_unsafe() => ExitCode::Unsafe,
            _ => ExitCode::Unreachable,
        };
        Self { message: error.to_string(), code }
    }
}

impl From<capture::AttachError> for Failure {
    fn from(error: capture::AttachError) -> Self {
        capture::Error::Attach(error).into()
    }
}

impl From<backup::Error> for Failure {
    fn from(error: backup::Error) -> Self {
        let code = match error {
            backup::Error::Capture(error) => return error.into(),
            backup::Error::Stopped => ExitCode::Stopped,
            _ if error.is_unsafe() => ExitCode::Unsafe,
            _ => ExitCode::Unreachable,
        };
        Self { message: error.to_string(), code }
    }
}
