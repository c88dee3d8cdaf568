//! What tests of whole migrations do again and again: start one, wait until it follows or everything has arrived,
//! tell it to stop, and hold both sides against each other.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::contents::{Contents, Difference, EXPIRY_TOLERANCE_MS, Expiry, diff, read_both, report};
use crate::node::{Node, Outcome};
use crate::server::TestServer;
use crate::settle::pass_mark;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Expiries from here on look as if they were shifted: fields' are by 2^45 ms, of 46 bits that they have, keys' by 2^60.
const KEY_LOOKS_SHIFTED_MS: i64 = 1 << 50;
const FIELD_LOOKS_SHIFTED_MS: i64 = 1 << 45;
const TOLERANCE_MS: u64 = EXPIRY_TOLERANCE_MS as u64;

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Starts `replsync-node migrate FROM TO --json` with more arguments.
pub fn start(from: &str, to: &str, more: &[&str]) -> Result<Node> {
    Node::start(&[&["migrate", from, to, "--json"], more].concat())
}

/// The same, run to its end.
pub fn run(from: &str, to: &str, more: &[&str]) -> Result<Outcome> {
    start(from, to, more)?.wait(PATIENCE)
}

/// Starts one and waits until it follows, as it says: marks may come with the copy.
pub fn following(source: &TestServer, target: &TestServer, more: &[&str]) -> Result<Node> {
    following_by(&source.url(), source, target, more)
}

/// The same by another way to the source.
pub fn following_by(way: &str, source: &TestServer, target: &TestServer, more: &[&str]) -> Result<Node> {
    let mut node = start(way, &target.url(), more)?;
    let follows = || {
        running(&mut node)?;
        Ok(node.stderr().contains("following  "))
    };
    wait_for("the end of the copy", PATIENCE, follows)?;
    arrive(&mut node, source, target, PATIENCE)?;
    Ok(node)
}

/// What `replsync-node digest --json` says of an RDB that the server saves now.
pub fn digest_of(server: &TestServer) -> Result<Value> {
    let file = tempfile::NamedTempFile::new()?;
    // The child that has sent the copy may not be gone yet.
    let idle = || Ok(server.info_number("rdb_bgsave_in_progress") == 0);
    wait_for("the end of a background save", PATIENCE, idle)?;
    std::fs::write(file.path(), server.save()?)?;
    let path = file.path().display().to_string();
    let outcome = Node::run(&["digest", &path, "--json"], PATIENCE)?;
    outcome.assert(0, &[]);
    outcome.json()
}

/// Waits until all that the source was told until now is on the target.
pub fn arrive(node: &mut Node, source: &TestServer, target: &TestServer, within: Duration) -> Result<()> {
    pass_mark(&source.url(), &target.url(), within, || running(node))
}

/// Fails with what it said once it has ended.
pub fn running(node: &mut Node) -> Result<()> {
    ensure!(node.is_running()?, "replsync-node ended by itself: {}", node.stderr());
    Ok(())
}

/// Tells it to stop (SIGTERM), and checks that it says so.
pub fn stop(node: Node) -> Result<Outcome> {
    node.signal("TERM");
    let outcome = node.wait(PATIENCE)?;
    outcome.assert(4, &[]);
    Ok(outcome)
}

/// Polls until it is so.
pub fn wait_for(what: &str, within: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !done()? {
        if Instant::now() > deadline {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Compares everything, and looks for expiries on the target that look shifted and are not the source's own. Returns
/// both sides; nothing may write to them meanwhile.
///
/// # Panics
/// When something differs.
pub fn assert_equal(source: &TestServer, target: &TestServer) -> Result<[Contents; 2]> {
    let sides = read_both(&source.url(), &target.url())?;
    let differences = diff(&sides);
    let shifted = shifted(&sides);
    assert!(
        differences.is_empty() && shifted.is_empty(),
        "{} to {}: {}\nleft shifted: {}",
        source.name(),
        target.name(),
        report(&differences),
        report(&shifted)
    );
    Ok(sides)
}

/// Expiries of the second side so far in the future that only a shift explains them.
pub fn shifted([source, target]: &[Contents; 2]) -> Vec<Difference> {
    let is_far = |expiry: &Expiry| match expiry.field {
        Some(_) => expiry.at_ms >= FIELD_LOOKS_SHIFTED_MS,
        None => expiry.at_ms >= KEY_LOOKS_SHIFTED_MS,
    };
    let far = |side: &Contents| side.expiries().filter(is_far).collect();
    let (meant, found): (Vec<Expiry>, Vec<Expiry>) = (far(source), far(target));
    let is_meant = |expiry: &Expiry| {
        let same = |own: &&Expiry| (own.db, &own.key, &own.field) == (expiry.db, &expiry.key, &expiry.field);
        meant.iter().find(same).is_some_and(|own| own.at_ms.abs_diff(expiry.at_ms) <= TOLERANCE_MS)
    };
    let unexplained = found.into_iter().filter(|expiry| !is_meant(expiry));
    let difference = |Expiry { db, key, field, at_ms }| {
        let field = field.map(|field| format!("field \"{}\" ", field.escape_ascii())).unwrap_or_default();
        Difference { db: Some(db), key, what: format!("{field}expires at {at_ms} ms") }
    };
    unexplained.map(difference).collect()
}
