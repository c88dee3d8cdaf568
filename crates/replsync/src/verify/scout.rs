//! The scout: finds places in a file at which other threads can start.
//!
//! Only the reader that comes from the start knows for sure where items begin. The scout goes ahead of it: over big values
//! item by item, which is cheap, since nothing in them is looked at; among small ones, where that would cost as
//! much as checking them, it jumps, and takes for an item what many items follow. It may be wrong. Whoever uses its places
//! must see that the stretch before ends there; if not, the stretch behind is checked again.

use crate::files::{RdbFile, Stream};
use crate::rdb::{Buffered, Input, Limits, Place, Reader, Slice};
use std::io::Read;

/// How long the stretches are that threads check.
pub const SEGMENT_BYTES: u64 = 1024 * 1024;
/// It jumps when so many items were shorter than a stretch together.
const SMALL_ITEMS: usize = 24;
/// So many items must follow where it guesses that one begins.
const ITEMS_BEHIND: usize = 16;
/// It looks for them in so many bytes, from places in the first half.
const WINDOW_BYTES: usize = 128 * 1024;

pub struct Scout {
    file: RdbFile,
    limits: Limits,
    reader: Reader<Buffered<Stream>>,
    at: Place,
    /// Up to here it does not jump.
    jumps_from: u64,
}

/// What it found.
pub enum Cut {
    /// A place for a stretch to begin, probably.
    At(Place),
    /// The end, or what it cannot make sense of: whoever checks goes on as far as possible.
    None,
}

impl Scout {
    /// One that starts at `at`, and goes item by item up to `jumps_from`.
    pub fn new(file: &RdbFile, limits: Limits, at: Place, jumps_from: u64) -> Self {
        let reader = file.reader_at(limits, at);
        Self { file: file.clone(), limits, reader, at, jumps_from }
    }

    /// The next place, a stretch or more ahead.
    pub fn next_cut(&mut self) -> Cut {
        let target = self.at.offset.saturating_add(SEGMENT_BYTES);
        let mut items = 0;
        loop {
            let Some(place) = place_behind(&mut self.reader) else { return Cut::None };
            items += 1;
            if place.offset >= target {
                return self.cut(place);
            }
            if items == SMALL_ITEMS
                && self.at.offset >= self.jumps_from
                && let Some(place) = self.guess(target)
            {
                self.reader = self.file.reader_at(self.limits, place);
                return self.cut(place);
            }
        }
    }

    fn cut(&mut self, place: Place) -> Cut {
        self.at = place;
        Cut::At(place)
    }

    /// A place shortly behind `offset` from which many items can be read.
    fn guess(&self, offset: u64) -> Option<Place> {
        let mut window = Vec::with_capacity(WINDOW_BYTES);
        self.file.stream(offset).take(WINDOW_BYTES as u64).read_to_end(&mut window).ok()?;
        let mut starts = (0..window.len() / 2).filter(|start| may_begin_an_item(window[*start]));
        starts.find_map(|start| {
            let from = Place { offset: 0, ..self.at };
            let mut reader = Reader::resume(Slice::new(window.get(start..)?), self.limits, from);
            // What is said of a key stands before its type: an item begins where another one ends.
            let first = place_behind(&mut reader)?;
            (1..ITEMS_BEHIND).try_for_each(|_| place_behind(&mut reader).map(|_| ()))?;
            Some(Place { offset: offset + start as u64 + first.offset, ..first })
        })
    }
}

/// The place behind the next key and its value.
fn place_behind<I: Input>(reader: &mut Reader<I>) -> Option<Place> {
    reader.next_item().ok()??;
    if reader.place().is_none() {
        reader.skip_value().ok()?;
    }
    reader.place()
}

/// Types count up from 0; what is said of a key comes before it.
fn may_begin_an_item(byte: u8) -> bool {
    !(32..248).contains(&byte)
}
