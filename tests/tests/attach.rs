//! Attaching to a live server's stream without a fork, on real servers: where it goes, and where it is refused.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use replsync::capture::{Allowed, AttachError, AttachOptions, Attached, Refusal, attach};
use replsync::link::Event;
use replsync_tests::server::{Options, TestServer};

const ALL: [&str; 11] = [
    "redis-5.0",
    "redis-6.0",
    "redis-6.2",
    "redis-7.0",
    "redis-7.2",
    "redis-7.4",
    "redis-8.0",
    "redis-8.6",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9",
];
/// As servers are by default since 7.0; the test servers are told otherwise.
const DELAYED: [&str; 2] = ["--repl-diskless-sync-delay", "5"];
const PATIENCE: Duration = Duration::from_secs(10);

fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

fn attached(url: &str, allowed: Allowed) -> Result<Result<Attached, AttachError>> {
    let options = AttachOptions {
        allowed,
        timeout: Duration::from_secs(2),
        reconnect_for: Duration::from_secs(5),
        ..AttachOptions::default()
    };
    let url = url.parse()?;
    run(async { Ok(attach(&url, &options).await) })
}

/// The refusal of an attach that must be refused.
fn refused(url: &str) -> Result<AttachError> {
    match attached(url, Allowed::default())? {
        Ok(_) => bail!("it was not refused"),
        Err(error) => Ok(error),
    }
}

/// How often a server forked; before 6.2 as its log says.
fn forks(server: &TestServer) -> usize {
    match server.forks() {
        Some(forks) => forks as usize,
        None => server.log().matches("started by pid").count(),
    }
}

/// Follows from where it attached, and returns the first so many commands that clients wrote.
async fn take(attached: &mut Attached, count: usize) -> Result<Vec<(Vec<String>, u64)>> {
    let (mut taken, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while taken.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = tokio::time::timeout(left, attached.link.next()).await.context("nothing comes")??;
        if let Event::Commands { commands, .. } = event {
            for (command, offset) in commands {
                let args: Vec<_> =
                    command.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
                if !["PING", "REPLCONF", "PUBLISH"].contains(&&args[0].to_ascii_uppercase()[..]) {
                    taken.push((args, offset));
                }
            }
        }
    }
    Ok(taken)
}

#[test]
fn every_server_is_attached_to_without_a_fork() -> Result<()> {
    for name in ALL {
        let server = TestServer::start(name, &DELAYED);
        server.client(3).words("SET before 1")?;
        let config = server.client(0).words("CONFIG GET *")?;
        let options = AttachOptions::default();
        run(async {
            let mut first = attach(&server.url().parse()?, &options).await?;
            ensure!(first.primed && first.forks_caused == 0 && !first.is_replica, "{name}: {first:?}");
            // The second of two databases that were published from.
            ensure!(first.stream_db == Some(0), "{name}: {:?}", first.stream_db);
            ensure!(first.caveats.is_empty() && first.warnings.is_empty(), "{name}: {first:?}");
            // Now there is a backlog.
            let mut second = attach(&server.url().parse()?, &options).await?;
            ensure!(!second.primed && second.stream_db == Some(0), "{name}: {second:?}");
            let mut conn = server.client(0);
            conn.words("SET a 1")?;
            conn.words("INCR a")?;
            let at = server.info_number("master_repl_offset") as u64;
            // No SELECT: it is still database 0.
            let told = take(&mut second, 2).await?;
            ensure!(told[0].0 == ["SET", "a", "1"] && told[1].0[0] == "INCR", "{name}: {told:?}");
            ensure!(told[1].1 == at, "{name}: {told:?}, and the server is at {at}");
            let told = take(&mut first, 4).await?;
            ensure!(told.iter().any(|(args, _)| args[0] == "SET"), "{name}: {told:?}");
            Ok(())
        })
        .with_context(|| format!("{name}\n{}", server.log()))?;
        // Past the master's delay.
        ensure!(forks(&server) == 0, "{name}: {}", server.log());
        ensure!(server.client(0).words("CONFIG GET *")? == config, "{name}: a setting has changed");
        ensure!(server.info_number("sync_full") <= 1, "{name}: {}", server.info("stats"));
        ensure!(server.info_number("sync_partial_ok") == 2, "{name}: {}", server.info("stats"));
    }
    Ok(())
}
