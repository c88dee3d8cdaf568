use super::*;
use crate::rdb::{Element, Error, Limits, decode, encode};

fn bulk(text: impl Into<String>) -> Reply {
    Reply::Bulk(Bytes::from(text.into()))
}

fn time(ms: i64) -> Reply {
    Reply::Array(vec![bulk((ms / 1000).to_string()), bulk(((ms % 1000) * 1000 + 7).to_string())])
}

fn fields(pairs: &[(&str, Reply)]) -> Reply {
    Reply::Array(pairs.iter().flat_map(|(name, value)| [bulk(*name), value.clone()]).collect())
}

fn number(number: u64) -> Reply {
    Reply::Integer(number as i64)
}

/// A stream with one group, as a server answers for it.
struct Model {
    entries: Vec<(u64, usize)>,
    /// Entry, consumer, when it was delivered.
    pending: Vec<(u64, &'static str, i64)>,
    more: Vec<(&'static str, Reply)>,
    now_ms: i64,
    /// So many requests see the clock go on between two TIMEs.
    slow: usize,
    asked: Vec<Ask>,
}

impl Model {
    fn new(entries: Vec<(u64, usize)>) -> Self {
        let pending = (1..=2500)
            .map(|id| (id, if id % 3 == 0 { "a" } else { "b" }, 1_700_000_000_000 + id as i64))
            .collect();
        Self { entries, pending, more: Vec::new(), now_ms: 1_700_000_100_000, slow: 0, asked: Vec::new() }
    }

    fn reply(&mut self, ask: &Ask) -> Vec<Reply> {
        self.asked.push(ask.clone());
        assert!(self.asked.len() < 10_000, "it is asked for ever");
        let now_ms = self.now_ms;
        let reply = match ask {
            Ask::State => {
                let mut pairs = vec![
                    ("length", number(self.entries.len() as u64)),
                    ("last-generated-id", bulk("900000-1")),
                    ("max-deleted-entry-id", bulk("3-0")),
                    ("entries-added", number(900_000)),
                    ("recorded-first-entry-id", bulk("1-0")),
                    ("groups", number(1)),
                ];
                pairs.extend(self.more.iter().cloned());
                fields(&pairs)
            }
            Ask::Entries(from, count) => {
                let entries = self.entries.iter().filter(|(id, _)| *id >= from.ms + u64::from(from.seq > 0));
                let entry = |(id, len): &(u64, usize)| {
                    let pair = Reply::Array(vec![bulk("field"), bulk("x".repeat(*len))]);
                    Reply::Array(vec![bulk(format!("{id}-0")), pair])
                };
                Reply::Array(entries.take(*count as usize).map(entry).collect())
            }
            Ask::Groups => Reply::Array(vec![fields(&[
                ("name", bulk("group")),
                ("consumers", number(2)),
                ("pending", number(self.pending.len() as u64)),
                ("last-delivered-id", bulk("2500-0")),
                ("entries-read", Reply::Nil),
                ("lag", Reply::Nil),
            ])]),
            Ask::Consumers(_) => Reply::Array(
                [("a", -1), ("b", 50)]
                    .map(|(name, inactive)| {
                        fields(&[
                            ("name", bulk(name)),
                            ("pending", number(1)),
                            ("idle", number(40)),
                            ("inactive", Reply::Integer(inactive)),
                        ])
                    })
                    .to_vec(),
            ),
            Ask::Pending(_, from, count) => {
                let pending = self.pending.iter().filter(|(id, ..)| *id >= from.ms + u64::from(from.seq > 0));
                let entry = |(id, consumer, at_ms): &(u64, &str, i64)| {
                    // The clock goes on before the server looks at it.
                    let idle = now_ms + i64::from(self.slow > 0) - at_ms;
                    Reply::Array(vec![
                        bulk(format!("{id}-0")),
                        bulk(*consumer),
                        Reply::Integer(idle),
                        number(2),
                    ])
                };
                Reply::Array(pending.take(*count as usize).map(entry).collect())
            }
        };
        if ask.replies() == 1 {
            return vec![reply];
        }
        let after_ms = now_ms + i64::from(self.slow > 0);
        self.slow = self.slow.saturating_sub(1);
        self.now_ms += 3;
        vec![time(now_ms), reply, time(after_ms)]
    }

    /// Reads it to the end.
    fn read(&mut self, kind: Kind, bytes: u64) -> Result<Vec<u8>, Read> {
        let mut reader = StreamReader::new(kind, bytes, PAGE_BYTES);
        let mut body = Vec::new();
        loop {
            let ask = reader.ask().clone();
            match reader.take(self.reply(&ask)) {
                Read::Parts(parts) => parts.iter().for_each(|part| body.extend_from_slice(part)),
                Read::End(parts) => {
                    let mut whole = Vec::new();
                    encode::length(&mut whole, reader.nodes());
                    whole.extend(body);
                    parts.iter().for_each(|part| whole.extend_from_slice(part));
                    return Ok(whole);
                }
                other => return Err(other),
            }
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Found {
    entries: Vec<(u64, usize)>,
    pending: Vec<(u64, i64, u64)>,
    consumers: Vec<(String, Option<i64>)>,
    last_id: Option<StreamId>,
}

fn found(kind: Kind, value: &[u8]) -> Found {
    let mut all = Found::default();
    let each = &mut |element: Element<'_>| {
        match element {
            Element::StreamEntry { id, fields } => all.entries.push((id.ms, fields[0].1.len())),
            Element::StreamPending { id, delivery_time_ms, delivery_count, .. } => {
                all.pending.push((id.ms, delivery_time_ms, delivery_count));
            }
            Element::StreamConsumer { name, active_time_ms, .. } => {
                all.consumers.push((String::from_utf8_lossy(name).into_owned(), active_time_ms));
            }
            Element::StreamMeta { last_id, .. } => all.last_id = Some(last_id),
            _ => {}
        }
        Ok::<_, Error>(())
    };
    decode(kind, value, &Limits::default(), each).unwrap();
    all.pending.sort_unstable();
    all
}

fn small() -> Vec<(u64, usize)> {
    (1..=5000).filter(|id| id % 7 != 0).map(|id| (id, id as usize % 90)).collect()
}

#[test]
fn all_of_a_stream_is_read_page_by_page() {
    for kind in [Kind::Stream1, Kind::Stream2, Kind::Stream3, Kind::Stream4] {
        let mut model = Model::new(small());
        let value = model.read(kind, 500_000).unwrap();
        let found = found(kind, &value);
        assert_eq!(found.entries, model.entries);
        let pending: Vec<_> = model.pending.iter().map(|(id, _, at_ms)| (*id, *at_ms, 2)).collect();
        assert_eq!(found.pending, pending);
        assert_eq!(found.last_id, Some(StreamId { ms: 900_000, seq: 1 }));
        assert_eq!(found.consumers.len(), 2);
        if matches!(kind, Kind::Stream3 | Kind::Stream4) {
            assert_eq!(found.consumers[0].1, Some(-1), "never active");
        }
        assert!(model.asked.len() > 10, "few pages: {:?}", model.asked);
    }
}

/// What was read while the clock went on is read again, in ever smaller pages.
#[test]
fn a_delivery_time_counts_only_within_a_millisecond() {
    let mut model = Model::new(small());
    model.slow = UNCLEAR_MAX as usize + 4;
    let value = model.read(Kind::Stream3, 500_000).unwrap();
    let pending: Vec<_> = model.pending.iter().map(|(id, _, at_ms)| (*id, *at_ms, 2)).collect();
    assert_eq!(found(Kind::Stream3, &value).pending, pending);
    let counts = model.asked.iter().filter_map(|ask| match ask {
        Ask::Pending(_, _, count) => Some(*count),
        _ => None,
    });
    let counts: Vec<u64> = counts.collect();
    assert!(counts[0] > counts[1], "{counts:?}");
}

/// Consumers' times are never the same on a replica, and are not waited for.
#[test]
fn consumers_are_not_asked_for_ever() {
    let mut model = Model { pending: Vec::new(), slow: usize::MAX, ..Model::new(small()) };
    assert!(model.read(Kind::Stream3, 500_000).is_ok());
}

#[test]
fn a_reply_has_about_the_bytes_of_a_page() {
    let mut entries: Vec<(u64, usize)> = (1..=300).map(|id| (id, 50_000)).collect();
    let mut model = Model { pending: Vec::new(), ..Model::new(entries.clone()) };
    model.read(Kind::Stream2, 300 * 50_000).unwrap();
    let most = |model: &Model| {
        let counts = model.asked.iter().filter_map(|ask| match ask {
            Ask::Entries(_, count) => Some(*count),
            _ => None,
        });
        counts.max().unwrap()
    };
    assert_eq!(most(&model), 1);
    // What is not read yet weighs more than what was.
    (0..200).for_each(|at| entries[at].1 = 10);
    let mut model = Model { pending: Vec::new(), ..Model::new(entries) };
    model.read(Kind::Stream2, 100 * 50_000).unwrap();
    assert!(most(&model) < 8, "{}", most(&model));
}

#[test]
fn what_no_command_shows_is_not_lost() {
    let unreadable = |model: &mut Model, kind| match model.read(kind, 500_000) {
        Err(Read::Unreadable(why)) => why,
        other => panic!("{other:?}"),
    };
    for more in [("pids-tracked", number(1)), ("news-of-10", number(0))] {
        let mut model = Model { more: vec![more], ..Model::new(small()) };
        assert!(
            unreadable(&mut model, Kind::Stream4).contains("not known") || model.more[0].0 == "pids-tracked"
        );
        assert_eq!(model.asked, [Ask::State], "found out before anything was read");
    }
    // Entries and pending entries must be as many as it says.
    for lost in ["entry", "pending"] {
        let mut reader = StreamReader::new(Kind::Stream3, 500_000, PAGE_BYTES);
        let mut model = Model::new(small());
        let read = loop {
            let ask = reader.ask().clone();
            let mut replies = model.reply(&ask);
            let page = match &ask {
                Ask::Entries(..) if lost == "entry" => replies.first_mut(),
                Ask::Pending(_, from, _) if lost == "pending" && from.ms >= 2000 => replies.get_mut(1),
                _ => None,
            };
            if let Some(Reply::Array(items)) = page {
                items.pop();
            }
            match reader.take(replies) {
                Read::Parts(_) => {}
                other => break other,
            }
        };
        assert!(matches!(read, Read::Unreadable(_)), "{lost} was not missed");
    }
}

#[test]
fn errors_mean_what_they_mean() {
    let take = |error: &'static str| {
        StreamReader::new(Kind::Stream3, 1, PAGE_BYTES)
            .take(vec![Reply::Error(Bytes::from_static(error.as_bytes()))])
    };
    assert_eq!(take("ERR no such key"), Read::Gone);
    assert_eq!(take("WRONGTYPE Operation against a key"), Read::Gone);
    assert!(matches!(take("ERR unknown command 'XINFO'"), Read::Unreadable(_)));
    assert!(matches!(take("NOPERM this user"), Read::Refused("XINFO STREAM", _)));
    assert!(matches!(StreamReader::new(Kind::Stream3, 1, PAGE_BYTES).take(Vec::new()), Read::Unreadable(_)));
}
