//! The reader at the depth of structure.

use super::{Reader, State};
use crate::rdb::check::{Again, Checked, Checker, Finding};
use crate::rdb::{DataType, Error, Input, decode};

/// Values up to here are kept while they are checked, so that they can be read again.
const CHECKED_AGAIN_BYTES: usize = 1 << 20;

impl<I: Input> Reader<I> {
    /// Checks the structure of the current value. What is wrong inside a string is a finding, and the reading goes on
    /// behind it; an error is what loses the value's end.
    ///
    /// Whether names in the value are distinct may need [another reading](Checked::again). Of values of up to
    /// 1 MiB that is done here.
    ///
    /// # Errors
    /// As [`Reader::raw_value`].
    pub fn check_value(
        &mut self,
        checker: &mut Checker,
        found: &mut impl FnMut(Finding),
    ) -> Result<Checked, Error> {
        self.check(checker, None, found)
    }

    /// Goes on with the check of the value at hand, which is the one that [`Reader::check_value`] wants to have read
    /// again: by a reader that was [resumed](Reader::resume) at its [place](Reader::entry_place).
    ///
    /// # Errors
    /// As [`Reader::raw_value`].
    pub fn check_again(
        &mut self,
        checker: &mut Checker,
        again: &Again,
        found: &mut impl FnMut(Finding),
    ) -> Result<Checked, Error> {
        self.check(checker, Some(again), found)
    }

    fn check(
        &mut self,
        checker: &mut Checker,
        again: Option<&Again>,
        found: &mut impl FnMut(Finding),
    ) -> Result<Checked, Error> {
        let kind = self.unread()?;
        self.state = State::Failed;
        let has_names = matches!(kind.data_type(), DataType::Set | DataType::Zset | DataType::Hash);
        if has_names {
            self.input.mark_within(CHECKED_AGAIN_BYTES);
        }
        let mut checked = Checked::default();
        let mut again = again;
        let mut next;
        loop {
            let mut checking = checker.start(again, found);
            decode::visit(kind, &mut self.input, &self.limits, &mut self.scratch, &mut checking)?;
            let pass = checking.finish();
            checked.elements = pass.elements;
            checked.findings += pass.findings;
            next = pass.again;
            if next.is_none() || !self.input.rewind() {
                break;
            }
            again = next.as_ref();
            self.input.mark_within(CHECKED_AGAIN_BYTES);
        }
        checked.again = next;
        self.input.release();
        self.state = State::Items;
        Ok(checked)
    }
}
