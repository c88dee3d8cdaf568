//! When a key expires, as far as it can be known, and when two servers mean the same.

use std::fmt;

use crate::endpoint::Info;
use crate::shift::Shift;

/// Before 7.0 expiries travel as times to live, and begin where they arrive.
const TRAVELLED_MS: i64 = 1_000;

/// How exactly expiries can be compared, which follows from the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// To the millisecond: both say when a key expires.
    Exact,
    /// The target is older than 7.0. It says how long a key still lives, so that its expiry is known to the
    /// milliseconds that asking took; the source's must lie within these.
    Asked,
    /// The source is older than 7.0: within a second.
    Second,
}

impl Precision {
    pub(super) fn of(source: &Info, target: &Info) -> Self {
        match (tells_expiries(source), tells_expiries(target)) {
            (true, true) => Self::Exact,
            (true, false) => Self::Asked,
            (false, _) => Self::Second,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "to the millisecond",
            Self::Asked => "to the few milliseconds that asking a target before 7.0 takes",
            Self::Second => "within 1 s, since the source is older than 7.0",
        })
    }
}

/// Whether a server has PEXPIRETIME.
pub(super) fn tells_expiries(info: &Info) -> bool {
    info.server.has((7, 0), None)
}

/// When a key expires, in milliseconds since the epoch by the server's own clock: not before the first and not
/// after the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    Within(i64, i64),
}

impl Expiry {
    /// What was meant, where a migration has shifted it.
    pub fn meant(self) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::Within(first, last) => Self::Within(Shift::KEY.meant(first), Shift::KEY.meant(last)),
        }
    }

    /// When it is, as far as that is known: not before.
    pub fn at_ms(self) -> Option<i64> {
        match self {
            Self::Never => None,
            Self::Within(first, _) => Some(first),
        }
    }

    /// Whether it is over by then for certain.
    pub fn is_past(self, now_ms: u64) -> bool {
        let past = |last: i64| u64::try_from(last).is_ok_and(|last| last <= now_ms);
        matches!(self, Self::Within(_, last) if past(last))
    }

    /// Whether both may be the same moment.
    pub fn fits(self, other: Self, precision: Precision) -> bool {
        let (first, last, other_first, other_last) = match (self, other) {
            (Self::Never, Self::Never) => return true,
            (Self::Within(a, b), Self::Within(c, d)) => (a, b, c, d),
            _ => return false,
        };
        let tolerance_ms = if precision == Precision::Second { TRAVELLED_MS } else { 0 };
        first.saturating_sub(other_last).max(other_first.saturating_sub(last)) <= tolerance_ms
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Never => f.write_str("none"),
            Self::Within(first, last) => {
                write!(f, "{first}")?;
                if first != last {
                    write!(f, "–{last}")?;
                }
                if Shift::KEY.off(first).is_some() { f.write_str(" (shifted)") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ms: i64) -> Expiry {
        Expiry::Within(at_ms, at_ms)
    }

    #[test]
    fn a_millisecond_is_a_difference_unless_a_side_is_old() {
        let (a, b) = (at(1_000_000), at(1_000_001));
        assert!(a.fits(a, Precision::Exact) && !a.fits(b, Precision::Exact) && !b.fits(a, Precision::Exact));
        let asked = Expiry::Within(999_998, 1_000_000);
        assert!(a.fits(asked, Precision::Asked) && !b.fits(asked, Precision::Asked));
        assert!(asked.fits(at(1_001_000), Precision::Second));
        assert!(!asked.fits(at(1_001_001), Precision::Second));
        assert!(!asked.fits(Expiry::Never, Precision::Second));
        assert!(!at(i64::MIN).fits(at(i64::MAX), Precision::Second));
    }

    #[test]
    fn a_shift_is_seen() {
        let shifted = at((1 << 60) + 5);
        assert_eq!(shifted.meant(), at(5));
        assert_eq!(shifted.to_string(), format!("{} (shifted)", (1i64 << 60) + 5));
        assert_eq!(Expiry::Within(5, 7).to_string(), "5–7");
    }
}
