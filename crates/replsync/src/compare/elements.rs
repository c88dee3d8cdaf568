//! A value's elements in a form in which equal values are equal bytes, whatever their encoding and order.
//!
//! All elements lie in one buffer, since servers write the members of a large set or hash in an order of their own:
//! such values are compared often, and never byte by byte.

use std::cmp::Ordering;

use super::Side;
use super::text::{both, quoted};
use crate::rdb::dump::Dump;
use crate::rdb::{self, ArrayValue, Element, Limits, StreamId};

/// An element's nature, in the order in which differences are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// An item of a list, by its index.
    Item,
    /// A member of a set.
    Member,
    /// A member of a sorted set; its score.
    Scored,
    /// A field of a hash; its expiry and value.
    Field,
    /// An entry of a stream, by its id; its fields and values.
    Entry,
    /// A stream's last id.
    LastId,
    /// A consumer group; the last id that was delivered.
    Group,
    /// A pending entry, by its group and id; whose it is.
    Pending,
    /// Where the next insertion into an array goes.
    InsertIndex,
    /// An element of an array, by its index; its type and value.
    ArrayItem,
}

/// Stands for the expiry of a field that never expires.
const NO_EXPIRY: u64 = u64::MAX;
/// Before the consumer of a pending entry, so that one without a name is not nobody.
const OWNED: u8 = b'c';

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
        match element {
            Element::ListItem(item) => {
                let index = self.spans.len() as u64;
                self.push(Part::Item, &[&index.to_be_bytes()], &[item]);
            }
            Element::SetMember(member) => self.push(Part::Member, &[member], &[]),
            Element::ZsetMember { member, score } => self.push(Part::Scored, &[member], &[&float(score)]),
            Element::HashField { field, value, expiry_ms } => {
                let expiry = expiry_ms.map_or(NO_EXPIRY, meant);
                self.push(Part::Field, &[field], &[&expiry.to_be_bytes(), value]);
            }
            Element::StreamEntry { id: entry, fields } => {
                self.push_with(Part::Entry, &[&id(entry)], |bytes| {
                    for text in fields.iter().flat_map(|(field, value)| [field, value]) {
                        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
                        bytes.extend_from_slice(text);
                    }
                });
            }
            Element::StreamMeta { last_id, .. } => self.push(Part::LastId, &[], &[&id(last_id)]),
            Element::StreamGroup { name, last_id, .. } => self.push(Part::Group, &[name], &[&id(last_id)]),
            Element::StreamPending { group, consumer, id: entry, .. } => {
                self.push(Part::Pending, &[group, &id(entry)], &[&[OWNED], consumer]);
            }
            Element::StreamNacked { group, id: entry, .. } => {
                self.push(Part::Pending, &[group, &id(entry)], &[]);
            }
            Element::ArrayMeta { insert_index, .. } => {
                let index = insert_index.map(u64::to_be_bytes);
                self.push(Part::InsertIndex, &[], &[index.as_ref().map_or(&[], |index| &index[..])]);
            }
            Element::ArrayItem { index, value } => {
                self.push_with(Part::ArrayItem, &[&index.to_be_bytes()], |bytes| match value {
                    ArrayValue::Bytes(text) => bytes.extend([b"text ", text].concat()),
                    ArrayValue::Int(number) => bytes.extend(format!("integer {number}").into_bytes()),
                    ArrayValue::Float(number) => bytes.extend(format!("float {}", number + 0.0).into_bytes()),
                })
            }
            // What is left out on purpose, as the room's documentation says; strings and module values do not come
            // here.
            Element::StreamConsumer { .. }
            | Element::StreamIdmp(_)
            | Element::StringPart(_)
            | Element::ModuleValue { .. } => {}
        }
    }

    fn push(&mut self, part: Part, name: &[&[u8]], content: &[&[u8]]) {
        self.push_with(part, name, |bytes| content.iter().for_each(|piece| bytes.extend_from_slice(piece)));
    }

    fn push_with(&mut self, part: Part, name: &[&[u8]], content: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        name.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        let middle = self.bytes.len();
        content(&mut self.bytes);
        let (name_len, content_len) = (middle - start, self.bytes.len() - middle);
        self.spans.push(Span { part, start, name_len, content_len });
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

/// Two numbers, so that they sort as bytes.
fn id(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

/// Zero has one sign here: servers do not tell its two apart.
fn float(number: f64) -> [u8; 8] {
    (number + 0.0).to_be_bytes()
}

/// An element.
#[derive(Clone, Copy)]
struct One<'a> {
    part: Part,
    name: &'a [u8],
    content: &'a [u8],
}

impl One<'_> {
    /// What it is, for people.
    fn subject(&self) -> String {
        let name = self.name;
        match self.part {
            Part::Item => format!("item {}", number(name)),
            Part::Member | Part::Scored => format!("member {}", quoted(name)),
            Part::Field => format!("field {}", quoted(name)),
            Part::Entry => format!("entry {}", id_text(name)),
            Part::LastId => "last id".to_owned(),
            Part::Group => format!("group {}", quoted(name)),
            Part::Pending => {
                let (group, id) = name.split_at(name.len().saturating_sub(size_of::<[u64; 2]>()));
                format!("pending entry {} of group {}", id_text(id), quoted(group))
            }
            Part::InsertIndex => "where the next insertion goes".to_owned(),
            Part::ArrayItem => format!("element {}", number(name)),
        }
    }

    /// How its content differs from that of the same element on the other side.
    fn contents(&self, other: &One<'_>) -> String {
        let (a, b) = (self.content, other.content);
        match self.part {
            Part::Item | Part::Member | Part::ArrayItem => both(a, b),
            Part::Scored => format!("{} and {}", float_text(a), float_text(b)),
            Part::Field => match (split_expiry(a), split_expiry(b)) {
                ((_, a), (_, b)) if a != b => both(a, b),
                ((a, _), (b, _)) => format!("expires {} and {}", expiry_text(a), expiry_text(b)),
            },
            Part::Entry => {
                let unlike = texts(a).zip(texts(b)).find(|(a, b)| a != b);
                let count = |content| texts(content).count() / 2;
                unlike.map_or_else(|| format!("{} and {} fields", count(a), count(b)), |(a, b)| both(a, b))
            }
            Part::LastId | Part::Group => format!("{} and {}", id_text(a), id_text(b)),
            Part::Pending => format!("{} and {}", owner_text(a), owner_text(b)),
            Part::InsertIndex => format!("{} and {}", number_or_none(a), number_or_none(b)),
        }
    }
}

/// The first eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn number_or_none(bytes: &[u8]) -> String {
    if bytes.is_empty() { "none".to_owned() } else { number(bytes).to_string() }
}

fn float_text(bytes: &[u8]) -> String {
    f64::from_bits(number(bytes)).to_string()
}

fn id_text(bytes: &[u8]) -> StreamId {
    StreamId { ms: number(bytes), seq: number(bytes.get(8..).unwrap_or_default()) }
}

fn owner_text(content: &[u8]) -> String {
    content.split_first().map_or_else(|| "nobody's".to_owned(), |(_, consumer)| quoted(consumer))
}

fn split_expiry(content: &[u8]) -> (u64, &[u8]) {
    (number(content), content.get(8..).unwrap_or_default())
}

fn expiry_text(expiry_ms: u64) -> String {
    if expiry_ms == NO_EXPIRY { "never".to_owned() } else { format!("at {expiry_ms}") }
}

/// The fields and values of a stream entry.
fn texts(mut content: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = content.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*len)).ok()?)?;
        content = rest;
        Some(text)
    })
}
