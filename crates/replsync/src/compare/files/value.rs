//! Two values of one key and type: what differs, down to the element. Neither is ever held whole.

use std::collections::HashMap;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128, xxh3_128_with_seed};

use super::difference::{ElementDifference, TextDifference};
use super::error::Error;
use super::narrow::{Match, Plan, Record, Records, Share, Sums, unlike};
use super::side::{Seen, Side, Spot};
use crate::compare::elements::{One, Part, take_apart};
use crate::compare::text::{both_from, equal_bytes};
use crate::compare::{Kind, files::Options};
use crate::rdb::{Element, STRING_PART_BYTES};

/// So much of a name and of a content is held to be shown.
const SHOWN_BYTES: usize = 1 << 20;
/// The end of a pending entry's name is the entry's id.
const NAME_END_BYTES: usize = 16;
/// Pieces of more bytes than these are hashed one by one instead of being copied behind each other.
const COPIED_BYTES: usize = 64 * 1024;

/// A value of each file, of the same key and of one type.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub sides: [Side<'a>; 2],
    pub seen: [&'a Seen; 2],
    pub records: [Record<Spot>; 2],
}

/// What differs in a value that is no string.
#[derive(Debug, Default)]
pub(super) struct Elements {
    pub named: Vec<ElementDifference>,
    pub more: u64,
}

/// An element: where it comes in its value.
type Found = Match<u64>;

impl Values<'_> {
    /// What differs between two strings.
    pub fn texts(&self) -> Result<Option<(String, TextDifference)>, Error> {
        let (a, b) = (self.text(0, 0)?, self.text(1, 0)?);
        let equal = a.parts.iter().zip(&b.parts).take_while(|(a, b)| a == b).count();
        if equal == a.parts.len() && equal == b.parts.len() {
            return Ok(None);
        }
        let (held_a, held_b) = match equal {
            0 => (a.held, b.held),
            _ => (self.text(0, equal)?.held, self.text(1, equal)?.held),
        };
        let base = (equal * STRING_PART_BYTES) as u64;
        let first = base + equal_bytes(&held_a, &held_b) as u64;
        let (lens, shown) = ([a.len, b.len], both_from(base, &held_a, &held_b));
        let what = match a.len == b.len {
            true => format!("{shown} (byte {first} of {})", a.len),
            false => format!("{shown} ({} and {} bytes, equal up to byte {first})", a.len, b.len),
        };
        Ok(Some((what, TextDifference { lens, first })))
    }

    /// Reads a string: a hash of each part, and one part held.
    fn text(&self, side: usize, held: usize) -> Result<Text, Error> {
        let mut text = Text::default();
        self.read(side, |element| {
            if let Element::StringPart(part) = element {
                if text.parts.len() == held {
                    text.held.extend_from_slice(part);
                }
                text.parts.push(xxh3_64(part));
                text.len += part.len() as u64;
            }
        })?;
        Ok(text)
    }

    fn read(&self, side: usize, give: impl FnMut(Element<'_>)) -> Result<(), Error> {
        let (reading, record) = (&self.sides[side], &self.records[side]);
        let (mut reader, entry) = reading.open(record, self.seen[side])?;
        reading.elements(&mut reader, entry.db, give)
    }

    /// What differs between two values that consist of elements.
    pub fn elements(&self, options: &Options) -> Result<Elements, Error> {
        let records_max = options.records_max::<u64>();
        let mut chosen = Chosen { max: options.elements_max, found: Vec::new(), count: 0 };
        let each_max = usize::try_from(records_max / 2).unwrap_or(usize::MAX);
        match (self.gather(0, each_max)?, self.gather(1, each_max)?) {
            (Gathered::Records(mut a), Gathered::Records(mut b)) => {
                unlike(a.sort(), b.sort(), |found| chosen.add(found))?;
            }
            (a, b) => {
                let plan = Plan::new(&a.into_sums(), &b.into_sums(), records_max);
                for share in plan.shares() {
                    let (a, b) = (self.records(0, &plan, share)?, self.records(1, &plan, share)?);
                    unlike(&a, &b, |found| chosen.add(found))?;
                }
            }
        }
        self.name(chosen)
    }

    /// Hands on the elements of a side, taken apart and hashed: id, digest, index.
    fn hashed(&self, side: usize, mut give: impl FnMut(Record<u64>)) -> Result<(), Error> {
        let mut copied = Vec::new();
        self.apart(side, |index, part, name, content| {
            let id = hash(part as u64 + 1, name, &mut copied);
            let digest = hash(0, content, &mut copied) as u64;
            give(Record { id, digest, at: index });
        })
    }

    fn apart(&self, side: usize, mut give: impl FnMut(u64, Part, &[&[u8]], &[&[u8]])) -> Result<(), Error> {
        let mut index = 0;
        self.read(side, |element| {
            take_apart(index, element, |at| at, |part, name, content| give(index, part, name, content));
            index += 1;
        })
    }

    /// All elements of a side, if there are no more than that; else their sums.
    fn gather(&self, side: usize, max: usize) -> Result<Gathered, Error> {
        let mut gathered = Gathered::Records(Records::new(max));
        self.hashed(side, |record| gathered.add(record))?;
        Ok(gathered)
    }

    fn records(&self, side: usize, plan: &Plan, share: &Share) -> Result<Vec<Record<u64>>, Error> {
        let expected = usize::try_from(share.counts[side]).unwrap_or(usize::MAX);
        let mut records = Records::new(expected);
        let mut is_as_expected = true;
        self.hashed(side, |record| {
            if plan.wants(share, record.id) {
                is_as_expected &= records.push(record);
            }
        })?;
        if !is_as_expected {
            return Err(Error::Changed { path: self.sides[side].file.path().to_owned() });
        }
        records.sort();
        Ok(records.into_vec())
    }

    /// Reads both values once more, to say what the elements are.
    fn name(&self, mut chosen: Chosen) -> Result<Elements, Error> {
        chosen.cut();
        let ids: HashMap<u128, usize> = chosen.found.iter().map(id_of).zip(0..).collect();
        let mut held: Vec<[Option<Held>; 2]> = chosen.found.iter().map(|_| [None, None]).collect();
        let mut copied = Vec::new();
        for side in [0, 1] {
            self.apart(side, |_, part, name, content| {
                if let Some(&slot) = ids.get(&hash(part as u64 + 1, name, &mut copied)) {
                    held[slot][side].get_or_insert_with(|| Held::new(part, name, content));
                }
            })?;
        }
        let named = chosen.found.iter().zip(&held).map(|(found, [a, b])| {
            Some(match (found, a, b) {
                (Match::OnlyA(_), Some(a), _) => a.missing(Kind::MissingInTarget),
                (Match::OnlyB(_), _, Some(b)) => b.missing(Kind::MissingInSource),
                (Match::Differ(..), Some(a), Some(b)) => a.differs(b),
                (Match::TwiceA(..), Some(a), _) => a.twice("A"),
                (Match::TwiceB(..), _, Some(b)) => b.twice("B"),
                _ => return None,
            })
        });
        let Some(mut named) = named.collect::<Option<Vec<_>>>() else {
            return Err(Error::Changed { path: self.sides[0].file.path().to_owned() });
        };
        named.sort_by(ElementDifference::order);
        let more = chosen.count - named.len() as u64;
        Ok(Elements { named, more })
    }
}

/// A string, read.
#[derive(Debug, Default)]
struct Text {
    len: u64,
    parts: Vec<u64>,
    held: Vec<u8>,
}

/// The elements of a side.
enum Gathered {
    Records(Records<u64>),
    Sums(Box<Sums>),
}

impl Gathered {
    fn add(&mut self, record: Record<u64>) {
        let full = match self {
            Self::Sums(sums) => return add(sums, &record),
            Self::Records(records) if records.has_room() => {
                records.push(record);
                return;
            }
            Self::Records(records) => std::mem::replace(records, Records::new(0)),
        };
        let mut sums = Self::Records(full).into_sums();
        add(&mut sums, &record);
        *self = Self::Sums(sums);
    }

    fn into_sums(self) -> Box<Sums> {
        match self {
            Self::Sums(sums) => sums,
            Self::Records(records) => {
                let mut sums = Box::new(Sums::new());
                records.into_vec().iter().for_each(|record| add(&mut sums, record));
                sums
            }
        }
    }
}

fn add(sums: &mut Sums, record: &Record<u64>) {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&record.id.to_le_bytes());
    bytes[16..].copy_from_slice(&record.digest.to_le_bytes());
    sums.add(record.id, xxh3_128(&bytes));
}

/// The hash of pieces that belong behind each other.
fn hash(seed: u64, pieces: &[&[u8]], copied: &mut Vec<u8>) -> u128 {
    if let [piece] = pieces {
        return xxh3_128_with_seed(piece, seed);
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > COPIED_BYTES {
        let mut hash = Xxh3::with_seed(seed);
        pieces.iter().for_each(|piece| hash.update(piece));
        return hash.digest128();
    }
    copied.clear();
    pieces.iter().for_each(|piece| copied.extend_from_slice(piece));
    xxh3_128_with_seed(copied, seed)
}

/// The elements that are to be named: the first ones, whatever the order in which they are found.
struct Chosen {
    max: usize,
    found: Vec<Found>,
    count: u64,
}

impl Chosen {
    fn add(&mut self, found: Found) -> Result<(), Error> {
        self.count += 1;
        self.found.push(found);
        if self.found.len() > self.max.saturating_mul(2).saturating_add(64) {
            self.cut();
        }
        Ok(())
    }

    fn cut(&mut self) {
        self.found.sort_by_key(|found| match found {
            Match::OnlyA(a) => (a.at, 0),
            Match::Differ(a, _) => (a.at, 1),
            Match::OnlyB(b) => (b.at, 2),
            Match::TwiceA(_, a) => (a.at, 3),
            Match::TwiceB(_, b) => (b.at, 4),
        });
        self.found.truncate(self.max);
    }
}

fn id_of(found: &Found) -> u128 {
    let (Match::OnlyA(one)
    | Match::OnlyB(one)
    | Match::Differ(one, _)
    | Match::TwiceA(one, _)
    | Match::TwiceB(one, _)) = found;
    one.id
}

/// An element, as much of it as can be shown.
#[derive(Debug)]
struct Held {
    part: Part,
    name: Vec<u8>,
    name_is_whole: bool,
    content: Vec<u8>,
    content_len: usize,
}

impl Held {
    fn new(part: Part, name: &[&[u8]], content: &[&[u8]]) -> Self {
        let len = |pieces: &[&[u8]]| pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut held_name = start(name);
        let name_is_whole = held_name.len() == len(name);
        if !name_is_whole && part == Part::Pending {
            let end = name.last().copied().unwrap_or_default();
            held_name.extend_from_slice(&end[end.len().saturating_sub(NAME_END_BYTES)..]);
        }
        Self { part, name: held_name, name_is_whole, content: start(content), content_len: len(content) }
    }

    fn one(&self) -> One<'_> {
        One { part: self.part, name: &self.name, content: &self.content }
    }

    fn missing(&self, kind: Kind) -> ElementDifference {
        let mut what = self.one().content_text().unwrap_or_default();
        if self.part == Part::Entry && self.content.len() < self.content_len {
            what = format!("{} bytes", self.content_len);
        }
        ElementDifference::new(kind, self.one(), self.name_is_whole, what)
    }

    fn differs(&self, other: &Self) -> ElementDifference {
        let what = match self.content == other.content {
            false => self.one().contents(&other.one()),
            true => format!(
                "{} and {} bytes, which differ behind the first {SHOWN_BYTES}",
                self.content_len, other.content_len
            ),
        };
        ElementDifference::new(Kind::Value, self.one(), self.name_is_whole, what)
    }

    fn twice(&self, file: &str) -> ElementDifference {
        let what = format!("it comes more than once in {file}, which no server loads");
        ElementDifference::new(Kind::Value, self.one(), self.name_is_whole, what)
    }
}

/// The first bytes of pieces that belong behind each other.
fn start(pieces: &[&[u8]]) -> Vec<u8> {
    let mut held = Vec::new();
    for piece in pieces {
        let room = SHOWN_BYTES - held.len();
        held.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    held
}
