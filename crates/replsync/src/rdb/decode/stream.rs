//! Streams: listpack nodes of entries, then what the stream knows of itself, its groups and its producers.
//!
//! Source: `rdbLoadObject` in `src/rdb.c`, `streamValidateListpackIntegrity` and the comment above
//! `STREAM_ITEM_FLAG_NONE` in `src/t_stream.c`, and for RDB 13 and 14 `elementStreamLP` in `src/lib/parser.c` of librdb.
//!
//! Deeper than servers look: the counts of live and of deleted entries are each right (servers add them up), the
//! stream's length is the number of its entries, live entries ascend and none is beyond the last id, and a pending
//! entry has one owner. What looks wrong and is not: a node without live entries (`XTRIM MINID` leaves such), and
//! deleted entries beyond the last id (`XSETID` may go back behind them).

use super::names::Names;
use super::strings::{copied, name};
use super::{Error, FindingKind, Limits, Scratch, Visitor, array, length};
use crate::rdb::element::{Element, Idmp, StreamId};
use crate::rdb::input::Input;
use crate::rdb::packed::{Packed, Text, Wrong};
use crate::rdb::primitive::millis;
use crate::rdb::{Kind, listpack};

/// Room that is used again for every entry and every group.
#[derive(Debug, Default)]
pub(super) struct Room {
    master_fields: Vec<Text<'static>>,
    texts: Vec<Text<'static>>,
    fields: Vec<(&'static [u8], &'static [u8])>,
    group: Vec<u8>,
    pending: Vec<Pending>,
    groups: Names,
    consumers: Names,
}

/// The vector, emptied, for what lives otherwise long. Its room stays: collecting happens in place.
fn emptied<A, B>(room: Vec<A>) -> Vec<B> {
    room.into_iter().filter_map(|_| None).collect()
}

/// Decodes a stream of any version.
pub(super) fn stream<I: Input, V: Visitor>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let version = match kind {
        Kind::Stream1 => 1,
        Kind::Stream2 => 2,
        Kind::Stream3 => 3,
        Kind::Stream4 => 4,
        _ => 5,
    };
    let mut seen = Some(Seen::default());
    let mut node_before = None;
    for _ in 0..length(input)? {
        let offset = input.offset();
        let key = name(input, limits, &mut scratch.first, v)?;
        let master = key.and_then(StreamId::from_key);
        if master.is_none() {
            v.finding(FindingKind::Stream, offset, "a stream node's key is not an id of 16 bytes")?;
        }
        // Their live entries may ascend all the same: one of them may have none. Servers refuse a key that is there
        // twice ("Listpack re-added with existing key"), and write keys in their order.
        if V::STRUCTURE && master.is_some() && std::mem::replace(&mut node_before, master) >= master {
            v.finding(FindingKind::Stream, offset, "a stream's nodes do not ascend")?;
            // its entries do not either, most likely
            seen = None;
        }
        let offset = input.offset();
        let blob = name(input, limits, &mut scratch.first, v)?;
        let (Some(master), Some(blob)) = (master, blob) else {
            seen = None;
            continue;
        };
        let mut live = seen.unwrap_or_default();
        match node(blob, offset, master, limits, &mut live, &mut scratch.stream, v)? {
            Ok(()) => seen = seen.map(|_| live),
            Err((kind, what)) => {
                seen = None;
                v.finding(kind, offset, what)?;
            }
        }
    }
    let offset = input.offset();
    let (length_, last_id) = (length(input)?, StreamId::read(input)?);
    if let (true, Some(seen)) = (V::STRUCTURE, seen) {
        if seen.entries != length_ {
            v.finding(FindingKind::Stream, offset, "a stream's length is not the number of its entries")?;
        }
        if seen.last.is_some_and(|last| last > last_id) {
            v.finding(FindingKind::Stream, offset, "a stream has entries beyond its last id")?;
        }
    }
    v.element(meta(version, length_, last_id, input)?, offset)?;
    scratch.stream.groups.clear();
    for _ in 0..length(input)? {
        group(version, input, limits, scratch, v)?;
    }
    if V::STRUCTURE && scratch.stream.groups.has_duplicate() {
        v.finding(FindingKind::Duplicate, offset, "a stream has two groups of one name")?;
    }
    if version >= 4 {
        producers(input, limits, scratch, v)?;
    }
    Ok(())
}

/// What a stream's nodes hold.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Live entries.
    entries: u64,
    /// The last of them.
    last: Option<StreamId>,
}

impl StreamId {
    /// From two big-endian numbers, so that they sort as bytes (`streamEncodeID`).
    fn from_key(key: &[u8]) -> Option<Self> {
        let (ms, seq) = key.split_first_chunk()?;
        Some(Self { ms: u64::from_be_bytes(*ms), seq: u64::from_be_bytes(seq.try_into().ok()?) })
    }

    fn read_key<I: Input>(input: &mut I) -> Result<Self, Error> {
        Ok(Self { ms: u64::from_be_bytes(array(input)?), seq: u64::from_be_bytes(array(input)?) })
    }

    fn read<I: Input>(input: &mut I) -> Result<Self, Error> {
        Ok(Self { ms: length(input)?, seq: length(input)? })
    }
}

fn meta<I: Input>(
    version: u8,
    length_: u64,
    last_id: StreamId,
    input: &mut I,
) -> Result<Element<'static>, Error> {
    let (mut first_id, mut max_deleted_id, mut entries_added) = (None, None, None);
    if version >= 2 {
        first_id = Some(StreamId::read(input)?);
        max_deleted_id = Some(StreamId::read(input)?);
        entries_added = Some(length(input)?);
    }
    Ok(Element::StreamMeta { length: length_, last_id, first_id, max_deleted_id, entries_added })
}

/// The items of a node, read as what they must be.
struct Node<'a> {
    items: listpack::Items<'a>,
}

type Broken = (FindingKind, Wrong);

fn in_stream(what: Wrong) -> Broken {
    (FindingKind::Stream, what)
}

impl<'a> Node<'a> {
    fn next(&mut self) -> Result<Packed<'a>, Broken> {
        match self.items.next() {
            Some(item) => item.map_err(|what| (FindingKind::Listpack, what)),
            None => Err(in_stream("a stream node ends within an entry")),
        }
    }

    fn int(&mut self) -> Result<i64, Broken> {
        match self.next()? {
            Packed::Int(number) => Ok(number),
            Packed::Bytes(_) => Err(in_stream("a stream node has text where a number must be")),
        }
    }

    fn count(&mut self) -> Result<u64, Broken> {
        u64::try_from(self.int()?).map_err(|_| in_stream("a stream node has a negative count"))
    }

    /// Reads so many items, which are kept only where they are wanted.
    fn texts(&mut self, count: u64, wanted: bool, texts: &mut Vec<Text<'a>>) -> Result<(), Broken> {
        texts.clear();
        for _ in 0..count {
            let item = self.next()?;
            if wanted {
                texts.push(Text::from(item));
            }
        }
        Ok(())
    }
}

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// A node, its texts in room that outlives it.
fn node<V: Visitor>(
    blob: &[u8],
    offset: u64,
    master: StreamId,
    limits: &Limits,
    seen: &mut Seen,
    room: &mut Room,
    v: &mut V,
) -> Result<Result<(), Broken>, V::Error> {
    let mut texts = Texts {
        master_fields: emptied(std::mem::take(&mut room.master_fields)),
        texts: emptied(std::mem::take(&mut room.texts)),
        fields: emptied(std::mem::take(&mut room.fields)),
    };
    let result = entries(blob, offset, master, limits, seen, &mut texts, v);
    room.master_fields = emptied(texts.master_fields);
    room.texts = emptied(texts.texts);
    room.fields = emptied(texts.fields);
    match result {
        Ok(()) => Ok(Ok(())),
        Err(Stop::Broken(broken)) => Ok(Err(broken)),
        Err(Stop::Error(error)) => Err(error),
    }
}

struct Texts<'a> {
    master_fields: Vec<Text<'a>>,
    texts: Vec<Text<'a>>,
    fields: Vec<(&'static [u8], &'static [u8])>,
}

/// Why the rest of a node is not read.
enum Stop<E> {
    Broken(Broken),
    Error(E),
}

impl<E> From<Broken> for Stop<E> {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// A master entry (counts, and the fields that most entries have), then the entries, their ids relative to the
/// node's.
fn entries<'a, V: Visitor>(
    blob: &'a [u8],
    offset: u64,
    master: StreamId,
    limits: &Limits,
    seen: &mut Seen,
    room: &mut Texts<'a>,
    v: &mut V,
) -> Result<(), Stop<V::Error>> {
    let within = |count: u64| match count {
        // where structure alone is wanted, nothing is kept of them
        len if len > limits.max_stream_fields && !V::STRUCTURE => {
            Err(Stop::Error(Error::TooLong { offset, len, limit: limits.max_stream_fields }.into()))
        }
        count => Ok(count),
    };
    let items = listpack::Items::new(blob).map_err(|what| (FindingKind::Listpack, what))?;
    let mut node = Node { items };
    let (mut live, mut deleted) = (node.count()?, node.count()?);
    let master_count = within(node.count()?)?;
    node.texts(master_count, !V::STRUCTURE, &mut room.master_fields)?;
    if node.int()? != 0 {
        return Err(in_stream("a stream node's master entry does not end in 0").into());
    }
    while let Some(flags) = node.items.next() {
        let Packed::Int(flags) = flags.map_err(|what| (FindingKind::Listpack, what))? else {
            return Err(in_stream("a stream entry's flags are no number").into());
        };
        let (ms, seq) = (node.int()?, node.int()?);
        let id = StreamId { ms: master.ms.wrapping_add_signed(ms), seq: master.seq.wrapping_add_signed(seq) };
        let same = flags & SAME_FIELDS != 0;
        let count = if same { master_count } else { within(node.count()?)? };
        let items = if same { Some(count) } else { count.checked_mul(2) };
        let items = items.ok_or(in_stream("a stream node ends within an entry"))?;
        node.texts(items, !V::STRUCTURE, &mut room.texts)?;
        // flags, two of id, the items, and where the entry has its own fields their count
        if Some(node.count()?) != items.checked_add(if same { 3 } else { 4 }) {
            return Err(in_stream("a stream entry does not end in its own length").into());
        }
        let is_deleted = flags & DELETED != 0;
        let counter = if is_deleted { &mut deleted } else { &mut live };
        *counter = counter.checked_sub(1).ok_or(in_stream("a stream node's counts are wrong"))?;
        if is_deleted {
            continue;
        }
        if V::STRUCTURE && seen.last.replace(id).is_some_and(|last| last >= id) {
            return Err(in_stream("a stream's entries do not ascend").into());
        }
        seen.entries += 1;
        entry(id, same, offset, room, v).map_err(Stop::Error)?;
    }
    if (live, deleted) != (0, 0) {
        return Err(in_stream("a stream node's counts are wrong").into());
    }
    Ok(())
}

fn entry<V: Visitor>(
    id: StreamId,
    same: bool,
    offset: u64,
    room: &mut Texts<'_>,
    v: &mut V,
) -> Result<(), V::Error> {
    if V::STRUCTURE {
        return v.element(Element::StreamEntry { id, fields: &[] }, offset);
    }
    let mut fields: Vec<(&[u8], &[u8])> = emptied(std::mem::take(&mut room.fields));
    if same {
        let pairs = room.master_fields.iter().zip(&room.texts);
        fields.extend(pairs.map(|(field, value)| (field.as_bytes(), value.as_bytes())));
    } else {
        fields.extend(room.texts.chunks_exact(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes())));
    }
    let result = v.element(Element::StreamEntry { id, fields: &fields }, offset);
    room.fields = emptied(fields);
    result
}

/// A pending entry as the group lists it, until a consumer claims it.
#[derive(Debug)]
struct Pending {
    id: StreamId,
    delivery_time_ms: i64,
    delivery_count: u64,
    is_claimed: bool,
}

fn group<I: Input, V: Visitor>(
    version: u8,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let Scratch { first, stream: Room { group, pending, groups, consumers, .. }, .. } = scratch;
    let offset = input.offset();
    if copied(input, limits, group, v)? && V::STRUCTURE {
        groups.push(group);
    }
    let last_id = StreamId::read(input)?;
    // -1 where the server does not know (`SCG_INVALID_ENTRIES_READ`)
    let entries_read =
        if version >= 2 { Some(length(input)?.cast_signed()).filter(|&read| read >= 0) } else { None };
    v.element(Element::StreamGroup { name: group, last_id, entries_read }, offset)?;
    read_pending(input, pending, v)?;

    consumers.clear();
    for _ in 0..length(input)? {
        let offset = input.offset();
        if copied(input, limits, first, v)? && V::STRUCTURE {
            consumers.push(first);
        }
        let seen_time_ms = millis(input)?;
        let active_time_ms = if version >= 3 { Some(millis(input)?) } else { None };
        v.element(Element::StreamConsumer { group, name: first, seen_time_ms, active_time_ms }, offset)?;
        for _ in 0..length(input)? {
            let offset = input.offset();
            if let Some((id, delivery_time_ms, delivery_count)) = claim(input, pending, v)? {
                let (group, consumer) = (&group[..], &first[..]);
                let element =
                    Element::StreamPending { group, consumer, id, delivery_time_ms, delivery_count };
                v.element(element, offset)?;
            }
        }
    }
    if V::STRUCTURE && consumers.has_duplicate() {
        v.finding(FindingKind::Duplicate, offset, "a group has two consumers of one name")?;
    }
    if version >= 5 {
        for _ in 0..length(input)? {
            let offset = input.offset();
            if let Some((id, delivery_time_ms, delivery_count)) = claim(input, pending, v)? {
                v.element(Element::StreamNacked { group, id, delivery_time_ms, delivery_count }, offset)?;
            }
        }
    }
    if pending.iter().any(|entry| !entry.is_claimed) {
        v.finding(FindingKind::Pending, offset, "a group has a pending entry that no consumer has")?;
    }
    Ok(())
}

/// Reads what is pending in a group, sorted by id.
fn read_pending<I: Input, V: Visitor>(
    input: &mut I,
    pending: &mut Vec<Pending>,
    v: &mut V,
) -> Result<(), V::Error> {
    let offset = input.offset();
    pending.clear();
    for _ in 0..length(input)? {
        let id = StreamId::read_key(input)?;
        let (delivery_time_ms, delivery_count) = (millis(input)?, length(input)?);
        pending.push(Pending { id, delivery_time_ms, delivery_count, is_claimed: false });
    }
    pending.sort_by_key(|entry| entry.id);
    if V::STRUCTURE && pending.is_sorted_by(|a, b| a.id < b.id) {
        return Ok(());
    }
    if V::STRUCTURE {
        v.finding(FindingKind::Pending, offset, "a group has a pending entry twice")?;
        pending.dedup_by_key(|entry| entry.id);
    }
    Ok(())
}

/// The next entry that a consumer claims: its id, and when and how often it was delivered.
fn claim<I: Input, V: Visitor>(
    input: &mut I,
    pending: &mut [Pending],
    v: &mut V,
) -> Result<Option<(StreamId, i64, u64)>, V::Error> {
    let offset = input.offset();
    let id = StreamId::read_key(input)?;
    let Ok(index) = pending.binary_search_by_key(&id, |entry| entry.id) else {
        v.finding(FindingKind::Pending, offset, "a consumer has a pending entry that its group has not")?;
        return Ok(None);
    };
    let entry = &mut pending[index];
    if std::mem::replace(&mut entry.is_claimed, true) {
        v.finding(FindingKind::Pending, offset, "a pending entry has two owners")?;
        return Ok(None);
    }
    Ok(Some((id, entry.delivery_time_ms, entry.delivery_count)))
}

fn producers<I: Input, V: Visitor>(
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let offset = input.offset();
    let (duration_seconds, max_entries, producers) = (length(input)?, length(input)?, length(input)?);
    v.element(Element::StreamIdmp(Idmp::Config { duration_seconds, max_entries, producers }), offset)?;
    for _ in 0..producers {
        let known = copied(input, limits, &mut scratch.first, v)?;
        for _ in 0..length(input)? {
            let offset = input.offset();
            let known = copied(input, limits, &mut scratch.second, v)? && known;
            let (producer, message_id) = (&scratch.first, &scratch.second);
            let id = StreamId::read(input)?;
            if known {
                v.element(Element::StreamIdmp(Idmp::Entry { producer, message_id, id }), offset)?;
            }
        }
    }
    let offset = input.offset();
    let (added, duplicates) = (length(input)?, length(input)?);
    v.element(Element::StreamIdmp(Idmp::Counters { added, duplicates }), offset)
}
