//! Collections that are packed into blobs: listpacks, ziplists, intsets, zipmaps, and quicklists of such.

use super::strings::{name, passed_len};
use super::tables::{REDIS_FIELD_EXPIRY_MAX_MS, TTL};
use super::{FindingKind, Input, Limits, Scratch, Visitor, length, not_empty};
use crate::rdb::element::Element;
use crate::rdb::packed::{Decimal, Packed, Text, Wrong, score};
use crate::rdb::{Kind, intset, listpack, ziplist, zipmap};

/// Items of a blob, and what a finding in it is called.
type Items<'a, T> = (FindingKind, Result<T, Wrong>);

fn in_ziplist(blob: &[u8]) -> Items<'_, ziplist::Items<'_>> {
    (FindingKind::Ziplist, ziplist::Items::new(blob))
}

fn in_listpack(blob: &[u8]) -> Items<'_, listpack::Items<'_>> {
    (FindingKind::Listpack, listpack::Items::new(blob))
}

/// What a quicklist's nodes are; the first was the only one before they said so.
const ZIPLIST: u64 = 0;
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

const EMPTY_NODE: &str = "a list's node is empty";

pub(super) fn quicklist<I: Input, V: Visitor>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let start = input.offset();
    let mut items = 0;
    let nodes = length(input)?;
    for _ in 0..nodes {
        let offset = input.offset();
        let container = if kind == Kind::ListQuicklist2 { length(input)? } else { ZIPLIST };
        if V::STRUCTURE && container == PLAIN && kind == Kind::ListQuicklist2 {
            // one item, which may be long, and of which nothing needs to be known
            match passed_len(input, v)? {
                Some(0) => v.finding(FindingKind::Quicklist, offset, EMPTY_NODE)?,
                Some(_) => {
                    v.elements(1);
                    items += 1;
                }
                None => items += 1,
            }
            continue;
        }
        let Some(node) = name(input, limits, &mut scratch.first, v)? else {
            // whatever is in there, the list is not empty because of it
            items += 1;
            continue;
        };
        if V::STRUCTURE && node.is_empty() {
            v.finding(FindingKind::Quicklist, offset, EMPTY_NODE)?;
            continue;
        }
        items += match container {
            ZIPLIST if kind == Kind::ListQuicklist => list(in_ziplist(node), offset, v)?,
            PACKED => list(in_listpack(node), offset, v)?,
            PLAIN => {
                v.element(Element::ListItem(node), offset)?;
                1
            }
            _ => {
                v.finding(FindingKind::Quicklist, offset, "a list's node is neither plain nor packed")?;
                1
            }
        };
    }
    // Nodes without items are skipped by servers, but not a list without any.
    not_empty(items, start, v)
}

/// The number of items, one more where something is wrong with them.
fn list<'a, V: Visitor>(
    (kind, items): Items<'a, impl Iterator<Item = Result<Packed<'a>, Wrong>>>,
    offset: u64,
    v: &mut V,
) -> Result<u64, V::Error> {
    let mut count = 0;
    let items = match items {
        Ok(items) => items,
        Err(what) => return v.finding(kind, offset, what).map(|()| 1),
    };
    for item in items {
        count += 1;
        match item {
            Ok(_) if V::STRUCTURE => v.elements(1),
            Ok(item) => v.element(Element::ListItem(Text::from(item).as_bytes()), offset)?,
            Err(what) => v.finding(kind, offset, what)?,
        }
    }
    Ok(count)
}

/// Values that are one string, which packs all their elements.
pub(super) fn blob<I: Input, V: Visitor>(
    kind: Kind,
    input: &mut I,
    limits: &Limits,
    scratch: &mut Scratch,
    v: &mut V,
) -> Result<(), V::Error> {
    let offset = input.offset();
    let Some(blob) = name(input, limits, &mut scratch.first, v)? else { return Ok(()) };
    let count = match kind {
        Kind::HashZipmap => pairs(blob, offset, v)?,
        Kind::SetIntset => integers(blob, offset, v)?,
        Kind::ListZiplist => list(in_ziplist(blob), offset, v)?,
        Kind::HashZiplist | Kind::ZsetZiplist => tuples(kind, in_ziplist(blob), offset, v)?,
        _ => tuples(kind, in_listpack(blob), offset, v)?,
    };
    not_empty(count, offset, v)
}

fn pairs<V: Visitor>(blob: &[u8], offset: u64, v: &mut V) -> Result<u64, V::Error> {
    let mut count = 0;
    let pairs = match zipmap::Pairs::new(blob) {
        Ok(pairs) => pairs,
        Err(what) => return v.finding(FindingKind::Zipmap, offset, what).map(|()| 1),
    };
    for pair in pairs {
        count += 1;
        match pair {
            Ok((field, value)) => v.element(Element::HashField { field, value, expiry_ms: None }, offset)?,
            Err(what) => v.finding(FindingKind::Zipmap, offset, what)?,
        }
    }
    Ok(count)
}

/// Source: `intsetValidateIntegrity` in `src/intset.c`: ascending, each once.
fn integers<V: Visitor>(blob: &[u8], offset: u64, v: &mut V) -> Result<u64, V::Error> {
    let mut count = 0;
    let members = match intset::members(blob) {
        Ok(members) => members,
        Err(what) => return v.finding(FindingKind::Intset, offset, what).map(|()| 1),
    };
    let mut before = None;
    for member in members {
        count += 1;
        if !V::STRUCTURE {
            v.element(Element::SetMember(Decimal::new(member).as_bytes()), offset)?;
            continue;
        }
        if before.is_some_and(|before| before >= member) {
            v.finding(FindingKind::Intset, offset, "an intset's members are not ascending")?;
            return Ok(count);
        }
        before = Some(member);
        // that they ascend says that each is there once
        v.elements(1);
    }
    Ok(count)
}

/// Elements of one, two or three packed items each. Their number, one more where something is wrong with them.
///
/// Source: `lpValidateIntegrityAndDups` in `src/rdb.c`, and for the order of expiries `_lpEntryValidation` there (7.4).
/// Servers do not check that members of a sorted set are sorted; they write them so, and search them so.
fn tuples<'a, V: Visitor>(
    kind: Kind,
    (finding, items): Items<'a, impl Iterator<Item = Result<Packed<'a>, Wrong>>>,
    offset: u64,
    v: &mut V,
) -> Result<u64, V::Error> {
    let mut count = 0;
    let mut items = match items {
        Ok(items) => items,
        Err(what) => return v.finding(finding, offset, what).map(|()| 1),
    };
    let mut scored: Option<(f64, Text<'a>)> = None;
    let mut expiring = Expiring::default();
    // what is wrong ends the blob: what comes after it cannot be trusted
    macro_rules! item {
        ($next:expr) => {
            match $next {
                Ok(item) => item,
                Err(what) => return v.finding(finding, offset, what).map(|()| count),
            }
        };
    }
    while let Some(first) = items.next() {
        count += 1;
        let mut next = || items.next().unwrap_or(Err("its last element is not whole"));
        let first = Text::from(item!(first));
        match kind {
            Kind::SetListpack => v.element(Element::SetMember(first.as_bytes()), offset)?,
            Kind::ZsetZiplist | Kind::ZsetListpack => {
                let score = match item!(next()) {
                    Packed::Int(number) => Ok(number as f64),
                    Packed::Bytes(text) => score(text),
                };
                let score = match score {
                    Ok(score) => score,
                    Err(what) => {
                        v.finding(FindingKind::Score, offset, what)?;
                        continue;
                    }
                };
                if V::STRUCTURE {
                    if scored.is_some_and(|before| !sorted(before, (score, first))) {
                        v.finding(FindingKind::Order, offset, "members are not sorted by score and name")?;
                    }
                    scored = Some((score, first));
                }
                v.element(Element::ZsetMember { member: first.as_bytes(), score }, offset)?;
            }
            _ => {
                let value = item!(next());
                let expiry_ms =
                    match kind {
                        Kind::HashTtlListpack | Kind::HashTtlListpackPreGa => expiring
                            .next::<V>(item!(next()))
                            .or_else(|what| v.finding(FindingKind::Expiry, offset, what).map(|()| None))?,
                        _ => None,
                    };
                let field = first.as_bytes();
                if V::STRUCTURE {
                    v.element(Element::HashField { field, value: &[], expiry_ms }, offset)?;
                } else {
                    let value = Text::from(value);
                    v.element(Element::HashField { field, value: value.as_bytes(), expiry_ms }, offset)?;
                }
            }
        }
    }
    Ok(count)
}

/// Whether `after` may come after `before`. Source: `zzlInsert` in `src/t_zset.c`.
fn sorted(before: (f64, Text<'_>), after: (f64, Text<'_>)) -> bool {
    before.0 < after.0 || before.0 == after.0 && before.1.as_bytes() <= after.1.as_bytes()
}

/// The expiries of packed fields: ascending, then the fields that have none.
struct Expiring {
    before: Option<u64>,
}

impl Default for Expiring {
    fn default() -> Self {
        Self { before: Some(0) }
    }
}

impl Expiring {
    fn next<V: Visitor>(&mut self, item: Packed<'_>) -> Result<Option<u64>, Wrong> {
        let Packed::Int(at) = item else { return Err(TTL) };
        let at = u64::try_from(at).map_err(|_| TTL)?;
        let expiry_ms = (at != 0).then_some(at);
        if V::STRUCTURE {
            if at > REDIS_FIELD_EXPIRY_MAX_MS {
                return Err(TTL);
            }
            let before = std::mem::replace(&mut self.before, expiry_ms);
            if expiry_ms.is_some() && before.is_none_or(|before| before > at) {
                return Err("fields are not sorted by their expiry");
            }
        }
        Ok(expiry_ms)
    }
}
