//! Keys counted, against what a file says of its databases and slots.

use super::report::{Finding, FindingKind};

/// Keys, and those with an expiry among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub keys: u64,
    pub expires: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.expires += other.expires;
    }

    /// A finding where `self` was counted and `said` is what the file says of `what`.
    pub fn compared(self, said: Self, kind: FindingKind, what: &str, offset: u64) -> Option<Finding> {
        let Counts { keys, expires } = self;
        (self != said).then(|| {
            let (keys_said, expires_said) = (said.keys, said.expires);
            let message = format!(
                "{what} is said to hold {keys_said} keys, {expires_said} of them with an expiry; it holds {keys} and {expires}"
            );
            Finding::at(kind, offset, message)
        })
    }
}

/// Keys since something was said of a slot. A slot may begin in one stretch of the file and end in another: a stretch
/// keeps what came before the first one that it begins, and the last one, which has not ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    /// Keys up to the first change of slot or database; all, if there is none.
    head: Counts,
    changed: bool,
    /// The databases of the first and of the last key or slot.
    first_db: Option<u32>,
    db: Option<u32>,
    last: Option<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    slot: u64,
    said: Counts,
    offset: u64,
    counted: Counts,
}

impl Runs {
    #[inline]
    pub fn key(&mut self, expires: u64) {
        let counts = match (&mut self.last, self.changed) {
            (Some(slot), _) => &mut slot.counted,
            (None, false) => &mut self.head,
            // keys of a database of which nothing is said by slot
            (None, true) => return,
        };
        counts.keys += 1;
        counts.expires += expires;
    }

    /// What is said of `slot` of a database begins.
    pub fn slot(&mut self, db: u32, slot: u64, said: Counts, offset: u64) -> Option<Finding> {
        let ended = self.end();
        self.first_db = self.first_db.or(Some(db));
        self.db = Some(db);
        self.changed = true;
        self.last = Some(Slot { slot, said, offset, counted: Counts::default() });
        ended
    }

    /// A key of `db` comes. The first one of a stretch may go on with the database of the one before.
    pub fn key_in(&mut self, db: u32) -> Option<Finding> {
        self.first_db = self.first_db.or(Some(db));
        if self.db.replace(db).is_none_or(|before| before == db) {
            return None;
        }
        let ended = self.end();
        self.changed = true;
        ended
    }

    /// Appends what the next stretch has.
    pub fn append(&mut self, next: Self) -> Option<Finding> {
        let mut ended = match (self.db, next.first_db) {
            (Some(own), Some(its)) if own != its => self.end(),
            _ => None,
        };
        if let Some(slot) = &mut self.last {
            slot.counted.add(next.head);
        }
        if next.changed {
            ended = ended.or_else(|| self.end());
            self.last = next.last;
        }
        self.first_db = self.first_db.or(next.first_db);
        self.db = next.db.or(self.db);
        ended
    }

    /// The last slot has ended.
    pub fn end(&mut self) -> Option<Finding> {
        let slot = self.last.take()?;
        let what = format!("slot {}", slot.slot);
        slot.counted.compared(slot.said, FindingKind::SlotSize, &what, slot.offset)
    }
}
