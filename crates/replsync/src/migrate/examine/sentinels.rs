//! Sentinels that watch a server, and what that means.
//!
//! Source of the names: `sentinelSetClientName` in `src/sentinel.c`. Each Sentinel has two connections:
//! `sentinel-<8 digits of its id>-cmd` and `…-pubsub`.

use std::collections::BTreeSet;

use super::facts::Facts;
use super::finding::{Finding, Subject, counted};

/// How many Sentinels are in a `CLIENT LIST`.
pub(super) fn count(list: &str) -> usize {
    let names = list.lines().filter_map(|line| line.split(' ').find_map(|pair| pair.strip_prefix("name=")));
    let ids = names.filter_map(|name| name.strip_prefix("sentinel-"));
    let ids: BTreeSet<_> = ids.map(|id| id.rsplit_once('-').map_or(id, |(id, _)| id)).collect();
    ids.len()
}

/// What it means that Sentinels watch the source.
pub(super) fn of_source(facts: &Facts) -> Option<Finding> {
    let who = who(facts)?;
    let message = format!(
        "{who} the source: a failover meanwhile makes another server the master. The job stays with this \
         address, and goes on without a new full sync only if the server there continues the same history"
    );
    Some(Finding::note(Subject::Source, message))
}

/// What it means that Sentinels watch the target.
pub(super) fn of_target(facts: &Facts) -> Option<Finding> {
    let who = who(facts)?;
    let message = format!(
        "{who} the target: they may make another server its master meanwhile, or a replica of it. A target \
         that becomes a replica refuses our writes (READONLY), and the job ends with exit code 3. SENTINEL REMOVE \
         <name> on each of them, and SENTINEL MONITOR again afterwards"
    );
    Some(Finding::warning(Subject::Target, message))
}

fn who(facts: &Facts) -> Option<String> {
    let count = facts.sentinels.filter(|count| *count > 0)?;
    Some(counted(count as u64, "Sentinel watches", "Sentinels watch"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_sentinel_is_counted_once() {
        let list = "id=1 addr=a:1 name=sentinel-ed95777d-cmd age=3\nid=2 addr=a:2 name=sentinel-ed95777d-pubsub age=3\n\
                    id=3 name= age=1\nid=4 name=my-sentinel-x age=1\nid=5 name=sentinel-00000000-cmd age=1\n";
        assert_eq!(super::count(list), 2);
        assert_eq!(super::count(""), 0);
    }
}
