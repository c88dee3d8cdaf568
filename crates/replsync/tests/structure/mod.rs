//! Values made by hand: good ones, and each with one thing wrong.

use std::ops::Range;

/// A value with something wrong in it.
pub struct Case {
    pub what: &'static str,
    pub type_byte: u8,
    pub raw: Vec<u8>,
    /// The kinds of the findings, in their order.
    pub kinds: &'static [&'static str],
    /// Whether servers take it for good all the same.
    #[allow(dead_code)] // read by the test that asks them
    pub servers_take_it: bool,
}

/// An RDB of these values, and of a sound one after them.
pub fn file(values: &[(u8, &[u8])]) -> Vec<u8> {
    let mut file = b"REDIS0012".to_vec();
    for (type_byte, raw) in values {
        file.extend([*type_byte, 1, b'k']);
        file.extend(*raw);
    }
    file.extend(b"\x02\x01s\x02\x01a\x01b\xff\0\0\0\0\0\0\0\0");
    file
}

pub enum Part<'a> {
    Text(&'a [u8]),
    /// 7 bits, or 64.
    Int(i64),
}

use Part::{Int, Text};

pub fn listpack(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let before = body.len();
        match part {
            Text(text) => {
                body.push(0x80 | text.len() as u8);
                body.extend(*text);
            }
            Int(number @ 0..128) => body.push(*number as u8),
            Int(number) => {
                body.push(0xf4);
                body.extend(number.to_le_bytes());
            }
        }
        body.push((body.len() - before) as u8);
    }
    let mut blob = ((body.len() + 7) as u32).to_le_bytes().to_vec();
    blob.extend((parts.len() as u16).to_le_bytes());
    blob.extend(body);
    blob.push(0xff);
    blob
}

pub fn ziplist(texts: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    let (mut previous, mut tail) = (0u8, 10u32);
    for text in texts {
        tail = 10 + body.len() as u32;
        body.push(previous);
        body.push(text.len() as u8);
        body.extend(*text);
        previous = text.len() as u8 + 2;
    }
    let mut blob = ((body.len() + 11) as u32).to_le_bytes().to_vec();
    blob.extend(tail.to_le_bytes());
    blob.extend((texts.len() as u16).to_le_bytes());
    blob.extend(body);
    blob.push(0xff);
    blob
}

fn intset(width: usize, numbers: &[i64]) -> Vec<u8> {
    let mut blob = (width as u32).to_le_bytes().to_vec();
    blob.extend((numbers.len() as u32).to_le_bytes());
    numbers.iter().for_each(|number| blob.extend(&number.to_le_bytes()[..width]));
    blob
}

pub fn len(len: usize) -> Vec<u8> {
    match len {
        0..64 => vec![len as u8],
        _ => [&[0x80][..], &(len as u32).to_be_bytes()].concat(),
    }
}

pub fn string(text: &[u8]) -> Vec<u8> {
    [len(text.len()), text.to_vec()].concat()
}

pub fn table(texts: &[&[u8]]) -> Vec<u8> {
    let mut raw = len(texts.len());
    texts.iter().for_each(|text| raw.extend(string(text)));
    raw
}

fn hash(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut raw = len(pairs.len());
    pairs.iter().for_each(|(field, value)| raw.extend([string(field), string(value)].concat()));
    raw
}

fn zset(members: &[(&[u8], f64)]) -> Vec<u8> {
    let mut raw = len(members.len());
    members
        .iter()
        .for_each(|(member, score)| raw.extend([&string(member)[..], &score.to_le_bytes()].concat()));
    raw
}

/// A hash with field TTLs: the least, then each relative to it.
fn hash_ttl(least: i64, fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut raw = least.to_le_bytes().to_vec();
    raw.extend(len(fields.len()));
    for (ttl, field) in fields {
        raw.push(*ttl);
        raw.extend([string(field), string(b"v")].concat());
    }
    raw
}

/// Fields with their expiries, packed.
fn listpackex(fields: &[(&[u8], i64)]) -> Vec<u8> {
    let parts: Vec<_> = fields.iter().flat_map(|(field, at)| [Text(field), Text(b"v"), Int(*at)]).collect();
    [&1u64.to_le_bytes()[..], &string(&listpack(&parts))].concat()
}

fn quicklist(nodes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut raw = len(nodes.len());
    nodes.iter().for_each(|(container, node)| raw.extend([len(*container), string(node)].concat()));
    raw
}

pub fn id(ms: u64, seq: u64) -> Vec<u8> {
    [ms.to_be_bytes(), seq.to_be_bytes()].concat()
}

/// A node: live and deleted entries by count, the field `f`, then entries of its one value.
fn node(live: i64, deleted: i64, entries: &[(i64, i64, i64)]) -> Vec<u8> {
    let mut parts = vec![Int(live), Int(deleted), Int(1), Text(b"f"), Int(0)];
    for (flags, ms, seq) in entries {
        parts.extend([Int(*flags), Int(*ms), Int(*seq), Text(b"v"), Int(4)]);
    }
    listpack(&parts)
}

type Group<'a> = (&'a [u8], Vec<Vec<u8>>, Vec<(&'a [u8], Vec<Vec<u8>>)>);

/// A stream of 5.0: nodes by their ids, length, last id, groups with what is pending in all and for each consumer.
fn stream(nodes: &[(Vec<u8>, Vec<u8>)], length: u8, last: (u8, u8), groups: &[Group<'_>]) -> Vec<u8> {
    let mut raw = len(nodes.len());
    nodes.iter().for_each(|(key, node)| raw.extend([string(key), string(node)].concat()));
    raw.extend([length, last.0, last.1]);
    raw.extend(len(groups.len()));
    for (name, pending, consumers) in groups {
        raw.extend([string(name), vec![1, 1], len(pending.len())].concat());
        pending.iter().for_each(|id| raw.extend([&id[..], &7u64.to_le_bytes(), &[1]].concat()));
        raw.extend(len(consumers.len()));
        for (name, owned) in consumers {
            raw.extend([&string(name)[..], &7u64.to_le_bytes(), &len(owned.len())].concat());
            owned.iter().for_each(|id| raw.extend(id));
        }
    }
    raw
}

fn two_entries() -> (Vec<u8>, Vec<u8>) {
    (id(1, 0), node(2, 1, &[(2, 0, 0), (3, 0, 1), (2, 1, 0)]))
}

fn groups<'a>() -> Vec<Group<'a>> {
    vec![
        (b"g", vec![id(1, 0), id(2, 0)], vec![(b"alice", vec![id(2, 0)]), (b"bob", vec![id(1, 0)])]),
        (b"h", vec![id(1, 0)], vec![(b"alice", vec![id(1, 0)])]),
    ]
}

fn good_stream() -> Vec<u8> {
    stream(&[two_entries()], 2, (2, 0), &groups())
}

/// Sound values, by type byte.
pub fn good() -> Vec<(u8, Vec<u8>)> {
    vec![
        (0, b"\xc3\x05\x0a\x00x\xe0\x00\x00"[..].into()),
        (1, table(&[b"a", b"a"])),
        (2, table(&[b"a", b"b"])),
        (3, b"\x02\x01a\xfe\x01b\x031.5".to_vec()),
        (4, hash(&[(b"a", b"1"), (b"b", b"1")])),
        (5, zset(&[(b"a", 2.0), (b"b", 1.0)])),
        (9, string(b"\x02\x01a\x01\x00x\x01b\x01\x00x\xff")),
        (10, string(&ziplist(&[b"a", b"bc", b"a"]))),
        (11, string(&intset(2, &[-3, 5, 9]))),
        (11, string(&intset(8, &[i64::MIN, 0, i64::MAX]))),
        (12, string(&ziplist(&[b"a", b"1", b"b", b"1.5"]))),
        (13, string(&ziplist(&[b"a", b"1", b"b", b"1"]))),
        (14, table(&[&ziplist(&[b"a"]), &ziplist(&[b"b", b"c"])])),
        (15, good_stream()),
        (16, string(&listpack(&[Text(b"a"), Int(1), Int(5), Text(b"x")]))),
        (17, string(&listpack(&[Text(b"a"), Int(1), Text(b"b"), Int(1), Text(b"0"), Text(b"1.5")]))),
        (18, quicklist(&[(1, b"plain"), (2, &listpack(&[Text(b"a"), Int(-1)]))])),
        (20, string(&listpack(&[Text(b"a"), Int(7), Int(1 << 40)]))),
        (24, hash_ttl(1 << 41, &[(1, b"a"), (0, b"b"), (9, b"c")])),
        (25, listpackex(&[(b"a", 1 << 41), (b"b", 1 << 42), (b"c", 0)])),
    ]
}

/// The first good value of this type, its bytes in `at` (counted from the start of the raw value) replaced.
fn damaged(type_byte: u8, at: Range<usize>, with: &[u8]) -> Vec<u8> {
    let mut raw = good().into_iter().find(|(byte, _)| *byte == type_byte).unwrap_or_default().1;
    raw.splice(at, with.iter().copied());
    raw
}

/// Everything that can be wrong, once.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |servers_take_it, kinds, type_byte, what, raw: Vec<u8>| {
        cases.push(Case { what, type_byte, raw, kinds, servers_take_it });
    };
    let (refused, taken) = (false, true);

    add(
        refused,
        &["lzf"],
        0,
        "a string gives more than it claims",
        b"\xc3\x05\x09\x00x\xe0\x00\x00".to_vec(),
    );
    add(
        refused,
        &["lzf"],
        0,
        "a string gives less than it claims",
        b"\xc3\x05\x0b\x00x\xe0\x00\x00".to_vec(),
    );
    add(
        refused,
        &["lzf"],
        0,
        "a string copies from before its start",
        b"\xc3\x05\x0a\x00x\xe0\x00\x01".to_vec(),
    );
    add(refused, &["lzf"], 2, "a member is compressed wrongly", b"\x02\x01a\xc3\x02\x0a\x05x".to_vec());
    add(refused, &["lzf"], 18, "a node is compressed wrongly", b"\x01\x02\xc3\x02\x14\x05x".to_vec());

    for type_byte in [1, 2, 3, 4, 5, 14, 18] {
        add(refused, &["empty"], type_byte, "a collection without elements", vec![0]);
    }
    add(refused, &["empty"], 11, "an empty intset", string(&intset(2, &[])));
    for type_byte in [16, 17, 20] {
        add(refused, &["empty"], type_byte, "an empty listpack", string(&listpack(&[])));
    }
    for type_byte in [10, 12, 13] {
        add(refused, &["empty"], type_byte, "an empty ziplist", string(&ziplist(&[])));
    }
    add(refused, &["empty"], 14, "a list of an empty ziplist", table(&[&ziplist(&[])]));
    add(refused, &["empty"], 24, "a hash with TTLs and no field", [&1u64.to_le_bytes()[..], &[0]].concat());
    // where some of the nodes are empty, servers skip these
    add(refused, &["quicklist"], 18, "a node of no bytes", quicklist(&[(1, b"x"), (2, b"")]));
    add(refused, &["quicklist"], 18, "a node of a third kind", quicklist(&[(3, b"x")]));
    add(
        refused,
        &["listpack"],
        18,
        "a node's listpack",
        quicklist(&[(2, b"\x09\0\0\0\x01\0\x81a\x07\xff"), (1, b"x")]),
    );

    // 1 byte of length, then the blob: length 0..4, count 4..6, items 6..
    add(refused, &["listpack"], 16, "the length of a listpack", damaged(16, 1..2, b"\x7f"));
    add(refused, &["listpack"], 16, "its count, too low", damaged(16, 5..6, b"\x02"));
    add(refused, &["listpack"], 16, "its count, too high", damaged(16, 5..6, b"\x06"));
    add(refused, &["listpack"], 16, "the length of an item", damaged(16, 7..8, b"\x82"));
    add(refused, &["listpack"], 16, "its length backwards", damaged(16, 9..10, b"\x03"));
    add(refused, &["listpack"], 16, "an encoding that is none", damaged(16, 7..8, b"\xf8"));
    add(refused, &["listpack"], 16, "an end too early", damaged(16, 10..11, b"\xff"));
    add(refused, &["listpack"], 16, "another end", damaged(16, 17..18, b"\xfe"));
    add(refused, &["listpack"], 16, "half a pair", string(&listpack(&[Text(b"a"), Int(1), Text(b"b")])));
    add(refused, &["listpack"], 25, "two thirds", {
        let parts = [Text(b"a"), Text(b"v"), Int(1 << 41), Text(b"b"), Text(b"v")];
        [&1u64.to_le_bytes()[..], &string(&listpack(&parts))].concat()
    });

    // length 0..4, tail 4..8, count 8..10, items 10..
    add(refused, &["ziplist"], 10, "the length of a ziplist", damaged(10, 1..2, b"\x7f"));
    add(refused, &["ziplist"], 10, "its tail", damaged(10, 5..6, b"\x0a"));
    add(refused, &["ziplist"], 10, "its tail, beyond the end", damaged(10, 6..7, b"\x0a"));
    add(refused, &["ziplist"], 10, "its count", damaged(10, 9..10, b"\x02"));
    add(refused, &["ziplist"], 10, "the length of the item before", damaged(10, 14..15, b"\x04"));
    add(refused, &["ziplist"], 10, "an encoding that is none", damaged(10, 12..13, b"\xc1"));
    add(refused, &["ziplist"], 13, "half a pair", string(&ziplist(&[b"a", b"b", b"c"])));
    add(refused, &["ziplist"], 14, "a node's ziplist", table(&[&ziplist(&[b"a"]), b"xxxxxxxxxxxx"]));
    add(refused, &["zipmap"], 9, "a zipmap's count", string(b"\x03\x01a\x01\x00x\x01b\x01\x00x\xff"));
    add(refused, &["zipmap"], 9, "a zipmap's length", string(b"\x02\x01a\x01\x00x\x09b\x01\x00x\xff"));

    add(refused, &["intset"], 11, "an intset's width", damaged(11, 1..2, b"\x03"));
    add(refused, &["intset"], 11, "its length", damaged(11, 5..6, b"\x02"));
    add(refused, &["intset"], 11, "its order", string(&intset(2, &[5, -3, 9])));
    add(refused, &["intset"], 11, "a number twice", string(&intset(4, &[5, 5, 9])));

    add(refused, &["score"], 5, "a score that is no number", zset(&[(b"a", f64::NAN), (b"b", 1.0)]));
    add(refused, &["score"], 3, "a decimal score that is no number", b"\x01\x01a\xfd".to_vec());
    add(refused, &["score"], 3, "a decimal score that is no decimal", b"\x01\x01a\x03xyz".to_vec());
    add(taken, &["score"], 17, "a packed score that is no number", {
        string(&listpack(&[Text(b"a"), Text(b"x1"), Text(b"b"), Int(1)]))
    });
    add(taken, &["order"], 17, "scores that descend", {
        string(&listpack(&[Text(b"a"), Int(2), Text(b"b"), Int(1)]))
    });
    add(taken, &["order"], 12, "names that descend", string(&ziplist(&[b"b", b"1", b"a", b"1"])));

    add(refused, &["duplicate"], 2, "a member twice", table(&[b"a", b"b", b"a"]));
    add(refused, &["duplicate"], 2, "a member twice, once as a number", b"\x02\xc0\x07\x017".to_vec());
    add(refused, &["duplicate"], 4, "a field twice", hash(&[(b"a", b"1"), (b"a", b"2")]));
    add(refused, &["duplicate"], 5, "a member with two scores", zset(&[(b"a", 1.0), (b"a", 2.0)]));
    add(
        refused,
        &["duplicate", "duplicate"],
        3,
        "a member three times",
        b"\x03\x01a\xfe\x01a\xff\x01a\xff".to_vec(),
    );
    add(
        refused,
        &["duplicate"],
        9,
        "a field twice in a zipmap",
        string(b"\x02\x01a\x01\x00x\x01a\x01\x00x\xff"),
    );
    add(
        refused,
        &["duplicate"],
        12,
        "a member twice in a ziplist",
        string(&ziplist(&[b"a", b"1", b"a", b"2"])),
    );
    add(
        refused,
        &["duplicate"],
        13,
        "a field twice in a ziplist",
        string(&ziplist(&[b"a", b"1", b"a", b"2"])),
    );
    add(refused, &["duplicate"], 16, "a field twice in a listpack", {
        string(&listpack(&[Int(7), Int(1), Text(b"7"), Int(2)]))
    });
    add(refused, &["duplicate"], 17, "a member twice in a listpack", {
        string(&listpack(&[Text(b"a"), Int(1), Text(b"a"), Int(2)]))
    });
    add(
        refused,
        &["duplicate"],
        20,
        "a member twice in a listpack",
        string(&listpack(&[Text(b"a"), Text(b"a")])),
    );
    add(refused, &["duplicate"], 24, "a field twice", hash_ttl(1 << 41, &[(1, b"a"), (0, b"a")]));
    add(refused, &["duplicate"], 25, "a field twice", listpackex(&[(b"a", 1 << 41), (b"a", 0)]));

    let late = 1 << 48;
    add(taken, &["expiry"], 24, "no field expires first", hash_ttl(1 << 41, &[(2, b"a"), (0, b"b")]));
    add(refused, &["expiry", "expiry"], 24, "an expiry of 49 bits", hash_ttl(late, &[(1, b"a"), (0, b"b")]));
    add(refused, &["expiry"], 25, "an expiry of 49 bits", listpackex(&[(b"a", late)]));
    add(refused, &["expiry"], 25, "a negative expiry", listpackex(&[(b"a", -1)]));
    add(refused, &["expiry"], 25, "expiries that descend", listpackex(&[(b"a", 1 << 42), (b"b", 1 << 41)]));
    add(refused, &["expiry"], 25, "an expiry after none", listpackex(&[(b"a", 0), (b"b", 1 << 41)]));

    let entries: &[(i64, i64, i64)] = &[(2, 0, 0), (2, 1, 0)];
    let of = |nodes: &[(Vec<u8>, Vec<u8>)], length| stream(nodes, length, (9, 0), &[]);
    add(refused, &["stream"], 15, "a node's key", of(&[(b"short".to_vec(), node(2, 0, entries))], 2));
    add(refused, &["stream"], 15, "counts above the entries", of(&[(id(1, 0), node(3, 0, entries))], 2));
    add(refused, &["stream"], 15, "counts below the entries", of(&[(id(1, 0), node(1, 0, entries))], 2));
    add(taken, &["stream"], 15, "a live one counted as deleted", of(&[(id(1, 0), node(1, 1, entries))], 2));
    add(refused, &["stream"], 15, "text for a count", {
        of(&[(id(1, 0), listpack(&[Text(b"x"), Int(0), Int(0), Int(0)]))], 1)
    });
    add(refused, &["stream"], 15, "no end of the master entry", {
        of(&[(id(1, 0), listpack(&[Int(1), Int(0), Int(1), Text(b"f"), Int(1)]))], 1)
    });
    add(refused, &["stream"], 15, "an entry's own length", {
        let parts = [Int(1), Int(0), Int(0), Int(0), Int(2), Int(0), Int(0), Int(4)];
        of(&[(id(1, 0), listpack(&parts))], 1)
    });
    add(
        refused,
        &["listpack"],
        15,
        "a node's listpack",
        of(&[(id(1, 0), b"\x09\0\0\0\x01\0\x81a\x07\xff".to_vec())], 1),
    );
    add(refused, &["stream"], 15, "a node without items", of(&[(id(1, 0), listpack(&[]))], 1));
    add(
        taken,
        &["stream"],
        15,
        "ids that descend",
        of(&[(id(1, 0), node(2, 0, &[(2, 1, 0), (2, 0, 0)]))], 2),
    );
    add(refused, &["stream"], 15, "a node twice", of(&[two_entries(), two_entries()], 4));
    let deleted = (id(1, 0), node(0, 2, &[(3, 0, 0), (3, 1, 0)]));
    add(refused, &["stream"], 15, "a node twice, once without entries", of(&[two_entries(), deleted], 2));
    add(taken, &["stream"], 15, "another length", stream(&[two_entries()], 3, (2, 0), &[]));
    add(refused, &["stream"], 15, "a length without entries", stream(&[], 3, (2, 0), &[]));
    add(taken, &["stream"], 15, "an entry beyond the last id", stream(&[two_entries()], 2, (1, 9), &[]));

    let with = |groups: &[Group<'_>]| stream(&[two_entries()], 2, (2, 0), groups);
    let mut twice = groups();
    twice[1].0 = b"g";
    add(refused, &["duplicate"], 15, "a group twice", with(&twice));
    let mut twice = groups();
    twice[0].2[1].0 = b"alice";
    add(refused, &["duplicate"], 15, "a consumer twice", with(&twice));
    let mut odd = groups();
    odd[0].2[1].1.clear();
    add(refused, &["pending"], 15, "a pending entry without owner", with(&odd));
    let mut odd = groups();
    odd[0].2[1].1.push(id(2, 0));
    add(taken, &["pending"], 15, "a pending entry with two owners", with(&odd));
    let mut odd = groups();
    odd[0].2[1].1.push(id(1, 0));
    add(refused, &["pending"], 15, "a pending entry twice with its owner", with(&odd));
    let mut odd = groups();
    odd[0].2[1].1.push(id(3, 0));
    add(refused, &["pending"], 15, "a pending entry that the group has not", with(&odd));
    let mut odd = groups();
    odd[0].1.push(id(2, 0));
    add(refused, &["pending"], 15, "a pending entry twice", with(&odd));
    cases
}
