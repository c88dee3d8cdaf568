//! The RDB on the wire: `$<length>` and that many bytes, or `$EOF:<40 bytes>` and bytes up to those 40 again.

use bytes::{Bytes, BytesMut};

/// The length of the mark that ends a diskless payload (`CONFIG_RUN_ID_SIZE` in the servers).
const MARK_LEN: usize = 40;

/// How far the payload is from its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// So many bytes are still to come.
    Length(u64),
    /// It goes on until the mark comes.
    Mark(Box<[u8; MARK_LEN]>),
}

impl Payload {
    /// Reads the header line (without CRLF).
    pub fn parse(line: &[u8]) -> Option<Self> {
        match line.strip_prefix(b"$EOF:") {
            Some(mark) => Some(Self::Mark(Box::new(mark.try_into().ok()?))),
            None => {
                let digits = line.strip_prefix(b"$")?;
                let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
                let len = std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()?;
                Some(Self::Length(len))
            }
        }
    }

    /// The payload's length in bytes, where the master knows it.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Length(len) => Some(*len),
            Self::Mark(_) => None,
        }
    }

    /// Takes payload bytes off the front of `buf`, and whether they are the last. What follows the payload stays
    /// in `buf`; so does a tail that may be the start of the mark.
    pub fn take(&mut self, buf: &mut BytesMut) -> (Bytes, bool) {
        match self {
            Self::Length(left) => {
                let len = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= len as u64;
                (buf.split_to(len).freeze(), *left == 0)
            }
            Self::Mark(mark) => match memchr::memmem::find(buf, &mark[..]) {
                Some(len) => {
                    let bytes = buf.split_to(len).freeze();
                    let _mark = buf.split_to(MARK_LEN);
                    (bytes, true)
                }
                None => (buf.split_to(buf.len().saturating_sub(MARK_LEN - 1)).freeze(), false),
            },
        }
    }
}
