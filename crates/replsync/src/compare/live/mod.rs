//! Two live servers, compared key by key.
//!
//! ```text
//! FUNCTION LIST WITHCODE of both
//! SCAN the source ► expiry and DUMP of each key, of both servers at once ► what differs is kept
//! SCAN the target ► EXISTS on the source ► what that lacks is looked at in the same way
//! ```
//!
//! Writes may go on meanwhile: then what differs is read [`again`](Comparison::again), until nothing does or nothing
//! is written any more. A key that was equal once is not looked at again.
//!
//! What counts is what the [room](super) says. Where a migration has [shifted](crate::shift) the expiries of the target,
//! what was meant counts, if [`Options::target_shifted`] says so; where a server cannot say when a key expires,
//! expiries are compared as closely as [`Precision`] says.
//!
//! **Digests** of both sides are added up on the way, if [`Options::digests`] says so. Under writes they are those of no
//! moment: a key that was equal once counts as it was then.
//!
//! **What it costs.** A batch is sized by what the ones before it brought, so that about 1 MiB of answers is under
//! way on each side. A value is dumped whole, though: a huge one costs both servers its size in memory, and the time to
//! write and sum it, in which they do nothing else; here it takes twice its size, and a multiple of that where its
//! bytes differ. Of a small key a server spends some three times as long on DUMP as on GET.

mod difference;
mod elements;
mod error;
mod expiry;
mod pair;
mod peer;
mod sums;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

pub use difference::Difference;
pub use error::{At, Error};
pub use expiry::Precision;
pub use sums::{Both, Digests};

use super::{Kind, Side, text};
use crate::digest::KeyHasher;
use crate::endpoint::Endpoint;
use difference::{Found, Unlike};
use pair::{Compared, Pace, Pair};
use peer::{Peer, Scan};
use sums::Sums;

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long connecting may take. An answer may take longer: a huge value must fit into it.
    pub timeout: Duration,
    /// Whether expiries on the target may be shifted, as they are while a migration runs. False finds a shift that
    /// was left behind.
    pub target_shifted: bool,
    /// So many differences are kept …
    pub kept_max: usize,
    /// … and of so many bytes altogether.
    pub kept_bytes_max: usize,
    /// Whether to add up the [`digests`](Comparison::digests) of both sides on the way.
    pub digests: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            target_shifted: false,
            kept_max: 200_000,
            kept_bytes_max: 32 * 1024 * 1024,
            digests: false,
        }
    }
}

/// How far the first pass has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Keys that were compared: those of the source, and those of the target that the source seemed to lack.
    pub compared: u64,
    /// Keys of the source, as its INFO said at the beginning.
    pub source_keys: u64,
    /// Keys of the target that were looked for on the source.
    pub looked_for: u64,
    /// Keys of the target, as its INFO said at the beginning.
    pub target_keys: u64,
    /// Differences until now.
    pub differing: u64,
}

/// A comparison of two servers, over a connection to each.
///
/// A method that is dropped before its end leaves the connections of no more use. What differed stays, though not in
/// order.
#[derive(Debug)]
pub struct Comparison {
    pair: Pair,
    found: Found,
    pass: Pass,
    /// The first pass has come to its end.
    passed: bool,
    /// What was compared, added up; only where that was asked for.
    sums: Option<Sums>,
}

impl Comparison {
    /// Connects to both servers. Nothing is read yet but their INFO.
    pub async fn connect(source: &Endpoint, target: &Endpoint, options: Options) -> Result<Self, Error> {
        let (source, target) = tokio::try_join!(
            Peer::connect(Side::Source, source, options.timeout),
            Peer::connect(Side::Target, target, options.timeout),
        )?;
        Ok(Self {
            pair: Pair {
                source,
                target,
                target_shifted: options.target_shifted,
                pace: Pace::default(),
                hasher: options.digests.then(KeyHasher::new),
            },
            found: Found::new(options.kept_max, options.kept_bytes_max),
            pass: Pass::default(),
            passed: false,
            sums: options.digests.then(Sums::new),
        })
    }

    /// Compares everything, from the beginning. `progress` hears of every batch.
    pub async fn first_pass(&mut self, mut progress: impl FnMut(Pass)) -> Result<(), Error> {
        self.passed = false;
        self.found.clear();
        self.sums = self.sums.take().map(|_| Sums::new());
        let Pair { source, target, .. } = &mut self.pair;
        tokio::try_join!(source.look(), target.look())?;
        self.pass =
            Pass { source_keys: source.info.keys(), target_keys: target.info.keys(), ..Pass::default() };
        let databases = [&source.info, &target.info].into_iter().flat_map(|info| info.keyspace.keys());
        let databases: BTreeSet<u32> = databases.copied().collect();
        for (name, unlike) in self.functions().await? {
            self.found.add(unlike.at(None, name));
        }
        for db in databases {
            self.pair.select(db).await?;
            self.pair.pace = Pace::default();
            self.compare_source(db, &mut progress).await?;
            self.look_for_more(db, &mut progress).await?;
        }
        self.found.sort(|twice| {
            if let (Some(sums), Some(db)) = (&mut self.sums, twice.db) {
                sums.remove(db, &twice.key, &twice.added);
            }
        });
        self.passed = true;
        self.report(&mut progress);
        Ok(())
    }

    /// The function libraries that differ.
    async fn functions(&mut self) -> Result<BTreeMap<Vec<u8>, Unlike>, Error> {
        let (functions, unlike) = self.pair.functions().await?;
        if let Some(sums) = &mut self.sums {
            sums.set_functions(&functions);
        }
        Ok(unlike)
    }

    /// Compares the keys that the source has.
    async fn compare_source(&mut self, db: u32, progress: &mut impl FnMut(Pass)) -> Result<(), Error> {
        let mut scan = Scan::new();
        while let Some(names) = self.pair.source.scan(&mut scan).await? {
            self.compare(db, &names, progress).await?;
        }
        Ok(())
    }

    /// Looks on the target for keys that the source lacks.
    async fn look_for_more(&mut self, db: u32, progress: &mut impl FnMut(Pass)) -> Result<(), Error> {
        let mut scan = Scan::new();
        let mut names = self.pair.target.scan(&mut scan).await?;
        while let Some(page) = names {
            self.pass.looked_for += page.len() as u64;
            let Pair { source, target, .. } = &mut self.pair;
            let (missing, next) = tokio::try_join!(source.lacks(page), target.scan(&mut scan))?;
            names = next;
            // The target may lack some of these by now.
            self.compare(db, &missing, progress).await?;
            self.report(progress);
        }
        Ok(())
    }

    async fn compare(
        &mut self,
        db: u32,
        keys: &[Bytes],
        progress: &mut impl FnMut(Pass),
    ) -> Result<(), Error> {
        let mut rest = keys;
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(self.pair.pace.keys.min(rest.len()));
            rest = behind;
            for (key, Compared { unlike, added }) in batch.iter().zip(self.pair.compare(db, batch).await?) {
                if let Some(sums) = &mut self.sums {
                    sums.add(db, key, &added);
                }
                if let Some(unlike) = unlike {
                    self.found.add(unlike.of_key(Some(db), key.to_vec(), added));
                }
            }
            self.pass.compared += batch.len() as u64;
            self.report(progress);
        }
        Ok(())
    }

    fn report(&mut self, progress: &mut impl FnMut(Pass)) {
        self.pass.differing = self.found.count();
        progress(self.pass);
    }

    /// Compares again what differed, and returns how many still differ. Those that were [not kept](Self::not_kept)
    /// are not among them: while there are such, only another first pass can tell.
    pub async fn again(&mut self) -> Result<usize, Error> {
        if self.found.functions() > 0 {
            let unlike = self.functions().await?;
            self.found.replace_functions(unlike.into_iter().map(|(name, unlike)| unlike.at(None, name)));
        }
        // What still differs moves to the front.
        let mut still = self.found.functions();
        let kept = &mut self.found.kept;
        let mut at = still;
        while let Some(Difference { db: Some(db), .. }) = kept.get(at) {
            let db = *db;
            let batch = || kept[at..].iter().take_while(|one| one.db == Some(db));
            let count = Pace::known(batch().map(|one| one.payload_bytes));
            let keys: Vec<Vec<u8>> = batch().take(count).map(|one| one.key.clone()).collect();
            self.pair.select(db).await?;
            for (key, Compared { unlike, added }) in keys.iter().zip(self.pair.compare(db, &keys).await?) {
                if let Some(sums) = &mut self.sums {
                    sums.remove(db, key, &kept[at].added);
                    sums.add(db, key, &added);
                }
                if let Some(unlike) = unlike {
                    kept.swap(still, at);
                    kept[still] = unlike.of_key(Some(db), key.clone(), added);
                    still += 1;
                }
                at += 1;
            }
        }
        kept.truncate(still);
        Ok(still)
    }

    /// What differed when it was last compared: function libraries first, then by database and key.
    pub fn differences(&self) -> &[Difference] {
        &self.found.kept
    }

    /// The same, for good.
    pub fn into_differences(self) -> Vec<Difference> {
        self.found.kept
    }

    /// How many more differences the last first pass found than there was room for.
    pub fn not_kept(&self) -> u64 {
        self.found.beyond
    }

    /// Whether a first pass has come to its end, and nothing differs (any more).
    pub fn is_equal(&self) -> bool {
        self.passed && self.found.count() == 0
    }

    /// The digests of both sides, each key as it was when it was last compared: where [`Options::digests`] asked for them,
    /// a first pass has come to its end, and every payload could be read as of one moment.
    pub fn digests(&self) -> Option<Digests> {
        let sums = self.sums.as_ref().filter(|_| self.passed)?;
        sums.digests(self.precision() == Precision::Exact)
    }

    /// How many keys were compared.
    pub fn compared(&self) -> u64 {
        self.pass.compared
    }

    /// How exactly expiries are compared.
    pub fn precision(&self) -> Precision {
        self.pair.precision()
    }

    /// Whether expiries on the target may be shifted from now on; see [`Options::target_shifted`].
    pub fn set_target_shifted(&mut self, shifted: bool) {
        self.pair.target_shifted = shifted;
    }
}
