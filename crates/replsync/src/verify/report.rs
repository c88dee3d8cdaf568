//! What a verification found.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Keyspace;
use crate::files;
use crate::rdb::{self, Magic};

/// What is in a file, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// What the file was opened as.
    pub path: PathBuf,
    /// The family and the version of the RDB, once its header was read.
    pub version: Option<(Magic, u16)>,
    /// The server that wrote it, as it says: `redis 7.4.1`.
    pub server: Option<String>,
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry among them.
    pub expires: u64,
    /// Keys whose expiry has passed; they count, as in a server's own dump.
    pub expired: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// The file's length; of a pipe, bytes that were read.
    pub bytes: u64,
    /// What the checksum at its end said.
    pub checksum: Checksum,
    /// Its keyspace added up, where that was asked for and the file can be read to its end.
    pub keyspace: Option<Keyspace>,
    /// What is wrong, in the order of the file: at most as many as were asked for.
    pub findings: Vec<Finding>,
    /// How many findings more there are.
    pub findings_not_kept: u64,
    /// What was not looked at, and why.
    pub not_checked: Vec<String>,
    /// Why it could not be read to its end, or not as one and the same file. What was found until then stands.
    pub failed: Option<files::Error>,
    /// It is an AOF, which is not verified here; nothing else is said of it.
    pub is_aof: bool,
    /// The name of the remote file system that it is on.
    pub remote: Option<&'static str>,
    /// How often the file was read: more than once where the names of its keys did not fit the bound.
    pub passes: u64,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether the file was read whole and nothing is wrong with it.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.findings_not_kept == 0 && self.failed.is_none() && !self.is_aof
    }
}

impl Report {
    /// Whether something is wrong with its bytes, which was not changed under us.
    pub fn is_corrupt(&self) -> bool {
        let moved = matches!(
            self.failed,
            Some(files::Error::Cut { .. } | files::Error::Changed { .. } | files::Error::Replaced { .. })
        );
        !moved && (!self.findings.is_empty() || self.findings_not_kept > 0)
    }
}

/// What the checksum at the end of a file said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It was not reached.
    #[default]
    NotReached,
    /// It is that of the bytes before it.
    Verified,
    /// It is not.
    Differs,
    /// The file has none: it is older than RDB 5, or its server runs with `rdbchecksum no`.
    None,
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// Where in the file; nothing where that cannot be known.
    pub offset: Option<u64>,
    /// The database, for what is in one.
    pub db: Option<u32>,
    /// The key, for what is in one; of a long one its first 8 KiB, and the message says so.
    pub key: Option<Vec<u8>>,
    /// What is wrong, without the place.
    pub message: String,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// The file does not start as an RDB of a known version does.
    Header,
    /// It ends too early.
    Truncated,
    /// A byte that is neither an opcode nor a type.
    Opcode,
    /// A length that cannot be.
    Length,
    /// A value whose end cannot be found.
    Value,
    /// Something in a value that is not what its type demands.
    In(rdb::FindingKind),
    /// The checksum at the end differs.
    Checksum,
    /// Something follows the end.
    AfterEnd,
    /// A database holds more or fewer keys than is said of it.
    DatabaseSize,
    /// A slot holds more or fewer keys than is said of it.
    SlotSize,
    /// A key is twice in one database.
    DuplicateKey,
}

impl FindingKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Truncated => "truncated",
            Self::Opcode => "opcode",
            Self::Length => "length",
            Self::Value => "value",
            Self::In(kind) => kind.as_str(),
            Self::Checksum => "checksum",
            Self::AfterEnd => "after_end",
            Self::DatabaseSize => "database_size",
            Self::SlotSize => "slot_size",
            Self::DuplicateKey => "duplicate_key",
        }
    }
}

/// So much of a key is given with a finding.
pub(super) const KEY_SHOWN_BYTES: usize = 8 * 1024;

/// The start of a key, not cut within a character.
fn shown(key: &[u8]) -> &[u8] {
    let mut len = key.len().min(KEY_SHOWN_BYTES);
    let cuts_character = |len: usize| key.get(len).is_some_and(|byte| byte & 0xc0 == 0x80);
    for _ in 0..3 {
        len -= usize::from(len > 0 && cuts_character(len));
    }
    key.get(..len).unwrap_or(key)
}

impl Finding {
    /// One about the file.
    pub(super) fn at(kind: FindingKind, offset: u64, message: impl Into<String>) -> Self {
        Self { kind, offset: Some(offset), db: None, key: None, message: message.into() }
    }

    /// The same in a key. A key may be as long as a value, and many findings may be in it.
    pub(super) fn of(self, db: u32, key: &[u8]) -> Self {
        let mut message = self.message;
        let shown = shown(key);
        if shown.len() < key.len() {
            let _ = write!(message, "; of the key's {} bytes the first {} are given", key.len(), shown.len());
        }
        Self { db: Some(db), key: Some(shown.to_vec()), message, ..self }
    }

    /// What a reader's error is as a finding. Not for what happened to the file ([`files::Error::taken_out_of`]).
    pub(super) fn from_error(error: &rdb::Error) -> Self {
        use rdb::Error as E;
        let (kind, offset, message) = match *error {
            E::Truncated { offset, wanted } => (
                FindingKind::Truncated,
                offset,
                format!("the file ends before {wanted} bytes that belong here"),
            ),
            E::BadMagic { .. } | E::UnsupportedVersion { .. } => (FindingKind::Header, 0, error.to_string()),
            E::UnknownOpcode { byte, offset, version } => {
                (FindingKind::Opcode, offset, format!("unknown opcode {byte} (RDB version {version})"))
            }
            E::UnknownType { byte, offset, version } => {
                (FindingKind::Opcode, offset, format!("unknown type byte {byte} (RDB version {version})"))
            }
            E::PreRelease { offset, .. } => (FindingKind::Opcode, offset, error.to_string()),
            E::BadLength { byte, offset } => {
                (FindingKind::Length, offset, format!("byte {byte:#04x} starts no valid length"))
            }
            E::TooLong { offset, len, limit } => {
                (FindingKind::Length, offset, format!("a length of {len} is above the limit of {limit}"))
            }
            E::Lzf { offset, what } => (FindingKind::Value, offset, format!("compressed string: {what}")),
            E::Corrupt { what, offset } => (FindingKind::Value, offset, what.to_owned()),
            E::Checksum { expected, found, offset } => return Self::checksum(expected, found, offset),
            E::NoValue { offset } | E::Stopped { offset } | E::Io { offset, .. } => {
                (FindingKind::Value, offset, error.to_string())
            }
        };
        Self::at(kind, offset, message)
    }

    pub(super) fn checksum(expected: u64, found: u64, offset: u64) -> Self {
        let message = format!("the checksum is {found:016x}, the bytes before it have {expected:016x}");
        Self::at(FindingKind::Checksum, offset, message)
    }
}
