//! What is to be said of a target, in view of its source.

use super::super::ErrorKind;
use super::facts::Facts;
use super::finding::{Finding, Subject, counted};
use super::memory::{describe, replica_limit};
use super::{Agreed, Depth, memory, persistence, sentinels};
use crate::endpoint::Role;

/// What stands in the way of writing into it, and what is worth knowing.
pub(super) fn findings(source: &Facts, target: &Facts, agreed: Agreed, depth: Depth) -> Vec<Finding> {
    let mut findings = role(source, target);
    findings.extend(not_empty(target, agreed));
    findings.extend(target.permissions.findings(Subject::Target));
    findings.extend(memory::of_target(source, target));
    findings.extend(eviction(target));
    findings.extend(persistence::of_target(source, target));
    findings.extend(sentinels::of_target(target));
    findings.extend(replicas(target));
    if depth == Depth::Doctor {
        findings.extend(target.leftovers.and_then(|leftovers| leftovers.of_target()));
    }
    findings.extend(target.unseen_findings(Subject::Target));
    findings
}

fn role(source: &Facts, target: &Facts) -> Vec<Finding> {
    let (source, info) = (&source.info, &target.info);
    let mut findings = Vec::new();
    let mut refuse = |kind, message: String| findings.push(Finding::refusal(Subject::Target, kind, message));
    if source.run_id == info.run_id {
        refuse(ErrorKind::Usage, "source and target are the same server".to_owned());
    } else if source.position.replid == info.position.replid {
        refuse(
            ErrorKind::Usage,
            "source and target share one replication history: one is a replica of the other".to_owned(),
        );
    }
    if info.role == Role::Replica {
        let master = info.master().unwrap_or_default();
        let message = format!(
            "the target is a replica of {master}: write to that one, or make this one a master (REPLICAOF NO ONE)"
        );
        refuse(ErrorKind::Unreachable, message);
    }
    if info.is_cluster() {
        refuse(ErrorKind::Usage, "the target has cluster mode on, which is not supported yet".to_owned());
    }
    if info.is_loading() {
        refuse(ErrorKind::Unreachable, "the target is still loading its data: try again later".to_owned());
    }
    let (needed, good) = (target.number("min-replicas-to-write"), info.number("min_slaves_good_slaves"));
    if let (Some(needed), Some(good)) = (needed, good)
        && good < needed
    {
        let message = format!(
            "the target refuses writes (NOREPLICAS): it has {good} good replicas, and min-replicas-to-write asks for \
             {needed}"
        );
        refuse(ErrorKind::Unreachable, message);
    }
    findings
}

fn not_empty(target: &Facts, agreed: Agreed) -> Option<Finding> {
    let (keys, functions) = (target.info.keys(), target.functions.unwrap_or(0));
    if keys == 0 && functions == 0 {
        return None;
    }
    let mut what = format!("the target is not empty (keys: {keys}, function libraries: {functions})");
    if let Some(leftovers) = target.leftovers.and_then(|leftovers| leftovers.describe()) {
        what += &format!(". A migration into it was killed, or still runs: {leftovers}");
    }
    Some(match agreed.flush_target {
        true => Finding::warning(Subject::Target, format!("{what}: it will be flushed")),
        false => Finding::refusal(
            Subject::Target,
            ErrorKind::Usage,
            format!("{what}: --flush-target deletes all of it first"),
        ),
    })
}

fn eviction(target: &Facts) -> Option<Finding> {
    let policy = target.info.field("maxmemory_policy").unwrap_or("noeviction");
    let evicts = target.info.number("maxmemory").unwrap_or(0) > 0 && policy != "noeviction";
    evicts.then(|| {
        let message = format!(
            "the target evicts keys when it is full ({policy}): if it does so meanwhile, the job fails"
        );
        Finding::warning(Subject::Target, message)
    })
}

fn replicas(target: &Facts) -> Option<Finding> {
    let count = target.info.number("connected_slaves").filter(|count| *count > 0)?;
    let limit = match replica_limit(target).map(describe) {
        Some(Some(limit)) => format!(
            "It drops one that lags by {limit} (client-output-buffer-limit replica), so the job slows down while one \
             lags by more than a quarter of that"
        ),
        Some(None) => "It lets them lag without a limit (client-output-buffer-limit replica)".to_owned(),
        None => {
            "How far they may lag it does not tell, so the job goes by what servers have unless it is set"
                .to_owned()
        }
    };
    let who = counted(count, "replica", "replicas");
    let message = format!("the target has {who} of its own, to which all goes that is written. {limit}");
    Some(Finding::note(Subject::Target, message))
}
