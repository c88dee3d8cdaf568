//! Fields that the target may hold though they have expired on the source: it is asked for them before the job ends, since
//! it may tell its replicas only much later.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Error;
use super::job::{Job, Stage};
use crate::apply::{Follower, OfKey};
use crate::endpoint::{self, Client, Endpoint, Pipelined};
use crate::psync::Position;
use crate::resp::Reply;

/// What is written all the time is asked for so often.
const ROUNDS_MAX: u32 = 10;
/// … and for so long, while writers may be paused.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Fields of one question, and of all questions that are under way at once.
const FIELDS_MAX: usize = 1000;

impl Job {
    /// Asks the source for the fields in doubt, and has those expire on the target that it has not. Those of keys that are
    /// written all the time stay in doubt, and so do all where it cannot be asked.
    pub(super) async fn clear_doubts(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        for _ in 0..ROUNDS_MAX {
            let is_late = began.elapsed() > TIME_MAX;
            if self.in_doubt() == 0 || is_late || self.stage != Stage::Applying {
                break;
            }
            let (Some(follower), Some(start)) = (&mut self.follower, self.done.start) else { break };
            let asked = follower.ask_what_is_in_doubt();
            if asked.is_empty() {
                break;
            }
            let fields_asked: usize = asked.iter().map(|one| one.fields.len()).sum();
            let (from, timeout) = (self.from.clone(), self.options.timeout);
            let received = Position { offset: self.received, ..start };
            let (gone, goal) = match self.alongside(gone_of(from, timeout, received, asked)).await? {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    tracing::warn!("another server than the source was asked which hash fields have expired");
                    break;
                }
                Err(error) => {
                    tracing::warn!(
                        "the source cannot be asked which hash fields have expired there: {error}"
                    );
                    if let (endpoint::Error::Refused { .. }, Some(follower)) = (error, &mut self.follower) {
                        follower.doubts_stay();
                    }
                    break;
                }
            };
            // What it had done by then is taken in first.
            while self.received < goal {
                self.step(None, true).await?;
            }
            let fields_gone: usize = gone.iter().map(|one| one.fields.len()).sum();
            tracing::debug!(fields_asked, fields_gone, "asked the source which fields have expired");
            if let Some(follower) = &mut self.follower {
                follower.expire_what_is_gone(gone);
                self.waiting.extend(follower.take());
            }
        }
        Ok(())
    }

    /// The same as soon as they are many, so that they need little memory, and their end little time.
    pub(super) async fn clear_many_doubts(&mut self) -> Result<(), Error> {
        match &self.follower {
            Some(follower) if follower.doubts_much() => self.clear_doubts().await,
            _ => Ok(()),
        }
    }

    /// How many there are.
    pub(super) fn in_doubt(&self) -> u64 {
        self.follower.as_ref().map_or(0, Follower::in_doubt)
    }
}

/// Those of these fields that the source has not, or does not show any more, and the offset by which that was so. Nothing
/// when who answers is not, or not yet, where the link has been.
async fn gone_of(
    from: Endpoint,
    timeout: Duration,
    received: Position,
    mut asked: Vec<OfKey>,
) -> Result<Option<(Vec<OfKey>, u64)>, endpoint::Error> {
    let mut source = Client::connect(&from, timeout).await?;
    let before = source.info().await?.position;
    if before.replid != received.replid || before.offset < received.offset {
        return Ok(None);
    }
    // One database after the other.
    asked.sort_unstable_by_key(|one| one.db);
    let questions: Vec<_> = asked
        .iter()
        .flat_map(|one| one.fields.chunks(FIELDS_MAX).map(|fields| (one.db, &one.key, fields)))
        .collect();
    let (mut gone, mut rest, mut selected) = (Vec::new(), &questions[..], None);
    while let Some((db, ..)) = rest.first() {
        if selected.replace(*db) != Some(*db) {
            source.ask(&["SELECT", &db.to_string()]).await?;
        }
        let mut fields = 0;
        let fits = rest.iter().take_while(|(of, _, some)| {
            fields += some.len();
            of == db && (fields <= FIELDS_MAX || fields == some.len())
        });
        let (some, behind) = rest.split_at(fits.count());
        rest = behind;
        let mut commands = Pipelined::default();
        for (_, key, fields) in some {
            let count = fields.len().to_string();
            let mut args = vec![&b"HPEXPIRETIME"[..], key, b"FIELDS", count.as_bytes()];
            args.extend(fields.iter().map(|field| &field[..]));
            commands.add(&args);
        }
        for ((db, key, fields), reply) in some.iter().zip(source.pipeline("HPEXPIRETIME", &commands).await?) {
            let fields = match reply {
                Reply::Array(expiries) => missing(fields, &expiries),
                // It is no hash any more, on the target neither.
                Reply::Error(text) if text.starts_with(b"WRONGTYPE") => continue,
                reply => return Err(source.unexpected(&["HPEXPIRETIME"], &reply)),
            };
            if !fields.is_empty() {
                gone.push(OfKey { db: *db, key: (*key).clone(), fields });
            }
        }
    }
    Ok(Some((gone, source.info().await?.position.offset)))
}

fn missing(fields: &[Bytes], expiries: &[Reply]) -> Vec<Bytes> {
    const NO_SUCH_FIELD: Reply = Reply::Integer(-2);
    let pairs = fields.iter().zip(expiries);
    pairs.filter(|(_, expiry)| **expiry == NO_SUCH_FIELD).map(|(field, _)| field.clone()).collect()
}
