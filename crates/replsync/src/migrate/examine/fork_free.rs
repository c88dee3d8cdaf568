//! Whether the source's stream can be followed without a fork, as `backup` and `--method fork-free` do.

use std::time::Duration;

use super::super::Error;
use super::finding::{Finding, Subject};
use super::permissions::Permissions;
use crate::capture::{Allowed, Conditions, Refusal, Verdict, Way, can_attach};
use crate::endpoint::{Client, Endpoint, Info};

/// Asks what decides it. Nothing is changed or tried.
pub(super) async fn ask(
    client: &mut Client,
    from: &Endpoint,
    permissions: &Permissions,
    timeout: Duration,
    allowed: Allowed,
) -> Result<Verdict, Error> {
    let conditions = Conditions::ask(client, from, timeout).await?;
    let mut verdict = can_attach(&conditions, allowed);
    let missing =
        permissions.missing_names().unwrap_or_default().into_iter().chain(permissions.absent_names());
    let missing: Vec<_> = missing.filter(|name| ["PSYNC", "REPLCONF"].contains(&name.as_str())).collect();
    if !missing.is_empty() {
        verdict.refusals.push(Refusal::NoReplica(missing));
    }
    Ok(verdict)
}

/// What is to be said of it.
pub(super) fn findings(verdict: &Verdict, info: &Info) -> Vec<Finding> {
    let subject = Subject::Source;
    // These stand in the way of everything, and are said already.
    let said = |refusal: &&Refusal| !matches!(refusal, Refusal::CountedAsReplica | Refusal::NoReplica(_));
    let reasons = verdict.refusals.iter().filter(said);
    let no = |refusal| Finding::warning(subject, format!("no copy without a fork: {refusal}"));
    let mut findings: Vec<_> = reasons.map(no).collect();
    findings.extend(verdict.warnings.iter().map(|warning| Finding::warning(subject, warning.to_string())));
    if verdict.refusals.is_empty() {
        findings.push(Finding::note(subject, possible(&verdict.way, info)));
    }
    findings
}

fn possible(way: &Way, info: &Info) -> String {
    const CAN: &str = "it can be copied without a fork";
    match way {
        Way::Continue => format!("{CAN}: its replication backlog lets us join its stream"),
        Way::Prime { change, delay } => {
            let mut message = format!(
                "{CAN}: it has no replication backlog, and gets one from a replica of ours that is gone long before the {} s \
                 after which it would fork (repl-diskless-sync-delay). That begins a new replication id",
                delay.as_secs()
            );
            let changes: Vec<_> = change
                .iter()
                .map(|change| format!("{} from {} to {}", change.setting, change.from, change.to))
                .collect();
            if !changes.is_empty() {
                message += &format!(", and for that moment sets {}", changes.join(" and "));
                if !info.server.has((7, 0), None) {
                    message += " (whether CONFIG SET is permitted is not known before 7.0)";
                }
            }
            message
        }
    }
}
