//! Memory: what a full sync may cost the source, and whether the target has room.

use super::super::ErrorKind;
use super::facts::Facts;
use super::finding::{Finding, Subject, human};
use crate::apply::OutputLimit;
use crate::endpoint::Info;

/// A break that the backlog covers for less than this is worth a warning.
const BACKLOG_SECONDS: u64 = 10;

/// What a server holds in memory, and how much it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that it has allocated: what `maxmemory` is compared with.
    pub used_bytes: u64,
    /// Keys, values and the tables that hold them. The server's own `used_memory_dataset` leaves those tables out,
    /// which are half of it where values are small, and wraps around on an empty Redis 8.6.
    ///
    /// Source: `getMemoryOverheadData` in `src/object.c`.
    pub data_bytes: u64,
    /// `maxmemory`, where it is set.
    pub max_bytes: Option<u64>,
    /// Of the machine. What a container is allowed is not known.
    pub machine_bytes: Option<u64>,
}

impl Memory {
    pub(super) fn of(info: &Info) -> Self {
        let number = |name| info.number(name);
        let used_bytes = number("used_memory").unwrap_or(0);
        let links = number("mem_total_replication_buffers").unwrap_or_else(|| {
            let parts = ["mem_replication_backlog", "mem_clients_slaves"];
            parts.into_iter().filter_map(number).fold(0, u64::saturating_add)
        });
        let rest = ["used_memory_startup", "mem_clients_normal", "mem_aof_buffer"];
        let overhead = rest.into_iter().filter_map(number).fold(links, u64::saturating_add);
        Self {
            used_bytes,
            data_bytes: used_bytes.saturating_sub(overhead),
            max_bytes: number("maxmemory").filter(|max| *max > 0),
            machine_bytes: number("total_system_memory").filter(|machine| *machine > 0),
        }
    }
}

/// How long the link may be down.
pub(super) fn of_link(facts: &Facts) -> Option<Finding> {
    backlog(facts)
}

/// What a full sync costs the source, and how long its link may lag.
pub(super) fn of_full_sync(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![fork(facts)];
    findings.extend(output_limit(facts));
    findings
}

fn fork(facts: &Facts) -> Finding {
    let subject = Subject::Source;
    let memory = Memory::of(&facts.info);
    let mut message = format!(
        "a full sync makes the source fork, unless another one is under way: while clients write, that may take up to \
         the {} that it uses once more",
        human(memory.used_bytes)
    );
    let Some(machine) = memory.machine_bytes else { return Finding::note(subject, message) };
    message += &format!(
        ". Its machine has {}; what its container may take cannot be seen from here",
        human(machine)
    );
    match memory.used_bytes.saturating_mul(2) > machine {
        true => {
            message +=
                ". It may be killed for that: choose a replica of it as the source, or a time of few writes";
            Finding::warning(subject, message)
        }
        false => Finding::note(subject, message),
    }
}

/// How much the source keeps for a replica that does not read.
fn output_limit(facts: &Facts) -> Option<Finding> {
    let limit = replica_limit(facts)?;
    let keeps = "what clients write while the RDB is on its way waits in the source's memory";
    let message = match describe(limit) {
        Some(limit) => format!(
            "{keeps}; beyond {limit} (client-output-buffer-limit replica) it cuts the link, and the copy starts anew"
        ),
        None => format!("{keeps}, without a limit (client-output-buffer-limit replica)"),
    };
    Some(Finding::note(Subject::Source, message))
}

/// `client-output-buffer-limit` of replicas, where the server tells.
pub(super) fn replica_limit(facts: &Facts) -> Option<OutputLimit> {
    OutputLimit::parse(facts.setting("client-output-buffer-limit")?)
}

/// `256.00 MiB, or 64.00 MiB for 60 s`; nothing where there is no limit.
pub(super) fn describe(limit: OutputLimit) -> Option<String> {
    let OutputLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
    let hard = (hard_bytes > 0).then(|| human(hard_bytes));
    let soft =
        (soft_bytes > 0 && soft_seconds > 0).then(|| format!("{} for {soft_seconds} s", human(soft_bytes)));
    match (hard, soft) {
        (Some(hard), Some(soft)) => Some(format!("{hard}, or {soft}")),
        (hard, soft) => hard.or(soft),
    }
}

/// How much clients may write while the link is down.
fn backlog(facts: &Facts) -> Option<Finding> {
    let backlog_bytes = facts.info.number("repl_backlog_size")?;
    let mut message = format!(
        "a broken link goes on where it was while clients write less than {} (repl-backlog-size)",
        human(backlog_bytes)
    );
    // What comes in is more than what is written, and so more than what goes into the backlog.
    let kib_per_second =
        facts.info.field("instantaneous_input_kbps").and_then(|rate| rate.parse::<f64>().ok());
    let bytes_per_second = kib_per_second.map_or(0, |rate| (rate * 1024.0) as u64);
    let seconds = backlog_bytes.checked_div(bytes_per_second).filter(|seconds| *seconds < BACKLOG_SECONDS);
    Some(match seconds {
        Some(seconds) => {
            message += &format!(
                ", which may be for {} s only: the source is being sent {} a second. CONFIG SET repl-backlog-size there \
                 makes it longer",
                seconds.max(1),
                human(bytes_per_second)
            );
            Finding::warning(Subject::Source, message)
        }
        None => Finding::note(Subject::Source, message),
    })
}

/// Whether the target has room for what the source holds.
pub(super) fn of_target(source: &Facts, target: &Facts) -> Vec<Finding> {
    let needed = Memory::of(&source.info).data_bytes;
    if source.info.keys() == 0 {
        return Vec::new();
    }
    let policy = target.info.field("maxmemory_policy").or(target.setting("maxmemory-policy"));
    room(needed, Memory::of(&target.info), target.info.keys() > 0, policy.unwrap_or("noeviction"))
}

/// What the source's data takes on the target is not known: of seven pairs of versions, each with small strings and with
/// small collections, the target took from 0.44 to 1.22 of it (6.2 → 7.4, whose lists and sorted sets are packed
/// tighter; 8.6 → 7.4, whose small strings are not).
fn room(needed: u64, target: Memory, will_be_flushed: bool, policy: &str) -> Vec<Finding> {
    let subject = Subject::Target;
    let used = target.used_bytes.saturating_sub(if will_be_flushed { target.data_bytes } else { 0 });
    let once = if will_be_flushed { " once it is flushed" } else { "" };
    let takes = format!(
        "the source's data takes {} there (another version may need a quarter more, or half as much)",
        human(needed)
    );
    let needed_at_most = needed.saturating_add(needed / 4);
    let Some(max) = target.max_bytes else {
        let Some(machine) = target.machine_bytes else { return Vec::new() };
        let too_small = machine.saturating_sub(used) < needed_at_most;
        let message = format!("the target has no maxmemory, its machine has {}, and {takes}", human(machine));
        return too_small.then(|| Finding::warning(subject, message)).into_iter().collect();
    };
    let free = max.saturating_sub(used);
    let means = match policy {
        "noeviction" => "then it refuses writes (OOM)",
        _ => "then it evicts keys",
    };
    let message = format!(
        "the target has room for {}{once} (maxmemory {}, {policy}), and {takes}: {means}. Raise maxmemory on the target",
        human(free),
        human(max),
    );
    match free {
        // A refusal must be sure.
        free if free < needed / 4 => vec![Finding::refusal(subject, ErrorKind::Unreachable, message)],
        free if free < needed_at_most => vec![Finding::warning(subject, message)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::Severity;

    const MIB: u64 = 1 << 20;

    fn target(used: u64, max: Option<u64>) -> Memory {
        Memory {
            used_bytes: used * MIB,
            data_bytes: used * MIB / 2,
            max_bytes: max.map(|max| max * MIB),
            machine_bytes: Some(1024 * MIB),
        }
    }

    fn severity(needed: u64, target: Memory, will_be_flushed: bool) -> Option<Severity> {
        room(needed * MIB, target, will_be_flushed, "noeviction").first().map(|finding| finding.severity)
    }

    #[test]
    fn too_little_room_is_said_and_far_too_little_refused() {
        assert_eq!(severity(48, target(40, Some(100)), false), None);
        assert_eq!(severity(49, target(40, Some(100)), false), Some(Severity::Warning));
        assert_eq!(severity(240, target(40, Some(100)), false), Some(Severity::Warning));
        assert_eq!(severity(241, target(40, Some(100)), false), Some(Severity::Refusal));
        assert_eq!(severity(64, target(40, Some(100)), true), None, "a flush makes room");
        assert_eq!(severity(1, target(200, Some(100)), false), Some(Severity::Refusal), "fuller than full");
        assert_eq!(
            severity(1000, target(40, None), false),
            Some(Severity::Warning),
            "the machine is too small"
        );
        assert_eq!(severity(700, target(40, None), false), None);
    }

    fn info(fields: &str) -> Info {
        let replid = "0".repeat(40);
        let text = format!(
            "redis_version:7.4.1\nrun_id:a\nrole:master\nmaster_replid:{replid}\nmaster_repl_offset:0\n{fields}"
        );
        Info::parse(&text).unwrap()
    }

    #[test]
    fn data_is_what_is_left_without_the_servers_own() {
        let of = |fields: &str| Memory::of(&info(fields));
        let base = "used_memory:1000\nused_memory_startup:300\nmem_clients_normal:20\nmem_aof_buffer:0\n";
        let older = of(&format!("{base}mem_replication_backlog:100\nmem_clients_slaves:50\nmaxmemory:0"));
        assert_eq!((older.data_bytes, older.max_bytes), (530, None));
        // From 7.0 on replicas and the backlog share their buffers.
        let newer = of(&format!(
            "{base}mem_replication_backlog:100\nmem_clients_slaves:50\nmem_total_replication_buffers:110"
        ));
        assert_eq!(newer.data_bytes, 570);
        let wrapped =
            of("used_memory:100\nused_memory_startup:300\nused_memory_dataset:18446744073709525448");
        assert_eq!(wrapped.data_bytes, 0);
    }
}
