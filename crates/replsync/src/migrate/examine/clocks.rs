//! Clocks: two servers' against each other.

use super::finding::{Finding, Subject};
use crate::endpoint::Clock;

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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1000;

    fn clock(ahead_ms: i64, uncertainty_ms: i64) -> Option<Clock> {
        Some(Clock { ahead_us: ahead_ms * MS, uncertainty_us: uncertainty_ms * MS })
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
