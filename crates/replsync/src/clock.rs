//! Our clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch by our clock.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The same as expiries in an RDB are written: signed.
pub fn now_signed_ms() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}
