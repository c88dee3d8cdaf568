use super::super::super::{Checker, Element, Error, Item, Limits, Reader, Slice, decode};
use super::*;
use proptest::prelude::*;

/// A stream as elements tell of it, and whatever they say in text.
fn told(kind: Kind, raw: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    decode::<Error>(kind, raw, &Limits::default(), &mut |element| {
        found.push(format!("{element:?}"));
        Ok(())
    })
    .unwrap();
    found
}

#[derive(Clone, Debug)]
struct Model {
    entries: Vec<(StreamId, Fields)>,
    groups: Vec<Group>,
}

/// Name, entries read, consumers, what is pending.
type Group = (Vec<u8>, Option<i64>, Vec<Vec<u8>>, Vec<Pending>);
type Fields = Vec<(Vec<u8>, Vec<u8>)>;
/// Entry, delivery time, delivery count, and whose it is.
type Pending = (StreamId, i64, u64, usize);

impl Model {
    fn raw(&self, kind: Kind, limits: NodeLimits) -> Result<Vec<u8>, Unwritable> {
        let (mut nodes, mut bytes) = (StreamNodes::new(limits), Vec::new());
        for (id, fields) in &self.entries {
            nodes.push(&mut bytes, *id, fields)?;
        }
        let written = nodes.finish(&mut bytes);
        let mut raw = Vec::new();
        length(&mut raw, written.nodes);
        raw.extend(bytes);
        let (first, last) = (written.first_id.unwrap_or_default(), written.last_id.unwrap_or_default());
        let meta = StreamMeta {
            length: written.entries,
            last_id: last,
            first_id: first,
            max_deleted_id: StreamId { ms: 1, seq: 2 },
            entries_added: 1 << 40,
        };
        let mut groups = StreamGroups::default();
        for (name, entries_read, consumers, pending) in &self.groups {
            groups.group(name, last, *entries_read);
            for (at, consumer) in consumers.iter().enumerate() {
                groups.consumer(consumer, at as i64, -1)?;
            }
            for (id, time, count, owner) in pending {
                groups.pending(&consumers[*owner], *id, *time, *count)?;
            }
        }
        let idmp = StreamIdmp {
            producers: vec![StreamProducer { name: b"p".to_vec(), messages: vec![(b"m".to_vec(), first)] }],
            duplicates: 5,
            ..StreamIdmp::default()
        };
        StreamEnd { meta, groups, idmp }.write(kind, &mut raw)?;
        Ok(raw)
    }

    /// What the decoder is to tell.
    fn told(&self, kind: Kind) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for (id, fields) in &self.entries {
            let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(f, v)| (&f[..], &v[..])).collect();
            told.push(format!("{:?}", Element::StreamEntry { id: *id, fields: &fields }));
        }
        let first = self.entries.first().map_or(StreamId::default(), |(id, _)| *id);
        let last_id = self.entries.last().map_or(StreamId::default(), |(id, _)| *id);
        let newer = kind != Kind::Stream1;
        told.push(format!(
            "{:?}",
            Element::StreamMeta {
                length: self.entries.len() as u64,
                last_id,
                first_id: newer.then_some(first),
                max_deleted_id: newer.then_some(StreamId { ms: 1, seq: 2 }),
                entries_added: newer.then_some(1 << 40),
            }
        ));
        for (group, entries_read, consumers, pending) in &self.groups {
            let entries_read = entries_read.filter(|_| newer);
            told.push(format!("{:?}", Element::StreamGroup { name: group, last_id, entries_read }));
            for (at, name) in consumers.iter().enumerate() {
                let active_time_ms = matches!(kind, Kind::Stream3 | Kind::Stream4).then_some(-1);
                let consumer =
                    Element::StreamConsumer { group, name, seen_time_ms: at as i64, active_time_ms };
                told.push(format!("{consumer:?}"));
                let mut own: Vec<_> = pending.iter().filter(|(.., owner)| *owner == at).collect();
                own.sort();
                for &&(id, delivery_time_ms, delivery_count, _) in &own {
                    let consumer = name;
                    let pending =
                        Element::StreamPending { group, consumer, id, delivery_time_ms, delivery_count };
                    told.push(format!("{pending:?}"));
                }
            }
        }
        if kind == Kind::Stream4 {
            use crate::rdb::Idmp;
            for idmp in [
                Idmp::Config { duration_seconds: 100, max_entries: 100, producers: 1 },
                Idmp::Entry { producer: b"p", message_id: b"m", id: first },
                Idmp::Counters { added: 0, duplicates: 5 },
            ] {
                told.push(format!("{:?}", Element::StreamIdmp(idmp)));
            }
        }
        told
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (-200i64..200).prop_map(|number| number.to_string().into_bytes()),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    let names = prop_oneof![Just(vec!["same", "names"]), Just(vec!["same"]), Just(vec!["3", ""])];
    let entry = (1u64..4, any::<u16>(), names, text(), text()).prop_map(|(step, seq, names, a, b)| {
        let fields = names.into_iter().zip([a, b]).map(|(name, value)| (name.as_bytes().to_vec(), value));
        (step, u64::from(seq), fields.collect::<Vec<_>>())
    });
    let pending = (any::<u16>(), any::<i64>(), any::<u32>(), 0usize..3);
    let group = (
        prop::option::of(0i64..i64::MAX),
        prop::collection::btree_map(any::<u16>(), pending, 0..6),
        any::<bool>(),
    );
    (prop::collection::vec(entry, 0..12), prop::collection::vec(group, 0..3)).prop_map(|(entries, groups)| {
        let mut ms = 0;
        let entries = entries
            .into_iter()
            .map(|(step, seq, fields)| {
                ms += step;
                (StreamId { ms, seq }, fields)
            })
            .collect();
        let groups = groups.into_iter().enumerate().map(|(at, (entries_read, pending, backwards))| {
            let consumers = [&b"alice"[..], b"", b"12"].map(<[u8]>::to_vec).to_vec();
            let mut pending: Vec<_> = pending
                .into_iter()
                .map(|(ms, (seq, time, count, owner))| {
                    (StreamId { ms: ms.into(), seq: seq.into() }, time, u64::from(count), owner)
                })
                .collect();
            if backwards {
                pending.reverse();
            }
            (format!("group {at}").into_bytes(), entries_read, consumers, pending)
        });
        Model { entries, groups: groups.collect() }
    })
}

proptest! {
    #[test]
    fn streams_come_back(
        model in model(),
        max_entries in 0u64..5,
        max_bytes in prop_oneof![Just(0usize), Just(100), Just(4096)],
    ) {
        let limits = NodeLimits { max_entries, max_bytes };
        for kind in [Kind::Stream1, Kind::Stream2, Kind::Stream3, Kind::Stream4] {
            let raw = model.raw(kind, limits).unwrap();
            prop_assert_eq!(told(kind, &raw), model.told(kind));
        }
    }
}

/// Sizes beyond what properties try: the header's count of items ends at 65,534, and an entry may be large.
#[test]
fn large_nodes_and_entries_come_back() {
    let many = (1..=20_000).map(|ms| (StreamId { ms, seq: 0 }, vec![(b"n".to_vec(), b"1".to_vec())]));
    let large = (StreamId { ms: 30_000, seq: 1 }, vec![(vec![b'f'; 5_000], vec![b'v'; 3_000_000])]);
    let model = Model { entries: many.chain([large]).collect(), groups: Vec::new() };
    let raw = model.raw(Kind::Stream1, NodeLimits { max_entries: 0, max_bytes: 0 }).unwrap();
    assert!(told(Kind::Stream1, &raw) == model.told(Kind::Stream1));
}

#[test]
fn what_no_server_holds_is_refused() {
    let (mut nodes, mut out) = (StreamNodes::default(), Vec::new());
    let id = StreamId { ms: 5, seq: 5 };
    nodes.push(&mut out, id, &[("f", "v")]).unwrap();
    for again in [id, StreamId { ms: 5, seq: 4 }, StreamId { ms: 4, seq: 9 }] {
        assert!(matches!(nodes.push(&mut out, again, &[("f", "v")]), Err(Unwritable(_))));
    }
    assert_eq!(nodes.finish(&mut out).entries, 1);

    let mut groups = StreamGroups::default();
    assert!(groups.consumer(b"c", 0, 0).is_err() && groups.pending(b"c", id, 0, 1).is_err());
    groups.group(b"g", id, None);
    groups.consumer(b"c", 0, 0).unwrap();
    assert!(groups.consumer(b"c", 0, 0).is_err());
    assert!(groups.pending(b"other", id, 0, 1).is_err());
    groups.pending(b"c", id, 0, 1).unwrap();
    groups.pending(b"c", id, 0, 1).unwrap();
    let end = StreamEnd { groups, ..StreamEnd::default() };
    assert!(matches!(end.write(Kind::Stream3, &mut out), Err(Unwritable(_))));
    assert!(StreamEnd::default().write(Kind::Hash, &mut out).is_err());
}

#[test]
fn every_server_has_its_kind() {
    let kinds = [
        (Server::redis(4, 0), None),
        (Server::redis(6, 2), Some(Kind::Stream1)),
        (Server::redis(7, 0), Some(Kind::Stream2)),
        (Server::redis(8, 0), Some(Kind::Stream3)),
        (Server::redis(8, 6), Some(Kind::Stream4)),
        (Server::valkey(9, 0), Some(Kind::Stream3)),
    ];
    for (server, kind) in kinds {
        assert_eq!(stream_kind(server), kind, "{server}");
    }
}

/// The structure checks are stricter than decoding.
#[test]
fn nothing_is_found_in_what_is_written() {
    let fields = vec![(b"f".to_vec(), b"v".to_vec())];
    let entries: Vec<_> = (1..300).map(|ms| (StreamId { ms, seq: ms % 3 }, fields.clone())).collect();
    let pending: Vec<_> = entries.iter().map(|(id, _)| (*id, 5, 1, (id.ms % 3) as usize)).collect();
    let consumers = vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
    let model = Model { entries, groups: vec![(b"g".to_vec(), None, consumers, pending)] };
    for kind in [Kind::Stream1, Kind::Stream2, Kind::Stream3, Kind::Stream4] {
        let mut file = b"REDIS0013".to_vec();
        let raw = model.raw(kind, NodeLimits::default()).unwrap();
        super::super::entry(&mut file, None, kind.type_byte(), b"k", &raw);
        file.push(0xff);
        file.extend([0; 8]);
        let mut reader = Reader::new(Slice::new(&file));
        while !matches!(reader.next_item().unwrap(), Some(Item::Entry(_))) {}
        let checked = reader
            .check_value(&mut Checker::new(1 << 20), &mut |finding| panic!("{kind:?}: {finding:?}"))
            .unwrap();
        assert_eq!(checked.elements, 299);
    }
}
