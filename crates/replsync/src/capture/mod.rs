//! Exact capture of a live master without a fork.
//!
//! ```text
//!            ┌──── wire (task): INFO, keys …, INFO ────► answers ─┐   in flight: at most 1 MiB of replies
//! source ────┤                                                    ▼
//!            └──── link (task): the stream ──spool──► run ◄──► ledger: what is dirty, scanned, in flight (no I/O)
//!                                                      │  └ names of dirty keys ──spool──┐
//!                                                      │  ◄───────────────────────────────┘ rounds, then the cut
//!                                                      ▼ changes, over a bounded channel
//!                                                    sink (thread): a spool and an RDB, a target, a digest
//! ```
//!
//! 1. [`attach`]: the stream from now on, without a full sync.
//! 2. Copy: SCAN, and each key by a *sandwich*: INFO replication, the key's expiry and value, INFO replication. A copy is
//!    valid from the first offset until the stream next touches its key. Nothing is asked for before its size is known;
//!    big values are read in parts (`big`).
//! 3. `ledger`: what the stream touches is dirty.
//! 4. Rounds over dirty keys, and at last one while writers are paused for some milliseconds, or none at all: when
//!    nothing is dirty, unscanned or in flight, the copies are exact at the offset that the stream was read to.

mod ask;
mod attach;
mod big;
#[allow(clippy::module_inception, reason = "it is what the room is for")]
mod capture;
mod change;
mod copy;
mod cut;
mod dialect;
mod digests;
mod error;
mod footprint;
mod guess;
mod ids;
mod ledger;
mod mend;
mod mutant;
mod names;
mod options;
mod outlet;
mod parts;
mod pause;
mod run;
mod store;
mod streams;
mod wire;

pub(crate) use attach::counts_replicas;
pub use attach::{
    Allowed, AttachError, AttachOptions, Attached, Caveat, Conditions, Modules, Refusal, SettingChange,
    Settings, Verdict, Warning, Way, attach, can_attach,
};
pub use capture::{Captured, capture};
pub use change::{BigValue, Change, Cut, Form, Sink, Value};
pub use digests::{Digests, DigestsError};
pub use error::Error;
pub use ids::Id;
pub use options::{BigProgress, Options, Phase, Progress, Report};
pub use pause::{PROBE_CHANNEL, Pause, writes_paused};
pub use store::{Database, Store, Stored, WriteError};
