//! What can be wrong with an RDB, and where.

use std::io;

/// Why an RDB, a value or a DUMP payload could not be read. Offsets are bytes from the start of the input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input ends before `wanted` bytes that start at `offset`.
    #[error("truncated: {wanted} bytes wanted at offset {offset}, the input ends before")]
    Truncated {
        /// Where the missing bytes should start.
        offset: u64,
        /// How many bytes are needed from there.
        wanted: u64,
    },
    /// The input does not start with `REDIS` or `VALKEY` and a version number.
    #[error("not an RDB: it starts with {found:?} instead of REDIS or VALKEY and a version number")]
    BadMagic {
        /// The first nine bytes, unprintable ones escaped.
        found: String,
    },
    /// An RDB version that this library does not know, most often from a newer server.
    #[error("RDB version {magic} {version} is not supported (Redis 1 to 14 and Valkey 80 are)")]
    UnsupportedVersion {
        /// `REDIS` or `VALKEY`.
        magic: &'static str,
        /// The number after the magic, or in a DUMP payload's footer.
        version: u16,
    },
    /// A byte where an opcode is expected, which is neither an opcode nor a type of this version.
    #[error("unknown opcode {byte} at offset {offset} (RDB version {version})")]
    UnknownOpcode {
        /// The byte.
        byte: u8,
        /// Where it stands.
        offset: u64,
        /// The RDB version of the input.
        version: u16,
    },
    /// What only release candidates of a server wrote, and what the release itself refuses as well.
    #[error(
        "{what} at offset {offset} (byte {byte}): only release candidates wrote it so, no server since loads it"
    )]
    PreRelease {
        /// The opcode or type byte.
        byte: u8,
        /// Where it stands.
        offset: u64,
        /// What it is, and whose.
        what: &'static str,
    },
    /// A type byte that nobody is known to write.
    #[error("unknown type byte {byte} at offset {offset} (RDB version {version})")]
    UnknownType {
        /// The byte.
        byte: u8,
        /// Where it stands.
        offset: u64,
        /// The RDB version of the input.
        version: u16,
    },
    /// A length that starts with a byte that has no meaning there.
    #[error("byte {byte:#04x} at offset {offset} starts no valid length")]
    BadLength {
        /// The byte.
        byte: u8,
        /// Where it stands.
        offset: u64,
    },
    /// A length above what [`Limits`](super::Limits) allows.
    #[error("a length of {len} at offset {offset} is above the limit of {limit}")]
    TooLong {
        /// Where what is too long starts.
        offset: u64,
        /// The claimed length, in bytes or in elements.
        len: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// A compressed string that does not decompress to what it claims.
    #[error("compressed string at offset {offset}: {what}")]
    Lzf {
        /// Where the compressed string starts.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A value that is well delimited, but not what its type demands.
    #[error("corrupt at offset {offset}: {what}")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// Where; for something inside a string (a listpack, an intset), where that string starts.
        offset: u64,
    },
    /// The CRC-64 at the end differs from that of the bytes before it.
    #[error("checksum at offset {offset} is {found:016x}, the bytes before it have {expected:016x}")]
    Checksum {
        /// The checksum of the bytes.
        expected: u64,
        /// The checksum in the input.
        found: u64,
        /// Where it stands.
        offset: u64,
    },
    /// A value was asked for where there is none left to read.
    #[error("no unread value at offset {offset}")]
    NoValue {
        /// Where the reader is.
        offset: u64,
    },
    /// An earlier error left the reader in the middle of something; nothing after it can be trusted.
    #[error("reading stopped at offset {offset} after an earlier error")]
    Stopped {
        /// Where the reader is.
        offset: u64,
    },
    /// The stream under the reader failed.
    #[error("reading at offset {offset}: {source}")]
    Io {
        /// Where the bytes were to be read.
        offset: u64,
        /// What the stream said.
        source: io::Error,
    },
}

impl Error {
    /// Where it is, in bytes from the start of the input; nothing where that is the start itself.
    pub fn offset(&self) -> Option<u64> {
        match *self {
            Self::BadMagic { .. } | Self::UnsupportedVersion { .. } => None,
            Self::Truncated { offset, .. }
            | Self::UnknownOpcode { offset, .. }
            | Self::PreRelease { offset, .. }
            | Self::UnknownType { offset, .. }
            | Self::BadLength { offset, .. }
            | Self::TooLong { offset, .. }
            | Self::Lzf { offset, .. }
            | Self::Corrupt { offset, .. }
            | Self::Checksum { offset, .. }
            | Self::NoValue { offset }
            | Self::Stopped { offset }
            | Self::Io { offset, .. } => Some(offset),
        }
    }
}
