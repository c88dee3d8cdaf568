//! Parts of big values: how they are asked for, and how they stand in an RDB.

use bytes::Bytes;

use super::Error;
use super::big::Reading;
use super::dialect::{Commands, Dialect, Replies, refused};
use super::ids::Id;
use crate::rdb::{DataType, encode};
use crate::resp::Reply;

/// A page of a big value should be about so large.
pub(super) const PAGE_BYTES: u64 = 64 * 1024;

/// Asks for the next page.
pub(super) fn ask_page(out: &mut Commands, key: &[u8], data_type: DataType, reading: &Reading, len: u64) {
    let count = len.to_string();
    match (data_type, reading) {
        (_, Reading::Cursor(cursor)) => {
            let name: &[u8] = match data_type {
                DataType::Hash => b"HSCAN",
                DataType::Set => b"SSCAN",
                _ => b"ZSCAN",
            };
            out.add(&[name, key, cursor, b"COUNT", count.as_bytes()]);
        }
        (_, Reading::At(at)) => {
            let name: &[u8] = if data_type == DataType::String { b"GETRANGE" } else { b"LRANGE" };
            let last = (at + len - 1).to_string();
            out.add(&[name, key, at.to_string().as_bytes(), last.as_bytes()]);
        }
        // It is never asked for; but each item has a reply.
        _ => out.add(&[b"EXISTS", key]),
    }
}

/// An element, as a page shows it.
pub(super) struct Element {
    pub name: Bytes,
    /// A field's value, a member's score.
    pub value: Bytes,
}

impl Element {
    /// How it stands in an RDB; of a field without an expiry.
    pub fn body(&self, data_type: DataType) -> Option<Bytes> {
        let mut out = Vec::with_capacity(self.name.len() + self.value.len() + 20);
        match data_type {
            DataType::Hash => return field(&self.name, &self.value, None),
            DataType::Zset => encode::scored(&mut out, &self.name, score(&self.value)?),
            DataType::String => return Some(self.name.clone()),
            _ => encode::member(&mut out, &self.name),
        }
        Some(out.into())
    }
}

/// A page.
pub(super) struct Page {
    pub cursor: Bytes,
    pub elements: Vec<Element>,
    pub bytes: u64,
}

/// Reads the reply to [`ask_page`].
pub(super) fn page(reply: Reply, data_type: DataType) -> Result<Page, Error> {
    let nonsense = || Error::Nonsense { command: format!("the reading of a {data_type:?}") };
    let bulk = |reply: Reply| match reply {
        Reply::Bulk(bytes) => Ok(bytes),
        _ => Err(nonsense()),
    };
    let (cursor, found) = match reply {
        Reply::Error(text) => return Err(refused("the reading of a big value", &text)),
        Reply::Bulk(bytes) => (Bytes::new(), vec![Reply::Bulk(bytes)]),
        Reply::Array(replies) => match (data_type, <[Reply; 2]>::try_from(replies)) {
            (DataType::List, Ok(two)) => (Bytes::new(), two.into()),
            (DataType::List, Err(elements)) => (Bytes::new(), elements),
            (_, Ok([Reply::Bulk(cursor), Reply::Array(found)])) => (cursor, found),
            _ => return Err(nonsense()),
        },
        _ => return Err(nonsense()),
    };
    let mut found = found.into_iter();
    let (mut elements, mut bytes) = (Vec::new(), 0);
    while let Some(name) = found.next() {
        let name = bulk(name)?;
        let value = match data_type {
            DataType::Hash | DataType::Zset => bulk(found.next().ok_or_else(nonsense)?)?,
            _ => Bytes::new(),
        };
        bytes += (name.len() + value.len()) as u64;
        elements.push(Element { name, value });
    }
    Ok(Page { cursor, elements, bytes })
}

/// Asks for single elements.
pub(super) fn ask_elements(
    out: &mut Commands,
    dialect: &Dialect,
    key: &[u8],
    data_type: DataType,
    elements: &[(Id, Bytes)],
    fields: bool,
) {
    let many = |out: &mut Commands, name: &[u8]| {
        let mut args = vec![name, key];
        args.extend(elements.iter().map(|(_, element)| &element[..]));
        out.add(&args);
    };
    match data_type {
        DataType::Hash => {
            many(out, b"HMGET");
            if fields {
                ask_field_expiries(out, key, elements.iter().map(|(_, field)| field));
            }
        }
        DataType::Set if dialect.asks_many => many(out, b"SMISMEMBER"),
        DataType::Zset if dialect.asks_many => many(out, b"ZMSCORE"),
        DataType::Set => elements.iter().for_each(|(_, member)| out.add(&[b"SISMEMBER", key, member])),
        _ => elements.iter().for_each(|(_, member)| out.add(&[b"ZSCORE", key, member])),
    }
}

/// What [`ask_elements`] has asked for, as it stands in an RDB: nothing for an element that is not there. `None` when the
/// key is of another type.
pub(super) fn elements(
    replies: &mut Replies,
    dialect: &Dialect,
    data_type: DataType,
    elements: &[(Id, Bytes)],
    fields: bool,
) -> Result<Option<Vec<Option<Bytes>>>, Error> {
    let mut all = Vec::with_capacity(elements.len());
    if data_type == DataType::Hash || dialect.asks_many {
        match replies.next()? {
            Reply::Array(found) if found.len() == elements.len() => all = found,
            Reply::Error(text) if text.starts_with(b"WRONGTYPE") => {}
            Reply::Error(text) => return Err(refused("elements of a big value", &text)),
            _ => return Err(replies.nonsense("elements of a big value")),
        }
    } else {
        for _ in elements {
            match replies.next()? {
                Reply::Error(text) if text.starts_with(b"WRONGTYPE") => {}
                Reply::Error(text) => return Err(refused("elements of a big value", &text)),
                reply => all.push(reply),
            }
        }
    }
    let expiries = match data_type == DataType::Hash && fields {
        true => field_expiries(replies, elements.len())?,
        false => Vec::new(),
    };
    if all.len() != elements.len() {
        return Ok(None);
    }
    let body = |(n, reply): (usize, Reply)| {
        let (_, name) = elements.get(n)?;
        match (data_type, reply) {
            (DataType::Hash, Reply::Bulk(value)) => match expiries.get(n) {
                Some(expiry) => expiry.field(name, &value),
                None => field(name, &value, None),
            },
            (DataType::Set, Reply::Integer(1)) => {
                Element { name: name.clone(), value: Bytes::new() }.body(data_type)
            }
            (DataType::Zset, Reply::Bulk(value)) => Element { name: name.clone(), value }.body(data_type),
            _ => None,
        }
    };
    Ok(Some(all.into_iter().enumerate().map(body).collect()))
}

/// Asks for the expiries of fields.
pub(super) fn ask_field_expiries<'a>(
    out: &mut Commands,
    key: &[u8],
    fields: impl ExactSizeIterator<Item = &'a Bytes>,
) {
    let count = fields.len().to_string();
    let mut args = vec![&b"HPEXPIRETIME"[..], key, b"FIELDS", count.as_bytes()];
    args.extend(fields.map(|field| &field[..]));
    out.add(&args);
}

/// Stands for the time of a field that is past it, which no command tells any more.
const PAST_MS: u64 = 1;

/// What HPEXPIRETIME says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldExpiry {
    /// It is not there, or not any more: between the question for its value and this one its time may have come. A server
    /// hides it then and deletes it later, which the stream says, maybe after the cut. Until then it is still there: Redis
    /// renews it when its client does, and so do replicas.
    Gone,
    Never,
    /// In milliseconds since the epoch.
    At(u64),
}

impl FieldExpiry {
    /// How a field that had this value stands in an RDB.
    pub fn field(self, name: &[u8], value: &[u8]) -> Option<Bytes> {
        match self {
            Self::Gone => field(name, value, Some(PAST_MS)),
            Self::Never => field(name, value, None),
            Self::At(at_ms) => field(name, value, Some(at_ms)),
        }
    }

    /// -2 of a field that is not there, -1 of one without (`hpexpiretimeCommand`, t_hash.c).
    fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Integer(-2) => Some(Self::Gone),
            Reply::Integer(-1) => Some(Self::Never),
            Reply::Integer(at_ms) => u64::try_from(*at_ms).ok().map(Self::At),
            _ => None,
        }
    }
}

/// Reads them. All are gone when the key is.
pub(super) fn field_expiries(replies: &mut Replies, count: usize) -> Result<Vec<FieldExpiry>, Error> {
    match replies.next()? {
        Reply::Array(found) if found.len() == count => found
            .iter()
            .map(|reply| FieldExpiry::of(reply).ok_or_else(|| replies.nonsense("HPEXPIRETIME")))
            .collect(),
        Reply::Nil => Ok(vec![FieldExpiry::Gone; count]),
        Reply::Array(found) if found.is_empty() => Ok(vec![FieldExpiry::Gone; count]),
        Reply::Error(text) if text.starts_with(b"WRONGTYPE") => Ok(vec![FieldExpiry::Gone; count]),
        Reply::Error(text) => Err(refused("HPEXPIRETIME", &text)),
        _ => Err(replies.nonsense("HPEXPIRETIME")),
    }
}

/// A field, with its expiry kept beside it.
pub(super) fn field(name: &[u8], value: &[u8], expiry_ms: Option<u64>) -> Option<Bytes> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 20);
    encode::kept_field(&mut out, name, value, expiry_ms);
    Some(out.into())
}

fn score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A string as it stands in an RDB.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    encode::string(out, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    #[test]
    fn a_field_whose_time_came_between_two_questions_is_past_it() {
        let name = |name: &'static str| (Id(0), Bytes::from_static(name.as_bytes()));
        let names = [name("a"), name("b"), name("c")];
        let value = || Reply::Bulk(Bytes::from_static(b"v"));
        let values = Reply::Array(vec![value(), value(), value()]);
        let expiries = [-2, -1, 99].map(Reply::Integer).to_vec();
        let mut replies = Replies::new(vec![values, Reply::Array(expiries)]);
        let dialect = Dialect::of(Server::valkey(9, 0));
        let bodies = elements(&mut replies, &dialect, DataType::Hash, &names, true).unwrap().unwrap();
        assert_eq!(
            bodies,
            [field(b"a", b"v", Some(PAST_MS)), field(b"b", b"v", None), field(b"c", b"v", Some(99))]
        );
    }
}
