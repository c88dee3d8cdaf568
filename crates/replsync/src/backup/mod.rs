//! A backup: an RDB of a live server that is exact at one offset of its stream, and a manifest that says what it is.
//!
//! ```text
//! an empty file under a name that nobody reads ► capture the source (or, the classic way, take its full sync)
//!   ► write the file ► fsync ► read it back: structure, checksum, count of keys, digest
//!   ► its own name ► the manifest: the backup exists
//! ```
//!
//! A backup exists when its manifest does. Until then all that is in the folder are files whose names begin with
//! `.replsync-` and end in `.part`: they go on every error, and what a killed process leaves the next backup into that
//! folder removes.
//!
//! The file carries its place in the source's stream (`repl-id`, `repl-offset`, `repl-stream-db`), so a server that is
//! started on it as a replica of the source goes on from there; [`can_follow`] says whether it still can.

mod check;
mod error;
mod folder;
mod follow;
mod full_sync;
mod head;
mod manifest;
mod options;
mod time;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

pub use error::Error;
pub use follow::{Following, Obstacle, can_follow};
pub use head::Head;
pub use manifest::{Facts, MANIFEST_VERSION, Manifest};
pub use options::{Method, Options, Phase, Progress};

use crate::capture::{self, Captured, Store, capture};
use crate::clock::now_ms;
use crate::endpoint::{Client, Endpoint, Info};
use crate::spool;
use folder::Part;
use manifest::Times;

/// A backup that was published.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The RDB.
    pub rdb: PathBuf,
    /// Its manifest.
    pub manifest: PathBuf,
    /// What the manifest says.
    pub facts: Facts,
}

/// Makes a backup of `source` in `folder`, which must be there. Told to `stop`, it leaves nothing behind, unless it is at
/// the very end, which it then comes to.
///
/// # Errors
/// Nothing was published then, and nothing is left that could be taken for a backup.
pub async fn backup(
    source: &Endpoint,
    folder: &Path,
    options: &Options,
    progress: watch::Sender<Progress>,
    stop: impl Future<Output = ()>,
) -> Result<Backup, Error> {
    let progress = Arc::new(progress);
    let (part, facts) = tokio::select! {
        biased;
        () = stop => return Err(Error::Stopped),
        made = make(source, folder, options, &progress) => made?,
    };
    progress.send_modify(|progress| progress.phase = Phase::Publishing);
    blocking(move || part.publish(facts)).await
}

/// All but the names: a file that was read back and found to be what it must.
async fn make(
    source: &Endpoint,
    folder: &Path,
    options: &Options,
    progress: &Arc<watch::Sender<Progress>>,
) -> Result<(Part, Facts), Error> {
    let mut times = Times { started_ms: now_ms(), ..Times::default() };
    let began = Instant::now();
    let part = {
        let (folder, name) = (folder.to_owned(), folder::name_of(source, times.started_ms));
        blocking(move || Part::create(&folder, &name)).await?
    };
    let before = Client::connect(source, options.capture.timeout).await?.info().await?;
    let facts = match options.method {
        Method::ForkFree => fork_free(source, &before, options, &part, progress, &mut times).await?,
        Method::FullSync => full_sync::receive(source, &before, options, &part, progress, &mut times).await?,
    };
    let found = check::read_back(&part, &facts, progress).await?;
    times.finished_ms = now_ms();
    times.took = began.elapsed();
    Ok((part, facts.checked(&found, &times)))
}

/// The capture, written into the file.
async fn fork_free(
    source: &Endpoint,
    before: &Info,
    options: &Options,
    part: &Part,
    progress: &Arc<watch::Sender<Progress>>,
    times: &mut Times,
) -> Result<Facts, Error> {
    let spool = options.capture.spool.clone();
    spool::check_space(&spool, before.number("used_memory_dataset").unwrap_or(0)).map_err(Error::Spool)?;
    spool.check().map_err(Error::Spool)?;
    let (sender, seen) = watch::channel(capture::Progress::default());
    let store = Store::new(spool.clone());
    let attach = capture::AttachOptions { spool: spool.clone(), ..options.attach.clone() };
    let captured = tokio::select! {
        captured = capture(source, &attach, options.capture.clone(), store, sender) => captured?,
        () = pass_on(seen, progress) => return Err(Error::Stopped),
    };
    // The source is left alone from here on.
    let Captured { output: mut stored, report, link, source: _ } = captured;
    drop(link);
    stored.has_place = report.exact;
    times.cut_ms = now_ms();
    let written = write::write(stored, report.source, before, part, progress).await?;
    Ok(Facts::of_capture(source, before, &report, &written, spool.budget.gauge().bytes_max()))
}

/// Shows how far the capture is; never completes before that does.
async fn pass_on(mut seen: watch::Receiver<capture::Progress>, progress: &watch::Sender<Progress>) {
    while seen.changed().await.is_ok() {
        let now = *seen.borrow_and_update();
        progress.send_modify(|progress| progress.capture = now);
    }
    std::future::pending().await
}

/// Work that waits for disks, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::Thread(error.to_string())),
    }
}
