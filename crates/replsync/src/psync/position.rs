//! Where in which history: replication id and offset.

use std::fmt;
use std::str::FromStr;

/// A replication id: 40 characters, hexadecimal in every server so far.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplId([u8; 40]);

/// Text that is no replication id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a replication id (40 letters and digits)")]
pub struct ReplIdError(String);

impl ReplId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters and digits get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for ReplId {
    type Err = ReplIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes().try_into() {
            Ok(id) if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Self(id)),
            _ => Err(ReplIdError(text.chars().take(60).collect())),
        }
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A point in a server's history: `offset` bytes of the stream of `replid` were taken in.
///
/// A partial resync asks for the next byte: `PSYNC <replid> <offset + 1>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose history.
    pub replid: ReplId,
    /// Bytes of the stream.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replid, self.offset)
    }
}
