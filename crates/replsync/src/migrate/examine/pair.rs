//! What a pair cannot move, and what would be lost.

use std::collections::BTreeSet;

use super::super::ErrorKind;
use super::facts::Facts;
use super::finding::{Finding, Subject, counted, listed};
use super::{clocks, settings};
use crate::server::Server;

const SUBJECT: Subject = Subject::Pair;
/// So many names are listed at most.
const NAMES: usize = 10;

/// What stands between the two.
pub(super) fn findings(source: &Facts, target: &Facts) -> Vec<Finding> {
    let mut findings = lost(source, target);
    findings.extend(modules(source, target));
    findings.extend(newer_types(source.info.server, target.info.server));
    findings.extend(clocks::finding(source.clock, target.clock));
    findings.extend(users(source, target));
    findings.extend(scripts(source));
    findings.extend(hints(source, target));
    findings.extend(settings::differing(source, target));
    findings.extend(native(source.info.server, target.info.server));
    findings
}

/// Data that the target has no place for.
fn lost(source: &Facts, target: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let server = target.info.server;
    let mut would_lose =
        |message: String| findings.push(Finding::refusal(SUBJECT, ErrorKind::Unsafe, message));
    if source.functions.unwrap_or(0) > 0 && !server.has((7, 0), None) {
        would_lose(format!("the source has functions, and {server} has none"));
    }
    if source.info.has_expiring_fields() && !server.has((7, 4), Some((9, 0))) {
        would_lose(format!("hash fields on the source have expiries, and {server} has none"));
    }
    if let (Some(highest), Some(count)) = (source.info.keyspace.keys().max(), target.number("databases"))
        && u64::from(*highest) >= count
    {
        would_lose(format!(
            "the source uses database {highest}, and the target has {count}: set databases there"
        ));
    }
    findings
}

fn modules(source: &Facts, target: &Facts) -> Option<Finding> {
    let (here, there) = (source.modules.as_ref()?, target.modules.as_ref()?);
    let missing: Vec<_> = here.difference(there).map(String::as_str).collect();
    let message = format!(
        "modules on the source that the target lacks: {}. Keys of their types will stop the job",
        missing.join(", ")
    );
    (!missing.is_empty()).then(|| Finding::warning(SUBJECT, message))
}

/// Types that the source may hold and the target has not: INFO does not tell whether it does.
fn newer_types(source: Server, target: Server) -> Option<Finding> {
    // `since` of VADD in the servers' `COMMAND DOCS`; Valkey has none of them.
    let vector_sets = |server: Server| server.has((8, 0), None);
    (vector_sets(source) && !vector_sets(target)).then(|| {
        let message =
            format!("vector sets, if the source holds any, will stop the job: {target} has no such type");
        Finding::note(SUBJECT, message)
    })
}

fn users(source: &Facts, target: &Facts) -> Option<Finding> {
    let others = |facts: &Facts| {
        let mut users = facts.users.clone()?;
        users.remove("default");
        Some(users)
    };
    let here = others(source)?;
    if here.is_empty() {
        return None;
    }
    let not_moved = match here.len() {
        1 => "an ACL user of the source is not moved".to_owned(),
        many => format!("{many} ACL users of the source are not moved"),
    };
    let Some(there) = others(target) else {
        let message = format!("{not_moved}: {}", listed(&here, NAMES));
        return Some(Finding::warning(SUBJECT, message));
    };
    let missing: BTreeSet<_> = here.difference(&there).cloned().collect();
    Some(match missing.is_empty() {
        false => {
            let message = format!(
                "{not_moved}, and the target lacks {}: its clients cannot log in there. ACL \
                 LIST on the source shows them, ACL SETUSER on the target makes them",
                listed(&missing, NAMES)
            );
            Finding::warning(SUBJECT, message)
        }
        true => {
            let message = format!(
                "{not_moved}; the target has all these names, whose passwords and rights were not compared"
            );
            Finding::note(SUBJECT, message)
        }
    })
}

/// Before 7.0 the script cache is in the RDB and in the stream.
fn scripts(source: &Facts) -> Option<Finding> {
    let count = source.info.number("number_of_cached_scripts").filter(|count| *count > 0)?;
    source.info.server.has((7, 0), None).then(|| {
        let scripts = counted(count, "script", "scripts");
        let message = format!(
            "the source's script cache ({scripts}) is not moved, as from 7.0 on it is not replicated: clients that use \
             EVALSHA must be ready for NOSCRIPT on the target, or load their scripts there"
        );
        Finding::note(SUBJECT, message)
    })
}

/// When keys were used last is moved only where the target evicts by it.
fn hints(source: &Facts, target: &Facts) -> Option<Finding> {
    let sort = |facts: &Facts| {
        let policy = facts.info.field("maxmemory_policy")?;
        policy
            .rsplit_once('-')
            .map(|(_, sort)| sort.to_owned())
            .filter(|sort| ["lru", "lfu"].contains(&&sort[..]))
    };
    let here = sort(source)?;
    (sort(target).as_ref() != Some(&here)).then(|| {
        let message = format!(
            "when keys were used last ({} of the source) is not moved: the target does not evict by it",
            here.to_uppercase()
        );
        Finding::note(SUBJECT, message)
    })
}

fn native(source: Server, target: Server) -> Option<Finding> {
    let (written, read) = (source.rdb_version(), target.rdb_version());
    let message =
        format!("native REPLICAOF would refuse this pair (RDB {written} to a server that writes {read})");
    (!native_works(source, target)).then(|| Finding::note(SUBJECT, message))
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
