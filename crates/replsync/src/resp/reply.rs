//! A server's replies (RESP2).
//!
//! redis-protocol decodes them, but recurses as deep as the bytes say and starts again from the first byte at
//! every read. So a reply is measured first, incrementally and within limits, and decoded once it is whole.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::{decode::decode_bytes_mut, types::BytesFrame};

use super::line;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(Bytes),
    /// `-ERR …`, without the dash. Not always UTF-8: servers quote arguments.
    Error(Bytes),
    /// `:1`
    Integer(i64),
    /// `$2…`
    Bulk(Bytes),
    /// `$-1` or `*-1`
    Nil,
    /// `*2…`
    Array(Vec<Reply>),
}

impl Reply {
    /// Whether this is `+OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Reply::Simple(text) if &text[..] == b"OK")
    }

    /// The text of an error reply.
    pub fn error(&self) -> Option<String> {
        match self {
            Reply::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    /// The reply of SCAN and its kin, taken apart: where to go on ("0": it is over), and what was found.
    pub fn scan_page(&self) -> Option<(Bytes, Vec<Bytes>)> {
        let Reply::Array(parts) = self else { return None };
        let [Reply::Bulk(cursor), Reply::Array(names)] = &parts[..] else { return None };
        Some((cursor.clone(), names.iter().map(Reply::bulk).collect::<Option<_>>()?))
    }

    /// The bytes of a bulk string.
    pub fn bulk(&self) -> Option<Bytes> {
        match self {
            Reply::Bulk(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The reply of TIME, seconds and microseconds, in microseconds since the epoch.
    pub fn time_us(&self) -> Option<i64> {
        let Reply::Array(parts) = self else { return None };
        let [seconds, micros] = &parts[..] else { return None };
        let number = |part: &Reply| part.text()?.parse::<i64>().ok();
        number(seconds)?.checked_mul(1_000_000)?.checked_add(number(micros)?)
    }

    /// The text of a simple or bulk string.
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Simple(text) | Reply::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }
}

/// Bytes that are no reply, or one beyond the limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A reply begins with a byte that is no RESP2 type.
    #[error("byte {found:#04x} where a reply must begin, {at} bytes into it")]
    UnexpectedByte {
        /// The byte.
        found: u8,
        /// Bytes from the start of the reply.
        at: usize,
    },
    /// A length that is no number, or a bulk string without its CRLF.
    #[error("a malformed length or terminator, {at} bytes into the reply")]
    Malformed {
        /// Bytes from the start of the reply.
        at: usize,
    },
    /// Deeper or longer than is allowed.
    #[error("a reply with {what} beyond {max}, {at} bytes into it")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
        /// Bytes from the start of the reply.
        at: usize,
    },
}

/// The longest line; error replies quote arguments.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a reply may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arrays within arrays. A `COMMAND` table of Redis 8 is 8 deep.
    pub depth_max: usize,
    /// A reply's length in bytes.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: 32, bytes_max: 1 << 30 }
    }
}

/// Takes replies off the front of a buffer that grows.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    limits: Limits,
    /// Bytes of the reply at the front of the buffer that were measured.
    measured: usize,
    /// Elements that are still to come, of each array under way.
    arrays: Vec<u64>,
}

impl ReplyDecoder {
    /// A decoder with limits of its own.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next reply off the front of `buf`, or `None` until it is whole.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        if !self.measure(buf)? {
            return Ok(None);
        }
        let len = std::mem::take(&mut self.measured);
        let mut whole = buf.split_to(len);
        // Lines are most of what a target answers, and an error line need not be UTF-8.
        match whole[0] {
            b'+' => Ok(Some(Reply::Simple(line_body(whole)))),
            b'-' => Ok(Some(Reply::Error(line_body(whole)))),
            _ => match decode_bytes_mut(&mut whole) {
                Ok(Some((frame, _, _))) => Ok(Some(frame.into())),
                Ok(None) | Err(_) => Err(ReplyError::Malformed { at: 0 }),
            },
        }
    }

    /// Measures the reply at the front of `buf`; true when all of it is there.
    fn measure(&mut self, buf: &[u8]) -> Result<bool, ReplyError> {
        loop {
            let at = self.measured;
            let Some(&kind) = buf.get(at) else { return Ok(false) };
            let max = self.limits.bytes_max;
            let mut opened = false;
            let end = match kind {
                b'+' | b'-' | b':' => {
                    let end = memchr::memchr(b'\n', &buf[at..]);
                    if end.unwrap_or(buf.len() - at) > LINE_BYTES_MAX {
                        return Err(ReplyError::TooMuch { what: "a line", max: LINE_BYTES_MAX as u64, at });
                    }
                    match end {
                        Some(len) => at + len + 1,
                        None => return Ok(false),
                    }
                }
                b'$' | b'*' => {
                    let Some((number, len)) =
                        line::number(&buf[at..]).map_err(|_| ReplyError::Malformed { at })?
                    else {
                        return Ok(false);
                    };
                    match number {
                        -1 => at + len,
                        0.. if kind == b'*' => {
                            if number > 0 {
                                opened = true;
                                self.arrays.push(number as u64);
                            }
                            at + len
                        }
                        0.. if number as u64 <= max as u64 => at + len + number as usize + 2,
                        0.. => return Err(ReplyError::TooMuch { what: "bytes", max: max as u64, at }),
                        _ => return Err(ReplyError::Malformed { at }),
                    }
                }
                found => return Err(ReplyError::UnexpectedByte { found, at }),
            };
            if end > max {
                return Err(ReplyError::TooMuch { what: "bytes", max: max as u64, at });
            }
            if self.arrays.len() > self.limits.depth_max {
                return Err(ReplyError::TooMuch {
                    what: "arrays within arrays",
                    max: self.limits.depth_max as u64,
                    at,
                });
            }
            if end > buf.len() {
                return Ok(false);
            }
            if !opened && &buf[end - 2..end] != b"\r\n" {
                return Err(ReplyError::Malformed { at });
            }
            self.measured = end;
            if !opened && self.close() {
                return Ok(true);
            }
        }
    }

    /// Counts a finished element; true when the reply is whole.
    fn close(&mut self) -> bool {
        while let Some(left) = self.arrays.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.arrays.pop();
        }
        true
    }
}

fn line_body(line: BytesMut) -> Bytes {
    let line = line.freeze();
    line.slice(1..line.len() - 2)
}

impl From<BytesFrame> for Reply {
    fn from(frame: BytesFrame) -> Self {
        match frame {
            BytesFrame::SimpleString(text) => Reply::Simple(text),
            BytesFrame::Error(text) => Reply::Error(text.into_inner()),
            BytesFrame::Integer(number) => Reply::Integer(number),
            BytesFrame::BulkString(bytes) => Reply::Bulk(bytes),
            BytesFrame::Null => Reply::Nil,
            // As deep as the decoder's limit allowed, no deeper.
            BytesFrame::Array(frames) => Reply::Array(frames.into_iter().map(Reply::from).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Reply>, ReplyError> {
        let (mut decoder, mut buf, mut replies) = (ReplyDecoder::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buf.extend_from_slice(piece);
            while let Some(reply) = decoder.next(&mut buf)? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    const REPLIES: &[u8] = b"+OK\r\n-ERR \xff no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*0\r\n*-1\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n+QUEUED\r\n";

    #[test]
    fn every_cut_gives_the_same_replies() {
        let whole = decode([REPLIES]).unwrap();
        let bulk = |bytes: &'static [u8]| Reply::Bulk(Bytes::from_static(bytes));
        assert_eq!(
            whole,
            [
                Reply::Simple(Bytes::from_static(b"OK")),
                Reply::Error(Bytes::from_static(b"ERR \xff no")),
                Reply::Integer(-7),
                bulk(b"a\r\n"),
                Reply::Nil,
                Reply::Array(vec![]),
                Reply::Nil,
                Reply::Array(vec![Reply::Array(vec![Reply::Integer(1)]), bulk(b"")]),
                Reply::Simple(Bytes::from_static(b"QUEUED")),
            ]
        );
        for cut in 0..=REPLIES.len() {
            let (a, b) = REPLIES.split_at(cut);
            assert_eq!(decode([a, b]).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn ten_thousand_nested_arrays_are_refused() {
        let bytes = b"*1\r\n".repeat(10_000);
        assert!(matches!(
            decode([&bytes[..]]),
            Err(ReplyError::TooMuch { what: "arrays within arrays", .. })
        ));
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"$1\r\nabc",
            b"$1152921504606846976\r\n",
            b"*1\r\n?\r\n",
            b"+OK\n",
        ] {
            assert!(decode([bytes]).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_whole_and_in_pieces() {
        let line = [&b"-ERR "[..], &b"x".repeat(LINE_BYTES_MAX), b"\r\n"].concat();
        for piece_len in [line.len(), 1000] {
            assert!(matches!(
                decode(line.chunks(piece_len)),
                Err(ReplyError::TooMuch { what: "a line", .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_agrees_with_itself(bytes in prop::collection::vec(prop::sample::select(b"*$+-:\r\n012a".to_vec()), 0..40)) {
            prop_assert_eq!(decode([&bytes[..]]).ok(), decode(bytes.chunks(1)).ok());
        }
    }
}
