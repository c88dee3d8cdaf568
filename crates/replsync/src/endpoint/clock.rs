//! A server's clock against ours, and two servers' against each other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Client, Error};

/// The answer that took the least time of so many counts.
const TRIES: u32 = 5;
/// Clocks further apart than this are worth a word.
const APART: Duration = Duration::from_millis(50);

/// A server's clock against ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Microseconds that it is ahead of ours; negative: behind.
    pub ahead_us: i64,
    /// How far off that may be: half of the time that the answer took.
    pub uncertainty_us: i64,
}

impl Clock {
    /// Asks for the time, or returns the error that was answered.
    /// # Errors
    /// The inner error is what the server answered.
    pub async fn ask(client: &mut Client) -> Result<Result<Self, String>, Error> {
        let mut best: Option<Self> = None;
        for _ in 0..TRIES {
            let (before_us, began) = (now_us(), Instant::now());
            let reply = match client.ask(&["TIME"]).await {
                Ok(reply) => reply,
                Err(Error::Refused { reply, .. }) => return Ok(Err(reply)),
                Err(error) => return Err(error),
            };
            let Some(server_us) = reply.time_us() else {
                return Err(client.unexpected(&["TIME"], &reply));
            };
            let clock = Self::reading(before_us, began.elapsed(), server_us);
            if best.is_none_or(|best| clock.uncertainty_us < best.uncertainty_us) {
                best = Some(clock);
            }
        }
        Ok(best.ok_or_else(String::new))
    }

    /// From one answer: asked at `before_us` by our clock, it took `round_trip`. The server read its clock in the
    /// middle of that, give or take half of it.
    fn reading(before_us: i64, round_trip: Duration, server_us: i64) -> Self {
        let half_us = i64::try_from(round_trip.as_micros() / 2).unwrap_or(i64::MAX);
        let ours_us = before_us.saturating_add(half_us);
        Self { ahead_us: server_us.saturating_sub(ours_us), uncertainty_us: half_us }
    }

    /// This clock against another.
    pub fn against(self, other: Self) -> Self {
        Self {
            ahead_us: self.ahead_us.saturating_sub(other.ahead_us),
            uncertainty_us: self.uncertainty_us.saturating_add(other.uncertainty_us),
        }
    }

    /// Whether it is certain that they are too far apart.
    pub fn is_off(self) -> bool {
        let apart_us = i64::try_from(APART.as_micros()).unwrap_or(i64::MAX);
        self.ahead_us.saturating_abs().saturating_sub(self.uncertainty_us) > apart_us
    }
}

fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1000;

    #[test]
    fn half_of_the_round_trip_is_taken_off() {
        let asked = 1_700_000_000_000_000;
        let reading = |took_ms: u64, server_ms: i64| {
            Clock::reading(asked, Duration::from_millis(took_ms), asked + server_ms * MS)
        };
        assert_eq!(reading(20, 10), clock(0, 10));
        assert_eq!(reading(20, 110), clock(100, 10));
        assert_eq!(reading(0, -250), clock(-250, 0));
    }

    fn clock(ahead_ms: i64, uncertainty_ms: i64) -> Clock {
        Clock { ahead_us: ahead_ms * MS, uncertainty_us: uncertainty_ms * MS }
    }
}
