//! Sentinel learns replicas from what its master lists, keeps whom it ever saw, and may make one of them the master.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use replsync_tests::bootable::PATIENCE;
use replsync_tests::client::{Conn, array, text};
use replsync_tests::job::wait_for;
use replsync_tests::server::{TestServer, program};

use super::{Capture, assert_nothing_in, master, our_line};

/// A Sentinel that watches a master, in a folder of its own.
struct Sentinel {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    fn start(name: &str, master: &TestServer) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let path = folder.path().join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {0}\nlogfile {0}/sentinel.log\n\
             sentinel monitor watched 127.0.0.1 {1} 2\n\
             sentinel down-after-milliseconds watched 3000\n\
             sentinel failover-timeout watched 10000\n",
            folder.path().display(),
            master.port()
        );
        std::fs::write(&path, config)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program(name)).arg(&path).arg("--sentinel");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let sentinel = Self { child, port, _folder: folder };
        wait_for("Sentinel to answer", PATIENCE, || Ok(sentinel.client().is_ok()))?;
        Ok(sentinel)
    }

    fn client(&self) -> Result<Conn> {
        Conn::open(&format!("redis://127.0.0.1:{}", self.port))
    }

    /// A field of what it knows of its master.
    fn of_master(&self, field: &str) -> Result<String> {
        let words: Vec<String> =
            array(self.client()?.words("SENTINEL MASTER watched")?).iter().map(text).collect();
        let pair = words.chunks(2).find(|pair| pair[0] == field).with_context(|| format!("no {field}"))?;
        Ok(pair[1].clone())
    }

    /// When it last read the master's INFO.
    fn age_of_info(&self) -> Result<Duration> {
        Ok(Duration::from_millis(self.of_master("info-refresh")?.parse()?))
    }

    /// The replicas that it knows.
    fn replicas(&self) -> Result<Vec<String>> {
        let replicas = array(self.client()?.words("SENTINEL REPLICAS watched")?);
        Ok(replicas.into_iter().filter_map(|replica| array(replica).get(1).map(text)).collect())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A master with a real replica, and three Sentinels that know it and each other.
fn watched(name: &str, keys: u32) -> Result<(TestServer, TestServer, Vec<Sentinel>)> {
    let master = master(name, keys, &[])?;
    let replica = TestServer::start(name, &[]);
    replica.replicate(&master)?;
    let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(name, &master)).collect::<Result<_>>()?;
    wait_for("the Sentinels to know each other and the replica", PATIENCE, || {
        for sentinel in &sentinels {
            if sentinel.of_master("num-other-sentinels")? != "2" || sentinel.replicas()?.len() != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    Ok((master, replica, sentinels))
}

fn assert_only(real: &TestServer, sentinels: &[Sentinel], when: &str) -> Result<()> {
    let real = format!("127.0.0.1:{}", real.port());
    for sentinel in sentinels {
        let replicas = sentinel.replicas()?;
        ensure!(
            replicas == [real.clone()],
            "{when} the capture Sentinel knows {replicas:?}, not just {real}"
        );
    }
    Ok(())
}

/// Waits until each has read the master's INFO after that moment.
fn wait_for_looks(sentinels: &[Sentinel], since: Instant) -> Result<()> {
    wait_for("the Sentinels to read the master's INFO", PATIENCE, || {
        for sentinel in sentinels {
            let asked = Instant::now();
            // What it says is as old as its answer at most.
            if sentinel.age_of_info()? + Duration::from_millis(100) >= asked - since {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// They look every ten seconds, so the capture takes longer.
#[test]
fn sentinels_know_the_real_replica_only() -> Result<()> {
    let (master, replica, sentinels) = watched("redis-7.4", 4_000)?;
    assert_only(&replica, &sentinels, "before")?;
    let mut capture = Capture::reading(&master, &["--max-keys-per-second", "250"])?;
    wait_for_looks(&sentinels, Instant::now())?;
    ensure!(our_line(&master)?.is_some(), "we were not listed all the time");
    capture.assert_running()?;
    assert_only(&replica, &sentinels, "during")?;
    let (outcome, _to) = capture.end()?;
    outcome.assert(0, &[]);
    wait_for_looks(&sentinels, Instant::now())?;
    assert_only(&replica, &sentinels, "after")
}

/// The old master follows the new one, whose history is another: there is nothing that a capture could be exact at.
#[test]
fn a_failover_ends_a_capture_clearly() -> Result<()> {
    let (master, replica, sentinels) = watched("valkey-9", 4_000)?;
    assert_only(&replica, &sentinels, "before")?;
    let mut capture = Capture::reading(&master, &["--max-keys-per-second", "100"])?;
    sentinels[0].client()?.words("SENTINEL FAILOVER watched")?;
    let promoted = || Ok(replica.info("replication").contains("role:master"));
    wait_for("the replica to be promoted", PATIENCE, promoted)?;
    wait_for("the capture to end", PATIENCE, || Ok(!capture.node.is_running()?))?;
    let (outcome, to) = capture.end()?;
    println!("a failover: {}", outcome.stderr.trim_end());
    outcome.assert(5, &["failover"]);
    assert_nothing_in(to.path())?;
    // The old master is a replica now, and we are none.
    wait_for("the Sentinels to have changed over", PATIENCE, || {
        let followed = sentinels.iter().map(|sentinel| sentinel.of_master("port"));
        let followed: Vec<String> = followed.collect::<Result<_>>()?;
        Ok(followed.iter().all(|port| *port == replica.port().to_string()))
    })?;
    wait_for_looks(&sentinels, Instant::now())?;
    assert_only(&master, &sentinels, "after")
}
