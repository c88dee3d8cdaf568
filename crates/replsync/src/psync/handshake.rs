//! What a replica says before PSYNC, step by step.

use std::fmt;

use bytes::BytesMut;

use super::error::{Error, Step};
use super::position::Position;
use crate::resp::write_command;

/// A port that no server can listen on. A master lists a replica with it, and Sentinel, which learns replicas
/// from that list and keeps every one that it ever saw, never takes it up.
pub const PORT_UNSEEN_BY_SENTINEL: u32 = 70_000;

/// Who asks. The password never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// An ACL user (6.0 and newer); without one the default user.
    pub user: Option<String>,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// `text` without the password: a server that lacks AUTH quotes its arguments.
    pub fn redact(&self, text: &str) -> String {
        if self.password.is_empty() { text.to_owned() } else { text.replace(&self.password, "***") }
    }

    /// Appends `AUTH [user] password` to `out`.
    pub fn write(&self, out: &mut BytesMut) {
        match &self.user {
            Some(user) => write_command(out, &["AUTH", user, &self.password]),
            None => write_command(out, &["AUTH", &self.password]),
        }
    }
}

/// How the replica shows itself in the master's INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// `REPLCONF listening-port`; see [`PORT_UNSEEN_BY_SENTINEL`].
    pub port: u32,
    /// `REPLCONF ip-address`. A name with a hyphen, since Lettuce's topology lookup skips those and throws on
    /// the port otherwise.
    pub address: String,
    /// `REPLCONF version`, which Valkey takes: it writes an older dump to a replica that says none or an older
    /// one, and Valkey 9 refuses to do so where hashes have field expiries.
    pub version: Option<String>,
}

impl Announce {
    /// Unseen by Sentinel and by clients; `id` tells several of ours apart.
    pub fn unseen(id: &str, version: Option<String>) -> Self {
        Self { port: PORT_UNSEEN_BY_SENTINEL, address: format!("replsync-{id}"), version }
    }
}

/// What is sent, and what the answers may be.
#[derive(Debug)]
pub(super) struct Handshake {
    pub credentials: Option<Credentials>,
    pub announce: Announce,
    pub resume: Option<Position>,
}

impl Handshake {
    /// The step after `step`, as far as this handshake has one.
    pub fn after(&self, step: Step) -> Step {
        match step {
            Step::Ping if self.credentials.is_some() => Step::Auth,
            Step::Ping | Step::Auth => Step::ListeningPort,
            Step::ListeningPort => Step::IpAddress,
            Step::IpAddress => Step::Capa,
            Step::Capa if self.announce.version.is_some() => Step::Version,
            Step::Capa | Step::Version | Step::Psync | Step::PayloadHeader => Step::Psync,
        }
    }

    /// Appends to `out` what `step` sends.
    pub fn write(&self, step: Step, out: &mut BytesMut) {
        match step {
            Step::Ping => write_command(out, &["PING"]),
            Step::Auth => {
                if let Some(credentials) = &self.credentials {
                    credentials.write(out);
                }
            }
            Step::ListeningPort => {
                write_command(out, &["REPLCONF", "listening-port", &self.announce.port.to_string()]);
            }
            Step::IpAddress => write_command(out, &["REPLCONF", "ip-address", &self.announce.address]),
            Step::Capa => write_command(out, &["REPLCONF", "capa", "eof", "capa", "psync2"]),
            Step::Version => {
                if let Some(version) = &self.announce.version {
                    write_command(out, &["REPLCONF", "version", version]);
                }
            }
            Step::Psync => match self.resume {
                // Offsets are 63 bits in the servers; a position at their end cannot be.
                Some(at) => write_command(
                    out,
                    &["PSYNC", at.replid.as_str(), &at.offset.saturating_add(1).to_string()],
                ),
                None => write_command(out, &["PSYNC", "?", "-1"]),
            },
            Step::PayloadHeader => {}
        }
    }

    /// Judges the answer `line` (without CRLF) to `step`; `Ok` to go on.
    pub fn judge(&self, step: Step, line: &[u8]) -> Result<(), Error> {
        match line {
            b"+PONG" if step == Step::Ping => Ok(()),
            b"+OK" if step != Step::Ping => Ok(()),
            [b'-', error @ ..] => {
                // A master that wants a password first says so to PING, in one of these forms.
                let asks = [&b"NOAUTH"[..], b"NOPERM", b"ERR operation not permitted"];
                if step == Step::Ping
                    && self.credentials.is_some()
                    && asks.iter().any(|ask| error.starts_with(ask))
                {
                    return Ok(());
                }
                // Valkey before 8.1 does not know it and needs it not.
                if step == Step::Version {
                    return Ok(());
                }
                Err(match (refused(step, error), &self.credentials) {
                    (Error::Refused { step, reply }, Some(credentials)) => {
                        Error::Refused { step, reply: credentials.redact(&reply) }
                    }
                    (error, _) => error,
                })
            }
            _ => Err(unexpected(step, line)),
        }
    }
}

pub(super) fn refused(step: Step, error: &[u8]) -> Error {
    Error::Refused { step, reply: String::from_utf8_lossy(error).into_owned() }
}

pub(super) fn unexpected(step: Step, line: &[u8]) -> Error {
    let start = &line[..line.len().min(80)];
    Error::Unexpected { step, reply: start.escape_ascii().to_string() }
}
