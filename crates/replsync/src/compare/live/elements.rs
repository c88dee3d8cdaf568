//! The elements of a value, sorted by name, so that two values are compared side by side.
//!
//! All elements lie in one buffer, since servers write the members of a large set or hash in an order of their own:
//! such values are compared often, and never byte by byte.

use std::cmp::Ordering;

use super::Side;
use crate::compare::elements::{One, Part, take_apart};
use crate::rdb::dump::Dump;
use crate::rdb::{self, Element, Limits};

/// Where an element lies: its name, by which the other side has it too, and behind that its content.
#[derive(Clone, Copy, Debug)]
struct Span {
    part: Part,
    start: usize,
    name_len: usize,
    content_len: usize,
}

/// A value that is neither a string nor a module's.
#[derive(Debug)]
pub(super) struct Elements {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// The first element that differs between two values: what, and how.
pub(super) fn first_unlike(a: &Elements, b: &Elements) -> Option<String> {
    let (mut at_a, mut at_b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let order = match (at_a.peek(), at_b.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => (a.part, a.name).cmp(&(b.part, b.name)),
        };
        let missing = match order {
            Ordering::Less => at_a.next().map(|one| (one, Side::Target)),
            Ordering::Greater => at_b.next().map(|one| (one, Side::Source)),
            Ordering::Equal => None,
        };
        if let Some((one, side)) = missing {
            return Some(format!("{} is missing in the {side}", one.subject()));
        }
        if let (Some(a), Some(b)) = (at_a.next(), at_b.next())
            && a.content != b.content
        {
            return Some(format!("{}: {}", a.subject(), a.contents(&b)));
        }
    }
}

impl Elements {
    /// Decodes a value; `meant` takes shifts off the expiries of hash fields, and those that have expired by `now_ms` are
    /// left out.
    pub fn read(dump: &Dump<'_>, meant: impl Fn(u64) -> u64, now_ms: u64) -> Result<Self, rdb::Error> {
        let mut elements = Self { bytes: Vec::with_capacity(dump.raw.len()), spans: Vec::new() };
        rdb::decode(dump.kind, dump.raw, &Limits::default(), &mut |element| {
            match element {
                Element::HashField { expiry_ms: Some(at_ms), .. } if meant(at_ms) <= now_ms => {}
                element => elements.add(element, &meant),
            }
            Ok::<_, rdb::Error>(())
        })?;
        let Self { bytes, spans } = &mut elements;
        spans.sort_unstable_by(|a, b| (a.part, a.name(bytes)).cmp(&(b.part, b.name(bytes))));
        Ok(elements)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = One<'_>> {
        self.spans.iter().map(|span| One {
            part: span.part,
            name: span.name(&self.bytes),
            content: span.content(&self.bytes),
        })
    }

    fn add(&mut self, element: Element<'_>, meant: impl Fn(u64) -> u64) {
        let index = self.spans.len() as u64;
        take_apart(index, element, meant, |part, name, content| {
            let start = self.bytes.len();
            name.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
            let middle = self.bytes.len();
            content.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
            let (name_len, content_len) = (middle - start, self.bytes.len() - middle);
            self.spans.push(Span { part, start, name_len, content_len });
        });
    }
}

impl Span {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.start + self.name_len]
    }

    fn content<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let middle = self.start + self.name_len;
        &bytes[middle..middle + self.content_len]
    }
}
