//! Both servers, asked the same at the same time, and what their answers say together.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Kind;
use super::difference::Unlike;
use super::error::At;
use super::expiry::Precision;
use super::peer::{Peer, Seen};
use super::{Error, Side, text, value};
use crate::clock::now_ms;

/// About so many bytes of answers are under way on each side.
const BATCH_BYTES: usize = 1024 * 1024;
/// Keys that are asked for at once: at first …
const KEYS_FIRST: usize = 4;
/// … and at most.
const KEYS_MAX: usize = 256;

/// How many keys to ask for at once.
#[derive(Debug)]
pub(super) struct Pace {
    pub keys: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { keys: KEYS_FIRST }
    }
}

impl Pace {
    /// How many to ask for of those at the front, whose sizes are known: other than names in the order of SCAN, names
    /// in their own order have neighbours of one size.
    pub fn known(payload_bytes: impl Iterator<Item = usize>) -> usize {
        let mut bytes = 0usize;
        let fits = payload_bytes.take(KEYS_MAX).take_while(|payload_bytes| {
            bytes = bytes.saturating_add(*payload_bytes);
            bytes <= BATCH_BYTES
        });
        fits.count().max(1)
    }

    /// Learns from a batch. It becomes slow at once and fast by doubling: what comes is mostly like what came, but a
    /// batch that is too large costs the servers memory.
    fn learn(&mut self, keys: usize, bytes: usize) {
        let bytes_per_key = (bytes / keys.max(1)).max(1);
        self.keys = (BATCH_BYTES / bytes_per_key).min(self.keys * 2).clamp(1, KEYS_MAX);
    }
}

#[derive(Debug)]
pub(super) struct Pair {
    pub source: Peer,
    pub target: Peer,
    pub target_shifted: bool,
    pub pace: Pace,
}

impl Pair {
    pub async fn select(&mut self, db: u32) -> Result<(), Error> {
        tokio::try_join!(self.source.select(db), self.target.select(db))?;
        Ok(())
    }

    /// Compares keys of a database, which must be selected: for each, what differs.
    pub async fn compare<K: AsRef<[u8]>>(
        &mut self,
        db: u32,
        keys: &[K],
    ) -> Result<Vec<Option<Unlike>>, Error> {
        let (source, target) = tokio::try_join!(self.source.read(keys), self.target.read(keys))?;
        let bytes = |side: &[Seen]| side.iter().map(Seen::payload_bytes).sum::<usize>();
        self.pace.learn(keys.len(), bytes(&source).max(bytes(&target)));
        let (mut unlike, now_ms) = (Vec::with_capacity(keys.len()), now_ms());
        for (key, (a, b)) in keys.iter().zip(source.iter().zip(&target)) {
            let mut one = self.unlike(a, b, now_ms).map_err(|(side, source)| Error::Payload {
                side,
                at: At::key(db, key.as_ref()),
                source,
            })?;
            if let Some(one) = &mut one {
                one.payload_bytes = a.payload_bytes().max(b.payload_bytes());
            }
            unlike.push(one);
        }
        Ok(unlike)
    }

    fn unlike(
        &self,
        source: &Seen,
        target: &Seen,
        now_ms: u64,
    ) -> Result<Option<Unlike>, (Side, crate::rdb::Error)> {
        let shifted = self.target_shifted;
        let missing =
            |kind, payload: &Bytes| Ok(Some(Unlike::new(kind, value::type_name(payload).into_owned())));
        let (a, a_expiry, b, b_expiry) = match (source, target) {
            (Seen::Absent, Seen::Absent) => return Ok(None),
            (Seen::Changing, _) | (_, Seen::Changing) => {
                let what = "it could not be read as of one moment".to_owned();
                return Ok(Some(Unlike::new(Kind::Value, what)));
            }
            // What has expired on the source, and is kept on the target until the source says that it is deleted: which a
            // replica, or a server whose writers are paused, does not do.
            (Seen::Absent, Seen::Value { expiry, .. }) if shifted && expiry.meant().is_past(now_ms) => {
                return Ok(None);
            }
            (Seen::Absent, Seen::Value { payload, .. }) if value::is_expired(payload, shifted, now_ms)? => {
                return Ok(None);
            }
            (Seen::Absent, Seen::Value { payload, .. }) => return missing(Kind::MissingInSource, payload),
            (Seen::Value { payload, .. }, Seen::Absent) => return missing(Kind::MissingInTarget, payload),
            (Seen::Value { payload: a, expiry: x }, Seen::Value { payload: b, expiry: y }) => (a, *x, b, *y),
        };
        let meant = if shifted { b_expiry.meant() } else { b_expiry };
        let expiry = (!a_expiry.fits(meant, self.precision())).then(|| format!("{a_expiry} and {meant}"));
        Ok(match (value::unlike(a, b, shifted, now_ms)?, expiry) {
            (Some(Unlike { kind, what, .. }), Some(expiry)) => {
                Some(Unlike::new(kind, format!("{what}; expiry: {expiry}")))
            }
            (None, Some(what)) => Some(Unlike::new(Kind::Expiry, what)),
            (unlike, None) => unlike,
        })
    }

    pub fn precision(&self) -> Precision {
        Precision::of(&self.source.info, &self.target.info)
    }

    /// The function libraries that differ.
    pub async fn functions(&mut self) -> Result<BTreeMap<Vec<u8>, Unlike>, Error> {
        let (source, mut target) = tokio::try_join!(self.source.functions(), self.target.functions())?;
        let mut unlike = BTreeMap::new();
        let mut add = |name, what| unlike.insert(name, Unlike::new(Kind::Function, what));
        for (name, code) in source {
            match target.remove(&name) {
                None => drop(add(name, "missing in the target".to_owned())),
                Some(other) if other != code => {
                    drop(add(name, format!("code {}", text::both(&code, &other))))
                }
                Some(_) => {}
            }
        }
        for name in target.into_keys() {
            add(name, "missing in the source".to_owned());
        }
        Ok(unlike)
    }
}

impl Seen {
    fn payload_bytes(&self) -> usize {
        match self {
            Seen::Value { payload, .. } => payload.len(),
            Seen::Absent | Seen::Changing => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_are_asked_for_few_at_a_time() {
        let mut pace = Pace::default();
        let mut asked = Vec::new();
        for bytes_per_key in [100, 100, 100, 100, 100, 100, 100_000, 10_000_000, 10, 10] {
            pace.learn(pace.keys, pace.keys * bytes_per_key);
            asked.push(pace.keys);
        }
        assert_eq!(asked, [8, 16, 32, 64, 128, 256, 10, 1, 2, 4]);
        pace.learn(0, 0);
        assert_eq!(Pace::known([400_000; 9].into_iter()), 2);
        assert_eq!(Pace::known([BATCH_BYTES + 1, 1].into_iter()), 1);
        assert_eq!(Pace::known([1; 999].into_iter()), KEYS_MAX);
    }
}
