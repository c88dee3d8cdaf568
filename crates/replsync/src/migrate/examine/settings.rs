//! Settings: those that are asked for, and those in which a pair differs.

use super::facts::Facts;
use super::finding::{Finding, Subject, human};

/// What is asked for, by the names that all servers know: newer ones call a ziplist a listpack and understand both.
pub(super) const ASKED: [&str; 22] = [
    "save",
    "stop-writes-on-bgsave-error",
    "repl-diskless-sync",
    "client-output-buffer-limit",
    "min-replicas-to-write",
    "databases",
    "maxmemory",
    "maxmemory-policy",
    "maxclients",
    "timeout",
    "notify-keyspace-events",
    "appendonly",
    "proto-max-bulk-len",
    "list-max-ziplist-size",
    "list-compress-depth",
    "hash-max-ziplist-entries",
    "hash-max-ziplist-value",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-ziplist-entries",
    "zset-max-ziplist-value",
];

/// The first of these are for other findings. Of the rest it is said when a pair differs: clients see it, or memory does.
const NOT_COMPARED: usize = 5;

/// In which settings the two differ.
pub(super) fn differing(source: &Facts, target: &Facts) -> Option<Finding> {
    let differing: Vec<_> = ASKED
        .into_iter()
        .skip(NOT_COMPARED)
        .filter_map(|name| {
            let (here, there) = (source.setting(name)?, target.setting(name)?);
            let shown = match target.info.server.has((7, 0), None) {
                true => name.replace("ziplist", "listpack"),
                false => name.to_owned(),
            };
            (here != there).then(|| format!("{shown} {} → {}", readable(name, here), readable(name, there)))
        })
        .collect();
    let message = format!(
        "configuration is not moved; the two differ in (source → target): {}. CONFIG SET on the target what should stay",
        differing.join(", ")
    );
    (!differing.is_empty()).then(|| Finding::note(Subject::Pair, message))
}

fn readable(name: &str, value: &str) -> String {
    match (name, value.parse()) {
        ("maxmemory" | "proto-max-bulk-len", Ok(bytes @ 1..)) => human(bytes),
        _ if value.is_empty() => "\"\"".to_owned(),
        _ => value.to_owned(),
    }
}
