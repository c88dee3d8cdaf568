//! `replsync-node doctor FROM [--to TO]`

use std::fmt::Write;
use std::time::Duration;

use replsync::endpoint::{Endpoint, Info, Role};
use replsync::migrate::{Examination, Finding, Severity, Subject, examine};
use serde::Serialize;

use crate::args::{Doctor, Output};
use crate::exit::{ExitCode, Failure};
use crate::output::{self, counted};

/// Looks at both servers and prints what stands in the way.
pub async fn run(args: &Doctor, output: &Output) -> Result<ExitCode, Failure> {
    let from = args.from_password.apply(&args.from)?;
    let to = args.to.as_ref().map(|to| args.to_password.apply(to)).transpose()?;
    let seen = examine(&from, to.as_ref(), Duration::from_secs(5)).await?;
    let good = !seen.findings.iter().any(|finding| finding.severity == Severity::Refusal);
    output::result(output, &Document::new(&seen, good), &text(&from, to.as_ref(), &seen, good));
    Ok(if good { ExitCode::Done } else { ExitCode::No })
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    source: Server,
    target: Option<Server>,
    findings: Vec<FindingDocument>,
}

#[derive(Serialize)]
struct Server {
    server: String,
    role: &'static str,
    rdb_version: u16,
    keys: u64,
    databases: usize,
    replid: String,
    offset: u64,
}

#[derive(Serialize)]
struct FindingDocument {
    severity: &'static str,
    subject: &'static str,
    message: String,
}

impl Document {
    fn new(seen: &Examination, ok: bool) -> Self {
        let findings = seen.findings.iter().map(|finding| FindingDocument {
            severity: severity(finding),
            subject: match finding.subject {
                Subject::Source => "source",
                Subject::Target => "target",
                Subject::Pair => "pair",
            },
            message: finding.message.clone(),
        });
        Self {
            ok,
            source: Server::new(&seen.source),
            target: seen.target.as_ref().map(Server::new),
            findings: findings.collect(),
        }
    }
}

impl Server {
    fn new(info: &Info) -> Self {
        Self {
            server: info.server.to_string(),
            role: role(info),
            rdb_version: info.server.rdb_version(),
            keys: info.keys(),
            databases: info.keyspace.len(),
            replid: info.position.replid.to_string(),
            offset: info.position.offset,
        }
    }
}

fn role(info: &Info) -> &'static str {
    match info.role {
        Role::Master => "master",
        Role::Replica => "replica",
    }
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Refusal => "refusal",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn text(from: &Endpoint, to: Option<&Endpoint>, seen: &Examination, good: bool) -> String {
    let mut text = String::new();
    let sides = [("source", Some(from), Some(&seen.source)), ("target", to, seen.target.as_ref())];
    for (side, endpoint, info) in sides {
        if let (Some(endpoint), Some(info)) = (endpoint, info) {
            let (server, role, rdb) = (info.server, role(info), info.server.rdb_version());
            let keys = counted(info.keys(), "key", "keys");
            let databases = counted(info.keyspace.len() as u64, "database", "databases");
            let _ = writeln!(
                text,
                "{side}   {endpoint}: {server}, {role}, {keys} in {databases}, writes RDB {rdb}"
            );
        }
    }
    for finding in &seen.findings {
        let _ = writeln!(text, "{:<8} {finding}", severity(finding));
    }
    let _ = match (good, to.is_some()) {
        (true, true) => writeln!(text, "nothing stands in the way"),
        (true, false) => {
            writeln!(text, "nothing stands in the way on the source; --to looks at a target, too")
        }
        (false, _) => writeln!(text, "migrate would refuse"),
    };
    text
}
