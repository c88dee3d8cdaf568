//! Both servers, asked the same at the same time, and what their answers say together.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Kind;
use super::difference::Unlike;
use super::error::At;
use super::expiry::{Expiry, Precision};
use super::peer::{Functions, Peer, Seen};
use super::sums::{self, Added};
use super::{Error, Side, text, value};
use crate::clock::now_ms;
use crate::digest::KeyHasher;

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
    /// Digests the keys that are compared; nothing where nobody wants to know.
    pub hasher: Option<KeyHasher>,
}

/// What became of a key.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// In what way it differs.
    pub unlike: Option<Unlike>,
    /// What it adds to the digests.
    pub added: sums::Pair,
}

impl Pair {
    pub async fn select(&mut self, db: u32) -> Result<(), Error> {
        tokio::try_join!(self.source.select(db), self.target.select(db))?;
        Ok(())
    }

    /// Compares keys of a database, which must be selected: for each, what became of it.
    pub async fn compare<K: AsRef<[u8]>>(&mut self, db: u32, keys: &[K]) -> Result<Vec<Compared>, Error> {
        let (source, target) = tokio::try_join!(self.source.read(keys), self.target.read(keys))?;
        let bytes = |side: &[Seen]| side.iter().map(Seen::payload_bytes).sum::<usize>();
        self.pace.learn(keys.len(), bytes(&source).max(bytes(&target)));
        let (mut compared, now_ms) = (Vec::with_capacity(keys.len()), now_ms());
        for (key, (a, b)) in keys.iter().zip(source.iter().zip(&target)) {
            let mut one = self.unlike(a, b, now_ms).map_err(|(side, source)| Error::Payload {
                side,
                at: At::key(db, key.as_ref()),
                source,
            })?;
            if let Some(one) = &mut one {
                one.payload_bytes = a.payload_bytes().max(b.payload_bytes());
            }
            let added = match (&mut self.hasher, &one, a, b) {
                // It has expired on the source, and the target only waits to be told.
                (_, None, Seen::Absent, _) | (None, ..) => sums::Pair::default(),
                (Some(hasher), ..) => both_added(hasher, key.as_ref(), [a, b], self.target_shifted, now_ms),
            };
            compared.push(Compared { unlike: one, added });
        }
        Ok(compared)
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
            (Seen::Absent, Seen::Value { payload, .. })
                if value::is_expired(Side::Target, payload, shifted, now_ms)? =>
            {
                return Ok(None);
            }
            // The target has got to deleting them, the source not yet.
            (Seen::Value { payload, .. }, Seen::Absent)
                if value::is_expired(Side::Source, payload, false, now_ms)? =>
            {
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

    /// The function libraries of both, and those that differ.
    pub async fn functions(&mut self) -> Result<(Functions, BTreeMap<Vec<u8>, Unlike>), Error> {
        let (source, mut target) = tokio::try_join!(self.source.functions(), self.target.functions())?;
        let both = [source.clone(), target.clone()];
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
        Ok((both, unlike))
    }
}

/// What a key adds to both sides. Payloads of equal bytes are looked into once.
fn both_added(
    hasher: &mut KeyHasher,
    name: &[u8],
    sides: [&Seen; 2],
    target_shifted: bool,
    now_ms: u64,
) -> sums::Pair {
    let expiry_ms = |side, expiry: Expiry| match side {
        Side::Target if target_shifted => expiry.meant().at_ms(),
        _ => expiry.at_ms(),
    };
    let mut one = |side, seen: &Seen| match seen {
        Seen::Absent => Added::Nothing,
        Seen::Changing => Added::Unknown,
        Seen::Value { payload, expiry } => {
            let meant = value::taken_off(target_shifted && side == Side::Target);
            let expiry_ms = expiry_ms(side, *expiry);
            // What nobody can read may be equal all the same.
            sums::added(hasher, name, payload, expiry_ms, meant, now_ms).unwrap_or(Added::Unknown)
        }
    };
    let [source, target] = sides;
    let first = one(Side::Source, source);
    let second = match (source, target, first) {
        (Seen::Value { payload: a, .. }, Seen::Value { payload: b, expiry }, first)
            if value::are_same_bytes(a, b) =>
        {
            match first {
                Added::Key(key) => Added::Key(key.with_expiry(name, expiry_ms(Side::Target, *expiry))),
                first => first,
            }
        }
        _ => one(Side::Target, target),
    };
    [first, second]
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
