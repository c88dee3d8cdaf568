//! Whether we can attach, from what a server says: plain code.
//!
//! Source of when a master forks: `syncCommand` and `shouldStartChildReplication` in `src/replication.c`
//! (`replicationCron` before 7.0).

use std::time::Duration;

use super::{Conditions, Modules, Settings};
use crate::capture::footprint::needs_bytes;
use crate::endpoint::{Info, Role};

/// A master that waits for less than this before it forks could fork while we are there: it counts in whole seconds.
const DELAY_SECONDS_MIN: u64 = 2;
/// … so it is told to wait for so long, which is the default.
const DELAY_SECONDS: &str = "5";

/// What was agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// To be counted by a master that takes writes only with enough replicas.
    pub counted_as_replica: bool,
    /// To lose what modules keep outside of keys.
    pub module_aux_loss: bool,
    /// To read from a replica that is not what its master is.
    pub inexact: bool,
}

/// How to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It has a backlog: PSYNC is continued at once.
    Continue,
    /// It has none, and gets one once a replica asks for a full sync.
    Prime {
        /// Settings that are changed for that moment.
        change: Vec<SettingChange>,
        /// How long it then waits before it forks.
        delay: Duration,
    },
}

/// A setting that is changed for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Its name.
    pub setting: &'static str,
    /// What it is.
    pub from: String,
    /// What it is meanwhile.
    pub to: &'static str,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How to attach, where nothing is refused.
    pub way: Way,
    /// Why not to.
    pub refusals: Vec<Refusal>,
    /// What makes a copy less than exact, as was agreed to.
    pub caveats: Vec<Caveat>,
    /// What is worth saying.
    pub warnings: Vec<Warning>,
}

/// Why we do not attach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no data yet.
    #[error("the source is still loading its data: try again later")]
    Loading,
    /// It lets nobody, or not us, be a replica.
    #[error(
        "the source does not let us be a replica ({}): ACL SETUSER <user> +replconf +psync, where that is the reason; many \
         managed services have no PSYNC",
        .0.join(", ")
    )]
    NoReplica(Vec<String>),
    /// A replica that never got its master's data.
    #[error(
        "the source is a replica that has no replication backlog, as before its first sync with its master: wait for that \
         (master_link_status:up), or name its master"
    )]
    UnsyncedReplica,
    /// It does not tell its settings.
    #[error(
        "the source has no replication backlog, and whether it would fork to make one cannot be told: CONFIG GET was \
         answered with {reply:?}. ACL SETUSER <user> +config|get (before 7.0 +config), attach a replica to it first, or use \
         --method full-sync, which forks"
    )]
    SettingsUntold {
        /// What it answered.
        reply: String,
    },
    /// A setting that would make it fork may not be changed.
    #[error(
        "the source has no replication backlog, and would fork at once to make one: {setting} is {value:?} there, and \
         CONFIG SET was answered with {reply:?}. CONFIG SET {setting} {wanted} there, ACL SETUSER <user> +config|set (before \
         7.0 +config), attach a replica to it first, or use --method full-sync, which forks"
    )]
    SettingStays {
        /// Its name.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
        /// What was answered.
        reply: String,
    },
    /// One replica is enough for it to fork.
    #[error(
        "the source has no replication backlog, and may fork at once to make one (repl-diskless-sync-max-replicas is 1): \
         CONFIG SET repl-diskless-sync-max-replicas 0 there, or attach a replica to it first"
    )]
    OneReplicaIsEnough,
    /// The backlog would take the place of keys.
    #[error(
        "the source has no replication backlog, and would take {backlog_bytes} bytes for one at once (repl-backlog-size), \
         {headroom_bytes} bytes below its maxmemory: {harm}. CONFIG SET repl-backlog-size to less there, or raise maxmemory"
    )]
    BacklogDoesNotFit {
        /// What the backlog takes.
        backlog_bytes: u64,
        /// What is left.
        headroom_bytes: u64,
        /// What would happen.
        harm: &'static str,
    },
    /// Another replica waits for the fork, which would come while we are there.
    #[error(
        "a replica waits for a full sync from the source, which forks for it: try again when that is over"
    )]
    AnotherSync,
    /// We would count.
    #[error(
        "the source takes writes only with enough replicas (min-replicas-to-write), and while we are attached it counts us \
         as one; --allow-counted-as-replica goes on all the same"
    )]
    CountedAsReplica,
    /// Its modules are not known.
    #[error(
        "whether the source has modules that keep data outside of keys cannot be told: MODULE LIST was answered with \
         {reply:?}. ACL SETUSER <user> +module|list (before 7.0 +module), or --allow-loss module-aux"
    )]
    ModulesUntold {
        /// What it answered.
        reply: String,
    },
    /// They may keep data outside of keys.
    #[error(
        "the source has modules that may hold more than DUMP gives of their keys, which would be lost: {} (search: its \
         indexes; timeseries: its compaction rules). --method full-sync copies it; --allow-loss module-aux goes on without it",
        .0.join(", ")
    )]
    ModuleData(Vec<String>),
    /// What clients wrote there is in no stream.
    #[error(
        "the source is a writable replica (replica-read-only no): what clients write there is in its keys and not in the \
         stream. Name its master, or CONFIG SET replica-read-only yes there"
    )]
    WritableReplica,
    /// A replica hides keys by its own clock.
    #[error(
        "the source is a replica whose clock is {by_ms} ms off its master's (± {uncertainty_ms} ms): what it shows as expired \
         its master may not. Set the clocks right (NTP), or name its master"
    )]
    ClockOff {
        /// By so much.
        by_ms: i64,
        /// Give or take.
        uncertainty_ms: i64,
    },
    /// Keys that are past their time cannot be seen.
    #[error(
        "the source is in import-mode, where keys that are past their time stay and hide, and CLIENT IMPORT-SOURCE ON, which \
         shows them, was answered with {reply:?}: ACL SETUSER <user> +client|import-source, or end import-mode there"
    )]
    ImportMode {
        /// What it answered.
        reply: String,
    },
    /// Nothing of ours gets into the stream.
    #[error(
        "the source's writes are paused (CLIENT PAUSE, or a failover under way), so which database its stream has selected \
         cannot be learnt: try again when that is over"
    )]
    WritesPaused,
    /// A proxy in front of several servers.
    #[error(
        "two connections to the source reached two servers (their run_id differs), or it was restarted meanwhile: name one \
         server, without a proxy"
    )]
    TwoServers,
}

/// What makes a copy less than exact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Caveat {
    /// See [`Refusal::WritableReplica`].
    #[error("the source is a writable replica: what clients wrote there is as of the copy")]
    WritableReplica,
    /// See [`Refusal::ClockOff`].
    #[error(
        "the source is a replica whose clock is {by_ms} ms off its master's: what expired meanwhile may differ"
    )]
    ClockOff {
        /// By so much.
        by_ms: i64,
    },
    /// See [`Refusal::ModuleData`].
    #[error("what these modules keep outside of keys is left out: {}", .0.join(", "))]
    ModuleData(Vec<String>),
    /// See [`Refusal::ModulesUntold`].
    #[error("what modules keep outside of keys is left out; which there are the source does not tell")]
    ModulesUntold,
}

/// What is worth saying.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// It tells nothing new, and takes no replicas, until it is back.
    #[error(
        "the source is a replica that has lost its master: it is attached to once that is back (NOMASTERLINK until then)"
    )]
    MasterLinkDown,
    /// Its master could not be asked.
    #[error("the source is a replica, and whether its clock is that of its master is not known: {why}")]
    ClockUnknown {
        /// Why.
        why: String,
    },
    /// The backlog grows up to its size.
    #[error(
        "the source is nearly full and evicts keys: its replication backlog, which it gets now and which grows as clients \
         write, may take the place of up to {backlog_bytes} bytes of keys (repl-backlog-size)"
    )]
    BacklogMayEvict {
        /// The size that it may reach.
        backlog_bytes: u64,
    },
    /// There is too little room for what we cost.
    #[error(
        "the source is full: {} KiB are free under its maxmemory, and a capture needs about {} KiB there (its connections, and \
         what the source counts of commands that are new to it): it may evict some keys",
        free_bytes / 1024,
        needs_bytes.div_ceil(1024)
    )]
    MayEvict {
        /// What is free.
        free_bytes: u64,
        /// What a capture needs.
        needs_bytes: u64,
    },
    /// As was agreed to.
    #[error("the source counts us as a replica while we are attached (min-replicas-to-write)")]
    CountedAsReplica,
}

impl Caveat {
    /// Whether keys may differ, and not only something be left out beside them.
    pub fn is_inexact(&self) -> bool {
        match self {
            Caveat::WritableReplica | Caveat::ClockOff { .. } => true,
            Caveat::ModuleData(_) | Caveat::ModulesUntold => false,
        }
    }
}

impl Refusal {
    /// Whether it could not be made safe or exact; otherwise the server refused, or is not ready.
    pub fn is_unsafe(&self) -> bool {
        match self {
            Refusal::Loading
            | Refusal::NoReplica(_)
            | Refusal::UnsyncedReplica
            | Refusal::SettingsUntold { .. }
            | Refusal::SettingStays { .. }
            | Refusal::ModulesUntold { .. }
            | Refusal::TwoServers => false,
            Refusal::OneReplicaIsEnough
            | Refusal::BacklogDoesNotFit { .. }
            | Refusal::AnotherSync
            | Refusal::CountedAsReplica
            | Refusal::ModuleData(_)
            | Refusal::WritableReplica
            | Refusal::ClockOff { .. }
            | Refusal::ImportMode { .. }
            | Refusal::WritesPaused => true,
        }
    }
}

/// Whether a master takes writes only with enough replicas, of which we would be one.
pub(crate) fn counts_replicas(info: &Info) -> bool {
    info.field("min_slaves_good_slaves").is_some()
}

/// Whether we can attach without a fork or other harm, and how.
pub fn can_attach(conditions: &Conditions, allowed: Allowed) -> Verdict {
    let info = &conditions.info;
    let mut verdict =
        Verdict { way: Way::Continue, refusals: Vec::new(), caveats: Vec::new(), warnings: Vec::new() };
    if info.is_loading() {
        verdict.refusals.push(Refusal::Loading);
        return verdict;
    }
    if counts_replicas(info) {
        match allowed.counted_as_replica {
            true => verdict.warnings.push(Warning::CountedAsReplica),
            false => verdict.refusals.push(Refusal::CountedAsReplica),
        }
    }
    verdict.judge_modules(&conditions.modules, allowed);
    if info.role == Role::Replica {
        verdict.judge_replica(conditions, allowed);
    }
    if info.role == Role::Master {
        verdict.judge_headroom(conditions);
    }
    if info.number("repl_backlog_active") != Some(1) {
        match info.role {
            Role::Replica => verdict.refusals.push(Refusal::UnsyncedReplica),
            Role::Master => verdict.judge_priming(conditions),
        }
    }
    verdict
}

impl Verdict {
    fn judge_modules(&mut self, modules: &Modules, allowed: Allowed) {
        let names = modules.outside_keys();
        match (modules, allowed.module_aux_loss) {
            (Modules::Untold(_), true) => self.caveats.push(Caveat::ModulesUntold),
            (Modules::Untold(reply), false) => {
                self.refusals.push(Refusal::ModulesUntold { reply: reply.clone() });
            }
            (Modules::Told(_), _) if names.is_empty() => {}
            (Modules::Told(_), true) => self.caveats.push(Caveat::ModuleData(names)),
            (Modules::Told(_), false) => self.refusals.push(Refusal::ModuleData(names)),
        }
    }

    fn judge_replica(&mut self, conditions: &Conditions, allowed: Allowed) {
        let info = &conditions.info;
        if info.field("slave_read_only") == Some("0") {
            match allowed.inexact {
                true => self.caveats.push(Caveat::WritableReplica),
                false => self.refusals.push(Refusal::WritableReplica),
            }
        }
        if info.field("master_link_status") != Some("up") {
            self.warnings.push(Warning::MasterLinkDown);
        }
        match &conditions.clock {
            Some(Ok(clock)) if clock.is_off() => {
                let (by_ms, uncertainty_ms) = (clock.ahead_us / 1000, 1 + clock.uncertainty_us / 1000);
                match allowed.inexact {
                    true => self.caveats.push(Caveat::ClockOff { by_ms }),
                    false => self.refusals.push(Refusal::ClockOff { by_ms, uncertainty_ms }),
                }
            }
            Some(Err(why)) => self.warnings.push(Warning::ClockUnknown { why: why.clone() }),
            _ => {}
        }
    }

    /// A master without a backlog makes one as soon as a replica asks for a full sync. It then forks at once, or waits for
    /// more replicas.
    fn judge_priming(&mut self, conditions: &Conditions) {
        let Conditions { info, settings, .. } = conditions;
        if let Settings::Untold(reply) = settings {
            self.refusals.push(Refusal::SettingsUntold { reply: reply.clone() });
            return;
        }
        if settings.number("repl-diskless-sync-max-replicas") == Some(1) {
            self.refusals.push(Refusal::OneReplicaIsEnough);
        }
        if info.replicas().any(|replica| replica.state.starts_with("wait_bgsave")) {
            self.refusals.push(Refusal::AnotherSync);
        }
        self.judge_backlog(info);
        let mut change = Vec::new();
        let diskless = settings.get("repl-diskless-sync").unwrap_or("no");
        if diskless != "yes" {
            change.push(SettingChange {
                setting: "repl-diskless-sync",
                from: diskless.to_owned(),
                to: "yes",
            });
        }
        let mut seconds = settings.number("repl-diskless-sync-delay").unwrap_or(0);
        if seconds < DELAY_SECONDS_MIN {
            let from = seconds.to_string();
            change.push(SettingChange { setting: "repl-diskless-sync-delay", from, to: DELAY_SECONDS });
            seconds = DELAY_SECONDS.parse().unwrap_or(DELAY_SECONDS_MIN);
        }
        if let (Some(reply), Some(SettingChange { setting, from, to })) =
            (&conditions.set_refused, change.first())
        {
            let (value, reply) = (from.clone(), reply.clone());
            self.refusals.push(Refusal::SettingStays { setting, value, wanted: to, reply });
        }
        self.way = Way::Prime { change, delay: Duration::from_secs(seconds) };
    }

    /// Replicas leave evicting to their masters, unless told otherwise (`replica-ignore-maxmemory`).
    fn judge_headroom(&mut self, Conditions { info, new_commands, .. }: &Conditions) {
        let needs_bytes = needs_bytes(info.server, *new_commands);
        if let Some(free_bytes) = info.headroom_bytes().filter(|free| info.evicts() && *free < needs_bytes) {
            self.warnings.push(Warning::MayEvict { free_bytes, needs_bytes });
        }
    }

    fn judge_backlog(&mut self, info: &Info) {
        let Some(headroom_bytes) = info.headroom_bytes() else { return };
        let backlog_bytes = info.number("repl_backlog_size").unwrap_or(0);
        // What is allocated is rounded up, by a fourth at most.
        if backlog_bytes.saturating_add(backlog_bytes / 4) <= headroom_bytes {
            return;
        }
        let evicts = info.evicts();
        let harm =
            if evicts { "keys would be evicted for it" } else { "clients' writes would be refused (OOM)" };
        if !info.server.has((7, 0), None) {
            // Allocated as a whole, in `createReplicationBacklog`.
            self.refusals.push(Refusal::BacklogDoesNotFit { backlog_bytes, headroom_bytes, harm });
        } else if evicts {
            self.warnings.push(Warning::BacklogMayEvict { backlog_bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::server::Server;

    /// A master of that version that never had a replica.
    fn conditions(version: &str, more: &str) -> Conditions {
        let text = format!(
            "redis_version:{version}\nrun_id:x\nrole:master\nmaster_replid:{}\nmaster_repl_offset:0\nloading:0\n\
             repl_backlog_active:0\nrepl_backlog_size:1000\nmaxmemory:0\nmaxmemory_policy:allkeys-lru\n{more}",
            "a".repeat(40)
        );
        let settings = [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "5")];
        Conditions {
            info: Info::parse(&text).unwrap(),
            settings: Settings::Told(settings.map(|(name, value)| (name, value.to_owned())).into()),
            set_refused: None,
            modules: Modules::Told(BTreeSet::new()),
            new_commands: 0,
            clock: None,
        }
    }

    fn refusals(conditions: &Conditions) -> Vec<Refusal> {
        can_attach(conditions, Allowed::default()).refusals
    }

    fn with_setting(name: &'static str, value: &str) -> Conditions {
        let mut conditions = conditions("7.4.1", "");
        let Settings::Told(settings) = &mut conditions.settings else { panic!("they are told") };
        settings.insert(name, value.to_owned());
        conditions
    }

    #[test]
    fn what_would_fork_at_once_is_changed() {
        let changes = |conditions: &Conditions| match can_attach(conditions, Allowed::default()).way {
            Way::Prime { change, delay } => {
                (change.iter().map(|change| change.setting).collect(), delay.as_secs())
            }
            Way::Continue => (Vec::new(), 0),
        };
        assert_eq!(changes(&conditions("7.4.1", "")), (vec![], 5));
        assert_eq!(changes(&with_setting("repl-diskless-sync", "no")), (vec!["repl-diskless-sync"], 5));
        for (delay, expected) in [("0", 1), ("1", 1), ("2", 0), ("60", 0)] {
            let (change, _) = changes(&with_setting("repl-diskless-sync-delay", delay));
            assert_eq!(change.len(), expected, "a delay of {delay} s");
        }
        assert_eq!(changes(&conditions("7.4.1", "repl_backlog_active:1\n")), (vec![], 0), "it has one");
        let mut fixed = with_setting("repl-diskless-sync", "no");
        fixed.set_refused = Some("no permissions".to_owned());
        assert!(matches!(
            refusals(&fixed)[..],
            [Refusal::SettingStays { setting: "repl-diskless-sync", .. }]
        ));
        // Where nothing has to be set, that nothing may be does not matter.
        fixed.settings = conditions("7.4.1", "").settings;
        assert_eq!(refusals(&fixed), []);
    }

    #[test]
    fn a_replica_that_waits_for_its_sync_is_not_joined() {
        let waits = "slave0:ip=10.0.0.1,port=6379,state=wait_bgsave,offset=0,lag=0\n";
        assert_eq!(refusals(&conditions("7.4.1", waits)), [Refusal::AnotherSync]);
        assert_eq!(refusals(&conditions("7.4.1", &format!("repl_backlog_active:1\n{waits}"))), []);
        assert_eq!(refusals(&conditions("7.4.1", &waits.replace("wait_bgsave", "online"))), []);
    }

    #[test]
    fn a_backlog_must_fit_where_it_is_allocated_at_once() {
        // 1000 bytes, and a fourth for how they are allocated.
        let used = |used: u64| format!("maxmemory:10000\nused_memory:{used}\nmem_not_counted_for_evict:50\n");
        for (version, used_bytes, fits) in [
            ("6.2.14", 8_800, true),
            ("6.2.14", 8_801, false),
            ("6.2.14", 20_000, false),
            ("7.0.0", 20_000, true),
        ] {
            let conditions = conditions(version, &used(used_bytes));
            assert_eq!(refusals(&conditions).is_empty(), fits, "{version} with {used_bytes} used");
            let warnings = can_attach(&conditions, Allowed::default()).warnings;
            let warned = warnings.contains(&Warning::BacklogMayEvict { backlog_bytes: 1000 });
            assert_eq!(warned, fits && used_bytes > 8_800, "{version} with {used_bytes} used");
        }
    }

    #[test]
    fn a_master_that_evicts_is_warned_of_when_too_little_is_free() {
        let warned = |more: &str, new_commands: u64| {
            let more = format!("repl_backlog_active:1\nmaxmemory:10000000\n{more}");
            let conditions = Conditions { new_commands, ..conditions("7.4.1", &more) };
            !can_attach(&conditions, Allowed::default()).warnings.is_empty()
        };
        let needs = needs_bytes(Server::redis(7, 4), 0);
        let used = |free: u64| format!("used_memory:{}\nmem_not_counted_for_evict:50\n", 10_000_050 - free);
        assert!(warned(&used(needs - 1), 0) && !warned(&used(needs), 0));
        assert!(warned(&used(needs), 1), "one command more");
        assert!(!warned(&format!("{}maxmemory_policy:noeviction\n", used(0)), 0));
        assert!(!warned(&format!("{}maxmemory:0\n", used(0)), 0));
    }

    #[test]
    fn what_is_agreed_to_is_said() {
        let all = Allowed { counted_as_replica: true, module_aux_loss: true, inexact: true };
        let mut replica = conditions(
            "7.4.1",
            "role:slave\nmaster_link_status:up\nslave_read_only:0\nrepl_backlog_active:1\nmin_slaves_good_slaves:1\n",
        );
        replica.modules = Modules::Untold("NOPERM".to_owned());
        assert_eq!(refusals(&replica).len(), 3);
        let agreed = can_attach(&replica, all);
        assert_eq!(agreed.refusals, []);
        assert_eq!(agreed.caveats, [Caveat::ModulesUntold, Caveat::WritableReplica]);
        assert_eq!(agreed.warnings, [Warning::CountedAsReplica]);
    }
}
