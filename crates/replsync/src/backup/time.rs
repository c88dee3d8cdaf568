//! Times as people write them: UTC, ISO 8601.

const DAY_MS: u64 = 86_400_000;

/// `2026-11-24T16:05:41.123Z`.
pub(super) fn iso(at_ms: u64) -> String {
    let ((year, month, day), of_day) = (date(at_ms / DAY_MS), at_ms % DAY_MS);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1000)
}

/// `20261124T160541Z`: for names of files.
pub(super) fn compact(at_ms: u64) -> String {
    let text = iso(at_ms);
    let seconds = text.split_once('.').map_or(&*text, |(seconds, _)| seconds);
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Counted in years that begin in March, so that the leap day is a year's last, and in eras of 400 years, which all have
/// as many days.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // 0000-03-01 is so many days before 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u -d @SECONDS` prints them.
    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_795_536_341, "2026-11-24T16:05:41.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(seconds * 1000), text);
        }
        assert_eq!(compact(1_795_536_341_999), "20261124T160541Z");
    }
}
