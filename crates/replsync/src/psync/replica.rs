//! One replication connection as a state machine.

use bytes::{Bytes, BytesMut};

use super::error::{Error, Step};
use super::handshake::{Announce, Credentials, Handshake, refused, unexpected};
use super::payload::Payload;
use super::position::Position;
use crate::resp::{CommandScanner, Frame, StreamCommand, write_command};

/// The longest line that a master answers; error replies quote arguments.
const LINE_LEN_MAX: usize = 64 * 1024;

/// What happened on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A full resync: an RDB comes, and the stream from this position follows it.
    FullResync(Position),
    /// A partial resync: the stream goes on where it was left. The replid is another one after a failover.
    Continue(Position),
    /// The RDB begins; its length in bytes where the master knows it.
    PayloadStart(Option<u64>),
    /// Bytes of the RDB.
    Payload(Bytes),
    /// The RDB is over. Not a word on whether it was whole: the parser knows.
    PayloadEnd,
    /// A command, and the offset behind it.
    Command {
        /// The command.
        command: StreamCommand,
        /// The stream's offset behind it.
        offset: u64,
    },
    /// The master asks for an ACK: a client waits (`WAIT`), or it is about to shut down.
    GetAck {
        /// The question, which is a command of the stream like any other.
        command: StreamCommand,
        /// The stream's offset behind it.
        offset: u64,
    },
}

#[derive(Debug)]
enum State {
    /// An answer to this step is awaited.
    Expect(Step),
    /// Newlines, then the RDB's length.
    PayloadHeader,
    Payload(Payload),
    Stream,
}

/// The replica's side of one connection.
///
/// - In: [`input`](Self::input) is the buffer that received bytes are appended to; [`ack`](Self::ack) is called
///   once a second, which keeps the master from taking the link for dead.
/// - Out: [`transmit`](Self::transmit) is what must be sent, [`event`](Self::event) what happened; ask for events
///   until there is none, after each read.
///
/// After an error the connection is of no more use. [`position`](Self::position) is where the next one goes on.
#[derive(Debug)]
pub struct Replica {
    handshake: Handshake,
    state: State,
    position: Option<Position>,
    /// The RDB is over, and nothing of the stream has come yet.
    awaits_stream: bool,
    scanner: CommandScanner,
    input: BytesMut,
    output: BytesMut,
}

impl Replica {
    /// Begins a connection: a full resync, or a partial one from `resume` if the master still can.
    pub fn new(credentials: Option<Credentials>, announce: Announce, resume: Option<Position>) -> Self {
        let handshake = Handshake { credentials, announce, resume };
        let mut output = BytesMut::new();
        handshake.write(Step::Ping, &mut output);
        Self {
            handshake,
            state: State::Expect(Step::Ping),
            position: resume,
            awaits_stream: false,
            scanner: CommandScanner::default(),
            input: BytesMut::new(),
            output,
        }
    }

    /// Where received bytes go.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Bytes to send, once.
    pub fn transmit(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// The end of the last whole frame of the stream: what a reconnect resumes from.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether PSYNC was answered.
    pub fn is_synced(&self) -> bool {
        matches!(self.state, State::PayloadHeader | State::Payload(_) | State::Stream)
    }

    /// Whether a full resync was asked for and not answered: the master may fork for it all the same.
    pub fn is_full_resync_pending(&self) -> bool {
        matches!(self.state, State::Expect(Step::Psync)) && self.handshake.resume.is_none()
    }

    /// Whether PSYNC was sent and is not answered yet. A master that will not continue says nothing until it forks.
    pub fn awaits_psync(&self) -> bool {
        matches!(self.state, State::Expect(Step::Psync))
    }

    /// Sends `REPLCONF ACK 0`, from the answer to PSYNC on. Always 0: it keeps the link alive and satisfies no
    /// client's WAIT. A diskless master sends the stream only after an ACK that comes when its child has ended,
    /// so one that came earlier was lost: the caller repeats it every second.
    pub fn ack(&mut self) {
        if self.is_synced() {
            write_command(&mut self.output, &["REPLCONF", "ACK", "0"]);
        }
    }

    /// Whether the RDB is over and nothing of the stream has come yet: the master may be waiting for an ACK.
    pub fn awaits_stream(&self) -> bool {
        self.awaits_stream
    }

    /// What happened next, or `None` until more bytes are there.
    pub fn event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match &mut self.state {
                State::Expect(Step::Psync) => {
                    let Some(line) = self.line(Step::Psync)? else { return Ok(None) };
                    return self.psync_answer(&line).map(Some);
                }
                State::Expect(step) => {
                    let step = *step;
                    let Some(line) = self.line(step)? else { return Ok(None) };
                    self.handshake.judge(step, &line)?;
                    let next = self.handshake.after(step);
                    self.handshake.write(next, &mut self.output);
                    self.state = State::Expect(next);
                }
                State::PayloadHeader => {
                    let Some(line) = self.line(Step::PayloadHeader)? else { return Ok(None) };
                    let Some(payload) = Payload::parse(&line) else {
                        return Err(match &line[..] {
                            [b'-', error @ ..] => refused(Step::PayloadHeader, error),
                            line => unexpected(Step::PayloadHeader, line),
                        });
                    };
                    let len = payload.len();
                    self.state = State::Payload(payload);
                    return Ok(Some(Event::PayloadStart(len)));
                }
                State::Payload(payload) => {
                    let (bytes, last) = payload.take(&mut self.input);
                    if !bytes.is_empty() {
                        // An end without bytes is told at the next call.
                        if last {
                            self.state = State::Payload(Payload::Length(0));
                        }
                        return Ok(Some(Event::Payload(bytes)));
                    }
                    if !last {
                        return Ok(None);
                    }
                    self.state = State::Stream;
                    self.awaits_stream = true;
                    self.ack();
                    return Ok(Some(Event::PayloadEnd));
                }
                State::Stream => return self.stream_event(),
            }
        }
    }

    /// Takes a line (without its end) off the input. Masters send bare newlines as keepalives before PSYNC's
    /// answer and before the RDB; they are passed over and are no part of the stream.
    fn line(&mut self, step: Step) -> Result<Option<BytesMut>, Error> {
        loop {
            let end = memchr::memchr(b'\n', &self.input);
            if end.unwrap_or(self.input.len()) > LINE_LEN_MAX {
                return Err(unexpected(step, &self.input));
            }
            let Some(end) = end else { return Ok(None) };
            let mut line = self.input.split_to(end + 1);
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.truncate(end - 1);
            }
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// `+FULLRESYNC <replid> <offset>`, `+CONTINUE [<replid>]`, or an error.
    fn psync_answer(&mut self, line: &[u8]) -> Result<Event, Error> {
        let nonsense = || unexpected(Step::Psync, line);
        let text = std::str::from_utf8(line).map_err(|_| nonsense())?;
        let mut words = text.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("+FULLRESYNC"), Some(replid), Some(offset), None) => {
                let replid = replid.parse().map_err(|_| nonsense())?;
                // A signed number in the servers, never negative here: adding to it cannot overflow.
                let offset = offset.parse().ok().and_then(|offset: i64| u64::try_from(offset).ok());
                let offset = offset.ok_or_else(nonsense)?;
                let position = Position { replid, offset };
                self.position = Some(position);
                self.state = State::PayloadHeader;
                Ok(Event::FullResync(position))
            }
            (Some("+CONTINUE"), replid, None, None) => {
                // Only a replica that asked for it can be continued.
                let mut position = self.handshake.resume.ok_or_else(nonsense)?;
                if let Some(replid) = replid.filter(|word| !word.is_empty()) {
                    position.replid = replid.parse().map_err(|_| nonsense())?;
                }
                self.position = Some(position);
                self.state = State::Stream;
                self.ack();
                Ok(Event::Continue(position))
            }
            _ => Err(match line {
                [b'-', error @ ..] => refused(Step::Psync, error),
                _ => nonsense(),
            }),
        }
    }

    fn stream_event(&mut self) -> Result<Option<Event>, Error> {
        let Some(position) = &mut self.position else { return Ok(None) };
        loop {
            let frame = self.scanner.next(&mut self.input);
            let frame = frame.map_err(|source| Error::Stream { position: *position, source })?;
            self.awaits_stream &= frame.is_none();
            match frame {
                None => return Ok(None),
                Some(Frame::Newline(len)) => position.offset += len as u64,
                Some(Frame::Command(command)) => {
                    position.offset += command.raw.len() as u64;
                    let offset = position.offset;
                    return Ok(Some(match is_getack(&command) {
                        true => Event::GetAck { command, offset },
                        false => Event::Command { command, offset },
                    }));
                }
            }
        }
    }
}

fn is_getack(command: &StreamCommand) -> bool {
    matches!(&command.args[..], [name, what, ..]
        if name.eq_ignore_ascii_case(b"REPLCONF") && what.eq_ignore_ascii_case(b"GETACK"))
}

#[cfg(test)]
mod tests;
