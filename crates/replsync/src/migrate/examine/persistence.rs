//! Persistence: what each server writes to disk, and what a failure of that means.

use super::super::ErrorKind;
use super::facts::Facts;
use super::finding::{Finding, Subject};

/// What a server writes to disk. What it does not tell is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Save points (`CONFIG GET save`), such as `3600 1 300 100`; empty for none.
    pub save_points: Option<String>,
    /// Whether the append-only file is on.
    pub aof_enabled: bool,
    /// Whether the last BGSAVE went well, or there was none.
    pub last_bgsave_ok: bool,
    /// Whether the AOF could be written last, and rewritten last.
    pub aof_ok: bool,
}

impl Persistence {
    pub(super) fn of(facts: &Facts) -> Self {
        let is_err = |name| facts.info.field(name).is_some_and(|status| status != "ok");
        Self {
            save_points: facts.setting("save").map(str::to_owned),
            aof_enabled: facts.info.field("aof_enabled") == Some("1"),
            last_bgsave_ok: !is_err("rdb_last_bgsave_status"),
            aof_ok: !is_err("aof_last_write_status") && !is_err("aof_last_bgrewrite_status"),
        }
    }

    /// Whether nothing is left after a restart, as far as is known.
    fn is_none(&self) -> bool {
        !self.aof_enabled && self.save_points.as_deref() == Some("")
    }
}

/// What its disk means for a full sync from the source.
pub(super) fn of_full_sync(facts: &Facts) -> Vec<Finding> {
    let subject = Subject::Source;
    let persistence = Persistence::of(facts);
    let mut findings = Vec::new();
    if !persistence.last_bgsave_ok {
        let message = "the last BGSAVE of the source failed (its log says why: disk, or memory for the fork). A full \
                       sync forks as well, and may fail like that";
        findings.push(Finding::warning(subject, message));
    }
    let runs = |name| facts.info.field(name) == Some("1");
    if runs("rdb_bgsave_in_progress") {
        let message =
            "a BGSAVE is under way on the source: the full sync begins when it is over, or shares it";
        findings.push(Finding::note(subject, message));
    }
    if runs("aof_rewrite_in_progress") {
        let message = "a rewrite of the AOF is under way on the source: the full sync begins when it is over";
        findings.push(Finding::note(subject, message));
    }
    if facts.setting("repl-diskless-sync") == Some("no") {
        let message = "the source writes the RDB of a full sync to its disk first (repl-diskless-sync no): it needs \
                       room there for another dump";
        findings.push(Finding::note(subject, message));
    }
    findings
}

/// Whether the target takes writes, and keeps them.
///
/// Source: `writeCommandsDeniedByDiskError` in `src/server.c`.
pub(super) fn of_target(source: &Facts, target: &Facts) -> Vec<Finding> {
    let subject = Subject::Target;
    let persistence = Persistence::of(target);
    let mut findings = Vec::new();
    let mut refuse = |message| findings.push(Finding::refusal(subject, ErrorKind::Unreachable, message));
    let stops = target.setting("stop-writes-on-bgsave-error") == Some("yes");
    let saves = persistence.save_points.as_deref().is_some_and(|points| !points.is_empty());
    let mut failed = Vec::new();
    match persistence.last_bgsave_ok {
        false if stops && saves => refuse(
            "the target refuses writes (MISCONF): its last BGSAVE failed, and stop-writes-on-bgsave-error is yes. Its \
             log says why; once a BGSAVE goes well, it takes writes again",
        ),
        false => failed.push("its last BGSAVE failed"),
        true => {}
    }
    let failed_last = |name| target.info.field(name).is_some_and(|status| status != "ok");
    if persistence.aof_enabled && failed_last("aof_last_write_status") {
        refuse(
            "the target refuses writes (MISCONF): it cannot write its AOF. Its log says why; is its disk full?",
        );
    } else if failed_last("aof_last_bgrewrite_status") {
        failed.push("its last rewrite of the AOF failed");
    }
    if !failed.is_empty() {
        let unknown = if target.settings.is_empty() { ", and may refuse writes for it" } else { "" };
        let message =
            format!("the target has trouble with its disk: {}{unknown}; its log says why", failed.join(", "));
        findings.push(Finding::warning(subject, message));
    }
    if persistence.is_none() {
        let message = "the target writes nothing to disk (no save points, no AOF)";
        let source_keeps = !source.settings.is_empty() && !Persistence::of(source).is_none();
        findings.push(match source_keeps {
            true => {
                let message =
                    format!("{message}, and the source does: CONFIG SET save or appendonly on the target");
                Finding::warning(subject, message)
            }
            false => Finding::note(subject, format!("{message}: a restart empties it")),
        });
    }
    findings
}
