//! What was captured, written into the file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::folder::Part;
use super::{Error, Phase, Progress, blocking};
use crate::capture::{Stored, WriteError};
use crate::clock::now_ms;
use crate::endpoint::Info;
use crate::rdb::Finished;
use crate::server::{Product, Server};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What was written, and is on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub keys: u64,
    pub bytes: u64,
    pub crc64: u64,
}

/// Writes the file, to the disk.
pub(super) async fn write(
    mut stored: Stored,
    server: Server,
    source: &Info,
    part: &Part,
    progress: &Arc<watch::Sender<Progress>>,
) -> Result<Written, Error> {
    let (writer, path) = (part.writer(), part.path());
    let (aux, keys, progress) = (aux(server, source), stored.keys(), progress.clone());
    progress.send_modify(|progress| (progress.phase, progress.keys) = (Phase::Writing, keys));
    blocking(move || {
        let cannot = |source| Error::folder(&path, "cannot be written")(source);
        let mut told = Instant::now();
        let mut tell = |keys_written| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                progress.send_modify(|progress| progress.keys_written = keys_written);
            }
        };
        let Finished { out, checksum, len_bytes } =
            stored.write_rdb(writer, server, &aux, &mut tell).map_err(|error| match error {
                WriteError::Spool(error) => Error::Spool(error),
                WriteError::Part(error) => Error::Part(error),
                WriteError::Io(error) => cannot(error),
            })?;
        progress.send_modify(|progress| {
            (progress.keys_written, progress.bytes) = (keys, len_bytes);
            progress.bytes_total = Some(len_bytes);
        });
        out.sync().map_err(cannot)?;
        Ok(Written { keys, bytes: len_bytes, crc64: checksum })
    })
    .await
}

/// What a server says of itself at the start of an RDB.
///
/// Source: `rdbSaveInfoAuxFields` in `src/rdb.c` of both products.
fn aux(server: Server, source: &Info) -> Vec<(&'static str, String)> {
    let (version, said) = match server.product {
        Product::Redis => ("redis-ver", "redis_version"),
        Product::Valkey => ("valkey-ver", "valkey_version"),
    };
    let (major, minor, patch) = server.version;
    let numbers = || format!("{major}.{minor}.{patch}");
    vec![
        (version, source.field(said).map_or_else(numbers, str::to_owned)),
        ("redis-bits", source.field("arch_bits").unwrap_or("64").to_owned()),
        ("ctime", (now_ms() / 1000).to_string()),
        ("used-mem", source.field("used_memory").unwrap_or("0").to_owned()),
        ("aof-base", "0".to_owned()),
    ]
}
