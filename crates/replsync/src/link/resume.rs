//! Whether a master can continue where a link is, told before it is asked: one that cannot says nothing to PSYNC until
//! it has forked for a full resync.
//!
//! Source: `masterTryPartialResynchronization` in `src/replication.c`, and the fields that `genRedisInfoString` in
//! `src/server.c` shows of what it looks at.

use std::fmt;
use std::time::Duration;

use crate::endpoint::Info;
use crate::psync::{Position, ReplId};

/// What is left between our place and the end of a full backlog must be at least this share of it, or so many bytes:
/// between the question and PSYNC the backlog moves on.
const MARGIN_SHARE: u64 = 16;
const MARGIN_BYTES_MAX: u64 = 16 << 20;

/// Whether the master may be asked for a full resync, for which it forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullResync {
    /// It may: an event says when one comes.
    Allowed,
    /// Never. The master says in INFO that it can continue before PSYNC is sent; what cannot be continued ends the link
    /// with [`Error::NotContinued`](super::Error::NotContinued).
    Never {
        /// A PSYNC that is not answered for so long is given up and its connection closed. Less than the master's
        /// `repl-diskless-sync-delay`, after which it would fork.
        answer_within: Duration,
    },
}

impl FullResync {
    /// The limit on PSYNC's answer, where there is one.
    pub(super) fn answer_within(self) -> Option<Duration> {
        match self {
            FullResync::Allowed => None,
            FullResync::Never { answer_within } => Some(answer_within),
        }
    }
}

/// Why a master cannot continue where the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotContinued {
    /// The link was told to begin nowhere.
    NoPosition,
    /// It keeps no history.
    NoBacklog,
    /// It tells of another history than the one that the link follows.
    AnotherHistory(ReplId),
    /// It was made the master, and had less of the old one's history than we.
    PromotedBefore {
        /// Whose history it tells of now.
        replid: ReplId,
        /// Up to where it had the old one.
        offset: u64,
    },
    /// It has less of this history than we.
    Behind {
        /// How far it is.
        offset: u64,
    },
    /// What follows our place is no longer kept, or might not be by the time that it is asked for.
    MovedOn {
        /// The first byte that is kept.
        first_offset: u64,
        /// How many are.
        kept_bytes: u64,
    },
    /// It offered a full resync from there.
    Offered(Position),
    /// So many PSYNCs were left unanswered, as by a master that waits before it forks.
    Unanswered(u32),
}

/// What INFO says on whether a PSYNC from `at` would be continued.
///
/// # Errors
/// Why not.
pub fn can_continue(info: &Info, at: Position) -> Result<(), NotContinued> {
    let replid = info.position.replid;
    if replid != at.replid {
        // After a failover the new master knows under which id, and up to where, it followed the old one.
        let second = info.field("master_replid2").and_then(|text| text.parse::<ReplId>().ok());
        let until = info.number("second_repl_offset").unwrap_or(0);
        match second {
            Some(second) if second == at.replid && at.offset.saturating_add(1) <= until => {}
            Some(second) if second == at.replid => {
                return Err(NotContinued::PromotedBefore { replid, offset: until.saturating_sub(1) });
            }
            _ => return Err(NotContinued::AnotherHistory(replid)),
        }
    }
    let number = |name| info.number(name).unwrap_or(0);
    if number("repl_backlog_active") == 0 {
        return Err(NotContinued::NoBacklog);
    }
    let (first_offset, kept_bytes) =
        (number("repl_backlog_first_byte_offset"), number("repl_backlog_histlen"));
    let next = at.offset.saturating_add(1);
    let end = first_offset.saturating_add(kept_bytes);
    if next > end {
        return Err(NotContinued::Behind { offset: end.saturating_sub(1) });
    }
    // One that is not full yet drops nothing.
    let is_full = kept_bytes >= number("repl_backlog_size").max(1);
    let margin = if is_full { (kept_bytes / MARGIN_SHARE).min(MARGIN_BYTES_MAX) } else { 0 };
    if next < first_offset.saturating_add(margin) {
        return Err(NotContinued::MovedOn { first_offset, kept_bytes });
    }
    Ok(())
}

impl fmt::Display for NotContinued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ANEW: &str = "what was read so far is of no more use: begin anew";
        match self {
            NotContinued::NoPosition => write!(f, "it was not said from where to go on"),
            NotContinued::NoBacklog => write!(
                f,
                "it keeps no replication backlog (no replica for repl-backlog-ttl, or restarted); {ANEW}"
            ),
            NotContinued::AnotherHistory(replid) => write!(
                f,
                "its history is now {replid}: it was restarted, told to follow another master, or is another server \
                 behind the same address; {ANEW}"
            ),
            NotContinued::PromotedBefore { replid, offset } => write!(
                f,
                "a failover made it the master (now {replid}), and it had the old one's stream up to {offset} only: what \
                 was written behind that is lost there; {ANEW}"
            ),
            NotContinued::Behind { offset } => {
                write!(f, "it has that stream up to {offset} only, as after a failover or a restart; {ANEW}")
            }
            NotContinued::MovedOn { first_offset, kept_bytes } => write!(
                f,
                "its replication backlog begins at {first_offset} and holds {kept_bytes} bytes, too few for the time that \
                 the link was down: enlarge repl-backlog-size (CONFIG SET; 7.0 and newer keep what is in it), and begin \
                 anew"
            ),
            NotContinued::Offered(position) => write!(
                f,
                "it offered a full resync from {position}, and the connection was closed: the history moved on meanwhile. \
                 Enlarge repl-backlog-size, and begin anew"
            ),
            NotContinued::Unanswered(count) => write!(
                f,
                "it left PSYNC unanswered {count} times, as a master does that will not continue and is about to fork: \
                 is this one server, or a proxy in front of several?"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: char = 'a';
    const OLD: char = 'b';

    fn replid(letter: char) -> ReplId {
        letter.to_string().repeat(40).parse().unwrap()
    }

    fn at(letter: char, offset: u64) -> Position {
        Position { replid: replid(letter), offset }
    }

    /// A master that has `first..first + len` of its stream, and was promoted at `second`.
    fn info(active: bool, first: u64, len: u64, size: u64, second: i64) -> Info {
        let offset = first + len - 1;
        let text = format!(
            "redis_version:7.4.1\nrun_id:x\nrole:master\nmaster_replid:{}\nmaster_repl_offset:{offset}\n\
             master_replid2:{}\nsecond_repl_offset:{second}\nrepl_backlog_active:{}\nrepl_backlog_size:{size}\n\
             repl_backlog_first_byte_offset:{first}\nrepl_backlog_histlen:{len}\n",
            replid(OWN),
            replid(OLD),
            u8::from(active),
        );
        Info::parse(&text).unwrap()
    }

    #[test]
    fn the_servers_own_rule_is_kept_to_the_byte() {
        // 100 to 149 are kept, 1000 would fit.
        let info = info(true, 100, 50, 1000, 120);
        assert_eq!(can_continue(&info, at(OWN, 99)), Ok(()), "the first byte that is kept comes next");
        let moved_on = NotContinued::MovedOn { first_offset: 100, kept_bytes: 50 };
        assert_eq!(can_continue(&info, at(OWN, 98)), Err(moved_on));
        assert_eq!(can_continue(&info, at(OWN, 149)), Ok(()), "we have all");
        assert_eq!(can_continue(&info, at(OWN, 150)), Err(NotContinued::Behind { offset: 149 }));
        // The old history, up to byte 119.
        assert_eq!(can_continue(&info, at(OLD, 119)), Ok(()));
        let promoted = NotContinued::PromotedBefore { replid: replid(OWN), offset: 119 };
        assert_eq!(can_continue(&info, at(OLD, 120)), Err(promoted));
        assert_eq!(can_continue(&info, at('c', 120)), Err(NotContinued::AnotherHistory(replid(OWN))));
    }

    #[test]
    fn nothing_is_continued_without_a_backlog() {
        assert_eq!(can_continue(&info(false, 100, 50, 1000, -1), at(OWN, 149)), Err(NotContinued::NoBacklog));
        assert_eq!(
            can_continue(&info(true, 100, 50, 1000, -1), at(OLD, 120)),
            Err(NotContinued::PromotedBefore { replid: replid(OWN), offset: 0 })
        );
    }

    #[test]
    fn the_end_of_a_full_backlog_is_kept_away_from() {
        let info = info(true, 1000, 1600, 1600, -1);
        assert!(
            can_continue(&info, at(OWN, 999 + 99)).is_err()
                && can_continue(&info, at(OWN, 999 + 100)).is_ok()
        );
    }

    proptest! {
        #[test]
        fn what_passes_would_be_continued(
            first in 1u64..5_000, len in 1u64..5_000, size in 1u64..5_000,
            second in -1i64..10_000, offset in 0u64..12_000, old in any::<bool>(),
        ) {
            let next = offset + 1;
            let passes = can_continue(&info(true, first, len, size, second), at(if old { OLD } else { OWN }, offset)).is_ok();
            let known = !old || i64::try_from(next).unwrap() <= second;
            let would = known && (first..=first + len).contains(&next);
            prop_assert!(would || !passes);
            // The margin aside, nothing is refused that would go.
            prop_assert!(passes || !would || next < first + len / 16);
        }
    }

    #[test]
    fn every_reason_says_what_to_do() {
        for reason in [
            NotContinued::NoBacklog,
            NotContinued::AnotherHistory(replid(OWN)),
            NotContinued::Behind { offset: 1 },
            NotContinued::PromotedBefore { replid: replid(OWN), offset: 1 },
            NotContinued::MovedOn { first_offset: 1, kept_bytes: 1 },
            NotContinued::Offered(at(OWN, 1)),
        ] {
            assert!(reason.to_string().to_lowercase().contains("begin anew"), "{reason}");
        }
    }
}
