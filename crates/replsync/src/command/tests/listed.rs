//! The oracle for what servers answer is in `tests/tests/command_table.rs`; these are the answers of odd servers.

use super::keys::said;
use super::*;
use crate::resp::Reply;

fn text(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn words(words: &[&str]) -> Reply {
    Reply::Array(words.iter().map(|word| text(word)).collect())
}

/// An entry as servers before 7.0 write it.
fn old(name: &str, flags: &[&str], keys: [i64; 3]) -> Reply {
    let [first, last, step] = keys.map(Reply::Integer);
    Reply::Array(vec![text(name), Reply::Integer(-2), words(flags), first, last, step])
}

/// A key specification: flags, first key, the last one after it, step.
fn specification(flags: &[&str], first: i64, last: i64, step: i64) -> Reply {
    let map = |pairs: Vec<(&str, Reply)>| {
        Reply::Array(pairs.into_iter().flat_map(|(name, value)| [text(name), value]).collect())
    };
    let find = map(vec![
        ("lastkey", Reply::Integer(last)),
        ("keystep", Reply::Integer(step)),
        ("limit", Reply::Integer(0)),
    ]);
    let begin = map(vec![("index", Reply::Integer(first))]);
    map(vec![
        ("flags", words(flags)),
        ("begin_search", map(vec![("type", text("index")), ("spec", begin)])),
        ("find_keys", map(vec![("type", text("range")), ("spec", find)])),
    ])
}

/// An entry as servers since 7.0 write it.
fn new(name: &str, flags: &[&str], specifications: Vec<Reply>, subcommands: Vec<Reply>) -> Reply {
    let Reply::Array(mut entry) = old(name, flags, [0, 0, 0]) else { unreachable!() };
    entry.extend([words(&["@write"]), words(&[]), Reply::Array(specifications), Reply::Array(subcommands)]);
    Reply::Array(entry)
}

fn table(server: Server) -> CommandTable {
    CommandTable::new(server)
}

#[track_caller]
fn check(table: &CommandTable, cases: &[(&str, &str)]) {
    for (command, expected) in cases {
        assert_eq!(said(table.touched(&args(command))), *expected, "{command}");
    }
}

#[test]
fn a_name_nobody_asked_about_is_unknown() {
    let mut table = table(Server::redis(7, 4));
    check(&table, &[("SET k v", "unknown"), ("PING", "unknown"), ("X k", "unknown")]);
    assert!(!table.knows(b"set"));
    table.add(b"X", &Reply::Array(vec![Reply::Nil])).unwrap();
    table.add(b"SET", &Reply::Array(vec![old("set", &["write"], [1, 1, 1])])).unwrap();
    assert!(table.knows(b"x") && table.knows(b"seT"));
    check(&table, &[("X k", "unknown"), ("set k v", "1"), ("", "unknown")]);
    assert_eq!(said(table.touched(&[])), "unknown");
    assert!(!table.knows(&[b'x'; 70]));
}

#[test]
fn renamed_commands_keep_their_meaning() {
    let mut table = table(Server::redis(6, 2));
    for (name, entry) in [
        ("zcopy", old("copy", &["write"], [1, 2, 1])),
        ("zmove", old("move", &["write"], [1, 1, 1])),
        ("zexec", old("exec", &[], [0, 0, 0])),
        ("zpublish", old("publish", &[], [0, 0, 0])),
        ("zhset", old("hset", &["write"], [1, 1, 1])),
        ("zexpire", old("expire", &["write"], [1, 1, 1])),
        ("zeval", old("eval", &["movablekeys"], [0, 0, 0])),
        // another's name
        ("del", old("set", &["write"], [1, 1, 1])),
        ("get", old("flushall", &["write"], [0, 0, 0])),
    ] {
        table.add(name.as_bytes(), &Reply::Array(vec![entry])).unwrap();
    }
    // renamed away or disabled: only the server itself sends it
    table.add(b"set", &Reply::Array(vec![Reply::Nil])).unwrap();
    check(
        &table,
        &[
            ("zcopy a b DB 3", "1 and 2 in 3"),
            ("zmove a 3", "1 and 1 in 3"),
            ("zpublish c m", "nothing"),
            ("zeval x 1 k", "unknown"),
            ("del k v", "unknown"),
            ("get", "databases"),
            ("set k v", "1"),
        ],
    );
    assert_eq!(table.classify(&args("zexec")), Class::Exec);
    assert_eq!(table.classify(&args("del k v")), Class::Write);
    assert!(table.elements(&args("zhset h f v")).is_some() && table.elements(&args("del h f v")).is_none());
    assert!(table.only_expiry(&args("zexpire k 1")) && !table.only_expiry(&args("zhset k 1")));
    assert_eq!(table.original_name(&args("zhset h f v")), Some("hset"));
}

#[test]
fn names_that_steer_the_stream_are_nobody_elses() {
    for name in ["SELECT", "multi", "exec", "ping", "replconf"] {
        let renamed = Reply::Array(vec![old("get", &[], [1, 1, 1])]);
        let error = table(Server::redis(7, 4)).add(name.as_bytes(), &renamed).unwrap_err();
        assert!(
            error.to_string().contains(&format!("renamed GET to {}", name.to_ascii_uppercase())),
            "{error}"
        );
    }
}

#[test]
fn positions_are_believed_where_they_are_the_whole_truth() {
    let mut table = table(Server::redis(7, 4));
    let write = ["OW", "update"];
    for entry in [
        new("two", &["write"], vec![specification(&write, 1, 0, 1), specification(&write, 3, -1, 2)], vec![]),
        new("part", &["write"], vec![specification(&["OW", "incomplete"], 1, 0, 1)], vec![]),
        new("channel", &[], vec![specification(&["not_key"], 1, 0, 1)], vec![]),
        new("future", &["movablekeys"], vec![specification(&write, 1, 0, 1)], vec![]),
        new(
            "box",
            &[],
            vec![],
            vec![
                new("box|one", &["write"], vec![specification(&write, 2, 0, 1)], vec![]),
                new("box|none", &["write"], vec![], vec![]),
            ],
        ),
        new("json.set", &["write", "module"], vec![specification(&write, 1, 0, 1)], vec![]),
        new("ts.add", &["write", "module"], vec![specification(&write, 1, 0, 1)], vec![]),
        new("ts.createrule", &["write", "module"], vec![specification(&write, 1, 0, 1)], vec![]),
        new("own.thing", &["write", "module"], vec![specification(&write, 1, 0, 1)], vec![]),
        // other keys than ours, as of a version to come
        new("script", &["movablekeys"], vec![specification(&write, 1, 0, 1)], vec![]),
        new("append", &["write"], vec![specification(&write, 1, 1, 1)], vec![]),
        new("incr", &["movablekeys"], vec![specification(&write, 1, 0, 1)], vec![]),
        new("del", &["write"], vec![specification(&write, 1, -1, 1)], vec![]),
    ] {
        let Reply::Array(fields) = &entry else { unreachable!() };
        let name = fields[0].bulk().unwrap();
        table.add(&name, &Reply::Array(vec![entry])).unwrap();
    }
    check(
        &table,
        &[
            ("two a x b y c", "1 3 5"),
            ("two a x", "unknown"),
            ("part a", "unknown"),
            ("channel a", "unknown"),
            ("script a b", "unknown"),
            ("future a", "unknown"),
            ("BOX one k", "2"),
            ("box none k", "unknown"),
            ("box other k", "unknown"),
            ("box", "unknown"),
            ("JSON.SET k $ 1", "1"),
            ("TS.ADD k 1 1", "unknown"),
            ("TS.CREATERULE a b AGGREGATION sum 1", "unknown"),
            ("OWN.THING k", "unknown"),
            ("append k v", "unknown"),
            ("incr k", "unknown"),
            ("del k l", "1 2"),
        ],
    );
}

#[test]
fn other_answers_are_errors() {
    let server = Server::redis(7, 4);
    for (reply, expected) in [
        (Reply::Error(Bytes::from("NOPERM no")), "+command"),
        (Reply::Nil, "proxy"),
        (Reply::Array(vec![Reply::Integer(1)]), "entry 0"),
        (Reply::Array(vec![Reply::Array(vec![text("set")])]), "entry 0"),
    ] {
        let error = table(server).confirm(&[Bytes::from("set")], &reply).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = table(server).confirm(&[Bytes::from("set")], &Reply::Array(vec![])).unwrap_err();
    assert!(error.to_string().contains("0 of 1 names"), "{error}");
}

/// Anything at all as a reply.
fn any_reply() -> impl Strategy<Value = Reply> {
    let word = proptest::sample::select(vec![
        "set",
        "copy",
        "movablekeys",
        "module",
        "flags",
        "begin_search",
        "find_keys",
        "type",
        "spec",
        "index",
        "range",
        "lastkey",
        "keystep",
        "limit",
        "json.set",
        "a|b",
    ]);
    let leaf = prop_oneof![
        4 => word.prop_map(text),
        3 => prop_oneof![-3_i64..4, any::<i64>()].prop_map(Reply::Integer),
        1 => Just(Reply::Nil),
    ];
    leaf.prop_recursive(6, 64, 10, |inner| proptest::collection::vec(inner, 0..10).prop_map(Reply::Array))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_reply_and_no_command_panics(
        reply in any_reply(),
        first in any::<i64>(), last in any::<i64>(), step in any::<i64>(),
        small in (-3_i64..5, -3_i64..5, -1_i64..3),
        rest in proptest::collection::vec(word(), 0..8),
    ) {
        let mut table = table(Server::redis(7, 4));
        let _ = table.add(b"any", &reply);
        let entries = [
            ("far", specification(&[], first, last, step)),
            ("near", specification(&[], small.0, small.1, small.2)),
        ];
        for (name, specification) in entries {
            let entry = new(name, &["write"], vec![specification], vec![]);
            let _ = table.add(name.as_bytes(), &Reply::Array(vec![entry]));
        }
        for name in ["any", "far", "near"] {
            let mut command = vec![Bytes::from(name)];
            command.extend(rest.iter().cloned());
            if let Touched::Keys(keys) = table.touched(&command) {
                let keys: Vec<usize> = keys.collect();
                prop_assert!(!keys.is_empty() && keys.iter().all(|key| (1..command.len()).contains(key)));
            }
        }
    }
}
