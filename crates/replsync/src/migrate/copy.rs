//! The copy: the RDB from the link, through a thread that reads it, into the target.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Error;
use super::follow::next;
use super::job::Job;
use crate::apply::{self, Batch, Copied, Copier, CopyOptions, Target};
use crate::channel::Sender;
use crate::link::{Event, PayloadReader, payload_channel};
use crate::psync::Position;
use crate::rdb::Buffered;

/// How many pieces of the RDB may wait for its parser; each is what one read brought.
const PAYLOAD_PIECES: usize = 16;
impl Job {
    /// Copies the RDB into the target.
    pub(super) async fn copy(&mut self, start: Position) -> Result<Copied, Error> {
        let (sender, reader) = payload_channel(PAYLOAD_PIECES);
        let mut payload = Some(sender);
        let mut copier = spawn_copier(reader, self.target.clone(), self.options.copy, self.batches.clone());
        let mut received_bytes = 0;
        loop {
            let event = tokio::select! {
                error = self.pipeline.failure() => return Err(error.into()),
                Ok(()) = self.applied.changed() => {
                    self.note_applied();
                    continue;
                }
                copied = &mut copier => return match copied {
                    Ok(Ok(copied)) => Ok(copied),
                    // It stopped because the pipeline did, which says why.
                    Ok(Err(apply::Error::Stopped(_))) => Err(self.pipeline.failure().await.into()),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(apply::Error::Stopped("the thread that reads it panicked").into()),
                },
                event = next(&mut self.link, true), if payload.is_some() => {
                    event.map_err(|source| Error::CopyCut { received_bytes, source })?
                }
            };
            match event {
                Event::PayloadStart(len) => {
                    self.progress.send_modify(|progress| progress.rdb_bytes_total = len);
                }
                Event::Payload(bytes) => {
                    received_bytes += bytes.len() as u64;
                    self.progress.send_modify(|progress| progress.rdb_bytes = received_bytes);
                    if let Some(payload) = &payload {
                        tokio::select! {
                            // A copier that has left says why at the next turn.
                            _taken = payload.send(bytes) => {}
                            // While it is behind, the spool may become full.
                            Err(source) = next(&mut self.link, false) => return Err(Error::CopyCut { received_bytes, source }),
                        }
                    }
                }
                Event::PayloadEnd => {
                    if let Some(payload) = payload.take() {
                        payload.end().await;
                    }
                }
                Event::Down { error, .. } => return Err(Error::CopyCut { received_bytes, source: error }),
                Event::FullResync(to) => return Err(Error::FullResyncAgain { from: start, to }),
                // The stream comes after the end of the RDB, and is not asked for until then.
                Event::Commands { .. } | Event::Resumed(_) => {}
            }
        }
    }
}

/// Parses the RDB and plans its commands on a thread of its own.
fn spawn_copier(
    reader: PayloadReader,
    target: Arc<Target>,
    options: CopyOptions,
    batches: Option<Sender<Batch>>,
) -> oneshot::Receiver<Result<Copied, apply::Error>> {
    let (ended, result) = oneshot::channel();
    let copy = move || {
        let emit = |batch: Batch| {
            let cost = batch.len_bytes();
            match batches.as_ref().is_some_and(|batches| batches.blocking_send(batch, cost)) {
                true => Ok(()),
                false => Err(apply::Error::Stopped("the target is gone")),
            }
        };
        let copied = Copier::new(target, options, emit).copy(Buffered::new(reader));
        // Nobody waits for it once the job was told to stop.
        let _ = ended.send(copied);
    };
    // A thread that cannot be had drops the channel, which is seen.
    let _ = std::thread::Builder::new().name("rdb".to_owned()).spawn(copy);
    result
}
