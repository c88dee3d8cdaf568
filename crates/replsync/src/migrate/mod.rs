//! A live migration: copy a server's keyspace, then follow what its clients write.
//!
//! ```text
//! examine both ► refuse what cannot go well ► flush the target, if told
//!   ► copy   by a capture: keys, and again those that were written ► a thread plans commands for the target
//!            or by a full sync: RDB ► a thread parses it ► commands for the target
//!   ► the stream behind the copy, rewritten for the target, transaction by transaction
//!   ► caught up: applied up to the offset that the source reported after the copy was in
//!   ► compare both sides, if told ► land: expiries, out of reach until now, are put right
//! ```
//!
//! The target is written as by an ordinary client; it stays a master and needs no configuration. As a master it expires
//! keys by its own clock, and would lose what the source renews while it lags: so until the end its expiries are
//! [out of reach](crate::shift).

mod capture;
mod copy;
mod doubts;
mod ending;
mod error;
mod examine;
mod follow;
mod job;
mod land;
mod options;
mod report;
mod sink;
mod source;
mod verify;

pub use error::{Error, ErrorKind};
pub use examine::{Clock, Examination, Finding, Memory, Persistence, Seen, Severity, Subject, examine};
pub use job::migrate;
pub use options::{Method, Options, Until};
pub use report::{Ended, Phase, Progress, Report, Verdict, Verification};
