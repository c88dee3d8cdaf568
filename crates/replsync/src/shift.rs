//! Expiries out of reach: what is added to every expiry while a target must not expire anything by itself.
//!
//! A replica never expires a key: it waits for its master's `DEL`. A target that is a master expires by its own
//! clock, and while it lags behind its source it would delete what the source has renewed meanwhile. So expiries are
//! written far in the future, by a fixed amount that can be recognised, and put right when nothing more can renew
//! them. The order of expiries stays as it was, which conditions (`HPEXPIREAT … GT`) rely on.
//!
//! Source of the ranges: `expireGenericCommand` in `src/expire.c` (64 bits) and `EB_EXPIRE_TIME_MAX`, of which hash
//! fields may use a quarter (46 bits), in `src/ebuckets.h` and `src/t_hash.c` of Redis 7.4.

/// What is added to expiries of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift(i64);

impl Shift {
    /// Of keys: 2^60 ms, some 36 million years.
    pub const KEY: Self = Self(1 << 60);
    /// Of hash fields: 2^45 ms, some 1,115 years.
    pub const FIELD: Self = Self(1 << 45);

    /// The expiry to be written for one in milliseconds since the epoch. One that is twice the shift away or more
    /// stays as it is: nothing reaches it. `None` for what would then look shifted: it is shifted already, by a
    /// migration that was killed, or beyond what can be moved (of fields the years 3084 to 4199).
    pub fn on(self, expiry_ms: i64) -> Option<i64> {
        match expiry_ms {
            // 0 or less is long past, and so is 1, which every command takes.
            ..=1 => Some(self.0 + 1),
            near if near < self.0 => Some(self.0 + near),
            far if far >= 2 * self.0 => Some(far),
            _ => None,
        }
    }

    /// The expiry that was meant by a written one, where that is shifted.
    pub fn off(self, written_ms: i64) -> Option<i64> {
        (self.0..2 * self.0).contains(&written_ms).then(|| written_ms - self.0)
    }

    /// Whether a time to live, in milliseconds, belongs to a shifted expiry: what is left of one is the shift, give or
    /// take centuries.
    pub fn is_in_ttl(self, ttl_ms: i64) -> bool {
        (self.0 / 2..2 * self.0).contains(&ttl_ms)
    }

    /// The expiry that is meant, shifted or not.
    pub fn meant(self, written_ms: i64) -> i64 {
        self.off(written_ms).unwrap_or(written_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_stay_within_46_bits() {
        assert_eq!(Shift::FIELD.on((1 << 45) - 1), Some((1 << 46) - 1));
        assert_eq!(Shift::FIELD.on(1 << 45), None);
        assert_eq!(Shift::KEY.on(i64::MAX), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_put_on_comes_off_and_the_order_stays(a in 1i64.., b in 1i64..) {
            for shift in [Shift::KEY, Shift::FIELD] {
                if let Some(on) = shift.on(a) {
                    prop_assert_eq!(shift.meant(on), a);
                    prop_assert_eq!(shift.off(on).is_some(), a < shift.0);
                    prop_assert!(shift.on(on).is_none() || on == a, "twice is refused");
                }
                if let (Some(on_a), Some(on_b)) = (shift.on(a), shift.on(b)) {
                    prop_assert_eq!(on_a.cmp(&on_b), a.cmp(&b));
                }
            }
        }
    }
}
