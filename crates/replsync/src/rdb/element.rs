//! Values as clients see them, in pieces, whatever their encoding.

use std::fmt;

use super::ModuleId;

/// A stream entry's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds since the epoch, as a rule.
    pub ms: u64,
    /// The number within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// The id that commands answer as `text`: two numbers and a hyphen between them.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// The id after this one, from which the next XRANGE goes on; nothing after the greatest.
    ///
    /// Source: `streamIncrID` in `src/t_stream.c`.
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A piece of a value, in the order of the file. Integers are given as their decimal text, which is what
/// clients see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element<'a> {
    /// The next part of a string. An empty string has one empty part, a long one parts of
    /// [`STRING_PART_BYTES`](super::STRING_PART_BYTES) and a last one that may be shorter; a compressed one comes so, too.
    StringPart(&'a [u8]),
    /// An item of a list, from the head on.
    ListItem(&'a [u8]),
    /// A member of a set.
    SetMember(&'a [u8]),
    /// A member of a sorted set.
    ZsetMember {
        /// The member.
        member: &'a [u8],
        /// Its score, never NaN.
        score: f64,
    },
    /// A field of a hash.
    HashField {
        /// The field.
        field: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// When the field expires, in milliseconds since the epoch.
        expiry_ms: Option<u64>,
    },
    /// An entry of a stream. Entries that were deleted but are still in the file are left out.
    StreamEntry {
        /// The entry's id.
        id: StreamId,
        /// Fields and values, in order; a field may come twice.
        fields: &'a [(&'a [u8], &'a [u8])],
    },
    /// What a stream knows of itself; after its entries.
    StreamMeta {
        /// The number of entries.
        length: u64,
        /// The greatest id ever.
        last_id: StreamId,
        /// The id of the first entry (from 7.0).
        first_id: Option<StreamId>,
        /// The greatest id of a deleted entry (from 7.0).
        max_deleted_id: Option<StreamId>,
        /// How many entries were ever added (from 7.0).
        entries_added: Option<u64>,
    },
    /// A consumer group; its consumers follow.
    StreamGroup {
        /// The group.
        name: &'a [u8],
        /// The last id delivered.
        last_id: StreamId,
        /// How many entries the group has read (from 7.0); nothing where the server does not know.
        entries_read: Option<i64>,
    },
    /// A consumer; its pending entries follow.
    StreamConsumer {
        /// The group.
        group: &'a [u8],
        /// The consumer.
        name: &'a [u8],
        /// When it was last seen, in milliseconds since the epoch.
        seen_time_ms: i64,
        /// When it last got something, in milliseconds since the epoch; -1 for never (from 7.2).
        active_time_ms: Option<i64>,
    },
    /// An entry delivered to a consumer and not acknowledged yet.
    StreamPending {
        /// The group.
        group: &'a [u8],
        /// The consumer.
        consumer: &'a [u8],
        /// The entry, which may have been deleted since.
        id: StreamId,
        /// When it was delivered last, in milliseconds since the epoch.
        delivery_time_ms: i64,
        /// How often it was delivered.
        delivery_count: u64,
    },
    /// An entry that its consumer gave back: pending in the group, owned by nobody (RDB 14).
    StreamNacked {
        /// The group.
        group: &'a [u8],
        /// The entry.
        id: StreamId,
        /// When it was delivered last, in milliseconds since the epoch.
        delivery_time_ms: i64,
        /// How often it was delivered.
        delivery_count: u64,
    },
    /// What a stream remembers of idempotent producers (from 8.6); after the groups.
    StreamIdmp(Idmp<'a>),
    /// The head of an array; its elements follow.
    ArrayMeta {
        /// The number of elements.
        count: u64,
        /// Where the next insertion goes, if anything was ever inserted.
        insert_index: Option<u64>,
    },
    /// An element of an array.
    ArrayItem {
        /// Its index.
        index: u64,
        /// Its value.
        value: ArrayValue<'a>,
    },
    /// A module's value; its parts follow. Only the module knows what they mean.
    ModuleValue {
        /// The type that the module registered.
        id: ModuleId,
    },
    /// A part of a module's value, in the order in which the module wrote them.
    ModulePart(ModulePart<'a>),
}

/// What modules write values with, one call a part.
///
/// Source: `RedisModule_SaveUnsigned` and the others of its family in `src/module.c`; `rdbLoadCheckModuleValue` in
/// `src/rdb.c`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ModulePart<'a> {
    /// A signed number. Modules that save one as unsigned are not told apart by the bits.
    Signed(i64),
    /// An unsigned number.
    Unsigned(u64),
    /// A float of 32 bits.
    Float(f32),
    /// A float of 64 bits.
    Double(f64),
    /// A string, whole: within [`Limits::max_string_bytes`](super::Limits::max_string_bytes).
    String(&'a [u8]),
}

/// The value of an array's element, typed as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArrayValue<'a> {
    /// Text.
    Bytes(&'a [u8]),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// The parts of a stream's memory of idempotent producers.
///
/// Source: the 8.6 streams in librdb's `src/lib/parser.c`, `elementStreamLP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idmp<'a> {
    /// How long and how much is remembered; always written, also by streams without producers.
    Config {
        /// How long a message's own id is remembered, in seconds.
        duration_seconds: u64,
        /// How many are remembered for each producer.
        max_entries: u64,
        /// How many producers are known.
        producers: u64,
    },
    /// A message that is remembered.
    Entry {
        /// The producer.
        producer: &'a [u8],
        /// The id that the producer gave the message.
        message_id: &'a [u8],
        /// The entry that it became.
        id: StreamId,
    },
    /// Counters over the stream's life.
    Counters {
        /// Message ids added.
        added: u64,
        /// Messages that were recognised as duplicates.
        duplicates: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_counted_up() {
        let max = u64::MAX;
        let cases = [
            ("0-0", Some("0-1")),
            ("5-18446744073709551615", Some("6-0")),
            ("18446744073709551615-18446744073709551615", None),
        ];
        for (text, next) in cases {
            let id = StreamId::parse(text.as_bytes()).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(id.next().map(|next| next.to_string()).as_deref(), next);
        }
        assert_eq!(StreamId::parse(b"7-18446744073709551615"), Some(StreamId { ms: 7, seq: max }));
        for wrong in [&b""[..], b"1", b"1-", b"-1", b"1-2-3", b"1-18446744073709551616", b"\xff-1"] {
            assert_eq!(StreamId::parse(wrong), None, "{}", wrong.escape_ascii());
        }
    }
}
