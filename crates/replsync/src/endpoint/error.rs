//! What can go wrong between us and a server that is asked something.

use std::io;
use std::time::Duration;

use super::{InfoError, TlsError};
use crate::resp::ReplyError;

/// A server could not be asked, or would not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Its address.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// No TLS on the connection.
    #[error("no TLS with {server}: {source}")]
    Tls {
        /// Its address.
        server: String,
        /// Why, and what to do.
        source: TlsError,
    },
    /// It took too long.
    #[error("{server} did not answer: {what} took longer than {} s", after.as_secs_f32())]
    Timeout {
        /// Its address.
        server: String,
        /// What took long.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection to {server} broke at {what}: {source}")]
    Broken {
        /// Its address.
        server: String,
        /// What was under way.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The connection, one without TLS, broke before the server said a word.
    #[error(
        "{server} closed the connection at {what} without a word: {source}; a port for TLS does so, and rediss:// is for \
         such a port"
    )]
    Mute {
        /// Its address.
        server: String,
        /// What was under way.
        what: String,
        /// How it ended.
        source: io::Error,
    },
    /// It answered with bytes that are no reply.
    #[error("{server} answered {what} with something that is not RESP: {source}")]
    Protocol {
        /// Its address.
        server: String,
        /// What was asked.
        what: String,
        /// What is wrong.
        source: ReplyError,
    },
    /// It answered with an error.
    #[error("{server} refused {command}: {reply}")]
    Refused {
        /// Its address.
        server: String,
        /// The command's name.
        command: String,
        /// The error reply.
        reply: String,
    },
    /// It answered with another kind of reply than the command has.
    #[error("{server} answered {command} with an unexpected reply: {reply}")]
    Unexpected {
        /// Its address.
        server: String,
        /// The command's name.
        command: String,
        /// The reply, shortened.
        reply: String,
    },
    /// Its INFO lacks what every server's has.
    #[error("INFO of {server}: {source}")]
    Info {
        /// Its address.
        server: String,
        /// What is missing.
        source: InfoError,
    },
}
