//! From a source to a sink.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::attach::{AttachOptions, attach};
use super::change::{BigValue, Cut, Sink};
use super::mutant::lacks;
use super::outlet::Outlet;
use super::run::Run;
use super::{Caveat, Error, Options, Phase, Progress, Report};
use crate::endpoint::{Client, Endpoint, Info, Role};
use crate::link::Link;
use crate::psync::Position;

/// A capture that is exact.
pub struct Captured<T> {
    /// What the sink has made of it.
    pub output: T,
    /// How it went.
    pub report: Report,
    /// The stream behind the cut.
    pub link: Link,
    /// The source, as it was before.
    pub source: Info,
}

/// Captures `source` into `sink`. Dropped at any point, it leaves nothing behind at the source but a pause of writers of at
/// most [`Options::max_pause`], which ends by itself.
///
/// # Errors
/// Nothing that the sink was given may be used then.
pub async fn capture<S: Sink>(
    source: &Endpoint,
    how: &AttachOptions,
    options: Options,
    sink: S,
    progress: watch::Sender<Progress>,
) -> Result<Captured<S::Output>, Error>
where
    S::Error: Sync,
{
    let began = Instant::now();
    let before = Client::connect(source, options.timeout).await?.info().await?;
    progress.send_modify(|progress| progress.keys_total = before.keys());
    let attached = attach(source, how).await?;
    let caveats = attached.caveats.clone();
    let (forks_caused, primed) = (attached.forks_caused, attached.primed);
    let (outlet, output) = Outlet::start(sink);
    let (was_replica, answer) = (attached.is_replica, options.timeout);
    let mut run = Run::start(source, attached, how.reconnect_for, options, outlet, progress).await?;
    let exact = match run.converge().await {
        Err(error) if !was_replica => return Err(explain(error, source, answer).await),
        other => other?,
    };
    let cut = run.cut_off(exact)?;
    let took = began.elapsed();
    run.progress.send_modify(|progress| progress.phase = Phase::Finishing);
    run.tell();
    let after = run.info().await?;
    run.outlet.finish(cut.clone()).await?;
    let output = tokio::select! {
        output = output => output.map_err(|_| Error::Sink("the thread of the sink has ended".into()))?,
        error = run.outlet.failure() => return Err(error),
    };
    let grown = |name: &str| Some(after.number(name)?.saturating_sub(before.number(name)?));
    let forks_other = grown("total_forks").map(|forks| forks.saturating_sub(forks_caused));
    let cpu = |info: &Info| -> f64 {
        let seconds = |name: &str| info.field(name).and_then(|text| text.parse::<f64>().ok());
        seconds("used_cpu_sys").unwrap_or(0.0) + seconds("used_cpu_user").unwrap_or(0.0)
    };
    let stats = &run.stats;
    let report = Report {
        source: before.server,
        position: cut.position,
        stream_db: cut.stream_db,
        rdb_version: cut.rdb_version,
        exact: exact && !caveats.iter().any(Caveat::is_inexact),
        caveats,
        rounds: stats.rounds,
        copied: stats.copied,
        copied_again: stats.copied_again,
        copied_bytes: stats.copied_bytes,
        big_values: stats.big_values,
        big_parts: stats.big_parts,
        pause: stats.pause,
        pauses: stats.pauses,
        forks_caused,
        forks_other,
        primed,
        evicted: (before.number("evicted_keys").unwrap_or(0), after.number("evicted_keys").unwrap_or(0)),
        longest_batch: stats.longest,
        source_cpu: Duration::from_secs_f64((cpu(&after) - cpu(&before)).max(0.0)),
        reconnects: stats.reconnects,
        took,
    };
    Ok(Captured { output, report, link: run.link, source: before })
}

impl Run {
    /// What everything adds up to.
    fn cut_off(&mut self, exact: bool) -> Result<Cut, Error> {
        let stream_db = match self.ledger.stream_db() {
            None if exact => return Err(Error::NoStreamDatabase),
            db => db.unwrap_or(0),
        };
        let stream_db = if lacks("stream-database") { 0 } else { stream_db };
        let rdb_version = match self.rdb_version {
            Some(version) => version,
            // Functions are read on every server that is newer, and their dump says it.
            None => return Err(Error::Nonsense { command: "FUNCTION DUMP".to_owned() }),
        };
        let bigs = self.ledger.bigs().map(|big| BigValue {
            big: big.number,
            space: big.space,
            key: big.key.clone(),
            expiry_ms: big.expiry_ms,
            form: big.form,
            nodes: big.stream.as_ref().map_or(0, |stream| stream.nodes()),
        });
        Ok(Cut {
            position: Position { replid: self.replid, offset: self.ledger.offset() },
            stream_db,
            rdb_version,
            spaces: self.ledger.databases().clone(),
            bigs: bigs.collect(),
        })
    }
}

/// A failover closes clients' connections before any of them hears of another history: why one broke is asked.
async fn explain(error: Error, source: &Endpoint, answer: Duration) -> Error {
    if !matches!(error, Error::Source(_) | Error::Link(_)) {
        return error;
    }
    let look = async { Client::connect(source, answer).await?.info().await };
    match look.await {
        Ok(info) if info.role == Role::Replica => demoted(&info, error),
        _ => error,
    }
}

/// The error for a source that is a replica now.
pub(super) fn demoted(info: &Info, cause: Error) -> Error {
    let part = |name| info.field(name).unwrap_or("?").to_owned();
    let master = format!("{}:{}", part("master_host"), part("master_port"));
    Error::Demoted { master, cause: Box::new(cause) }
}
