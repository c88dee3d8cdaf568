//! What the end-to-end tests share: real servers, a seeded filling and writer, and a comparison by ordinary commands.
//!
//! Nothing in here uses replsync itself: the oracle talks to the servers through the `redis` crate, so that a
//! mistake in the library cannot hide itself.

pub mod bootable;
pub mod client;
pub mod contents;
pub mod datasets;
pub mod digest;
pub mod doctor;
pub mod expiring;
pub mod failing_fs;
pub mod fake;
pub mod fill;
pub mod gate;
pub mod hanging_fs;
pub mod job;
pub mod load;
pub mod node;
pub mod proxy;
pub mod server;
pub mod settle;
pub mod tls;
pub mod writer;

/// The folder of the workspace.
pub fn workspace() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
