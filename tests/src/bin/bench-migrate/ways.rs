//! The ways into a target, each into a server that has just started, so that none finds memory that another has left.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::TestServer;

use crate::cost::{Cost, Watch, own_and_childrens_cpu};
use crate::recorder::{Recorder, Recording};

/// How `migrate` copies by itself: without a fork.
pub const CAPTURE: &str = "fork-free";
/// … and as replicas do.
pub const FULL_SYNC: &str = "full-sync";
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a target is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What a replay asks for last.
const MARK: &str = "replsync-bench:the-end";

/// Native replication, until the keys are in and the link is up; nothing where the target refuses the source's RDB.
pub fn native(source: &TestServer, to: &str) -> Result<Option<Cost>> {
    let target = TestServer::start(to, &[]);
    let mut watch = Watch::start(source, Some(&target))?;
    target.client(0).words(&format!("REPLICAOF 127.0.0.1 {}", source.port()))?;
    loop {
        if watch.are_keys_in()? && target.info("replication").contains("master_link_status:up") {
            return watch.end().map(Some);
        }
        if target.log().contains("Can't handle RDB format version") {
            return Ok(None);
        }
        ensure!(watch.elapsed() < PATIENCE, "native replication does not come up: {}", target.log());
        sleep(LOOK_EVERY);
    }
}

/// `migrate` by that method, until the process has ended.
pub fn migrate(source: &TestServer, to: &str, method: &str) -> Result<Cost> {
    let target = TestServer::start(to, &[]);
    let [_, before] = own_and_childrens_cpu()?;
    let mut watch = Watch::start(source, Some(&target))?;
    let outcome = run_node(source, &target.url(), method, || watch.are_keys_in().map(drop))?;
    let mut cost = watch.end()?;
    let [_, after] = own_and_childrens_cpu()?;
    cost.mover_cpu = after - before;
    cost.peak_bytes = outcome.peak_rss_bytes;
    cost.said_seconds = outcome.json()?["seconds"].as_f64().context("the JSON says no seconds")?;
    Ok(cost)
}

/// The source's part alone: a replica that takes the RDB and does nothing with it.
pub fn source_alone(source: &TestServer) -> Result<Cost> {
    let watch = Watch::start(source, None)?;
    let mut socket = TcpStream::connect(("127.0.0.1", source.port()))?;
    let mut replies = BufReader::new(socket.try_clone()?);
    let mut ask = |question: &[u8], answer: &str| -> Result<String> {
        socket.write_all(question)?;
        loop {
            let mut line = String::new();
            ensure!(replies.read_line(&mut line)? > 0 && !line.starts_with('-'), "PSYNC: {line}");
            if let Some(rest) = line.strip_prefix(answer) {
                return Ok(rest.trim_end().to_owned());
            }
        }
    };
    ask(b"REPLCONF capa eof capa psync2\r\n", "+OK")?;
    let end = ask(b"PSYNC ? -1\r\n", "$EOF:")?;
    read_until(replies, end.as_bytes())?;
    watch.end()
}

/// What `migrate` sends to the target, all of it.
pub fn record(source: &TestServer, to: &str) -> Result<Recording> {
    let target = TestServer::start(to, &[]);
    let recorder = Recorder::start(target.port())?;
    run_node(source, &recorder.url(), CAPTURE, || Ok(()))?;
    recorder.finish()
}

/// The same commands from memory, pipelined over one connection, until the last reply; the source has nothing to do.
pub fn ceiling(recording: &Recording, source: &TestServer, to: &str) -> Result<Cost> {
    let target = TestServer::start(to, &[]);
    let [before, _] = own_and_childrens_cpu()?;
    let watch = Watch::start(source, Some(&target))?;
    for commands in recording {
        replay(commands, target.port())?;
    }
    let mut cost = watch.end()?;
    let [after, _] = own_and_childrens_cpu()?;
    cost.mover_cpu = after - before;
    Ok(cost)
}

fn run_node(
    source: &TestServer,
    to: &str,
    method: &str,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    let how = ["--method", method, "--until", "caught-up", "--json"];
    let mut node = Node::start(&[&["migrate", &source.url(), to][..], &how].concat())?;
    while node.is_running()? {
        look()?;
        sleep(LOOK_EVERY);
    }
    let outcome = node.wait(PATIENCE)?;
    ensure!(outcome.code == Some(0), "replsync-node ended with {:?}: {}", outcome.code, outcome.stderr);
    Ok(outcome)
}

/// Sends the commands of one recorded connection while another thread takes the replies.
fn replay(commands: &[u8], port: u16) -> Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    let replies = socket.try_clone()?;
    let reading = std::thread::spawn(move || read_until(replies, format!("{MARK}\r\n").as_bytes()));
    socket.write_all(commands)?;
    write!(socket, "*2\r\n$4\r\nECHO\r\n${}\r\n{MARK}\r\n", MARK.len())?;
    reading.join().expect("it does not panic")
}

/// Reads and forgets, until what was read ends so.
fn read_until(mut socket: impl Read, end: &[u8]) -> Result<()> {
    let (mut tail, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    while !tail.ends_with(end) {
        let len = socket.read(&mut piece)?;
        ensure!(len > 0, "the server closed the connection");
        // The end may come in pieces.
        tail.extend_from_slice(&piece[..len]);
        tail.drain(..tail.len().saturating_sub(end.len()));
    }
    Ok(())
}
