//! Which argument of a command is an expiry.

use bytes::Bytes;

use super::{elements, is, is_any, number};

/// How an expiry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds since the epoch.
    Seconds,
    /// Milliseconds since the epoch.
    Milliseconds,
    /// Seconds from now.
    RelativeSeconds,
    /// Milliseconds from now.
    RelativeMilliseconds,
}

impl Unit {
    /// The expiry as milliseconds since the epoch. What is beyond the range of the servers' clocks becomes the end of
    /// that range: 5.0 and 6.0 take such numbers (clients mean "for ever"), overflow, and delete the key themselves, which
    /// the stream then says.
    pub fn absolute_ms(self, value: i64, now_ms: u64) -> i64 {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        match self {
            Self::Milliseconds => value,
            Self::Seconds => value.saturating_mul(1000),
            Self::RelativeMilliseconds => value.saturating_add(now),
            Self::RelativeSeconds => value.saturating_mul(1000).saturating_add(now),
        }
    }
}

/// An expiry that a command carries. No command carries two; `RESTORE` of a hash may carry those of its fields
/// inside its payload, which are not meant here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The index of the argument that holds it.
    pub argument: usize,
    /// How it is written there.
    pub unit: Unit,
}

/// The expiry that a command carries, if any.
pub fn expiry(args: &[Bytes]) -> Option<Expiry> {
    let name = args.first()?;
    let unit = match name.len() {
        6 if is(name, "expire") => Unit::RelativeSeconds,
        7 if is(name, "hexpire") => Unit::RelativeSeconds,
        5 if is(name, "setex") => Unit::RelativeSeconds,
        7 if is(name, "pexpire") => Unit::RelativeMilliseconds,
        8 if is(name, "hpexpire") => Unit::RelativeMilliseconds,
        6 if is(name, "psetex") => Unit::RelativeMilliseconds,
        8 if is(name, "expireat") => Unit::Seconds,
        9 if is(name, "hexpireat") => Unit::Seconds,
        9 if is(name, "pexpireat") => Unit::Milliseconds,
        10 if is(name, "hpexpireat") => Unit::Milliseconds,
        3 if is(name, "set") => return among(args, 3),
        5 if is(name, "getex") => return among(args, 2),
        6 if is(name, "hsetex") => return around_fields(args, 2),
        6 if is(name, "hgetex") => return around_fields(args, 1),
        6 if is(name, "msetex") => {
            let keys: usize = number(args.get(1)?)?;
            return among(args, keys.checked_mul(2)?.checked_add(2)?);
        }
        7 | 14 if is_any(name, &["restore", "restore-asking"]) => return restore(args),
        _ => return None,
    };
    (args.len() > 2).then_some(Expiry { argument: 2, unit })
}

/// Among the options before the fields or, as Redis 8.6 sends them too, behind them.
fn around_fields(args: &[Bytes], step: usize) -> Option<Expiry> {
    among(args, 2).or_else(|| among(args, elements::fields(args, 2, step)?.1))
}

/// Finds EX, PX, EXAT or PXAT among the options from `first` on, up to FIELDS. Options with a value of their own
/// are stepped over with it, as that may read like an option.
pub(super) fn among(args: &[Bytes], first: usize) -> Option<Expiry> {
    let mut at = first;
    while let Some(option) = args.get(at) {
        let unit = match option {
            option if is(option, "px") => Unit::RelativeMilliseconds,
            option if is(option, "ex") => Unit::RelativeSeconds,
            option if is(option, "pxat") => Unit::Milliseconds,
            option if is(option, "exat") => Unit::Seconds,
            option if is(option, "fields") => return None,
            option if is_any(option, &["ifeq", "ifne", "ifdeq", "ifdne"]) => {
                at += 2;
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        return (at + 1 < args.len()).then_some(Expiry { argument: at + 1, unit });
    }
    None
}

/// `RESTORE key ttl payload [ABSTTL] …`: a TTL of 0 is none.
fn restore(args: &[Bytes]) -> Option<Expiry> {
    let ttl: i64 = number(args.get(2)?)?;
    let absolute = args.get(4..)?.iter().any(|option| is(option, "absttl"));
    let unit = if absolute { Unit::Milliseconds } else { Unit::RelativeMilliseconds };
    (ttl != 0).then_some(Expiry { argument: 2, unit })
}
