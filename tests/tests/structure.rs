//! What servers say of values made by hand, each with one thing wrong: the structure checks find all that a server
//! refuses, and where they find more, that is known.

use anyhow::Result;
use replsync::rdb::dump;
use replsync_tests::server::TestServer;

#[path = "../../crates/replsync/tests/structure/mod.rs"]
#[allow(dead_code)] // some of it makes whole files
mod structure;

/// Older servers free it twice when they refuse it, and die some time later: "Duplicated consumer PEL entry" in
/// `rdbLoadObject`.
const KILLS_OLDER: &str = "a pending entry twice with its owner";
/// Valkey looks whether an entry has an owner already; Redis gives it the new one.
const VALKEY_REFUSES: &str = "a pending entry with two owners";

#[test]
fn redis_7_2_refuses_what_is_found() -> Result<()> {
    verdicts("redis-7.2", 11, 21)
}

#[test]
fn redis_7_4_refuses_what_is_found() -> Result<()> {
    verdicts("redis-7.4", 12, 25)
}

#[test]
fn redis_8_6_refuses_what_is_found() -> Result<()> {
    verdicts("redis-8.6", 13, 25)
}

#[test]
fn valkey_8_1_refuses_what_is_found() -> Result<()> {
    verdicts("valkey-8.1", 11, 21)
}

fn verdicts(name: &str, rdb_version: u16, newest_type: u8) -> Result<()> {
    let server = TestServer::start(name, &["--sanitize-dump-payload", "yes"]);
    let mut wrong = Vec::new();
    let restored = |type_byte, raw: &[u8]| -> Result<bool> {
        let mut payload = Vec::new();
        dump::write(&mut payload, type_byte, raw, rdb_version);
        let mut connection = redis::Client::open(server.url())?.get_connection()?;
        let reply =
            redis::cmd("RESTORE").arg("k").arg(0).arg(&payload).arg("REPLACE").query::<()>(&mut connection);
        redis::cmd("DEL").arg("k").query::<()>(&mut connection)?;
        match reply {
            Ok(()) => Ok(true),
            Err(error) if error.to_string().contains("Bad data format") => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    for (type_byte, raw) in structure::good().into_iter().filter(|(byte, _)| *byte <= newest_type) {
        assert!(restored(type_byte, &raw)?, "type {type_byte}");
    }
    for case in structure::cases().into_iter().filter(|case| case.type_byte <= newest_type) {
        if case.what == KILLS_OLDER && name != "redis-8.6" {
            continue;
        }
        let taken = case.servers_take_it && (case.what != VALKEY_REFUSES || !name.starts_with("valkey"));
        if restored(case.type_byte, &case.raw)? != taken {
            wrong.push(format!("type {} {}: {}", case.type_byte, case.what, !taken));
        }
    }
    assert!(wrong.is_empty(), "{name} takes or refuses otherwise: {wrong:#?}");
    Ok(())
}
