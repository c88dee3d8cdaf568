//! Each rule, a line a case. What servers send, and that targets accept and do what is expected here, was tried
//! on the servers themselves (`docs/formats/stream.md`).

mod elements;
mod keys;
mod listed;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::server::Server;

const NOW_MS: u64 = 1_700_000_000_000;

fn args(text: &str) -> Vec<Bytes> {
    text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn target(server: Server) -> Target {
    Target { server, commands: None, expiries: Expiries::Plain }
}

/// What becomes of a command, in words: `=` as it is, `- why`, `! why not`, or the commands with ` ; ` between.
fn said(text: &str, server: Server) -> String {
    said_to(text, &target(server))
}

fn said_to(text: &str, target: &Target) -> String {
    match rewrite(&args(text), target, NOW_MS) {
        Ok(Rewritten::AsIs) => "=".to_owned(),
        Ok(Rewritten::Dropped(why)) => format!("- {why}"),
        Ok(Rewritten::Replaced(commands)) => {
            let words = |args: &Vec<Bytes>| {
                args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" ")
            };
            commands.iter().map(words).collect::<Vec<_>>().join(" ; ")
        }
        Err(no_rule) => format!("! {no_rule}"),
    }
}

#[track_caller]
fn check(server: Server, cases: &[(&str, &str)]) {
    for (command, expected) in cases {
        let said = said(command, server);
        let matches = match expected.strip_prefix("! ") {
            Some(reason) => said.starts_with('!') && said.contains(reason),
            None => said == *expected,
        };
        assert!(matches, "{command} for {server}: {said:?}, expected {expected:?}");
    }
}

#[test]
fn the_table_is_sorted_lower_case_and_unique() {
    for pair in table::TABLE.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
    }
    for row in table::TABLE {
        assert_eq!(row.name, row.name.to_ascii_lowercase());
        assert_eq!(
            table::lookup(row.name.to_ascii_uppercase().as_bytes()).map(|found| found.name),
            Some(row.name)
        );
    }
}

#[test]
fn commands_are_classified() {
    for (command, class) in [
        ("SELECT 11", Class::Select(11)),
        ("select 0", Class::Select(0)),
        ("SELECT -1", Class::Write),
        ("MULTI", Class::Multi),
        ("exec", Class::Exec),
        ("PING", Class::Ping),
        ("REPLCONF GETACK *", Class::GetAck),
        ("REPLCONF ACK 0", Class::Ping),
        ("publish a b", Class::Publish),
        ("SPUBLISH a b", Class::Publish),
        ("set a b", Class::Write),
        ("JSON.SET a $ 1", Class::Write),
    ] {
        assert_eq!(classify(&args(command)), class, "{command}");
    }
    assert_eq!(classify(&[]), Class::Write);
}

#[test]
fn expiries_are_found() {
    use Unit::*;
    for (command, expected) in [
        ("SET k v PX 5 NX", Some((4, RelativeMilliseconds))),
        ("SET k v NX EX 5", Some((5, RelativeSeconds))),
        ("SET k v IFEQ px KEEPTTL", None),
        ("SET px v", None),
        ("MSETEX 1 px 1 EXAT 5", Some((5, Seconds))),
        ("HSETEX h PXAT 5 FIELDS 1 px v", Some((3, Milliseconds))),
        ("HSETEX h FIELDS 1 px v PXAT 5", Some((7, Milliseconds))),
        ("HGETEX h FIELDS 2 px px EX 5", Some((7, RelativeSeconds))),
        ("HSETEX h FIELDS 1 px v", None),
        ("PSETEX k 5 v", Some((2, RelativeMilliseconds))),
        ("pexpireat k 5 GT", Some((2, Milliseconds))),
        ("HEXPIRE k 5 FIELDS 1 f", Some((2, RelativeSeconds))),
        ("RESTORE k 0 p REPLACE", None),
        ("RESTORE k 5 p REPLACE", Some((2, RelativeMilliseconds))),
        ("RESTORE k 5 p ABSTTL", Some((2, Milliseconds))),
        ("GETEX k PERSIST", None),
        ("SADD k px 5", None),
    ] {
        let expected = expected.map(|(argument, unit)| Expiry { argument, unit });
        assert_eq!(expiry(&args(command)), expected, "{command}");
    }
}

#[test]
fn conditions_are_dropped_and_expiries_made_absolute() {
    check(
        Server::redis(7, 4),
        &[
            ("SET k v", "="),
            ("SET k v KEEPTTL", "="),
            ("SET k v PXAT 1700000000005", "="),
            ("set k v XX", "SET k v"),
            ("SET k v IFEQ old", "SET k v"),
            ("SET k v IFDNE 0000000000000000 KEEPTTL", "SET k v KEEPTTL"),
            ("SET k v NX GET PX 5", "SET k v PXAT 1700000000005"),
            ("SET k v EX 5", "SET k v PXAT 1700000005000"),
            ("SET k v EXAT 1800000000", "SET k v PXAT 1800000000000"),
            ("SET k v EX 9223372036854775807", "SET k v PXAT 9223372036854775807"),
            ("SET k v KEEPTTL PX 5", "! malformed"),
            ("SET k v PX", "! malformed"),
            ("SET k v LATER", "! option LATER"),
            ("SETNX k v", "SET k v"),
            ("SETEX k 5 v", "SET k v PXAT 1700000005000"),
            ("PSETEX k x v", "! malformed"),
            ("MSETNX a 1 b 2", "MSET a 1 b 2"),
            ("HSETNX h f v", "HSET h f v"),
            ("RENAMENX a b", "RENAME a b"),
            ("COPY a b", "COPY a b REPLACE"),
            ("COPY a b DB 1", "COPY a b DB 1 REPLACE"),
            ("COPY a b DB 1 REPLACE", "="),
            ("COPY a b NEVER", "! option NEVER"),
            ("EXPIRE k 5", "PEXPIREAT k 1700000005000"),
            ("PEXPIRE k 5", "PEXPIREAT k 1700000000005"),
            ("EXPIREAT k 1800000000", "="),
            ("PEXPIREAT k 1700000000005", "="),
            ("PEXPIREAT k 1700000000005 GT", "PEXPIREAT k 1700000000005"),
            ("PEXPIREAT k 1700000000005 EQ", "! option EQ"),
            ("GETEX k", ""),
            ("GETEX k PERSIST", "PERSIST k"),
            ("GETEX k EX 5", "PEXPIREAT k 1700000005000"),
            ("GETEX k EVER", "! option EVER"),
            ("HGETEX h FIELDS 1 f", ""),
            ("HGETEX h PERSIST FIELDS 1 f", "HPERSIST h FIELDS 1 f"),
            ("HGETEX h PX 5 FIELDS 2 f g", "HPEXPIREAT h 1700000000005 FIELDS 2 f g"),
            ("HGETEX h EVER FIELDS 1 f", "! option EVER"),
            ("DELEX k", "DEL k"),
            ("DELEX k IFEQ v", "DEL k"),
            ("DELIFEQ k v", "DEL k"),
            ("FUNCTION LOAD code", "FUNCTION LOAD REPLACE code"),
            ("FUNCTION LOAD REPLACE code", "="),
            ("FUNCTION DELETE lib", "="),
            ("FUNCTION STATS", "! subcommand"),
            // several members, each with its own condition: those that failed are there too
            ("ZADD z GT 6 a 1 b", "="),
            ("ZADD z NX 4 a 4 d", "="),
            ("ZADD z NX 4 a 4", "! malformed"),
            ("HPEXPIREAT h 5 GT FIELDS 2 f g", "="),
            ("HPEXPIREAT h 5 GT FIELDS 1 f", "HPEXPIREAT h 5 FIELDS 1 f"),
            ("HPEXPIREAT h 5 FIELDS 1 f NX", "HPEXPIREAT h 5 FIELDS 1 f"),
            ("HPEXPIREAT h 5 FIELDS 2 f nx GT", "HPEXPIREAT h 5 GT FIELDS 2 f nx"),
            ("HPEXPIREAT h 5 FIELDS 1 f WHAT", "! malformed"),
            ("HPEXPIREAT h 5 FIELDS 2 f", "! malformed"),
            ("HEXPIRE h 5 FIELDS 1 f", "HPEXPIREAT h 1700000005000 FIELDS 1 f"),
        ],
    );
}

/// 1,700,000,000,005 ms since the epoch and 5 ms since the epoch, with the shift of keys and that of fields.
#[test]
fn expiries_are_shifted_where_the_target_must_not_expire() {
    let far = i64::MAX.to_string();
    for (command, expected) in [
        ("SET k v", "="),
        ("SET k v KEEPTTL", "="),
        ("SET k v PX 5", "SET k v PXAT 1152923204606846981"),
        ("SET k v PXAT 1700000000005", "SET k v PXAT 1152923204606846981"),
        ("SETEX k 5 v", "SET k v PXAT 1152923204606851976"),
        ("GETEX k PXAT 1700000000005", "PEXPIREAT k 1152923204606846981"),
        ("GETEX k PERSIST", "PERSIST k"),
        ("EXPIRE k 5", "PEXPIREAT k 1152923204606851976"),
        ("EXPIREAT k 1700000005", "PEXPIREAT k 1152923204606851976"),
        ("PEXPIREAT k 1700000000005", "PEXPIREAT k 1152923204606846981"),
        ("PEXPIREAT k 1700000000005 GT", "PEXPIREAT k 1152923204606846981"),
        ("PEXPIREAT k -7", "PEXPIREAT k 1152921504606846977"),
        ("PEXPIREAT k 1152923204606846981", "! beyond what can be moved"),
        ("PERSIST k", "="),
        ("MSETEX 1 a 1 PXAT 1700000000005", "SET a 1 PXAT 1152923204606846981"),
        ("HPEXPIREAT h 1700000000005 FIELDS 1 f", "HPEXPIREAT h 36884372088837 FIELDS 1 f"),
        ("HEXPIREAT h 1700000005 GT FIELDS 2 f g", "HPEXPIREAT h 36884372093832 GT FIELDS 2 f g"),
        ("HPEXPIREAT h 35184372088832 FIELDS 1 f", "! beyond what can be moved"),
        ("HSETEX h PXAT 1700000000005 FIELDS 1 f v", "HSETEX h PXAT 36884372088837 FIELDS 1 f v"),
        ("HSETEX h KEEPTTL FIELDS 1 f v", "="),
        ("HGETEX h PX 5 FIELDS 1 f", "HPEXPIREAT h 36884372088837 FIELDS 1 f"),
        ("HPERSIST h FIELDS 1 f", "="),
        ("RENAME a b", "="),
    ] {
        let target = Target { expiries: Expiries::Shifted, ..target(Server::redis(8, 6)) };
        let said = said_to(command, &target);
        match expected.strip_prefix("! ") {
            Some(reason) => assert!(said.starts_with('!') && said.contains(reason), "{command}: {said}"),
            None => assert_eq!(said, expected, "{command}"),
        }
    }
    let target = Target { expiries: Expiries::Shifted, ..target(Server::redis(7, 4)) };
    assert_eq!(said_to(&format!("PEXPIREAT k {far}"), &target), format!("PEXPIREAT k {far}"));
}

#[test]
fn newer_commands_become_older_ones() {
    check(
        Server::redis(7, 4),
        &[
            ("HSETEX h FIELDS 1 f v", "HSET h f v"),
            ("HSETEX h FXX PXAT 5 FIELDS 2 f v g w", "HSET h f v g w ; HPEXPIREAT h 5 FIELDS 2 f g"),
            ("HSETEX h FIELDS 2 f v", "! malformed"),
            ("HSETEX h SOON FIELDS 1 f v", "! option SOON"),
            ("HGETDEL h FIELDS 2 f g", "HDEL h f g"),
            ("MSETEX 2 a 1 b 2", "MSET a 1 b 2"),
            ("MSETEX 2 a 1 b 2 XX PXAT 5", "SET a 1 PXAT 5 ; SET b 2 PXAT 5"),
            ("MSETEX 2 a 1 b 2 KEEPTTL", "SET a 1 KEEPTTL ; SET b 2 KEEPTTL"),
            ("MSETEX 3 a 1 b 2", "! malformed"),
            ("BITOP DIFF d a b", "! Redis 7.4.0) lacks this command"),
            ("BITOP NAND d a b", "! option NAND"),
            ("VADD v VALUES 1 1 e", "! lacks this command"),
            ("GEOSEARCHSTORE d g FROMLONLAT 1 1 BYRADIUS 1 km ASC COUNT 1 ANY STOREDIST", "="),
            ("GEOSEARCHSTORE d g BYPOLYGON 3 1 1 2 2 3 3", "! lacks its option BYPOLYGON"),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX", "="),
            ("ZUNIONSTORE d 2 a b AGGREGATE COUNT", "! option COUNT"),
        ],
    );
    let keepttl = said("HSETEX h KEEPTTL FIELDS 2 f v g w", Server::redis(7, 4));
    assert!(keepttl.starts_with("EVAL ") && keepttl.ends_with(" 1 h f v g w"), "{keepttl}");
    for newer in [Server::redis(8, 0), Server::valkey(9, 0)] {
        check(
            newer,
            &[
                ("HSETEX h KEEPTTL FIELDS 1 f v", "="),
                ("HSETEX h PXAT 5 FIELDS 1 f v", "="),
                ("HSETEX h FIELDS 1 f v PXAT 5", "HSETEX h PXAT 5 FIELDS 1 f v"),
                ("HSETEX h FNX PX 5 FIELDS 1 f v", "HSETEX h PXAT 1700000000005 FIELDS 1 f v"),
            ],
        );
    }
    for older in [Server::redis(7, 2), Server::valkey(8, 1)] {
        check(
            older,
            &[
                ("HSETEX h KEEPTTL FIELDS 1 f v", "HSET h f v"),
                ("HSETEX h PXAT 5 FIELDS 1 f v", "! would lose field expiries"),
                ("HPEXPIREAT h 5 FIELDS 1 f", "! would lose field expiries"),
                ("HPERSIST h FIELDS 1 f", ""),
                ("HGETEX h PERSIST FIELDS 1 f", ""),
                ("HGETEX h PX 5 FIELDS 1 f", "! would lose field expiries"),
            ],
        );
    }
    check(
        Server::valkey(9, 1),
        &[("MSETEX 1 a 1 PXAT 5", "="), ("MSETEX 1 a 1 NX PXAT 5", "SET a 1 PXAT 5")],
    );
    check(
        Server::redis(6, 0),
        &[
            ("LPOP l", "="),
            ("LPOP l 2", "LTRIM l 2 -1"),
            ("RPOP l 2", "LTRIM l 0 -3"),
            ("LMOVE a b RIGHT LEFT", "RPOPLPUSH a b"),
            ("LMOVE a b LEFT LEFT", "! lacks this command"),
            ("COPY a b", "! lacks this command"),
            ("SET k v PXAT 5", "SET k v ; PEXPIREAT k 5"),
            ("SET k v KEEPTTL", "="),
            ("ZADD z GT 1 a", "! GT or LT"),
            ("FLUSHALL SYNC", "FLUSHALL"),
            ("FLUSHDB ASYNC", "="),
            ("FUNCTION LOAD x", "! has no functions"),
            ("FUNCTION FLUSH", ""),
            ("SCRIPT FLUSH ASYNC", "SCRIPT FLUSH"),
            ("GEORADIUS g 1 1 1 km COUNT 1 ANY STORE d", "! lacks its option ANY"),
        ],
    );
    check(Server::redis(5, 0), &[("SET k v KEEPTTL", "! lacks its option KEEPTTL")]);
}

#[test]
fn stream_commands_are_rewritten() {
    check(
        Server::redis(7, 4),
        &[
            ("XADD x 5-1 f v", "="),
            ("XADD x MAXLEN = 5 5-1 f v", "="),
            ("XADD x MAXLEN 5 5-1 f v", "="),
            ("XADD x MAXLEN = 5 LIMIT 10 5-1 f v", "XADD x MAXLEN = 5 5-1 f v"),
            ("XADD x NOMKSTREAM MINID = 1-1 5-1 f v", "XADD x MINID = 1-1 5-1 f v"),
            ("XADD x KEEPREF MAXLEN 5 5-1 f v", "XADD x MAXLEN = 5 5-1 f v"),
            ("XADD x ACKED 5-1 f v", "XADD x 5-1 f v"),
            ("XADD x ACKED MAXLEN 5 5-1 f v", "! option ACKED"),
            ("XADD x IDMP p m 5-1 f v", "XADD x 5-1 f v"),
            ("XADD x IDMP p m * f v", ""),
            ("XADD x IDMPAUTO p 5-1 f v", "XADD x 5-1 f v"),
            ("XADD x * f v", "! left to the server"),
            ("XADD x MAXLEN ~ 5 5-1 f v", "! approximately"),
            ("XADD x SOON 5-1 f v", "! option SOON"),
            ("XADD x 5-1 f", "! malformed"),
            ("XADD x MAXLEN 5 5-1", "! malformed"),
            ("XTRIM x MAXLEN 5", "="),
            ("XTRIM x MAXLEN = 5 LIMIT 9 KEEPREF", "XTRIM x MAXLEN = 5"),
            ("XTRIM x MINID 5-0 ACKED", "! option ACKED"),
            ("XTRIM x KEEPREF 5", "! option 5"),
            ("XDELEX x IDS 2 1-1 2-1", "XDEL x 1-1 2-1"),
            ("XDELEX x KEEPREF IDS 1 1-1", "XDEL x 1-1"),
            ("XDELEX x IDS 2 1-1", "! malformed"),
            ("XDELEX x DROPREF IDS 1 1-1", "! option DROPREF"),
            ("XCFGSET x IDMP-DURATION 50", "- stream idempotence, which the target lacks"),
            ("XGROUP CREATE x g $ MKSTREAM ENTRIESREAD 2", "="),
            ("XGROUP SETID x g 0 SOON 2", "! option SOON"),
            ("XGROUP RENAME x g", "! subcommand"),
            ("XSETID x 5-1 ENTRIESADDED 1 MAXDELETEDID 1-1", "="),
            ("XSETID x 5-1 SOON 1", "! option SOON"),
            ("XREADGROUP GROUP g c STREAMS x >", "! effect instead"),
        ],
    );
    let delref = said("XADD x DELREF MAXLEN 5 5-1 f v", Server::redis(7, 4));
    assert!(delref.starts_with("XADD x 5-1 f v ; EVAL ") && delref.ends_with(" 1 x MAXLEN 5"), "{delref}");
    let ackdel = said("XACKDEL x g DELREF IDS 1 1-1", Server::valkey(9, 0));
    assert!(ackdel.starts_with("EVAL ") && ackdel.ends_with(" 1 x g DELREF 1-1"), "{ackdel}");
    check(
        Server::redis(8, 6),
        &[
            ("XADD x DELREF MAXLEN = 5 LIMIT 3 5-1 f v", "XADD x MAXLEN = 5 DELREF 5-1 f v"),
            ("XADD x IDMP p m 5-1 f v", "XADD x 5-1 f v ; XIDMPRECORD x p m 5-1"),
            ("XADD x IDMPAUTO p 5-1 f v", "! IDMPAUTO"),
            ("XDELEX x ACKED IDS 1 1-1", "="),
            ("XACKDEL x g IDS 1 1-1", "="),
        ],
    );
    check(
        Server::redis(6, 0),
        &[
            ("XADD x MINID 1-1 5-1 f v", "! lacks its option MINID"),
            ("XTRIM x MINID 1-1", "! lacks its option MINID"),
            ("XGROUP CREATE x g 0 ENTRIESREAD 2", "XGROUP CREATE x g 0"),
            ("XGROUP CREATECONSUMER x g c", "XREADGROUP GROUP g c STREAMS x 0"),
            ("XSETID x 5-1 ENTRIESADDED 1", "XSETID x 5-1"),
        ],
    );
}

#[test]
fn what_must_not_be_sent_is_not() {
    check(
        Server::redis(7, 4),
        &[
            ("PUBLISH c m", "- publish"),
            ("PING", "- ping"),
            ("REPLCONF GETACK *", "- replconf"),
            ("SELECT 3", "="),
            ("SELECT x", "! malformed"),
            ("MULTI", "="),
            ("EVAL script 0", "! lua-replicate-commands"),
            ("BLPOP l 0", "! would block"),
            ("SPOP s", "! effect instead"),
            ("TRIMSLOTS RANGES 1 0 0", "! slots"),
            ("CLUSTER FLUSHSLOT 1", "! slots"),
            ("INCR", "! malformed"),
            ("INCR a b", "! malformed"),
            ("JSON.SET k $ 1", "! not known"),
        ],
    );
    assert!(rewrite(&[], &target(Server::redis(7, 4)), NOW_MS).is_err());
}

#[test]
fn the_targets_own_table_decides() {
    let listed = ["json.set", "set", "pexpireat"].into_iter().map(Bytes::from).collect();
    let target = Target { server: Server::redis(7, 4), commands: Some(listed), expiries: Expiries::Plain };
    let rewrite = |text| rewrite(&args(text), &target, NOW_MS);
    assert_eq!(rewrite("JSON.SET k $ 1"), Ok(Rewritten::AsIs));
    assert_eq!(rewrite("SET k v"), Ok(Rewritten::AsIs));
    assert!(rewrite("SETNX k v").is_ok());
    assert!(rewrite("DEL k").is_err_and(|no_rule| no_rule.reason.contains("rename-command")));
    assert!(rewrite("JSON.DEL k").is_err());
}

/// Payloads that the servers' own DUMP and FUNCTION DUMP answered.
const VVV_8_6: &[u8] = b"\x00\x03vvv\r\x00\xd8\xf4])\xf7\xb8U\xe7";
const VVV_7_2: &[u8] = b"\x00\x03vvv\x0b\x00\x13\x82i\xe9\r\x92\xcb\xae";
const VVV_6_2: &[u8] = b"\x00\x03vvv\t\x00\xaa\xaf\x85V\xa4\x8bA\x96";
const VVV_VALKEY_9: &[u8] = b"\x00\x03vvvP\x00\xb5w\x1d\x0bn_E\xd3";

fn restored(payload: &'static [u8], server: Server) -> Result<Vec<Bytes>, NoRule> {
    let command = [Bytes::from("RESTORE"), "k".into(), "5".into(), Bytes::from_static(payload)];
    match rewrite(&command, &target(server), NOW_MS)? {
        Rewritten::Replaced(mut commands) => Ok(commands.remove(0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn restore_gets_a_footer_that_the_target_takes() {
    for (payload, server, version) in [
        (VVV_6_2, Server::redis(8, 6), 13),
        (VVV_8_6, Server::redis(8, 6), 13),
        (VVV_8_6, Server::redis(7, 4), 12),
        (VVV_8_6, Server::valkey(9, 0), 80),
        (VVV_8_6, Server::valkey(8, 1), 11),
        (VVV_8_6, Server::redis(6, 2), 9),
        (VVV_VALKEY_9, Server::valkey(9, 0), 80),
        (VVV_VALKEY_9, Server::redis(8, 6), 13),
        (VVV_7_2, Server::valkey(9, 0), 80),
    ] {
        let command = restored(payload, server).unwrap();
        assert_eq!(command[2], "1700000000005");
        let (body, crc) = command[3].split_last_chunk::<8>().unwrap();
        assert_eq!(body, [&b"\x00\x03vvv"[..], &[version, 0]].concat(), "{server}");
        assert_eq!(u64::from_le_bytes(*crc), crc64::crc64(0, body), "{server}");
        assert_eq!(&command[4..], &["REPLACE", "ABSTTL"]);
    }
    let listpack_hash =
        b"\x10\x0c\x0c\x00\x00\x00\x02\x00\x81a\x02\x01\x01\xff\r\x00&\x0f\x1a[\xad\xa2\x93\x1b";
    assert!(restored(listpack_hash, Server::redis(7, 4)).is_ok());
    let reason = restored(listpack_hash, Server::redis(6, 2)).unwrap_err().reason;
    assert!(reason.contains("RDB type 16"), "{reason}");
    assert!(restored(b"short", Server::redis(7, 4)).is_err());
}

/// Words that rules look for, so that random commands get deep into them.
fn word() -> impl Strategy<Value = Bytes> {
    let mut known: Vec<&str> = table::TABLE.iter().map(|row| row.name).collect();
    known.extend(
        "NX XX GT LT FNX FXX GET KEEPTTL EX PX EXAT PXAT IFEQ IFDNE FIELDS DB REPLACE ABSTTL FREQ LOAD RESTORE \
         FLUSH CREATE SETID CREATECONSUMER MKSTREAM ENTRIESREAD ENTRIESADDED MAXLEN MINID = ~ * LIMIT NOMKSTREAM \
         KEEPREF DELREF ACKED IDMP IDMPAUTO IDS DIFF AND STORE STREAMS KEYS WEIGHTS AGGREGATE SUM BYPOLYGON ANY \
         COUNT BYBOX 0 1 2 3 -1 5-1 99999999999999999999 18446744073709551615 9223372036854775807"
            .split_whitespace(),
    );
    prop_oneof![
        4 => proptest::sample::select(known).prop_map(|known| Bytes::from_static(known.as_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..24).prop_map(Bytes::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_panics_and_what_is_found_is_there(
        name in proptest::sample::select(table::TABLE.iter().map(|row| row.name).collect::<Vec<_>>()),
        rest in proptest::collection::vec(word(), 0..12),
        server in proptest::sample::select(vec![
            Server::redis(5, 0), Server::redis(6, 2), Server::redis(7, 4), Server::redis(8, 6),
            Server::valkey(8, 1), Server::valkey(9, 1),
        ]),
        now_ms in any::<u64>(),
    ) {
        let mut command = vec![Bytes::from_static(name.as_bytes())];
        command.extend(rest);
        classify(&command);
        first_key(&command);
        if let Some(expiry) = expiry(&command) {
            prop_assert!(expiry.argument < command.len());
        }
        if let Touched::Keys(keys) = touched(&command) {
            let keys: Vec<usize> = keys.collect();
            prop_assert!(!keys.is_empty() && keys.iter().all(|key| (1..command.len()).contains(key)));
        }
        if let Some(elements) = super::elements(&command) {
            let indices: Vec<usize> = elements.indices().collect();
            prop_assert!(!indices.is_empty() && indices.iter().all(|index| (2..command.len()).contains(index)));
            prop_assert!(elements.names().eq(indices.iter().map(|&index| &command[index])));
            let key = elements.key();
            prop_assert!(matches!(touched(&command), Touched::Keys(keys) if keys.clone().eq([key])), "{command:?}");
        }
        let target = target(server);
        let shifted = Target { expiries: Expiries::Shifted, ..target.clone() };
        let in_reach = |sent: &[Bytes]| {
            let at = expiry(sent).and_then(|expiry| number::<i64>(sent.get(expiry.argument)?));
            at.is_some_and(|at| at < 1 << 45)
        };
        match rewrite(&command, &shifted, now_ms) {
            Ok(Rewritten::AsIs) => prop_assert!(expiry(&command).is_none(), "{command:?}"),
            Ok(Rewritten::Replaced(commands)) => {
                prop_assert!(!commands.iter().any(|sent| in_reach(sent)), "{commands:?}");
            }
            Ok(Rewritten::Dropped(_)) | Err(_) => {}
        }
        if let Ok(Rewritten::Replaced(commands)) = rewrite(&command, &target, now_ms) {
            for sent in &commands {
                // What is sent carries no relative expiry, and needs no second rewriting.
                let relative = expiry(sent).is_some_and(|expiry| {
                    matches!(expiry.unit, Unit::RelativeSeconds | Unit::RelativeMilliseconds)
                });
                prop_assert!(!relative, "{sent:?}");
                if !is_any(&sent[0], &["eval", "xreadgroup", "restore", "function"]) {
                    prop_assert_eq!(rewrite(sent, &target, now_ms), Ok(Rewritten::AsIs), "{:?}", sent);
                }
            }
        }
    }
}
