//! Clocks: a server's against ours, and two servers' against each other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::Error;
use super::finding::{Finding, Subject};
use crate::endpoint::{self, Client};

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
    pub(super) async fn ask(client: &mut Client) -> Result<Result<Self, String>, Error> {
        let mut best: Option<Self> = None;
        for _ in 0..TRIES {
            let (before_us, began) = (now_us(), Instant::now());
            let reply = match client.ask(&["TIME"]).await {
                Ok(reply) => reply,
                Err(endpoint::Error::Refused { reply, .. }) => return Ok(Err(reply)),
                Err(error) => return Err(error.into()),
            };
            let Some(server_us) = reply.time_us() else {
                return Err(client.unexpected(&["TIME"], &reply).into());
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
    fn against(self, other: Self) -> Self {
        Self {
            ahead_us: self.ahead_us.saturating_sub(other.ahead_us),
            uncertainty_us: self.uncertainty_us.saturating_add(other.uncertainty_us),
        }
    }

    /// Whether it is certain that they are too far apart.
    fn is_off(self) -> bool {
        let apart_us = i64::try_from(APART.as_micros()).unwrap_or(i64::MAX);
        self.ahead_us.saturating_abs().saturating_sub(self.uncertainty_us) > apart_us
    }
}

/// What the clocks of a pair mean for it.
pub(super) fn finding(source: Option<Clock>, target: Option<Clock>) -> Option<Finding> {
    let apart = target?.against(source?);
    let (by_ms, uncertainty_ms) = (apart.ahead_us.saturating_abs() / 1000, 1 + apart.uncertainty_us / 1000);
    let (side, when) = match apart.ahead_us {
        0.. => ("ahead of", "earlier"),
        _ => ("behind", "later"),
    };
    apart.is_off().then(|| {
        let message = format!(
            "the target's clock is {by_ms} ms {side} the source's (± {uncertainty_ms} ms): expiries are absolute \
             times, so keys expire that much {when} on the target; set the clocks right (NTP) first"
        );
        Finding::warning(Subject::Pair, message)
    })
}

fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1000;

    fn clock(ahead_ms: i64, uncertainty_ms: i64) -> Option<Clock> {
        Some(Clock { ahead_us: ahead_ms * MS, uncertainty_us: uncertainty_ms * MS })
    }

    #[test]
    fn half_of_the_round_trip_is_taken_off() {
        let asked = 1_700_000_000_000_000;
        let reading = |took_ms: u64, server_ms: i64| {
            Clock::reading(asked, Duration::from_millis(took_ms), asked + server_ms * MS)
        };
        assert_eq!(Some(reading(20, 10)), clock(0, 10));
        assert_eq!(Some(reading(20, 110)), clock(100, 10));
        assert_eq!(Some(reading(0, -250)), clock(-250, 0));
    }

    #[test]
    fn only_what_is_certain_is_said() {
        let said = |source, target| finding(source, target).map(|finding| finding.message);
        assert_eq!(said(clock(0, 1), clock(50, 1)), None);
        assert_eq!(said(clock(0, 40), clock(100, 10)), None, "it may be 50 ms");
        assert_eq!(said(None, clock(1000, 1)), None);
        // Ours does not matter: both are a day off.
        assert_eq!(said(clock(86_400_000, 1), clock(86_400_020, 1)), None);
        let ahead = said(clock(-30, 1), clock(90, 1)).unwrap();
        assert!(
            ahead.contains("120 ms ahead of the source's (± 3 ms)") && ahead.contains("earlier"),
            "{ahead}"
        );
        let behind = said(clock(5_000, 0), clock(-2_000, 0)).unwrap();
        assert!(behind.contains("7000 ms behind") && behind.contains("later"), "{behind}");
    }

    #[test]
    fn a_wild_clock_does_no_harm() {
        let wild = Some(Clock { ahead_us: i64::MIN, uncertainty_us: 0 });
        assert!(finding(clock(1, 1), wild).is_some() && finding(wild, clock(1, 1)).is_some());
    }
}
