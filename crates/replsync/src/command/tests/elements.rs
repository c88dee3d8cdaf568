use super::*;

/// Which elements, in words; `!` where the key may be gone after it.
fn said(command: &str) -> String {
    let args = args(command);
    let Some(elements) = super::super::elements(&args) else { return "whole".to_owned() };
    let names: Vec<_> = elements.names().map(|name| String::from_utf8_lossy(name)).collect();
    format!(
        "{:?} {}{}",
        elements.collection,
        names.join(" "),
        if elements.may_delete_key() { " !" } else { "" }
    )
}

#[test]
fn elements_are_found() {
    for (command, expected) in [
        ("ZADD z 1 a", "SortedSet a"),
        ("zadd z 1 a 2 b", "SortedSet a b"),
        ("ZADD z XX GT CH 1 nx 2 incr", "SortedSet nx incr"),
        ("ZADD z INCR 1 a", "SortedSet a"),
        ("ZADD z NX", "whole"),
        ("ZADD z NX CH INCR", "whole"),
        ("ZADD z 1 a 2", "whole"),
        ("ZADD z NX 1", "whole"),
        ("ZINCRBY z 1 a", "SortedSet a"),
        ("ZINCRBY z 1 a b", "whole"),
        ("ZREM z a b", "SortedSet a b !"),
        ("ZREM z", "whole"),
        ("SADD s a b", "Set a b"),
        ("SADD s", "whole"),
        ("SREM s a", "Set a !"),
        ("HSET h f v g w", "Hash f g"),
        ("HMSET h f v", "Hash f"),
        ("HSET h f v g", "whole"),
        ("HSET h", "whole"),
        ("HSETNX h f v", "Hash f"),
        ("HSETNX h f v g", "whole"),
        ("HINCRBY h f 1", "Hash f"),
        ("HINCRBYFLOAT h f 1.5", "Hash f"),
        ("HINCRBY h f", "whole"),
        ("HDEL h f g", "Hash f g !"),
        ("HPEXPIREAT h 5 FIELDS 2 f g", "Hash f g !"),
        ("HPEXPIREAT h 5 GT fields 1 FIELDS", "Hash FIELDS !"),
        ("HEXPIRE h 5 NX FIELDS 1 f", "Hash f !"),
        ("HEXPIREAT h 5 FIELDS 1 f", "Hash f !"),
        ("HPEXPIRE h 5 FIELDS 1 f", "Hash f !"),
        ("HPEXPIREAT h 5 FIELDS 2 f", "whole"),
        ("HPEXPIREAT h 5 FIELDS 1 f g", "whole"),
        ("HPEXPIREAT h 5 FIELDS 1 f NX", "Hash f !"),
        ("HSETEX h FIELDS 1 f EX PXAT 5", "Hash f !"),
        ("HSETEX h FIELDS 1 f v PXAT", "whole"),
        ("HSETEX h FIELDS 1 f v FIELDS 1 g w", "whole"),
        ("HSETEX h PXAT 5", "whole"),
        ("HPEXPIREAT h 5 FIELDS 0", "whole"),
        ("HPEXPIREAT h 5 FIELDS", "whole"),
        ("HPEXPIREAT h 5 WHAT FIELDS 1 f", "whole"),
        ("HPEXPIREAT h 5", "whole"),
        ("HPERSIST h FIELDS 1 f", "Hash f"),
        ("HGETEX h PX 5 FIELDS 1 f", "Hash f !"),
        ("HGETEX h PERSIST FIELDS 1 f", "Hash f !"),
        ("HGETDEL h FIELDS 2 f g", "Hash f g !"),
        ("HSETEX h KEEPTTL FIELDS 1 f v", "Hash f !"),
        ("HSETEX h FNX PXAT 5 FIELDS 2 f v g w", "Hash f g !"),
        ("HSETEX h PXAT FIELDS FIELDS 1 f v", "Hash f !"),
        ("HSETEX h FIELDS 2 f v", "whole"),
        ("HSETEX h FIELDS 18446744073709551615 f v", "whole"),
        // the closed list is closed
        ("ZPOPMIN z", "whole"),
        ("ZREMRANGEBYRANK z 0 1", "whole"),
        ("SMOVE s t a", "whole"),
        ("SPOP s", "whole"),
        ("GEOADD g 1 1 a", "whole"),
        ("DEL h", "whole"),
        ("RPUSH l a", "whole"),
        ("A-NAME-LONGER-THAN-ALL h f", "whole"),
    ] {
        assert_eq!(said(command), expected, "{command}");
    }
    assert_eq!(super::super::elements(&[]), None);
    assert_eq!(elements(&args("HSET h f v")).map(|elements| elements.key()), Some(1));
}

#[test]
fn expiries_alone_are_told() {
    for command in ["EXPIRE k 1", "pexpire k 1 NX", "EXPIREAT k 1", "PEXPIREAT k 1 GT", "PERSIST k"] {
        assert!(only_expiry(&args(command)), "{command}");
    }
    for command in
        ["EXPIRE k", "PERSIST", "PERSIST k 1", "SET k v PX 1", "GETEX k PX 1", "HPERSIST h FIELDS 1 f"]
    {
        assert!(!only_expiry(&args(command)), "{command}");
    }
    assert!(!only_expiry(&[]));
}
