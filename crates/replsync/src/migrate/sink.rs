//! A capture's way into the target: copies as they come, big values at the cut.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::Options;
use crate::apply::{self, Batch, Copied, Copier, Target};
use crate::capture::{Change, Cut, Sink, Store, Stored, WriteError};
use crate::rdb::{Buffered, FileWriter, Magic};
use crate::server::Server;
use crate::spool::{self, Gauge};

/// Functions come without the RDB that they stand in; of this version everything reads them.
const FUNCTIONS_RDB_VERSION: u16 = 10;

/// Takes batches on their way to the target.
type Emit = Box<dyn FnMut(Batch) -> Result<(), apply::Error> + Send>;

/// Writes a capture into a target that was empty.
///
/// Changes become commands in their order, and the pipeline keeps it: so the last copy of a key counts. Parts of big values
/// are kept on disk until the cut, since the last one of an element counts, and then read as an RDB of big values only.
pub(super) struct TargetSink {
    source: Server,
    copier: Copier<Emit>,
    bigs: Store,
    /// Which database holds which space.
    spaces: HashMap<u32, u32>,
    /// Spaces of which anything was sent.
    written: HashSet<u32>,
}

/// Why a capture does not get into the target.
#[derive(Debug, thiserror::Error)]
pub(super) enum SinkError {
    /// The target, or what it cannot hold.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The disk.
    #[error(transparent)]
    Store(#[from] spool::Error),
    /// What was kept there.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Big values have no way from the disk to the target.
    #[error("a pipe for big values: {0}")]
    Pipe(#[from] io::Error),
}

impl TargetSink {
    /// A sink for copies of `source`, whose batches go to `emit`.
    pub fn new(source: Server, target: Arc<Target>, options: &Options, emit: Emit) -> Self {
        Self {
            source,
            copier: Copier::new(target, options.copy, emit).of_changes(),
            bigs: Store::new(options.spool.clone()),
            spaces: HashMap::new(),
            written: HashSet::new(),
        }
    }

    /// The database of a space that something is sent of. A space that is no more has none.
    fn database(&mut self, space: u32) -> Option<u32> {
        let db = self.spaces.get(&space).copied()?;
        self.written.insert(space);
        Some(db)
    }

    fn swap(&mut self, a: u32, b: u32) -> Result<(), apply::Error> {
        let is_written = |(space, db): (&u32, &u32)| (*db == a || *db == b) && self.written.contains(space);
        let sends = self.spaces.iter().any(is_written);
        for db in self.spaces.values_mut() {
            *db = if *db == a {
                b
            } else if *db == b {
                a
            } else {
                *db
            };
        }
        if sends { self.copier.swap_databases(a, b) } else { Ok(()) }
    }

    /// Reads the functions by the opcodes that they have in an RDB.
    fn functions(&mut self, functions: &[u8]) -> Result<(), SinkError> {
        let mut file = FileWriter::new(Vec::new(), Magic::Redis, FUNCTIONS_RDB_VERSION);
        file.functions(functions)?;
        let rdb = file.finish()?.out;
        Ok(self.copier.functions(crate::rdb::Slice::new(&rdb))?)
    }
}

impl Sink for TargetSink {
    type Output = Copied;
    type Error = SinkError;

    fn spooled(&self) -> Gauge {
        self.bigs.spooled()
    }

    fn change(&mut self, change: Change) -> Result<(), SinkError> {
        match change {
            Change::Opened { db, space } => _ = self.spaces.insert(space, db),
            Change::Dropped { space } => {
                if let Some(db) = self.spaces.remove(&space)
                    && self.written.remove(&space)
                {
                    self.copier.flush_database(db)?;
                }
            }
            Change::Swapped { a, b } => self.swap(a, b)?,
            Change::Value(value) => {
                if let Some(db) = self.database(value.space) {
                    self.copier.value(db, &value.key, value.expiry_ms, value.kind, &value.raw)?;
                }
            }
            Change::Absent { space, key, .. } => {
                if let Some(db) = self.database(space) {
                    self.copier.absent(db, &key)?;
                }
            }
            Change::Functions(functions) => self.functions(&functions)?,
            Change::BigBegun { .. } | Change::Part { .. } | Change::BigVoid { .. } => {
                self.bigs.change(change)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, cut: Cut) -> Result<Copied, SinkError> {
        let stored = self.bigs.finish(cut)?;
        if stored.keys() > 0 {
            copy_stored(&mut self.copier, stored, self.source)?;
        }
        Ok(self.copier.copied()?)
    }
}

/// Copies what was kept on disk: one thread writes it as an RDB into a pipe, the other reads it there, so that how a value
/// is written for the target is decided in one place.
fn copy_stored(copier: &mut Copier<Emit>, mut stored: Stored, source: Server) -> Result<(), SinkError> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let write = move || stored.write_rdb(writer, source, &[], &mut |_| {}).map(|_| ());
        let writing = std::thread::Builder::new().name("big values".to_owned()).spawn_scoped(scope, write)?;
        // The reader is dropped at its end, so that a writer whose reader has failed fails, too.
        let read = copier.rdb(Buffered::new(reader));
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked").into()));
        match (read, written) {
            // What could not be written cannot be read to its end.
            (Err(apply::Error::Rdb(_)), Err(error)) => Err(error.into()),
            (Err(error), _) => Err(error.into()),
            (Ok(()), written) => Ok(written?),
        }
    })
}
