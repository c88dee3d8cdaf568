//! What keeps two servers from being compared.

use std::fmt;

use super::Side;
use crate::compare::text::quoted;
use crate::{endpoint, rdb};

/// Why two servers could not be compared. What could not be looked at is never taken for equal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server could not be asked.
    #[error("comparing: {0}")]
    Endpoint(#[from] endpoint::Error),
    /// A server answered a question with an error.
    #[error(
        "the {side} {server} refused {command}{at}: {reply}; nothing can be said of what it does not show (a user \
         needs SELECT, SCAN, EXISTS, DUMP, PEXPIRETIME or PTTL and TIME, and FUNCTION LIST, on all keys)"
    )]
    Refused {
        /// Which of the two.
        side: Side,
        /// Its address.
        server: String,
        /// The command's name.
        command: &'static str,
        /// Database and key.
        at: At,
        /// The error reply.
        reply: String,
    },
    /// A DUMP payload cannot be read.
    #[error("the {side}'s value cannot be read{at}: {source}")]
    Payload {
        /// Whose.
        side: Side,
        /// Database and key.
        at: At,
        /// What is wrong.
        source: rdb::Error,
    },
}

/// What an error is about, as far as it is about one database or key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The database.
    pub db: Option<u32>,
    /// The key.
    pub key: Option<Vec<u8>>,
}

impl At {
    pub(super) fn db(db: u32) -> Self {
        Self { db: Some(db), key: None }
    }

    pub(super) fn key(db: u32, key: &[u8]) -> Self {
        Self { db: Some(db), key: Some(key.to_vec()) }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.db, &self.key) {
            (Some(db), Some(key)) => write!(f, " (database {db}, key {})", quoted(key)),
            (Some(db), None) => write!(f, " (database {db})"),
            _ => Ok(()),
        }
    }
}
