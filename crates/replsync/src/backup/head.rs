//! What an RDB says of itself before its first key.

use std::path::Path;

use super::Error;
use crate::files::RdbFile;
use crate::psync::Position;
use crate::rdb::{Item, Limits, Magic};

/// What an RDB says of itself before its first key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its family and version.
    pub format: Option<(Magic, u16)>,
    /// Who wrote it: `redis 7.4.1`.
    pub writer: Option<String>,
    /// Its place in the stream of the server that wrote it, for a replica that is started on it.
    pub position: Option<Position>,
    /// The database that the stream has selected there.
    pub stream_db: Option<u32>,
}

impl Head {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// [`Error::Folder`] when it cannot be read as an RDB.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Error::folder(path, "cannot be read as an RDB")(std::io::Error::other(error.to_string()))
        };
        let file = RdbFile::open(path).map_err(|error| unreadable(&error))?;
        let mut reader = file.reader(Limits::default());
        let (mut head, mut replid, mut offset) = (Self::default(), None, None);
        loop {
            match reader.next_item().map_err(|error| unreadable(&error))? {
                Some(Item::Header { magic, version }) => head.format = Some((magic, version)),
                Some(Item::Aux { key, value }) => {
                    let text = String::from_utf8_lossy(&value);
                    match &key[..] {
                        b"redis-ver" => head.writer = Some(format!("redis {text}")),
                        b"valkey-ver" => head.writer = Some(format!("valkey {text}")),
                        b"repl-id" => replid = text.parse().ok(),
                        b"repl-offset" => offset = text.parse().ok(),
                        b"repl-stream-db" => head.stream_db = text.parse().ok(),
                        _ => {}
                    }
                }
                _ => break,
            }
        }
        head.position = replid.zip(offset).map(|(replid, offset)| Position { replid, offset });
        Ok(head)
    }
}
