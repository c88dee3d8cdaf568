//! `replsync-1`: the digest of a keyspace, as docs/formats/digest.md specifies it.
//!
//! Every element of a value is hashed by itself, the hashes are added up (modulo 2^128), and of the sum, the key and its
//! type comes the digest of the key. Digests of keys are added up again. Addition forgets the order, can be undone, and
//! does not let equal pairs cancel out as XOR would. XXH3 guards against accidents, not against an adversary.

use std::ops::{AddAssign, SubAssign};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::rdb::{ArrayValue, DataType, Element, STRING_PART_BYTES, StreamId};

/// A sum of 128-bit hashes, modulo 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sum(pub u128);

impl AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl SubAssign for Sum {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

/// What one key adds to the digest of its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyDigest {
    /// Its name, its type and its elements.
    pub data: Sum,
    /// When it expires, and when its fields do.
    pub expiries: Sum,
}

/// The digest of one key in the making: [`start`](Self::start), its elements in the order of the file,
/// [`finish`](Self::finish). Nothing is allocated for a key, except for a string that comes in parts.
#[derive(Default)]
pub struct KeyHasher {
    name: u128,
    elements: u64,
    data: Sum,
    expiries: Sum,
    parts: Option<Box<Xxh3>>,
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHasher").field("elements", &self.elements).finish_non_exhaustive()
    }
}

impl KeyHasher {
    /// A hasher for keys, one after the other.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with the key `name`, which expires at `expiry_ms` (milliseconds since the epoch).
    pub fn start(&mut self, name: &[u8], expiry_ms: Option<i64>) {
        *self = Self { name: xxh3_128(name), ..Self::default() };
        if let Some(at) = expiry_ms {
            self.expiries += hash(tag::KEY_EXPIRY, &[self.name], &[at.cast_unsigned()]);
        }
    }

    /// The next element of its value.
    #[inline]
    pub fn element(&mut self, element: &Element<'_>) {
        let added = match *element {
            Element::StringPart(part) => return self.string_part(part),
            Element::SetMember(member) => hash(tag::MEMBER, &[xxh3_128(member)], &[]),
            Element::ListItem(item) => hash(tag::ITEM, &[xxh3_128(item)], &[self.elements]),
            Element::ZsetMember { member, score } => hash(tag::SCORED, &[xxh3_128(member)], &[bits(score)]),
            Element::HashField { field, value, expiry_ms } => {
                let field = xxh3_128(field);
                if let Some(at) = expiry_ms {
                    self.expiries += hash(tag::FIELD_EXPIRY, &[self.name, field], &[at]);
                }
                hash(tag::FIELD, &[field, xxh3_128(value)], &[])
            }
            Element::StreamEntry { id, fields } => {
                let mut all = Sum::default();
                for (index, (field, value)) in (0..).zip(fields) {
                    all += hash(tag::ENTRY_FIELD, &[xxh3_128(field), xxh3_128(value)], &[index]);
                }
                hash(tag::ENTRY, &[all.0], &[id.ms, id.seq])
            }
            Element::StreamMeta { last_id: StreamId { ms, seq }, .. } => hash(tag::LAST_ID, &[], &[ms, seq]),
            Element::StreamGroup { name, last_id: StreamId { ms, seq }, .. } => {
                hash(tag::GROUP, &[xxh3_128(name)], &[ms, seq])
            }
            Element::StreamPending { group, consumer, id, .. } => {
                hash(tag::PENDING, &[xxh3_128(group), xxh3_128(consumer)], &[id.ms, id.seq])
            }
            Element::StreamNacked { group, id, .. } => {
                hash(tag::NACKED, &[xxh3_128(group)], &[id.ms, id.seq])
            }
            // Servers of several versions do not have them all alike, or change them without their stream.
            Element::StreamConsumer { .. } | Element::StreamIdmp(_) => return,
            Element::ArrayMeta { insert_index, .. } => {
                // one more than the index, which is at most 2^63 - 1: 0 is left for none
                hash(tag::INSERT_INDEX, &[], &[insert_index.map_or(0, |index| index.wrapping_add(1))])
            }
            Element::ArrayItem { index, value } => match value {
                ArrayValue::Bytes(bytes) => hash(tag::SLOT_TEXT, &[xxh3_128(bytes)], &[index]),
                ArrayValue::Int(number) => {
                    hash(tag::SLOT_TEXT, &[xxh3_128(itoa::Buffer::new().format(number).as_bytes())], &[index])
                }
                ArrayValue::Float(number) => hash(tag::SLOT_FLOAT, &[], &[index, bits(number)]),
            },
            Element::ModuleValue { id } => hash(tag::MODULE, &[], &[id.0]),
        };
        self.data += added;
        self.elements += 1;
    }

    /// The digest of the key, whose value is of this type.
    pub fn finish(&mut self, data_type: DataType) -> KeyDigest {
        if let Some(parts) = self.parts.take() {
            self.data = hash(tag::STRING, &[parts.digest128()], &[]);
        }
        let data = hash(code(data_type), &[self.name, self.data.0], &[self.elements]);
        KeyDigest { data, expiries: self.expiries }
    }

    /// Strings are hashed in one go, which is faster, unless they are longer than one part.
    fn string_part(&mut self, part: &[u8]) {
        if let Some(parts) = &mut self.parts {
            parts.update(part);
        } else if part.len() < STRING_PART_BYTES {
            self.data = hash(tag::STRING, &[xxh3_128(part)], &[]);
        } else {
            let mut parts = Box::new(Xxh3::new());
            parts.update(part);
            self.parts = Some(parts);
        }
        self.elements = 1;
    }
}

/// The digest of a library of functions, by its code: what a keyspace has of them is added up apart.
pub fn function(code: &[u8]) -> Sum {
    hash(tag::FUNCTION, &[xxh3_128(code)], &[])
}

/// What hashes are hashes of.
mod tag {
    pub const STRING: u8 = 1;
    pub const ITEM: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const SCORED: u8 = 4;
    pub const FIELD: u8 = 5;
    pub const ENTRY_FIELD: u8 = 6;
    pub const ENTRY: u8 = 7;
    pub const LAST_ID: u8 = 8;
    pub const GROUP: u8 = 9;
    pub const PENDING: u8 = 10;
    pub const NACKED: u8 = 11;
    pub const INSERT_INDEX: u8 = 12;
    pub const SLOT_TEXT: u8 = 13;
    pub const SLOT_FLOAT: u8 = 14;
    pub const MODULE: u8 = 15;
    pub const KEY_EXPIRY: u8 = 32;
    pub const FIELD_EXPIRY: u8 = 33;
    pub const FUNCTION: u8 = 34;
}

/// The tag of a key's digest.
fn code(data_type: DataType) -> u8 {
    64 + match data_type {
        DataType::String => 0,
        DataType::List => 1,
        DataType::Set => 2,
        DataType::Zset => 3,
        DataType::Hash => 4,
        DataType::Stream => 5,
        DataType::Module => 6,
        DataType::Array => 7,
    }
}

/// Zero has one sign: the two compare equal, and servers do not keep them apart in every encoding.
fn bits(score: f64) -> u64 {
    if score == 0.0 { 0 } else { score.to_bits() }
}

/// The hash of a tag, hashes and numbers, all little-endian, one after the other.
#[inline]
fn hash(tag: u8, hashes: &[u128], numbers: &[u64]) -> Sum {
    let mut bytes = [0; 1 + 2 * 16 + 2 * 8];
    bytes[0] = tag;
    let mut len = 1;
    for hash in hashes {
        bytes[len..len + 16].copy_from_slice(&hash.to_le_bytes());
        len += 16;
    }
    for number in numbers {
        bytes[len..len + 8].copy_from_slice(&number.to_le_bytes());
        len += 8;
    }
    Sum(xxh3_128(&bytes[..len]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(name: &[u8], data_type: DataType, elements: &[Element<'_>]) -> KeyDigest {
        let mut hasher = KeyHasher::new();
        hasher.start(name, None);
        elements.iter().for_each(|element| hasher.element(element));
        hasher.finish(data_type)
    }

    #[test]
    fn sets_have_no_order_and_lists_have() {
        let members = [Element::SetMember(b"a"), Element::SetMember(b"b")];
        let items = [Element::ListItem(b"a"), Element::ListItem(b"b")];
        let back = |of: [Element<'static>; 2]| [of[1], of[0]];
        assert_eq!(digest(b"k", DataType::Set, &members), digest(b"k", DataType::Set, &back(members)));
        assert_ne!(digest(b"k", DataType::List, &items), digest(b"k", DataType::List, &back(items)));
        assert_ne!(digest(b"k", DataType::Set, &members), digest(b"l", DataType::Set, &members));
        assert_ne!(digest(b"k", DataType::Set, &members), digest(b"k", DataType::Set, &members[..1]));
    }

    proptest! {
        #[test]
        fn a_string_in_parts_is_that_string(len in 0usize..3 * STRING_PART_BYTES, byte: u8) {
            let text = vec![byte; len];
            let mut hasher = KeyHasher::new();
            hasher.start(b"k", None);
            let (first, rest) = text.split_at(len.min(STRING_PART_BYTES));
            hasher.element(&Element::StringPart(first));
            rest.chunks(STRING_PART_BYTES).for_each(|part| hasher.element(&Element::StringPart(part)));
            let whole = hash(tag::STRING, &[xxh3_128(&text)], &[]);
            let expected = hash(code(DataType::String), &[xxh3_128(b"k"), whole.0], &[1]);
            prop_assert_eq!(hasher.finish(DataType::String).data, expected);
        }
    }
}
