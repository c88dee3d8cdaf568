//! The connection that copies are read from.
//!
//! A task of its own reads every reply as it comes, whatever else goes on: replies that wait are the master's memory.
//! How much may be asked for at a time is the asker's business.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::endpoint::{Client, Endpoint, Error, Socket};
use crate::resp::{Reply, ReplyDecoder};

/// Replies are read in pieces of this size.
const READ_BYTES: usize = 256 * 1024;
/// … or less, while so much of the last piece is left.
const READ_BYTES_MIN: usize = 32 * 1024;

/// Commands that go together.
pub(super) struct Request {
    /// The commands.
    pub bytes: Bytes,
    /// How many replies they have.
    pub replies: usize,
}

/// What was answered.
pub(super) struct Answer {
    /// A reply for each command.
    pub replies: Vec<Reply>,
    /// How many bytes they had.
    pub bytes: u64,
    /// From when the server could have begun to when the last reply was read.
    pub took: Duration,
}

/// A connection that is asked several things before the first is answered.
pub(super) struct Wire {
    requests: mpsc::UnboundedSender<Request>,
    answers: mpsc::UnboundedReceiver<Result<Answer, Error>>,
}

impl Wire {
    /// Goes on with a connection that is set up.
    pub fn start(server: &Endpoint, client: Client, limit: Duration) -> Self {
        let (requests, asked) = mpsc::unbounded_channel();
        let (answered, answers) = mpsc::unbounded_channel();
        let task = Task { server: server.to_string(), socket: client.into_socket(), limit, asked, answered };
        tokio::spawn(task.run());
        Self { requests, answers }
    }

    /// Asks; never waits.
    pub fn ask(&self, request: Request) {
        // A task that has ended has said why, or will.
        let _ = self.requests.send(request);
    }

    /// The next answer, in the order of the requests. Nothing is lost when this is dropped.
    pub async fn answer(&mut self) -> Result<Answer, Error> {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

struct Task {
    server: String,
    socket: Socket,
    limit: Duration,
    asked: mpsc::UnboundedReceiver<Request>,
    answered: mpsc::UnboundedSender<Result<Answer, Error>>,
}

impl Task {
    async fn run(self) {
        let answered = self.answered.clone();
        if let Err(error) = self.converse().await {
            let _ = answered.send(Err(error));
        }
    }

    async fn converse(mut self) -> Result<(), Error> {
        let broken =
            |source| Error::Broken { server: self.server.clone(), what: "copying".to_owned(), source };
        let (mut input, mut output) = tokio::io::split(self.socket);
        let mut decoder = ReplyDecoder::default();
        let mut buffer = BytesMut::new();
        let mut waiting: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
        let mut unsent = Bytes::new();
        let mut replies = Vec::new();
        let mut began = Instant::now();
        let mut reply_bytes = 0;
        loop {
            if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
                buffer.reserve(READ_BYTES);
            }
            tokio::select! {
                request = self.asked.recv(), if unsent.is_empty() => {
                    let Some(request) = request else { return Ok(()) };
                    if waiting.is_empty() {
                        began = Instant::now();
                    }
                    waiting.push_back(request.replies);
                    unsent = request.bytes;
                }
                written = output.write(&unsent), if !unsent.is_empty() => {
                    let written = written.map_err(broken)?;
                    if written == 0 {
                        return Err(broken(std::io::ErrorKind::WriteZero.into()));
                    }
                    unsent = unsent.slice(written..);
                    output.flush().await.map_err(broken)?;
                }
                read = input.read_buf(&mut buffer) => {
                    if read.map_err(broken)? == 0 {
                        return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                    loop {
                        let unread = buffer.len();
                        let reply = decoder.next(&mut buffer).map_err(|source| Error::Protocol {
                            server: self.server.clone(),
                            what: "copying".to_owned(),
                            source,
                        })?;
                        reply_bytes += (unread - buffer.len()) as u64;
                        let Some(reply) = reply else { break };
                        replies.push(reply);
                        if waiting.front() == Some(&replies.len()) {
                            waiting.pop_front();
                            let room = replies.len();
                            let answer = Answer {
                                replies: std::mem::replace(&mut replies, Vec::with_capacity(room)),
                                bytes: std::mem::take(&mut reply_bytes),
                                took: began.elapsed(),
                            };
                            began = Instant::now();
                            if self.answered.send(Ok(answer)).is_err() {
                                return Ok(());
                            }
                        }
                    }
                }
                () = tokio::time::sleep(self.limit), if !waiting.is_empty() => {
                    return Err(Error::Timeout {
                        server: self.server.clone(),
                        what: "copying".to_owned(),
                        after: self.limit,
                    });
                }
            }
        }
    }
}
