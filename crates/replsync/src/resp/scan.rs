//! The replication stream, read as commands with exact byte accounting.
//!
//! A replica's offset is the number of bytes of the stream that it has taken in, so the scanner tells of every
//! frame how many bytes it took, and the frames together take all of them. The stream is arrays of bulk
//! strings; a bare newline between two of them is a keepalive, which counts too. Anything else is an error: the
//! server's own replicas drop the link at it (`processInlineBuffer` and `processMultibulkBuffer` in
//! `src/networking.c`).

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::line::{self, NotANumber};

/// What the scanner takes at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument, in bytes. Servers allow `proto-max-bulk-len`, 512 MiB unless configured.
    pub bulk_bytes_max: u64,
    /// The most arguments of one command. Servers allow their clients 1,048,576.
    pub args_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bulk_bytes_max: 1 << 30, args_max: 1 << 24 }
    }
}

/// One frame of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A command.
    Command(StreamCommand),
    /// A keepalive newline of this many bytes (`\n` or `\r\n`).
    Newline(usize),
}

/// A command of the stream: as it came, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCommand {
    /// The bytes that it took in the stream, header and all.
    pub raw: Bytes,
    /// Its arguments, the name first; slices of `raw`. Never empty.
    pub args: Vec<Bytes>,
}

impl StreamCommand {
    /// Its name, as it was sent.
    pub fn name(&self) -> &[u8] {
        self.args.first().map_or(b"", |name| name)
    }

    /// What it costs to hold, in bytes: for small commands more than what they weigh on the wire.
    pub fn cost_bytes(&self) -> usize {
        self.raw.len() + size_of::<(Self, u64)>() + self.args.len() * size_of::<Bytes>()
    }
}

/// Bytes that are no stream of commands. `at` counts from the start of the frame that they break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A frame or an argument begins with another byte than it must.
    #[error("byte {found:#04x} where {expected} must begin, {at} bytes into the command")]
    UnexpectedByte {
        /// What must stand there.
        expected: &'static str,
        /// The byte that stands there.
        found: u8,
        /// Bytes from the start of the frame.
        at: usize,
    },
    /// A header line that holds no number.
    #[error("a length that is not a number, {at} bytes into the command")]
    NotANumber {
        /// Bytes from the start of the frame.
        at: usize,
    },
    /// A count or length that is negative, empty or beyond the limit.
    #[error("{what} of {value} (allowed: {min} to {max}), {at} bytes into the command")]
    OutOfRange {
        /// What has that number.
        what: &'static str,
        /// The number.
        value: i64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
        /// Bytes from the start of the frame.
        at: usize,
    },
}

/// Reads frames from the front of a buffer that grows. It remembers how far it has read, so a large command
/// that arrives in many pieces is read once.
#[derive(Debug, Default)]
pub struct CommandScanner {
    limits: Limits,
    /// Bytes of the frame at the front of the buffer that were read.
    read: usize,
    /// Arguments that are still to come, once the header was read.
    args_left: Option<u64>,
    /// The length of the argument under way, once its header was read.
    bulk_len: Option<usize>,
    /// Where the arguments stand.
    args: Vec<Range<usize>>,
}

impl CommandScanner {
    /// A scanner with limits of its own.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next frame off the front of `buf`, or `None` until more bytes are there.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, ScanError> {
        let mut args_left = match self.args_left {
            Some(left) => left,
            None => match buf.first() {
                None => return Ok(None),
                Some(b'\n') => return Ok(Some(newline(buf, 1))),
                Some(b'\r') if buf.len() < 2 => return Ok(None),
                Some(b'\r') if buf[1] == b'\n' => return Ok(Some(newline(buf, 2))),
                Some(_) => match self.header(
                    buf,
                    b'*',
                    "a command ('*')",
                    "a count of arguments",
                    1,
                    self.limits.args_max,
                )? {
                    None => return Ok(None),
                    Some(count) => count,
                },
            },
        };
        while args_left > 0 {
            self.args_left = Some(args_left);
            let len = match self.bulk_len {
                Some(len) => len,
                None => {
                    let max = self.limits.bulk_bytes_max;
                    let Some(len) =
                        self.header(buf, b'$', "an argument ('$')", "an argument's length", 0, max)?
                    else {
                        return Ok(None);
                    };
                    *self.bulk_len.insert(len as usize)
                }
            };
            let end = self.read + len;
            // The terminator is looked at as soon as its first byte is there.
            match buf.get(end..buf.len().min(end + 2)) {
                Some([b'\r', b'\n']) => {}
                None | Some([] | [b'\r']) => return Ok(None),
                Some([b'\r', found] | [found, ..]) => {
                    return Err(ScanError::UnexpectedByte {
                        expected: "an argument's CRLF",
                        found: *found,
                        at: end,
                    });
                }
            }
            self.args.push(self.read..end);
            self.read = end + 2;
            self.bulk_len = None;
            args_left -= 1;
        }
        let raw = buf.split_to(self.read).freeze();
        let args = self.args.drain(..).map(|range| raw.slice(range)).collect();
        self.read = 0;
        self.args_left = None;
        Ok(Some(Frame::Command(StreamCommand { raw, args })))
    }

    /// Reads one header line and returns its number, or `None` until it is whole.
    fn header(
        &mut self,
        buf: &BytesMut,
        kind: u8,
        expected: &'static str,
        what: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, ScanError> {
        let at = self.read;
        let line = &buf[at..];
        match line.first() {
            None => return Ok(None),
            Some(&found) if found != kind => return Err(ScanError::UnexpectedByte { expected, found, at }),
            Some(_) => {}
        }
        match line::number(line) {
            Ok(None) => Ok(None),
            Ok(Some((value, len))) => match u64::try_from(value) {
                Ok(count) if (min..=max).contains(&count) => {
                    self.read += len;
                    Ok(Some(count))
                }
                _ => Err(ScanError::OutOfRange { what, value, min, max, at }),
            },
            Err(NotANumber) => Err(ScanError::NotANumber { at }),
        }
    }
}

fn newline(buf: &mut BytesMut, len: usize) -> Frame {
    buf.advance(len);
    Frame::Newline(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::write_command;
    use proptest::prelude::*;

    /// Feeds `pieces` one after the other: the frames, or the error.
    fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<Frame>, usize), ScanError> {
        let (mut scanner, mut buf, mut frames) = (CommandScanner::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buf.extend_from_slice(piece);
            while let Some(frame) = scanner.next(&mut buf)? {
                frames.push(frame);
            }
        }
        Ok((frames, buf.len()))
    }

    fn args(frames: &[Frame]) -> Vec<Vec<&[u8]>> {
        let mut commands = Vec::new();
        for frame in frames {
            if let Frame::Command(command) = frame {
                commands.push(command.args.iter().map(|arg| &arg[..]).collect());
            }
        }
        commands
    }

    #[test]
    fn every_cut_gives_the_same_frames() {
        let stream = b"\n*1\r\n$4\r\nPING\r\n\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nb\n\r\n*2\r\n$6\r\nSELECT\r\n$2\r\n11\r\n";
        let (whole, left) = scan([&stream[..]]).unwrap();
        assert_eq!(left, 0);
        assert_eq!(
            args(&whole),
            [vec![&b"PING"[..]], vec![b"SET", b"k", b"a\r\nb\n"], vec![b"SELECT", b"11"]]
        );
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(scan([a, b]).unwrap(), (whole.clone(), 0), "cut at {cut}");
        }
        assert_eq!(scan(stream.chunks(1)).unwrap(), (whole, 0));
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        for (bytes, at) in [
            (&b"PING\r\n"[..], 0),
            (b"+OK\r\n", 0),
            (b"REDIS0012\xfa\x09redis-ver", 0),
            (b"*x\r\n", 0),
            (b"*0\r\n", 0),
            (b"*-1\r\n", 0),
            (b"*+1\r\n", 0),
            (b"*1 \r\n", 0),
            (b"*99999999999999999999999999999999999", 0),
            (b"*1\r\n*1\r\n", 4),
            (b"*1\r\n$-1\r\n", 4),
            (b"*1\r\n$1152921504606846976\r\n", 4),
            (b"*1\r\n$1\r\nab\r\n", 9),
            (b"*1\r\n$1\r\na\rb", 9),
            (b"\rx", 0),
        ] {
            let error = scan([bytes]).expect_err(&format!("{:?} passed", bytes.escape_ascii().to_string()));
            let (ScanError::UnexpectedByte { at: found, .. }
            | ScanError::NotANumber { at: found }
            | ScanError::OutOfRange { at: found, .. }) = error;
            assert_eq!(found, at, "{}", bytes.escape_ascii());
            assert!(scan(bytes.chunks(1)).is_err(), "byte by byte: {}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let mut buf = BytesMut::from(&b"*1\r\n$1073741824\r\nx"[..]);
        let before = buf.capacity();
        assert_eq!(CommandScanner::default().next(&mut buf), Ok(None));
        assert_eq!(buf.capacity(), before);
    }

    proptest! {
        #[test]
        fn commands_come_back_at_any_cuts(
            commands in prop::collection::vec(prop::collection::vec(any::<Vec<u8>>(), 1..5), 1..6),
            piece_len in 1usize..40,
        ) {
            let mut stream = BytesMut::new();
            for command in &commands {
                write_command(&mut stream, command);
            }
            let (frames, left) = scan(stream.chunks(piece_len)).unwrap();
            prop_assert_eq!(left, 0);
            prop_assert_eq!(args(&frames), commands);
            let taken: usize = frames.iter().map(|frame| match frame {
                Frame::Command(command) => command.raw.len(),
                Frame::Newline(len) => *len,
            }).sum();
            prop_assert_eq!(taken, stream.len());
        }

        #[test]
        fn never_panics_and_agrees_with_itself(bytes in prop::collection::vec(prop::sample::select(b"*$\r\n0123a".to_vec()), 0..40)) {
            let whole = scan([&bytes[..]]);
            let pieces = scan(bytes.chunks(1));
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
                prop_assert_eq!(whole, pieces);
            }
        }

        /// Where redis-protocol reads an array of bulk strings from random bytes, so does the scanner, and the same.
        #[test]
        fn agrees_with_redis_protocol(bytes in prop::collection::vec(prop::sample::select(b"*$\r\n012a".to_vec()), 0..24)) {
            use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
            if let Ok(Some((OwnedFrame::Array(frames), len))) = decode(&bytes) {
                let expected: Option<Vec<Vec<u8>>> = frames.into_iter().map(|frame| match frame {
                    OwnedFrame::BulkString(bytes) => Some(bytes),
                    _ => None,
                }).collect();
                // It does not look at terminators and allows empty arrays and leading zeros with signs: only what both take is compared.
                if let (Some(expected), Ok((frames, _))) = (expected, scan([&bytes[..len]])) {
                    prop_assert_eq!(args(&frames), [expected]);
                }
            }
        }
    }
}
