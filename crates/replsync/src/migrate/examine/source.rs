//! What is to be said of a source.

use super::super::ErrorKind;
use super::facts::Facts;
use super::finding::{Finding, Subject};
use super::{Agreed, memory, persistence, sentinels};
use crate::capture::{Refusal, counts_replicas};
use crate::endpoint::Role;

/// What stands in the way of reading from it, and what is worth knowing.
pub(super) fn findings(facts: &Facts, agreed: Agreed) -> Vec<Finding> {
    let mut findings = role(facts, agreed);
    findings.extend(facts.permissions.findings(Subject::Source));
    findings.extend(facts.leftovers.and_then(|leftovers| leftovers.of_source()));
    findings.extend(memory::of_link(facts));
    if !agreed.fork_free {
        findings.extend(memory::of_full_sync(facts));
        findings.extend(persistence::of_full_sync(facts));
    }
    findings.extend(sentinels::of_source(facts));
    findings.extend(facts.unseen_findings(Subject::Source));
    findings
}

fn role(facts: &Facts, agreed: Agreed) -> Vec<Finding> {
    let (subject, source) = (Subject::Source, &facts.info);
    let mut findings = Vec::new();
    if counts_replicas(source) && !agreed.counted_as_replica {
        let message = Refusal::CountedAsReplica.to_string();
        findings.push(Finding::refusal(subject, ErrorKind::Unsafe, message));
    }
    if source.role == Role::Replica {
        let master = source.master().unwrap_or_default();
        let message = format!(
            "the source is a replica of {master}: it is read in its master's place, as far as it has got"
        );
        findings.push(Finding::note(subject, message));
        if source.field("master_link_status") == Some("down") {
            let message = "the source has lost its master: until it is back it offers no full sync (NOMASTERLINK), and \
                           what it holds is old";
            findings.push(Finding::warning(subject, message));
        }
        if source.field("slave_read_only") == Some("0") {
            let message = "the source is a writable replica: what clients wrote there is in the copy, but not in the stream";
            findings.push(Finding::warning(subject, message));
        }
    }
    if source.is_cluster() {
        let message = "the source is a node of a cluster: only its own slots are moved";
        findings.push(Finding::warning(subject, message));
    }
    findings
}
