//! An exact copy of a live keyspace, without a fork of its server.
//!
//! ```text
//! attach: no full sync; a master without a backlog is primed; what could fork or harm it is refused
//! ```

mod attach;
mod pause;

pub(crate) use attach::counts_replicas;
pub use attach::{
    Allowed, AttachError, AttachOptions, Attached, Caveat, Change, Conditions, Modules, Refusal, Settings,
    Verdict, Warning, Way, attach, can_attach,
};
pub use pause::{PROBE_CHANNEL, Pause, writes_paused};
