//! The classic way: what a replica gets by a full sync, for which the source forks.

use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::folder::{Part, Writer};
use super::manifest::{Facts, Times, thousandths};
use super::{Error, Head, Method, Options, Phase, Progress, blocking};
use crate::capture::{AttachError, Caveat, Refusal, counts_replicas};
use crate::clock::now_ms;
use crate::endpoint::{Client, Endpoint, Info};
use crate::link::{self, Event, FullResync, Link, PayloadReader, payload_channel};
use crate::psync::{Announce, Position};
use crate::server::Product;

/// How many pieces of the RDB may wait for the file; each is what one read brought.
const PAYLOAD_PIECES: usize = 64;
const COPY_BYTES: usize = 256 * 1024;

/// Takes a full sync into the file, to the disk.
pub(super) async fn receive(
    source: &Endpoint,
    before: &Info,
    options: &Options,
    part: &Part,
    progress: &Arc<watch::Sender<Progress>>,
    times: &mut Times,
) -> Result<Facts, Error> {
    let began = Instant::now();
    if counts_replicas(before) && !options.attach.allowed.counted_as_replica {
        return Err(AttachError::Refused(Refusal::CountedAsReplica).into());
    }
    tracing::warn!("--method full-sync: the source forks for this backup");
    progress.send_modify(|progress| progress.phase = Phase::Waiting);
    let mut link = Link::start(source.clone(), config(before, options), None);
    let (sender, reader) = payload_channel(PAYLOAD_PIECES);
    let (writer, path) = (part.writer(), part.path());
    let file =
        blocking(move || copy(reader, writer).map_err(Error::folder(&path, "the RDB cannot be written")));
    let mut received = 0;
    let (bytes, position) = {
        let receiving = take(&mut link, sender, progress, &mut received);
        // Whichever fails first says why.
        tokio::try_join!(file, receiving)
    }
    .map_err(|error| match error {
        Error::FullSync { source, .. } => Error::FullSync { received_bytes: received, source },
        error => error,
    })?;
    drop(link);
    times.cut_ms = now_ms();
    let after = Client::connect(source, options.capture.timeout).await?.info().await?;
    let head = {
        let path = part.path();
        blocking(move || Head::read(&path)).await?
    };
    facts(source, [before, &after], &head, position, bytes, began)
}

fn config(before: &Info, options: &Options) -> link::Config {
    let version = match before.server.product {
        Product::Valkey => before.field("valkey_version").map(str::to_owned),
        Product::Redis => None,
    };
    let announce = Announce::unseen(&format!("{}-{:x}", std::process::id(), now_ms()), version);
    link::Config {
        connect_timeout: options.capture.timeout,
        reconnect_for: options.attach.reconnect_for,
        spool: options.capture.spool.clone(),
        full_resync: FullResync::Allowed,
        ..link::Config::new(announce)
    }
}

/// Takes the RDB from the link to its end.
async fn take(
    link: &mut Link,
    sender: crate::link::PayloadSender,
    progress: &watch::Sender<Progress>,
    received: &mut u64,
) -> Result<Position, Error> {
    let mut position = None;
    let broken = |source| Error::FullSync { received_bytes: 0, source };
    loop {
        match link.next().await.map_err(broken)? {
            Event::FullResync(at) if *received == 0 => position = Some(at),
            Event::PayloadStart(len) => progress.send_modify(|progress| {
                (progress.phase, progress.bytes_total) = (Phase::Receiving, len);
            }),
            Event::Payload(bytes) => {
                *received += bytes.len() as u64;
                progress.send_modify(|progress| progress.bytes = *received);
                tokio::select! {
                    // A file that cannot be written says why.
                    _taken = sender.send(bytes) => {}
                    source = link.failure() => return Err(broken(source)),
                }
            }
            Event::PayloadEnd => {
                sender.end().await;
                return position.ok_or(Error::NoPlace("FULLRESYNC"));
            }
            Event::Down { error, .. } if *received > 0 => return Err(broken(error)),
            // Before the RDB begins it is tried again; so it is where a replica's place is told.
            _ => {}
        }
    }
}

/// What comes, into the file.
fn copy(mut from: PayloadReader, mut to: Writer) -> std::io::Result<u64> {
    let (mut buffer, mut total) = (vec![0; COPY_BYTES], 0);
    loop {
        let len = from.read(&mut buffer)?;
        if len == 0 {
            to.sync()?;
            return Ok(total);
        }
        to.write_all(buffer.get(..len).unwrap_or_default())?;
        total += len as u64;
    }
}

fn facts(
    source: &Endpoint,
    [before, after]: [&Info; 2],
    head: &Head,
    position: Position,
    bytes: u64,
    began: Instant,
) -> Result<Facts, Error> {
    let grown = |name: &str| Some(after.number(name)?.saturating_sub(before.number(name)?));
    let writable = before.field("slave_read_only") == Some("0");
    let evicted = |info: &Info| info.number("evicted_keys").unwrap_or(0);
    Ok(Facts {
        exact: !writable,
        stream_db: head.stream_db.ok_or(Error::NoPlace("repl-stream-db"))?,
        rdb_version: head.format.map_or(0, |(_, version)| version),
        // Before 6.2 they are not counted, and there is one for certain.
        forks_caused: grown("total_forks").unwrap_or(1),
        evicted: evicted(after).saturating_sub(evicted(before)),
        evicted_before: evicted(before),
        evicted_after: evicted(after),
        bytes,
        bytes_copied: bytes,
        capture_s: thousandths(began.elapsed().as_secs_f64()),
        caveats: writable.then(|| Caveat::WritableReplica.to_string()).into_iter().collect(),
        ..Facts::of_source(source, before, Method::FullSync, position)
    })
}
