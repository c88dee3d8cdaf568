//! Who the two servers are, and what stands in the way. It changes nothing.
//!
//! ```text
//! ask each server, in few round trips        facts, permissions, clocks, leftovers
//!   ► what follows for the source            source ─┐
//!   ► … for the target, in view of it        target ─┼─ memory, persistence, settings
//!   ► … for both together                    pair ───┘
//! ```
//!
//! Asking is apart from judging: what follows from the answers is plain code. A server that does not answer a
//! question ([`facts::Unseen`]) is not judged on it, and that is said.

mod clocks;
mod facts;
mod finding;
mod fork_free;
mod leftovers;
mod memory;
mod needs;
mod pair;
mod permissions;
mod persistence;
mod rules;
mod sentinels;
mod settings;
mod source;
mod target;

use std::time::Duration;

use super::Error;
use crate::apply::Target;
use crate::capture::{Allowed, Verdict};
use crate::command::Expiries;
use crate::endpoint::{Client, Endpoint, Info};
use facts::Facts;
use leftovers::Leftovers;
use permissions::Permissions;

pub use crate::endpoint::Clock;
pub use finding::{Finding, Severity, Subject};
pub use memory::Memory;
pub use persistence::Persistence;

/// What was seen of one server or both.
#[derive(Clone, Debug)]
pub struct Examination {
    /// The source.
    pub source: Seen,
    /// The target, where one was given.
    pub target: Option<Seen>,
    /// What stands in the way, the worst first.
    pub findings: Vec<Finding>,
}

/// What was seen of one server.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its INFO.
    pub info: Info,
    /// What it holds in memory, and how much it may.
    pub memory: Memory,
    /// What it writes to disk.
    pub persistence: Persistence,
    /// Its clock against ours; nothing where it does not tell the time.
    pub clock: Option<Clock>,
    /// Commands that our user may not use there, of those that a migration and its options use; nothing where the
    /// server does not tell.
    pub missing_permissions: Option<Vec<String>>,
    /// Commands among those that its version has and it has not: renamed or disabled.
    pub missing_commands: Vec<String>,
    /// How many Sentinels are connected to it; nothing where it does not tell.
    pub sentinels: Option<usize>,
    /// Of a source that `doctor` looks at: whether it can be copied without a fork, and how.
    pub fork_free: Option<Verdict>,
}

/// Looks at the source and, where given, at the target, as `doctor` does.
///
/// # Errors
/// [`Error::Endpoint`] when one of them cannot be reached or asked.
pub async fn examine(
    from: &Endpoint,
    to: Option<&Endpoint>,
    timeout: Duration,
) -> Result<Examination, Error> {
    let (agreed, depth) = (Agreed::default(), Depth::Doctor);
    let mut source = Source::look(from, timeout, agreed, depth).await?;
    let target = match to {
        Some(to) => Some(Destination::look(&mut source, to, timeout, agreed, depth).await?),
        None => None,
    };
    let verdict = source.fork_free(from, timeout, Allowed::default()).await?;
    let mut findings = source.findings;
    findings.extend(fork_free::findings(&verdict, &source.info));
    findings.extend(target.iter().flat_map(|target| target.findings.iter().cloned()));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Examination {
        source: Seen { fork_free: Some(verdict), ..source.facts.seen() },
        target: target.map(|target| target.facts.seen()),
        findings,
    })
}

/// What the one who runs the job has agreed to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    pub flush_target: bool,
    pub counted_as_replica: bool,
    /// The copy is a capture.
    pub fork_free: bool,
}

/// How closely is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Before a job: what it should not begin without.
    Migrate,
    /// For people.
    Doctor,
}

/// A source that was looked at, and a connection to it.
pub(super) struct Source {
    pub info: Info,
    pub client: Client,
    pub findings: Vec<Finding>,
    facts: Facts,
}

/// A target that was looked at in view of its source, and a connection to it.
pub(super) struct Destination {
    pub info: Info,
    pub client: Client,
    pub target: Target,
    pub findings: Vec<Finding>,
    facts: Facts,
}

impl Source {
    pub async fn examine(from: &Endpoint, timeout: Duration, agreed: Agreed) -> Result<Self, Error> {
        Self::look(from, timeout, agreed, Depth::Migrate).await
    }

    /// Whether it can be captured, with what was agreed to.
    pub async fn fork_free(
        &mut self,
        from: &Endpoint,
        timeout: Duration,
        allowed: Allowed,
    ) -> Result<Verdict, Error> {
        fork_free::ask(&mut self.client, from, &self.facts.permissions, timeout, allowed).await
    }

    async fn look(from: &Endpoint, timeout: Duration, agreed: Agreed, depth: Depth) -> Result<Self, Error> {
        let mut client = Client::connect(from, timeout).await?;
        let info = client.info().await?;
        let mut facts = Facts::ask(&mut client, info).await?;
        let needs = needs::of_source(facts.info.server);
        facts.keep_permissions(Permissions::ask(&mut client, from, &facts.info, needs).await?);
        let keys_max = if depth == Depth::Doctor { leftovers::KEYS } else { leftovers::KEYS_BRIEFLY };
        let leftovers = Leftovers::look(from, timeout, &facts.info, keys_max).await;
        facts.keep_leftovers(leftovers);
        let findings = source::findings(&facts, agreed);
        Ok(Self { info: facts.info.clone(), client, findings, facts })
    }
}

impl Destination {
    pub async fn examine(
        source: &mut Source,
        to: &Endpoint,
        timeout: Duration,
        agreed: Agreed,
    ) -> Result<Self, Error> {
        Self::look(source, to, timeout, agreed, Depth::Migrate).await
    }

    async fn look(
        source: &mut Source,
        to: &Endpoint,
        timeout: Duration,
        agreed: Agreed,
        depth: Depth,
    ) -> Result<Self, Error> {
        let mut client = Client::connect(to, timeout).await?;
        let info = client.info().await?;
        let target = Target::inspect(&mut client, &info, Expiries::Shifted).await?;
        let mut facts = Facts::ask(&mut client, info).await?;
        let needs = needs::of_target(facts.info.server, &source.facts, agreed);
        facts.keep_permissions(Permissions::ask(&mut client, to, &facts.info, needs).await?);
        let leftovers = Leftovers::look(to, timeout, &facts.info, leftovers::KEYS).await;
        facts.keep_leftovers(leftovers);
        let mut findings = target::findings(&source.facts, &facts, agreed, depth);
        findings.extend(pair::findings(&source.facts, &facts));
        Ok(Self { info: facts.info.clone(), client, target, findings, facts })
    }
}

/// Fails with the first refusal among `findings`.
pub(super) fn refuse(findings: &[Finding]) -> Result<(), Error> {
    match findings.iter().find(|finding| finding.severity == Severity::Refusal) {
        Some(refusal) => Err(Error::Refused(refusal.clone())),
        None => Ok(()),
    }
}
