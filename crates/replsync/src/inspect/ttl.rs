//! When keys expire: a histogram of the time that they have left.

use super::summary::Counts;

/// A class of keys by the time left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// A stable name, as in JSON.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// Less time than this is left, in milliseconds; nothing for what has no bound.
    pub below_ms: Option<i64>,
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const fn bucket(name: &'static str, label: &'static str, below_ms: Option<i64>) -> Bucket {
    Bucket { name, label, below_ms }
}

/// All classes, the shortest time first; the last is for keys without an expiry.
pub const BUCKETS: [Bucket; 9] = [
    // A key is gone when its time has come, not after it.
    bucket("expired", "expired", Some(1)),
    bucket("under_1_minute", "under 1 minute", Some(MINUTE)),
    bucket("under_1_hour", "under 1 hour", Some(HOUR)),
    bucket("under_1_day", "under 1 day", Some(DAY)),
    bucket("under_1_week", "under 1 week", Some(7 * DAY)),
    bucket("under_30_days", "under 30 days", Some(30 * DAY)),
    bucket("under_1_year", "under 1 year", Some(365 * DAY)),
    bucket("over_1_year", "1 year and more", None),
    bucket("never", "no expiry", None),
];

/// The time that expiries are told from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelativeTo {
    /// When the file was written, as it says itself (`ctime`, in seconds).
    FileTime,
    /// Now: the file does not say when it was written.
    Now,
}

/// The histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// What the time left is told from.
    pub relative_to: RelativeTo,
    /// That time, in milliseconds since the epoch.
    pub relative_to_ms: u64,
    /// Keys, by the classes of [`BUCKETS`].
    pub buckets: [Counts; BUCKETS.len()],
}

impl Ttls {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { relative_to: RelativeTo::Now, relative_to_ms: now_ms, buckets: Default::default() }
    }

    /// Whether a key that expires then is gone at the time that expiries are told from.
    pub(super) fn is_expired(&self, expires_at_ms: Option<i64>) -> bool {
        expires_at_ms.is_some_and(|at| self.left_ms(at) <= 0)
    }

    /// The class of such a key, as an index into [`BUCKETS`].
    pub(super) fn bucket(&self, expires_at_ms: Option<i64>) -> usize {
        const NEVER: usize = BUCKETS.len() - 1;
        let Some(at) = expires_at_ms else { return NEVER };
        let left = self.left_ms(at);
        let fits = |bucket: &Bucket| bucket.below_ms.is_some_and(|below| left < below);
        BUCKETS.iter().position(fits).unwrap_or(NEVER - 1)
    }

    fn left_ms(&self, at_ms: i64) -> i64 {
        at_ms.saturating_sub_unsigned(self.relative_to_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_has_its_class() {
        let ttls = Ttls::new(1_000_000);
        let name = |left_ms: i64| BUCKETS[ttls.bucket(Some(1_000_000 + left_ms))].name;
        assert_eq!([name(-5), name(0), name(1)], ["expired", "expired", "under_1_minute"]);
        assert_eq!([name(59_999), name(60_000)], ["under_1_minute", "under_1_hour"]);
        assert_eq!([name(30 * DAY), name(365 * DAY - 1)], ["under_1_year", "under_1_year"]);
        assert_eq!([name(365 * DAY), name(1 << 60)], ["over_1_year", "over_1_year"]);
        assert_eq!(BUCKETS[ttls.bucket(None)].name, "never");
        assert!(
            ttls.is_expired(Some(i64::MIN)) && !ttls.is_expired(None) && !ttls.is_expired(Some(i64::MAX))
        );
    }
}
