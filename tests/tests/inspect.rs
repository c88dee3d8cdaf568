//! `inspect`: its figures against what the servers say themselves that wrote the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::Value;
use replsync::inspect::Glob;
use replsync_tests::client::{Batch, Conn, array, bytes, int, text};
use replsync_tests::fill::{DATABASES, fill};
use replsync_tests::node::{Node, Outcome, program};
use replsync_tests::server::{self, TestServer};
use serde_json::Value as Json;

const LONG: Duration = Duration::from_secs(60);

fn inspect(file: &Path, args: &[&str]) -> Result<Outcome> {
    let mut all = vec!["inspect", file.to_str().context("a path that is text")?];
    all.extend(args);
    Node::run(&all, LONG)
}

/// The server's file, without the keys that expire within a moment: they would be gone when the server is asked.
fn saved(server: &TestServer) -> Result<std::path::PathBuf> {
    for db in DATABASES {
        let mut batch = Batch::default();
        for kind in ["str", "list", "set", "zset", "hash", "stream"] {
            (0..2500).for_each(|number| batch.add(&["DEL", &format!("brief:{kind}:{number}")]));
        }
        server.client(db).send_all(batch)?;
    }
    server.save()?;
    Ok(server.folder().join("dump.rdb"))
}

fn lines(outcome: &Outcome) -> Result<Vec<Json>> {
    outcome.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn key_name(line: &Json) -> Result<Vec<u8>> {
    match (line["key"].as_str(), line["key_base64"].as_str()) {
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(text)) => from_base64(text),
        _ => anyhow::bail!("neither key nor key_base64, or both: {line}"),
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        let digit = DIGITS.iter().position(|&digit| digit == byte).context("no base64")?;
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Ok(out)
}

/// How a server asks for the number of elements of such a key.
fn length_command(of_type: &str) -> &'static str {
    match of_type {
        "string" => "STRLEN",
        "list" => "LLEN",
        "set" => "SCARD",
        "zset" => "ZCARD",
        "hash" => "HLEN",
        _ => "XLEN",
    }
}

#[test]
fn redis_5_0_agrees() -> Result<()> {
    agrees("redis-5.0")
}

#[test]
fn redis_6_2_agrees() -> Result<()> {
    agrees("redis-6.2")
}

#[test]
fn redis_7_2_agrees() -> Result<()> {
    agrees("redis-7.2")
}

#[test]
fn redis_7_4_agrees() -> Result<()> {
    agrees("redis-7.4")
}

#[test]
fn redis_8_6_agrees() -> Result<()> {
    agrees("redis-8.6")
}

#[test]
fn valkey_8_1_agrees() -> Result<()> {
    agrees("valkey-8.1")
}

#[test]
fn valkey_9_agrees() -> Result<()> {
    agrees("valkey-9")
}

/// Every key of a filled server, one by one, and the sums of them.
fn agrees(name: &str) -> Result<()> {
    let server = TestServer::start(name, &[]);
    fill(&server.url(), 900, 5)?;
    let file = saved(&server)?;
    let outcome = inspect(&file, &["--keys"])?;
    outcome.assert(0, &[]);
    let lines = lines(&outcome)?;
    for db in DATABASES {
        let mut conn = server.client(db);
        let own: Vec<&Json> = lines.iter().filter(|line| line["db"] == db).collect();
        assert_eq!(int(&conn.words("DBSIZE")?), Some(own.len() as i64), "{name}: keys of database {db}");
        for line in own {
            same_key(&mut conn, line).with_context(|| format!("{name}, database {db}: {line}"))?;
        }
    }
    sums_agree(&server, &file, &lines)?;
    biggest_agree(&server, &file)?;
    check_rdb_agrees(name, &file, &lines)
}

fn same_key(conn: &mut Conn, line: &Json) -> Result<()> {
    let version = conn.version()?;
    let key = key_name(line)?;
    let of_type = text(&conn.call(&[b"TYPE", &key[..]])?);
    ensure!(line["type"] == of_type.as_str(), "TYPE says {of_type}");
    let length = int(&conn.call(&[length_command(&of_type).as_bytes(), &key])?);
    ensure!(line["elements"].as_i64() == length, "the server counts {length:?}");

    let encoding = text(&conn.call(&[&b"OBJECT"[..], b"ENCODING", &key])?);
    match of_type.as_str() {
        // Numbers of more than 32 bits are written as text.
        "string" => ensure!(line["encoding"] != "int" || encoding == "int", "OBJECT ENCODING {encoding}"),
        // Lists in memory have an encoding for a single node, the file has not; 5.0 has no word for streams.
        "list" | "stream" => {}
        _ => ensure!(line["encoding"] == encoding.as_str(), "OBJECT ENCODING says {encoding}"),
    }
    let expires_at_ms = line["expires_at_ms"].as_i64();
    if version.is_7_0() {
        let at = int(&conn.call(&[b"PEXPIRETIME", &key[..]])?).filter(|&at| at != -1);
        ensure!(expires_at_ms == at, "PEXPIRETIME says {at:?}");
    } else {
        let left = int(&conn.call(&[b"PTTL", &key[..]])?).context("no PTTL")?;
        ensure!(expires_at_ms.is_some() == (left >= 0), "PTTL says {left}");
    }
    ensure!(line["expired"] == false, "nothing has expired");

    // A payload is the type byte, the value, and ten bytes that the file has not.
    let dump = bytes(conn.call(&[b"DUMP", &key[..]])?).len() as u64 - 10;
    let head = match key.len() {
        ..64 => 1,
        _ => 2,
    };
    let expiry = if expires_at_ms.is_some() { 9 } else { 0 };
    let expected = dump + head + key.len() as u64 + expiry;
    ensure!(line["bytes"].as_u64() == Some(expected), "DUMP makes it {expected} bytes");

    if of_type == "hash" && version.has_field_ttl() {
        let fields = array(conn.call(&[b"HKEYS", &key[..]])?);
        let count = fields.len().to_string();
        let mut command = vec![b"HPEXPIRETIME".to_vec(), key, b"FIELDS".to_vec(), count.into_bytes()];
        command.extend(fields.into_iter().map(bytes));
        let times = array(conn.call(&command)?);
        let expiring = times.iter().filter(|time| int(time).is_some_and(|time| time >= 0)).count() as u64;
        let found = line["fields_with_expiry"].as_u64().unwrap_or(0);
        ensure!(found == expiring, "HPEXPIRETIME counts {expiring} fields with an expiry");
    }
    Ok(())
}

/// The summary is the sum of the keys, and the file's header is what the server says of itself.
fn sums_agree(server: &TestServer, file: &Path, lines: &[Json]) -> Result<()> {
    let summary = inspect(file, &["--json"])?.json()?;
    let sum = |of: &str, lines: &[&Json]| lines.iter().filter_map(|line| line[of].as_u64()).sum::<u64>();
    let all: Vec<&Json> = lines.iter().collect();
    let expires = all.iter().filter(|line| !line["expires_at_ms"].is_null()).count();
    assert_eq!(summary["complete"], true);
    assert_eq!((&summary["keys"], &summary["expires"]), (&all.len().into(), &expires.into()));
    assert_eq!(summary["bytes"], sum("bytes", &all));
    assert_eq!(summary["file_bytes"], std::fs::metadata(file)?.len());
    assert_eq!(summary["read_bytes"], summary["file_bytes"]);

    let mut by_encoding: BTreeMap<(String, String), Vec<&Json>> = BTreeMap::new();
    let mut by_prefix: BTreeMap<String, u64> = BTreeMap::new();
    for line in &all {
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        by_encoding.entry((word("type"), word("encoding"))).or_default().push(line);
        if let Some((prefix, _)) = word("key").split_once(':') {
            *by_prefix.entry(format!("{prefix}:")).or_default() += 1;
        }
    }
    for ((of_type, encoding), lines) in &by_encoding {
        let found = &summary["types"][of_type]["encodings"][encoding];
        assert_eq!(found["keys"], lines.len(), "{of_type} {encoding}");
        assert_eq!(found["bytes"], sum("bytes", lines), "{of_type} {encoding}");
        assert_eq!(found["elements"], sum("elements", lines), "{of_type} {encoding}");
    }
    assert_eq!(summary["prefixes"]["exact"], true);
    for prefix in summary["prefixes"]["biggest"].as_array().context("prefixes")? {
        let name = prefix["prefix"].as_str().context("a prefix of text")?;
        assert_eq!(prefix["keys"], by_prefix[name], "{name}");
    }
    let buckets = summary["ttl"]["buckets"].as_array().context("buckets")?;
    let in_buckets: u64 = buckets.iter().filter_map(|bucket| bucket["keys"].as_u64()).sum();
    assert_eq!((in_buckets, &buckets[8]["keys"]), (all.len() as u64, &(all.len() - expires).into()));
    assert_eq!(summary["ttl"]["relative_to"], "ctime");

    let header = &summary["header"];
    let (version, mut conn) = (server.version(), server.client(0));
    let own = conn.info_field(if version.valkey { "valkey_version" } else { "redis_version" })?;
    assert_eq!(header["server_version"].as_str(), own.as_deref().map(str::trim));
    assert_eq!(header["server"], if version.valkey { "valkey" } else { "redis" });
    assert_eq!(header["checksum"], "verified");
    assert_eq!(header["functions"], u64::from(version.is_7_0()));
    if version.is_7_0() {
        assert_eq!(header["function_names"][0], "filled");
    }
    Ok(())
}

/// The biggest of each type are those that `redis-cli --bigkeys` finds.
fn biggest_agree(server: &TestServer, file: &Path) -> Result<()> {
    let cli = server::program(server.name()).with_file_name("cli");
    if !cli.exists() {
        return Ok(());
    }
    let db = DATABASES[2].to_string();
    let summary = inspect(file, &["--json", "--db", &db])?.json()?;
    let port = server.port().to_string();
    let output = Command::new(&cli).args(["-p", &port, "-n", &db, "--bigkeys"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found = 0;
    for line in said.lines().filter_map(|line| line.strip_prefix("Biggest ")) {
        let of_type = line.split_whitespace().next().context("a type")?;
        let (_, size) = line.rsplit_once(" has ").context("a size")?;
        let size: u64 = size.split_whitespace().next().context("a number")?.parse()?;
        assert_eq!(summary["biggest_by_elements"][of_type][0]["elements"], size, "{line}");
        found += 1;
    }
    ensure!(found >= 5, "{} finds only {found} types: {said}", cli.display());
    Ok(())
}

/// `redis-check-rdb` counts the same keys.
fn check_rdb_agrees(name: &str, file: &Path, lines: &[Json]) -> Result<()> {
    let check = server::program(name).with_file_name("check-rdb");
    if !check.exists() {
        return Ok(());
    }
    let output = Command::new(&check).arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |words: &str| -> Option<u64> {
        let line = said.lines().find(|line| line.trim_end().ends_with(words))?;
        line.strip_suffix(words)?.split_whitespace().last()?.parse().ok()
    };
    let expires = lines.iter().filter(|line| !line["expires_at_ms"].is_null()).count() as u64;
    assert_eq!(number(" keys read"), Some(lines.len() as u64), "{said}");
    assert_eq!(number(" expires"), Some(expires), "{said}");
    Ok(())
}

#[test]
fn what_servers_evict_by_is_told() -> Result<()> {
    for (policy, field, opcode_bytes) in [("allkeys-lfu", "freq", 2), ("allkeys-lru", "idle_seconds", 2)] {
        let server = TestServer::start("redis-7.2", &["--maxmemory-policy", policy]);
        server.client(0).words("SET key value")?;
        server.save()?;
        let outcome = inspect(&server.folder().join("dump.rdb"), &["--keys"])?;
        let line = &lines(&outcome)?[0];
        let asked = if field == "freq" { "OBJECT FREQ key" } else { "OBJECT IDLETIME key" };
        let own = int(&server.client(0).words(asked)?).context("a number")?;
        // Either moves with the time.
        let found = line[field].as_i64().with_context(|| format!("{line}"))?;
        assert!((own - found).abs() <= 5, "{policy}: {found}, the server says {own}");
        assert_eq!(line["bytes"], 1 + 4 + 6 + opcode_bytes);
    }
    Ok(())
}

#[test]
fn time_left_is_told_from_when_the_file_was_written() -> Result<()> {
    let server = TestServer::start("redis-7.2", &[]);
    let mut conn = server.client(0);
    // Otherwise what has expired would be deleted before it is saved.
    conn.words("DEBUG SET-ACTIVE-EXPIRE 0")?;
    conn.words("SET gone v PX 1")?;
    let day = 86_400_000u64;
    for (key, ttl_ms) in
        [("s", 30_000), ("m", 1_800_000), ("h", day / 2), ("d", 3 * day), ("w", 20 * day), ("y", 200 * day)]
    {
        conn.call(&["SET", key, "v", "PX", &ttl_ms.to_string()])?;
    }
    conn.call(&["SET", "more", "v", "PX", &(4000 * day).to_string()])?;
    conn.words("SET forever v")?;
    // The file says its time in whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    server.save()?;
    let file = server.folder().join("dump.rdb");
    let summary = inspect(&file, &["--json"])?.json()?;
    let buckets = summary["ttl"]["buckets"].as_array().context("buckets")?;
    let keys: Vec<u64> = buckets.iter().filter_map(|bucket| bucket["keys"].as_u64()).collect();
    assert_eq!(keys, [1; 9], "{buckets:?}");
    assert_eq!(summary["expired"], 1);
    let expired = lines(&inspect(&file, &["--keys", "--match", "gone"])?)?;
    assert_eq!((expired.len(), &expired[0]["expired"]), (1, &true.into()));
    Ok(())
}

/// Random patterns over a small alphabet of all that is special, against KEYS of servers old and new.
#[test]
fn patterns_choose_what_servers_choose() -> Result<()> {
    const ALPHABET: &[u8] = b"aabbcz-]]^[[\\**?\x00\x7f\x80\xff";
    let seed = std::env::var("REPLSYNC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    println!("REPLSYNC_SEED={seed}");
    for name in ["redis-5.0", "redis-6.2", "redis-7.2", "redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &[]);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut random = |max: usize| -> Vec<u8> {
            (0..rng.usize(0..=max)).map(|_| ALPHABET[rng.usize(..ALPHABET.len())]).collect()
        };
        let keys: BTreeSet<Vec<u8>> = (0..400).map(|_| random(5)).chain([Vec::new()]).collect();
        let patterns: Vec<Vec<u8>> = [&b"*"[..], b"**", b"", b"?", b"[^"]
            .map(<[u8]>::to_vec)
            .into_iter()
            .chain((0..2000).map(|_| random(9)))
            .collect();
        let mut batch = Batch::default();
        keys.iter().for_each(|key| batch.add(&[&b"SET"[..], key, b"v"]));
        patterns.iter().for_each(|pattern| batch.add(&[&b"KEYS"[..], pattern]));
        let replies = server.client(0).send_all(batch)?;
        let (mut chosen, mut different) = (0, Vec::new());
        for (pattern, reply) in patterns.iter().zip(&replies[keys.len()..]) {
            let theirs: BTreeSet<Vec<u8>> = array(reply.clone()).into_iter().map(bytes).collect();
            let glob = Glob::new(pattern);
            let ours: BTreeSet<Vec<u8>> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
            chosen += theirs.len();
            if let Some(key) = ours.symmetric_difference(&theirs).next() {
                different.push(format!("{} {}", pattern.escape_ascii(), key.escape_ascii()));
            }
        }
        println!("{name}: {} patterns chose {chosen} of {} keys", patterns.len(), keys.len());
        ensure!(chosen > 5000, "the patterns choose too little to prove anything");
        assert!(different.is_empty(), "{name}: {}\n{}", different.len(), different.join("\n"));
    }
    Ok(())
}

#[test]
fn filters_choose_keys_and_figures() -> Result<()> {
    let server = TestServer::start("redis-7.2", &[]);
    fill(&server.url(), 300, 6)?;
    let file = saved(&server)?;
    let all = lines(&inspect(&file, &["--keys"])?)?;
    let filter = ["--match", "h*:[1-4]?", "--type", "hash,zset", "--db", "3"];
    let outcome = inspect(&file, &[&["--keys"][..], &filter].concat())?;
    let wanted: Vec<&Json> = all
        .iter()
        .filter(|line| line["db"] == 3 && line["type"] == "hash")
        .filter(|line| {
            let number = line["key"].as_str().and_then(|key| key.strip_prefix("hash:"));
            number.is_some_and(|number| number.len() == 2 && (b'1'..=b'4').contains(&number.as_bytes()[0]))
        })
        .collect();
    assert!(!wanted.is_empty());
    assert_eq!(lines(&outcome)?.iter().collect::<Vec<_>>(), wanted);
    let summary = inspect(&file, &[&["--json"][..], &filter].concat())?.json()?;
    assert_eq!(summary["keys"], wanted.len());
    assert_eq!(summary["keys_left_out"], all.len() - wanted.len());
    assert_eq!(summary["filter"], filter.join(" "));
    Ok(())
}

#[test]
fn half_a_file_is_not_taken_for_whole() -> Result<()> {
    let server = TestServer::start("redis-7.2", &[]);
    fill(&server.url(), 90, 7)?;
    let whole = std::fs::read(saved(&server)?)?;
    let folder = tempfile::tempdir()?;
    let (file, page) = (folder.path().join("cut.rdb"), folder.path().join("page.html"));
    std::fs::write(&file, &whole[..whole.len() / 2])?;
    let page_name = page.to_str().context("text")?;

    let outcome = inspect(&file, &["--html", page_name])?;
    outcome.assert(1, &["truncated", "no page is written"]);
    assert!(outcome.stdout.starts_with("INCOMPLETE"), "{}", outcome.stdout);
    let summary = inspect(&file, &["--json", "--html", page_name])?;
    summary.assert(1, &["truncated"]);
    let summary = summary.json()?;
    assert_eq!(summary["complete"], false);
    assert!(
        summary["error"].is_string()
            && summary["error_offset"].is_u64()
            && summary["header"]["checksum"].is_null()
    );
    inspect(&file, &["--keys"])?.assert(1, &["truncated"]);
    assert!(!page.exists(), "no page of half a file");
    // A page in the place of a backup, by a slip.
    let kept = folder.path().join("kept.rdb");
    std::fs::write(&kept, &whole)?;
    let kept_name = kept.to_str().context("text")?;
    inspect(&kept, &["--html", kept_name])?.assert(2, &["kept.rdb is an RDB file"]);
    assert_eq!(std::fs::read(&kept)?, whole);

    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(&file, &flipped)?;
    let summary = inspect(&file, &["--json"])?;
    summary.assert(1, &["checksum"]);
    assert_eq!(summary.json()?["complete"], false);
    // A listpack of five bytes that says it has twelve, in a hash of database 2.
    let mut bad = b"REDIS0011\xfe\x02\x10\x03k\x1b!\x05\x0c\0\0\0\0\xff".to_vec();
    bad.extend([0; 8]);
    std::fs::write(&file, &bad)?;
    let outcome = inspect(&file, &["--json"])?;
    outcome.assert(1, &["corrupt at offset 16", r#"database 2, key "k\x1b!""#]);
    assert_eq!(outcome.json()?["error_offset"], 16, "as the words say");
    std::fs::write(&file, b"no RDB at all")?;
    inspect(&file, &[])?.assert(1, &["not an RDB"]);
    inspect(&folder.path().join("missing"), &[])?.assert(3, &["missing"]);
    inspect(folder.path(), &[])?.assert(3, &["directory"]);
    inspect(&file, &["--db", "x"])?.assert(2, &[]);
    Ok(())
}

#[test]
fn a_pipe_is_read_and_a_reader_may_leave() -> Result<()> {
    let server = TestServer::start("redis-7.2", &[]);
    fill(&server.url(), 6000, 8)?;
    let file = saved(&server)?;
    let shell = |script: &str| -> Result<std::process::Output> {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("NODE", program()).env("FILE", &file).stdin(Stdio::null());
        Ok(command.output()?)
    };
    let by_name = inspect(&file, &["--json"])?.json()?;
    let piped = shell("cat \"$FILE\" | \"$NODE\" inspect - --json")?;
    let mut piped: Json = serde_json::from_slice(&piped.stdout)?;
    assert!(piped["file_bytes"].is_null());
    for field in ["path", "file_bytes"] {
        piped[field] = by_name[field].clone();
    }
    assert_eq!(piped, by_name);
    let left = shell("set -o pipefail; \"$NODE\" inspect \"$FILE\" --keys | head -n 1")?;
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert_eq!(left.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(left.stderr, b"");
    Ok(())
}

#[test]
fn a_page_holds_the_figures_and_no_names_that_bite() -> Result<()> {
    let server = TestServer::start("redis-8.6", &[]);
    fill(&server.url(), 90, 9)?;
    let mut conn = server.client(0);
    let value = vec![b'x'; 3000];
    for name in [&b"</script><script>alert(1)</script>"[..], b"\" onload=\"alert(1)", b"\xff\x1b[31m<b>"] {
        let items: Vec<Vec<u8>> = (0..30_000u32).map(|n| n.to_string().into_bytes()).collect();
        let mut command = vec![b"RPUSH".to_vec(), name.to_vec(), value.clone()];
        command.extend(items);
        conn.call(&command)?;
    }
    let file = saved(&server)?;
    let folder = tempfile::tempdir()?;
    let page = folder.path().join("page.html");
    std::fs::write(&page, "an older page")?;
    let outcome = inspect(&file, &["--json", "--html", page.to_str().context("text")?])?;
    outcome.assert(0, &[]);
    let (summary, html) = (outcome.json()?, std::fs::read_to_string(&page)?);
    assert!(html.contains("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(html.contains("&quot; onload=&quot;alert(1)") && html.contains("\\xff\\x1b[31m&lt;b&gt;"));
    for bad in ["<script", "<b>alert", "onload=\"", "http://", "https://"] {
        assert!(!html.contains(bad), "{bad}");
    }
    let keys = summary["keys"].as_u64().context("keys")?.to_string();
    assert!(html.contains(&format!("<dd>{keys}<")), "the number of keys is on the page");
    let left: Vec<_> = std::fs::read_dir(folder.path())?.collect();
    assert_eq!(left.len(), 1, "nothing but the page is left: {left:?}");

    let nowhere = folder.path().join("no such folder/page.html");
    inspect(&file, &["--html", nowhere.to_str().context("text")?])?.assert(3, &["cannot be written"]);
    let value = conn.words("PING")?;
    assert!(matches!(value, Value::SimpleString(_) | Value::Okay));
    Ok(())
}
