//! Batches on their way: sent in order over one connection, every reply checked.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Batch, Error, Throttle};
use crate::channel;
use crate::endpoint::{self, Socket};
use crate::resp::{Reply, ReplyDecoder};

/// How many batches may wait to be sent, and how many may be sent without their replies.
const BATCHES_WAITING_MAX: usize = 16;
/// … and how many bytes of batches may be on their way altogether.
const BYTES_WAITING_MAX: u32 = 8 * 1024 * 1024;
/// While there is nothing to write, a PING this often keeps a target with a `timeout` from closing the connection.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// A target that neither takes nor answers anything for this long is taken for dead. It may well delete a huge key
/// or flush a database for a minute.
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// So many bytes are written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// How far the target has got: what it has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Keys of the copy.
    pub keys: u64,
    /// Commands of the stream.
    pub commands: u64,
    /// Bytes sent and answered.
    pub bytes: u64,
    /// The stream's offset, once the stream is applied.
    pub offset: Option<u64>,
    /// When the last command of the stream that is applied arrived, in milliseconds since the epoch by our clock.
    pub arrived_ms: Option<u64>,
}

/// A connection to a target, fed with batches.
#[derive(Debug)]
pub struct Pipeline {
    applied: watch::Receiver<Applied>,
    /// Until its end was seen.
    task: Option<JoinHandle<Result<(), Error>>>,
}

impl Pipeline {
    /// Starts to write into `socket`, an authenticated connection to `target` with nothing unread on it, as much as
    /// `throttle` admits. It ends when the last sender is dropped and all is answered.
    pub fn start(socket: Socket, target: String, throttle: Throttle) -> (Self, channel::Sender<Batch>) {
        let (sender, waiting) = channel::channel(BATCHES_WAITING_MAX, BYTES_WAITING_MAX);
        let (progress, applied) = watch::channel(Applied::default());
        let task = Some(tokio::spawn(run(socket, target, throttle, waiting, progress)));
        (Self { applied, task }, sender)
    }

    /// How far the target has got.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.clone()
    }

    /// Waits for the pipeline to break; never returns while it goes well.
    pub async fn failure(&mut self) -> Error {
        match self.ended().await {
            Err(error) => error,
            Ok(()) => Error::Stopped("the connection to the target was closed"),
        }
    }

    /// Waits until everything that was handed in is answered. All senders must be dropped.
    pub async fn finish(&mut self) -> Result<(), Error> {
        self.ended().await
    }

    /// Nothing is lost when this is dropped while it waits.
    async fn ended(&mut self) -> Result<(), Error> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        ended.unwrap_or(Err(Error::Stopped("the task that writes into the target panicked")))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn run(
    socket: Socket,
    target: String,
    mut throttle: Throttle,
    waiting: channel::Receiver<Batch>,
    progress: watch::Sender<Applied>,
) -> Result<(), Error> {
    let (input, output) = split(socket);
    let (sent, unanswered) = mpsc::channel(BATCHES_WAITING_MAX);
    let moved = Moved::default();
    let checking = check(input, &target, &moved, unanswered, progress);
    tokio::pin!(checking);
    tokio::select! {
        checked = &mut checking => checked,
        Err(broken) = send(output, &target, &moved, &mut throttle, waiting, sent) => {
            // A target that closes the connection has often said why, and that says more than a broken pipe.
            match timeout(Duration::from_secs(1), checking).await {
                Ok(Err(error)) => Err(error),
                _ => Err(broken),
            }
        }
    }
}

/// Bytes of commands, so far.
#[derive(Default)]
struct Moved {
    written: AtomicU64,
    answered: AtomicU64,
}

impl Moved {
    fn unanswered(&self) -> u64 {
        let answered = self.answered.load(Ordering::Relaxed);
        self.written.load(Ordering::Relaxed).saturating_sub(answered)
    }
}

/// A batch that was sent, and its share of the bytes that may be on their way until it is answered.
type Sent = (Batch, Option<channel::Share>);

/// Sends batches and passes them on to the one who awaits their replies.
async fn send(
    mut output: WriteHalf<Socket>,
    target: &str,
    moved: &Moved,
    throttle: &mut Throttle,
    mut waiting: channel::Receiver<Batch>,
    sent: mpsc::Sender<Sent>,
) -> Result<(), Error> {
    loop {
        let (batch, share) = match timeout(KEEPALIVE, waiting.recv()).await {
            Ok(Some((batch, share))) => (batch, Some(share)),
            Ok(None) => return Ok(()),
            Err(_) => (Batch::ping(), None),
        };
        let bytes = batch.bytes.clone();
        throttle.admit(bytes.len() as u64, || moved.unanswered()).await?;
        // The other side leaves only when it has failed, and then says so.
        if sent.send((batch, share)).await.is_err() {
            return std::future::pending().await;
        }
        for piece in bytes.chunks(WRITE_BYTES) {
            output.write_all(piece).await.map_err(|source| broken(target, source))?;
            output.flush().await.map_err(|source| broken(target, source))?;
            moved.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}

/// Awaits the replies to all batches, in order.
async fn check(
    input: ReadHalf<Socket>,
    target: &str,
    moved: &Moved,
    mut unanswered: mpsc::Receiver<Sent>,
    progress: watch::Sender<Applied>,
) -> Result<(), Error> {
    let mut replies = Replies { input, target, decoder: ReplyDecoder::default(), buffer: BytesMut::new() };
    loop {
        let (batch, _share) = tokio::select! {
            // A batch is told of before it is sent, so its replies cannot come first.
            biased;
            batch = unanswered.recv() => match batch {
                Some(batch) => batch,
                None => return Ok(()),
            },
            // Nothing is due: what comes now is the connection's end, or nonsense.
            unasked = replies.next() => return Err(match unasked {
                Ok(reply) => replies.unexpected(&reply),
                Err(error) => error,
            }),
        };
        for index in 0..batch.replies() {
            let reply = loop {
                let before = moved.written.load(Ordering::Relaxed);
                match timeout(REPLY_TIMEOUT, replies.next()).await {
                    Ok(reply) => break reply?,
                    Err(_) if moved.written.load(Ordering::Relaxed) > before => {}
                    Err(_) => return Err(replies.silent()),
                }
            };
            batch.judge(index, &reply).map_err(|(command, at, reply)| Error::Refused {
                target: target.to_owned(),
                command,
                at: Box::new(at),
                reply,
            })?;
        }
        moved.answered.fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        progress.send_modify(|applied| {
            applied.keys += batch.keys;
            applied.commands += batch.commands;
            applied.bytes += batch.bytes.len() as u64;
            applied.offset = batch.offset.or(applied.offset);
            applied.arrived_ms = batch.arrived_ms.or(applied.arrived_ms);
        });
    }
}

/// The replies of a target, one after the other.
struct Replies<'a> {
    input: ReadHalf<Socket>,
    target: &'a str,
    decoder: ReplyDecoder,
    buffer: BytesMut,
}

impl Replies<'_> {
    /// The next reply. Nothing is lost when this is dropped while it waits.
    async fn next(&mut self) -> Result<Reply, Error> {
        loop {
            let reply = self.decoder.next(&mut self.buffer).map_err(|source| endpoint::Error::Protocol {
                server: self.target.to_owned(),
                what: "a command".to_owned(),
                source,
            })?;
            if let Some(reply) = reply {
                return Ok(reply);
            }
            self.buffer.reserve(64 * 1024);
            match self.input.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(broken(self.target, io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(source) => return Err(broken(self.target, source)),
            }
        }
    }

    fn unexpected(&self, reply: &Reply) -> Error {
        let reply = reply.error().unwrap_or_else(|| "a reply that nobody asked for".to_owned());
        let at = Box::default();
        Error::Refused { target: self.target.to_owned(), command: "the connection".to_owned(), at, reply }
    }

    fn silent(&self) -> Error {
        let what = "a command".to_owned();
        endpoint::Error::Timeout { server: self.target.to_owned(), what, after: REPLY_TIMEOUT }.into()
    }
}

fn broken(target: &str, source: io::Error) -> Error {
    endpoint::Error::Broken { server: target.to_owned(), what: "writing into the target".to_owned(), source }
        .into()
}
