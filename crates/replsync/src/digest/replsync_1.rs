//! `replsync-1`: what one key adds to the digest of a keyspace, as docs/formats/digest.md specifies it.
//!
//! Every element of a value is hashed by itself, the hashes are added up (modulo 2^128), and of the sum, the key and its
//! type comes the digest of the key. Digests of keys are added up again ([`Keyspace`](super::Keyspace)). Addition forgets
//! the order, can be undone, and does not let equal pairs cancel out as XOR would. XXH3 guards against accidents, not
//! against an adversary.

use std::fmt;
use std::ops::{AddAssign, SubAssign};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::rdb::{ArrayValue, DataType, Element, ModulePart, STRING_PART_BYTES, StreamId};

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

/// 32 hex digits, the most significant first.
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What one key adds to the digest of its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyDigest {
    /// Its name, its type and its elements.
    pub data: Sum,
    /// When it expires, and when its fields do.
    pub expiries: Sum,
    /// When the key expires, in milliseconds since the epoch.
    pub expiry_ms: Option<i64>,
    /// How many of its fields expire.
    pub field_expires: u64,
}

impl KeyDigest {
    /// The same key, `name`, expiring at another time.
    pub fn with_expiry(mut self, name: &[u8], expiry_ms: Option<i64>) -> Self {
        if self.expiry_ms != expiry_ms {
            let name = xxh3_128(name);
            self.expiries -= key_expiry(name, self.expiry_ms);
            self.expiries += key_expiry(name, expiry_ms);
            self.expiry_ms = expiry_ms;
        }
        self
    }
}

/// What an element adds to its key, where that does not depend on what comes before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElementDigest {
    /// To the data.
    pub data: Sum,
    /// To the expiries: that of a field.
    pub expiries: Sum,
    /// To the number of fields that expire.
    pub field_expires: u64,
}

fn key_expiry(name: u128, expiry_ms: Option<i64>) -> Sum {
    expiry_ms.map_or(Sum(0), |at_ms| hash(tag::KEY_EXPIRY, &[name], &[at_ms.cast_unsigned()]))
}

/// The digest of one key in the making: [`start`](Self::start), its elements in the order of the file,
/// [`finish`](Self::finish). Nothing is allocated for a key; the first string that comes in parts is.
#[derive(Default)]
pub struct KeyHasher {
    name: u128,
    elements: u64,
    /// The sum of the elements; of a string the hash of the whole.
    sum: Sum,
    /// Expiries and their number.
    key: KeyDigest,
    /// Whether the string at hand comes in parts, which go to `parts`.
    in_parts: bool,
    parts: Option<Box<Xxh3>>,
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        (self.name, self.elements, self.sum, self.in_parts) = (xxh3_128(name), 0, Sum::default(), false);
        let expiries = key_expiry(self.name, expiry_ms);
        self.key = KeyDigest { expiries, expiry_ms, ..KeyDigest::default() };
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
                    self.key.expiries += hash(tag::FIELD_EXPIRY, &[self.name, field], &[at]);
                    self.key.field_expires += 1;
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
            Element::ModulePart(part) => module_part(part, self.elements),
        };
        self.sum += added;
        self.elements += 1;
    }

    /// What an element adds to the key at hand, where that does not depend on what comes before it: a member of a set or
    /// a sorted set, or a field. Nothing of any other.
    pub fn alone(&self, element: &Element<'_>) -> Option<ElementDigest> {
        if !matches!(element, Element::SetMember(_) | Element::ZsetMember { .. } | Element::HashField { .. })
        {
            return None;
        }
        let mut one = Self { name: self.name, ..Self::default() };
        one.element(element);
        let KeyDigest { expiries, field_expires, .. } = one.key;
        Some(ElementDigest { data: one.sum, expiries, field_expires })
    }

    /// Adds an element of the key at hand that was digested [alone](Self::alone).
    pub fn add(&mut self, element: &ElementDigest) {
        self.sum += element.data;
        self.key.expiries += element.expiries;
        self.key.field_expires += element.field_expires;
        self.elements += 1;
    }

    /// The next bytes of a string, however many: for one whose end is not known.
    pub fn string_piece(&mut self, piece: &[u8]) {
        self.begun_parts().update(piece);
        self.elements = 1;
    }

    fn begun_parts(&mut self) -> &mut Xxh3 {
        let parts = self.parts.get_or_insert_default();
        if !self.in_parts {
            parts.reset();
            self.in_parts = true;
        }
        parts
    }

    /// The digest of the key, whose value is of this type.
    pub fn finish(&mut self, data_type: DataType) -> KeyDigest {
        if let Some(parts) = self.parts.as_ref().filter(|_| self.in_parts) {
            self.sum = hash(tag::STRING, &[parts.digest128()], &[]);
        }
        KeyDigest { data: hash(tag::of(data_type), &[self.name, self.sum.0], &[self.elements]), ..self.key }
    }

    /// Strings are hashed in one go, which is faster, unless they are longer than one part: a part that is shorter than
    /// [`STRING_PART_BYTES`] is the last.
    fn string_part(&mut self, part: &[u8]) {
        if !self.in_parts && part.len() < STRING_PART_BYTES {
            self.sum = hash(tag::STRING, &[xxh3_128(part)], &[]);
        } else {
            self.begun_parts().update(part);
        }
        self.elements = 1;
    }
}

/// As it was written: whether zero has a sign, only the module knows.
fn module_part(part: ModulePart<'_>, index: u64) -> Sum {
    match part {
        ModulePart::Signed(number) => hash(tag::PART_SIGNED, &[], &[index, number.cast_unsigned()]),
        ModulePart::Unsigned(number) => hash(tag::PART_UNSIGNED, &[], &[index, number]),
        ModulePart::Float(number) => hash(tag::PART_FLOAT, &[], &[index, number.to_bits().into()]),
        ModulePart::Double(number) => hash(tag::PART_DOUBLE, &[], &[index, number.to_bits()]),
        ModulePart::String(text) => hash(tag::PART_STRING, &[xxh3_128(text)], &[index]),
    }
}

/// The digest of a library of functions, by its code: what a keyspace has of them is added up apart.
pub fn function(code: &[u8]) -> Sum {
    hash(tag::FUNCTION, &[xxh3_128(code)], &[])
}

/// What hashes are hashes of: their first word, so that no two kinds of things have the same.
pub(super) mod tag {
    use super::DataType;

    pub const STRING: u64 = 1;
    pub const ITEM: u64 = 2;
    pub const MEMBER: u64 = 3;
    pub const SCORED: u64 = 4;
    pub const FIELD: u64 = 5;
    pub const ENTRY_FIELD: u64 = 6;
    pub const ENTRY: u64 = 7;
    pub const LAST_ID: u64 = 8;
    pub const GROUP: u64 = 9;
    pub const PENDING: u64 = 10;
    pub const NACKED: u64 = 11;
    pub const INSERT_INDEX: u64 = 12;
    pub const SLOT_TEXT: u64 = 13;
    pub const SLOT_FLOAT: u64 = 14;
    pub const MODULE: u64 = 15;
    pub const PART_SIGNED: u64 = 16;
    pub const PART_UNSIGNED: u64 = 17;
    pub const PART_FLOAT: u64 = 18;
    pub const PART_DOUBLE: u64 = 19;
    pub const PART_STRING: u64 = 20;
    pub const KEY_EXPIRY: u64 = 32;
    pub const FIELD_EXPIRY: u64 = 33;
    pub const FUNCTION: u64 = 34;
    pub const KEYSPACE_DATA: u64 = 48;
    pub const KEYSPACE_EXPIRIES: u64 = 49;

    /// The tag of a key, by the type of its value.
    pub fn of(data_type: DataType) -> u64 {
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
}

/// Zero has one sign: the two compare equal, and servers do not keep them apart in every encoding.
fn bits(score: f64) -> u64 {
    if score == 0.0 { 0 } else { score.to_bits() }
}

/// The hash of a tag, hashes and numbers, all little-endian, one after the other. All are words of 8 bytes or two of them:
/// at odd places the processor would read them back more slowly than they are hashed.
#[inline]
fn hash<const HASHES: usize, const NUMBERS: usize>(
    tag: u64,
    hashes: &[u128; HASHES],
    numbers: &[u64; NUMBERS],
) -> Sum {
    let mut words = [[0; 8]; 1 + 2 * 2 + 2];
    words[0] = tag.to_le_bytes();
    for (index, hash) in hashes.iter().enumerate() {
        words[1 + 2 * index] = (*hash as u64).to_le_bytes();
        words[2 + 2 * index] = ((*hash >> 64) as u64).to_le_bytes();
    }
    for (index, number) in numbers.iter().enumerate() {
        words[1 + 2 * HASHES + index] = number.to_le_bytes();
    }
    Sum(xxh3_128(words[..1 + 2 * HASHES + NUMBERS].as_flattened()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_expiry_can_be_replaced() {
        let of = |expiry_ms| {
            let mut hasher = KeyHasher::new();
            hasher.start(b"k", expiry_ms);
            hasher.element(&Element::HashField { field: b"f", value: b"v", expiry_ms: Some(7) });
            hasher.finish(DataType::Hash)
        };
        for (from, to) in [(None, Some(5)), (Some(5), Some(-6)), (Some(5), None), (Some(5), Some(5))] {
            assert_eq!(of(from).with_expiry(b"k", to), of(to));
        }
        assert_ne!(of(Some(5)).expiries, of(None).expiries);
        assert_eq!(of(Some(5)).data, of(None).data);
    }

    #[test]
    fn elements_that_were_digested_alone_add_up_in_any_order() {
        let field = |field, expiry_ms| Element::HashField { field, value: b"v", expiry_ms };
        for (data_type, elements) in [
            (DataType::Hash, [field(b"a", Some(7)), field(b"b", None)]),
            (DataType::Set, [Element::SetMember(b"a"), Element::SetMember(b"b")]),
            (DataType::Zset, [1.0, -0.0].map(|score| Element::ZsetMember { member: b"a", score })),
        ] {
            let mut hasher = KeyHasher::new();
            hasher.start(b"k", Some(1));
            let [first, second] = elements.map(|element| hasher.alone(&element).unwrap());
            hasher.add(&second);
            hasher.add(&first);
            let added = hasher.finish(data_type);
            hasher.start(b"k", Some(1));
            elements.iter().for_each(|element| hasher.element(element));
            assert_eq!(added, hasher.finish(data_type));
        }
        for element in [Element::StringPart(b"a"), Element::ListItem(b"a")] {
            assert_eq!(KeyHasher::new().alone(&element), None);
        }
    }

    #[test]
    fn a_string_in_pieces_is_that_string() {
        for text in [&b""[..], b"a", b"abcdef"] {
            let whole = digest(b"k", DataType::String, &[Element::StringPart(text)]);
            for len in 1..4 {
                let mut hasher = KeyHasher::new();
                hasher.start(b"k", None);
                hasher.string_piece(b"");
                text.chunks(len).for_each(|piece| hasher.string_piece(piece));
                assert_eq!(hasher.finish(DataType::String), whole);
            }
        }
    }

    #[test]
    fn a_string_in_parts_is_that_string() {
        const PART: usize = STRING_PART_BYTES;
        let text: Vec<u8> = (0..2 * PART + 1).map(|at| (at % 251) as u8).collect();
        let mut hasher = KeyHasher::new();
        for len in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 5] {
            let text = &text[..len];
            hasher.start(b"k", None);
            let (first, rest) = text.split_at(len.min(PART));
            hasher.element(&Element::StringPart(first));
            rest.chunks(PART).for_each(|part| hasher.element(&Element::StringPart(part)));
            let whole = hash(tag::STRING, &[xxh3_128(text)], &[]);
            let expected = hash(tag::of(DataType::String), &[xxh3_128(b"k"), whole.0], &[1]);
            assert_eq!(hasher.finish(DataType::String).data, expected, "{len} bytes");
        }
    }
}
