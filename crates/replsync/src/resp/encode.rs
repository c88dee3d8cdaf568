//! Commands, written as arrays of bulk strings.

use bytes::{BufMut, BytesMut};

/// Appends the command `args` (its name first) to `out`.
pub fn write_command<A: AsRef<[u8]>>(out: &mut BytesMut, args: &[A]) {
    let mut command = Command::new(out, args.len());
    for arg in args {
        command.arg(arg.as_ref());
    }
}

/// Appends one argument, for [`Command::encoded`]: where the count of arguments is known only after them.
pub fn write_bulk(out: &mut BytesMut, arg: &[u8]) {
    header(out, b'$', arg.len());
    out.put_slice(arg);
    out.put_slice(b"\r\n");
}

/// A command that is written argument by argument.
///
/// The count of arguments goes first on the wire, so it is promised up front; the debug build checks that the
/// promise was kept.
pub struct Command<'a> {
    out: &'a mut BytesMut,
    promised: usize,
}

impl<'a> Command<'a> {
    /// Begins a command of `args` arguments, its name among them.
    pub fn new(out: &'a mut BytesMut, args: usize) -> Self {
        header(out, b'*', args);
        Self { out, promised: args }
    }

    /// Appends one argument and returns where in the output it stands.
    pub fn arg(&mut self, arg: &[u8]) -> std::ops::Range<usize> {
        self.arg_with(arg.len(), |out| out.put_slice(arg))
    }

    /// Appends `count` arguments that [`write_bulk`] encoded.
    pub fn encoded(&mut self, count: usize, args: &[u8]) {
        debug_assert!(self.promised >= count, "more arguments than were promised");
        self.promised -= count;
        self.out.put_slice(args);
    }

    /// Appends a number as an argument.
    pub fn number(&mut self, number: impl itoa::Integer) {
        self.arg(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Appends one argument of `len` bytes that `write` produces in place, and returns where it stands.
    pub fn arg_with(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> std::ops::Range<usize> {
        debug_assert!(self.promised > 0, "more arguments than were promised");
        self.promised -= 1;
        header(self.out, b'$', len);
        let start = self.out.len();
        write(self.out);
        debug_assert_eq!(self.out.len(), start + len, "the argument is not as long as was promised");
        self.out.put_slice(b"\r\n");
        start..start + len
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        debug_assert!(self.promised == 0 || std::thread::panicking(), "fewer arguments than were promised");
    }
}

fn header(out: &mut BytesMut, kind: u8, count: usize) {
    out.put_u8(kind);
    out.put_slice(itoa::Buffer::new().format(count).as_bytes());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn redis_protocol_reads_what_was_written(args in prop::collection::vec(any::<Vec<u8>>(), 1..8)) {
            let mut out = BytesMut::new();
            write_command(&mut out, &args);
            let (frame, len) = redis_protocol::resp2::decode::decode(&out).unwrap().unwrap();
            prop_assert_eq!(len, out.len());
            let expected = args.into_iter().map(redis_protocol::resp2::types::OwnedFrame::BulkString).collect();
            prop_assert_eq!(frame, redis_protocol::resp2::types::OwnedFrame::Array(expected));
        }
    }
}
