//! `replsync-node doctor FROM [--to TO]`

mod backup;

use std::fmt::Write;
use std::time::Duration;

use indicatif::HumanBytes;
use replsync::capture::{Verdict, Way};
use replsync::endpoint::{Endpoint, Info, Role};
use replsync::migrate::{Examination, Finding, Seen, Severity, Subject, examine};
use serde::Serialize;

use crate::args::{Doctor, Output};
use crate::exit::{ExitCode, Failure};
use crate::output::{self, counted};

/// Looks at both servers and prints what stands in the way.
pub async fn run(args: &Doctor, output: &Output) -> Result<ExitCode, Failure> {
    let from = args.from_access.apply(&args.from)?;
    if let Some(file) = &args.backup {
        return backup::run(&from, file, output).await;
    }
    let to = args.to.as_ref().map(|to| args.to_access.apply(to)).transpose()?;
    let seen = examine(&from, to.as_ref(), Duration::from_secs(5)).await?;
    let good = !seen.findings.iter().any(|finding| finding.severity == Severity::Refusal);
    output::result(output, &Document::new(&seen, good), &text(&from, to.as_ref(), &seen, good))?;
    Ok(if good { ExitCode::Done } else { ExitCode::No })
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    source: Server,
    target: Option<Server>,
    findings: Vec<FindingDocument>,
}

/// One server; `null` is what it has not, or does not tell.
#[derive(Serialize)]
struct Server {
    server: String,
    role: &'static str,
    rdb_version: u16,
    keys: u64,
    databases: usize,
    replid: String,
    offset: u64,
    used_memory_bytes: u64,
    data_bytes: u64,
    maxmemory_bytes: Option<u64>,
    machine_memory_bytes: Option<u64>,
    save_points: Option<String>,
    last_bgsave_ok: bool,
    aof_enabled: bool,
    aof_ok: bool,
    clock_offset_ms: Option<f64>,
    clock_uncertainty_ms: Option<f64>,
    missing_permissions: Option<Vec<String>>,
    missing_commands: Vec<String>,
    sentinels: Option<usize>,
    /// Of the source: whether it can be copied without a fork.
    fork_free: Option<ForkFree>,
}

#[derive(Serialize)]
struct ForkFree {
    possible: bool,
    primes: bool,
    changes_settings: Vec<&'static str>,
    reasons: Vec<String>,
}

impl ForkFree {
    fn new(verdict: &Verdict) -> Self {
        let change = match &verdict.way {
            Way::Continue => &[][..],
            Way::Prime { change, .. } => change,
        };
        Self {
            possible: verdict.refusals.is_empty(),
            primes: matches!(verdict.way, Way::Prime { .. }),
            changes_settings: change.iter().map(|change| change.setting).collect(),
            reasons: verdict.refusals.iter().map(ToString::to_string).collect(),
        }
    }
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
    fn new(seen: &Seen) -> Self {
        let (info, memory, persistence) = (&seen.info, &seen.memory, &seen.persistence);
        Self {
            server: info.server.to_string(),
            role: role(info),
            rdb_version: info.server.rdb_version(),
            keys: info.keys(),
            databases: info.keyspace.len(),
            replid: info.position.replid.to_string(),
            offset: info.position.offset,
            used_memory_bytes: memory.used_bytes,
            data_bytes: memory.data_bytes,
            maxmemory_bytes: memory.max_bytes,
            machine_memory_bytes: memory.machine_bytes,
            save_points: persistence.save_points.clone(),
            last_bgsave_ok: persistence.last_bgsave_ok,
            aof_enabled: persistence.aof_enabled,
            aof_ok: persistence.aof_ok,
            clock_offset_ms: seen.clock.map(|clock| ms(clock.ahead_us)),
            clock_uncertainty_ms: seen.clock.map(|clock| ms(clock.uncertainty_us)),
            missing_permissions: seen.missing_permissions.clone(),
            missing_commands: seen.missing_commands.clone(),
            sentinels: seen.sentinels,
            fork_free: seen.fork_free.as_ref().map(ForkFree::new),
        }
    }
}

fn ms(us: i64) -> f64 {
    us as f64 / 1000.0
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
    for (side, endpoint, seen) in sides {
        if let (Some(endpoint), Some(seen)) = (endpoint, seen) {
            let _ = writeln!(text, "{side}   {endpoint}: {}", identity(&seen.info));
            let _ = writeln!(text, "  memory       {}", memory(seen));
            let _ = writeln!(text, "  persistence  {}", persistence(seen));
            let _ = writeln!(text, "  clock        {}", clock(seen));
            if let Some(verdict) = &seen.fork_free {
                let _ = writeln!(text, "  fork-free    {}", fork_free(verdict));
            }
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

fn identity(info: &Info) -> String {
    let (server, role, rdb) = (info.server, role(info), info.server.rdb_version());
    let keys = counted(info.keys(), "key", "keys");
    let databases = counted(info.keyspace.len() as u64, "database", "databases");
    format!("{server}, {role}, {keys} in {databases}, writes RDB {rdb}")
}

fn memory(seen: &Seen) -> String {
    let memory = &seen.memory;
    let (used, data) = (HumanBytes(memory.used_bytes), HumanBytes(memory.data_bytes));
    let max = match memory.max_bytes {
        Some(max) => {
            format!("maxmemory {}, {}", HumanBytes(max), seen.info.field("maxmemory_policy").unwrap_or("?"))
        }
        None => "no maxmemory".to_owned(),
    };
    let machine = memory.machine_bytes.map(|machine| format!("; the machine has {}", HumanBytes(machine)));
    format!("{used} used, {data} of it data; {max}{}", machine.unwrap_or_default())
}

fn persistence(seen: &Seen) -> String {
    let persistence = &seen.persistence;
    let save = match persistence.save_points.as_deref() {
        Some("") => "no save points".to_owned(),
        Some(points) => format!("save points {points}"),
        None => "save points unknown".to_owned(),
    };
    let ok = |ok| if ok { "ok" } else { "FAILED" };
    let aof = match persistence.aof_enabled {
        true => format!("AOF on, {}", ok(persistence.aof_ok)),
        false => "AOF off".to_owned(),
    };
    format!("{save}, last BGSAVE {}; {aof}", ok(persistence.last_bgsave_ok))
}

fn fork_free(verdict: &Verdict) -> &'static str {
    match (verdict.refusals.is_empty(), &verdict.way) {
        (false, _) => "no: see below",
        (true, Way::Continue) => "yes",
        (true, Way::Prime { change, .. }) if change.is_empty() => {
            "yes, once it is given a replication backlog"
        }
        (true, Way::Prime { .. }) => {
            "yes, once it is given a replication backlog, for which settings change for a moment"
        }
    }
}

fn clock(seen: &Seen) -> String {
    let Some(clock) = seen.clock else { return "unknown".to_owned() };
    let side = if clock.ahead_us < 0 { "behind" } else { "ahead of" };
    format!("{:.1} ms {side} ours (± {:.1} ms)", ms(clock.ahead_us).abs(), ms(clock.uncertainty_us))
}
