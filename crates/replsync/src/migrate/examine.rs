//! Who the two servers are, and what stands in the way. It changes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Error, ErrorKind};
use crate::apply::Target;
use crate::command::Expiries;
use crate::endpoint::{Client, Endpoint, Info, Role};
use crate::resp::Reply;
use crate::server::Server;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It goes well only if that is what you want.
    Warning,
    /// It does not go.
    Refusal,
}

/// Which server a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The source.
    Source,
    /// The target.
    Target,
    /// Both together.
    Pair,
}

/// Something worth saying about a server or a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Which server it is about.
    pub subject: Subject,
    /// What a refusal means.
    pub kind: ErrorKind,
    /// What it is, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What was seen of one server or both.
#[derive(Clone, Debug)]
pub struct Examination {
    /// The source's INFO.
    pub source: Info,
    /// The target's INFO.
    pub target: Option<Info>,
    /// What stands in the way, the worst first.
    pub findings: Vec<Finding>,
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
    let agreed = Agreed::default();
    let mut source = Source::examine(from, timeout, agreed).await?;
    let target = match to {
        Some(to) => Some(Destination::examine(&mut source, to, timeout, agreed).await?),
        None => None,
    };
    let mut findings = source.findings;
    findings.extend(target.iter().flat_map(|target| target.findings.iter().cloned()));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Examination { source: source.info, target: target.map(|target| target.info), findings })
}

/// What the one who runs the job has agreed to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    pub flush_target: bool,
    pub counted_as_replica: bool,
}

/// A source that was looked at, and a connection to it.
pub(super) struct Source {
    pub info: Info,
    pub client: Client,
    pub findings: Vec<Finding>,
}

/// A target that was looked at in view of its source, and a connection to it.
pub(super) struct Destination {
    pub info: Info,
    pub client: Client,
    pub target: Target,
    pub findings: Vec<Finding>,
}

impl Source {
    pub async fn examine(from: &Endpoint, timeout: Duration, agreed: Agreed) -> Result<Self, Error> {
        let mut client = Client::connect(from, timeout).await?;
        let info = client.info().await?;
        let findings = source_findings(&info, agreed);
        Ok(Self { info, client, findings })
    }
}

impl Destination {
    pub async fn examine(
        source: &mut Source,
        to: &Endpoint,
        timeout: Duration,
        agreed: Agreed,
    ) -> Result<Self, Error> {
        let mut client = Client::connect(to, timeout).await?;
        let info = client.info().await?;
        let target = Target::inspect(&mut client, &info, Expiries::Shifted).await?;
        let mut findings = target_findings(&source.info, &info, &mut client, agreed).await?;
        findings.extend(pair_findings(&source.info, &info, &mut source.client, &mut client).await?);
        Ok(Self { info, client, target, findings })
    }
}

/// Fails with the first refusal among `findings`.
pub(super) fn refuse(findings: &[Finding]) -> Result<(), Error> {
    match findings.iter().find(|finding| finding.severity == Severity::Refusal) {
        Some(refusal) => Err(Error::Refused(refusal.clone())),
        None => Ok(()),
    }
}

fn source_findings(source: &Info, agreed: Agreed) -> Vec<Finding> {
    let subject = Subject::Source;
    let mut findings = Vec::new();
    let counts_replicas = source.field("min_slaves_good_slaves").is_some();
    if counts_replicas && !agreed.counted_as_replica {
        let message = "the source takes writes only with enough replicas (min-replicas-to-write), and while we are \
                       attached it counts us as one; --allow-counted-as-replica goes on all the same";
        findings.push(Finding::refusal(subject, ErrorKind::Unsafe, message));
    }
    if source.role == Role::Replica {
        let master = source.master().unwrap_or_default();
        let message = format!(
            "the source is a replica of {master}: it is read in its master's place, as far as it has got"
        );
        findings.push(Finding::note(subject, message));
        if source.field("slave_read_only") == Some("0") {
            let message = "the source is a writable replica: what clients wrote there is in the copy, but not in the stream";
            findings.push(Finding::warning(subject, message));
        }
    }
    if source.is_cluster() {
        let message = "the source is a node of a cluster: only its own slots are moved";
        findings.push(Finding::warning(subject, message));
    }
    findings.push(Finding::note(
        subject,
        "a full sync makes the source fork, unless another one is under way".to_owned(),
    ));
    findings
}

async fn target_findings(
    source: &Info,
    target: &Info,
    client: &mut Client,
    agreed: Agreed,
) -> Result<Vec<Finding>, Error> {
    let subject = Subject::Target;
    let mut findings = Vec::new();
    let mut refuse = |kind, message: String| findings.push(Finding::refusal(subject, kind, message));
    if source.run_id == target.run_id {
        refuse(ErrorKind::Usage, "source and target are the same server".to_owned());
    } else if source.position.replid == target.position.replid {
        refuse(
            ErrorKind::Usage,
            "source and target share one replication history: one is a replica of the other".to_owned(),
        );
    }
    if target.role == Role::Replica {
        let master = target.master().unwrap_or_default();
        let message = format!(
            "the target is a replica of {master}: write to that one, or make this one a master (REPLICAOF NO ONE)"
        );
        refuse(ErrorKind::Unreachable, message);
    }
    if target.is_cluster() {
        refuse(ErrorKind::Usage, "the target has cluster mode on, which is not supported yet".to_owned());
    }
    if target.is_loading() {
        refuse(ErrorKind::Unreachable, "the target is still loading its data: try again later".to_owned());
    }
    let policy = target.field("maxmemory_policy").unwrap_or("noeviction");
    if target.number("maxmemory").unwrap_or(0) > 0 && policy != "noeviction" {
        let message = format!(
            "the target evicts keys when it is full ({policy}): if it does so meanwhile, the job fails"
        );
        findings.push(Finding::warning(subject, message));
    }
    let functions = function_count(client, target.server).await?;
    if target.keys() > 0 || functions > 0 {
        let what =
            format!("the target is not empty (keys: {}, function libraries: {functions})", target.keys());
        match agreed.flush_target {
            true => findings.push(Finding::warning(subject, format!("{what}: it will be flushed"))),
            false => findings.push(Finding::refusal(
                subject,
                ErrorKind::Usage,
                format!("{what}: --flush-target deletes all of it first"),
            )),
        }
    }
    Ok(findings)
}

async fn pair_findings(
    source: &Info,
    target: &Info,
    from: &mut Client,
    to: &mut Client,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let server = target.server;
    let mut would_lose =
        |message: String| findings.push(Finding::refusal(Subject::Pair, ErrorKind::Unsafe, message));
    if function_count(from, source.server).await? > 0 && !server.has((7, 0), None) {
        would_lose(format!("the source has functions, and {server} has none"));
    }
    if has_field_expiries(source) && !server.has((7, 4), Some((9, 0))) {
        would_lose(format!("hash fields on the source have expiries, and {server} has none"));
    }
    let databases = to.config("databases").await?.and_then(|count| count.parse::<u32>().ok());
    if let (Some(highest), Some(count)) = (source.keyspace.keys().max(), databases)
        && *highest >= count
    {
        would_lose(format!(
            "the source uses database {highest}, and the target has {count}: set databases there"
        ));
    }
    let missing: Vec<_> = modules(from).await?.difference(&modules(to).await?).cloned().collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        findings.push(Finding::warning(
            Subject::Pair,
            format!(
                "modules on the source that the target lacks: {names}. Keys of their types will stop the job"
            ),
        ));
    }
    let (written, read) = (source.server.rdb_version(), server.rdb_version());
    if !native_works(source.server, server) {
        let message =
            format!("native REPLICAOF would refuse this pair (RDB {written} to a server that writes {read})");
        findings.push(Finding::note(Subject::Pair, message));
    }
    Ok(findings)
}

/// Whether the target loads the source's RDB as a replica would; field expiries of Valkey 9 apart.
fn native_works(source: Server, target: Server) -> bool {
    use crate::server::Product::{Redis, Valkey};
    let (written, read) = (source.rdb_version(), target.rdb_version());
    match (source.product, target.product) {
        (Redis, Redis) | (Valkey, Valkey) => written <= read,
        (Redis, Valkey) => written <= 11,
        // On the wire it writes version 11 to a replica that names no version of Valkey.
        (Valkey, Redis) => read >= 11,
    }
}

/// From 7.4 on INFO counts them: `subexpiry` in Redis, `keys_with_volatile_items` in Valkey 9.
fn has_field_expiries(info: &Info) -> bool {
    info.keyspace.keys().any(|db| {
        let line = info.field(&format!("db{db}")).unwrap_or_default();
        ["subexpiry=", "keys_with_volatile_items="]
            .iter()
            .any(|name| line.split(',').any(|pair| pair.strip_prefix(name).is_some_and(|count| count != "0")))
    })
}

async fn function_count(client: &mut Client, server: Server) -> Result<usize, Error> {
    if !server.has((7, 0), None) {
        return Ok(0);
    }
    match client.ask(&["FUNCTION", "LIST"]).await {
        Ok(Reply::Array(libraries)) => Ok(libraries.len()),
        // Without the right to look, what the copy meets decides.
        Ok(_) | Err(crate::endpoint::Error::Refused { .. }) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The names of loaded modules, less those that come with the server.
async fn modules(client: &mut Client) -> Result<BTreeSet<String>, Error> {
    const BUILT_IN: [&str; 2] = ["vectorset", "lua"];
    let modules = match client.ask(&["MODULE", "LIST"]).await {
        Ok(Reply::Array(modules)) => modules,
        Ok(_) | Err(crate::endpoint::Error::Refused { .. }) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let name = |module: &Reply| match module {
        // name, <its name>, ver, <its version>, …
        Reply::Array(fields) => fields.get(1).and_then(Reply::text),
        _ => None,
    };
    Ok(modules.iter().filter_map(name).filter(|name| !BUILT_IN.contains(&name.as_str())).collect())
}

impl Finding {
    fn refusal(subject: Subject, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { severity: Severity::Refusal, subject, kind, message: message.into() }
    }

    fn warning(subject: Subject, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, subject, kind: ErrorKind::Unsafe, message: message.into() }
    }

    fn note(subject: Subject, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, subject, kind: ErrorKind::Unsafe, message: message.into() }
    }
}
