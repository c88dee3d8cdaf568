//! Why a file could not be read.

use std::io;
use std::path::PathBuf;

/// What is wrong with a file as such; what is wrong with its bytes is [`rdb::Error`](crate::rdb::Error).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
