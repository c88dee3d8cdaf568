//! What a backup is, as its manifest says it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Found;
use super::time::iso;
use super::write::Written;
use super::{Error, Method};
use crate::capture::Report;
use crate::endpoint::{Endpoint, Info, Role};
use crate::psync::Position;
use crate::server::{Product, Server};

/// The version of the manifest's form.
pub const MANIFEST_VERSION: u32 = 1;

/// The sidecar of an RDB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// What made it: `replsync 0.1.0`.
    pub tool: String,
    /// The name of the RDB, which is beside it.
    pub rdb: String,
    /// All else.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What a backup is. Sums are hexadecimal, times UTC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Whether it is what a replica holds at its offset.
    pub exact: bool,
    /// `fork-free` or `full-sync`.
    pub method: String,
    /// The history …
    pub replid: String,
    /// … and the place in it at which the backup is exact.
    pub offset: u64,
    /// The database that the stream has selected there.
    pub stream_db: u32,
    /// Forks of the source for this backup.
    pub forks_caused: u64,
    /// Its other forks meanwhile; unknown before 6.2.
    pub forks_other: Option<u64>,
    /// Keys that it has evicted meanwhile, for whatever reason.
    pub evicted: u64,
    /// … in its whole life, before.
    pub evicted_before: u64,
    /// … and after.
    pub evicted_after: u64,
    /// For how long writers were held up, at the longest.
    pub pause_ms: f64,
    /// How often.
    pub pauses: u64,
    /// Keys in the file.
    pub keys: u64,
    /// … with an expiry.
    pub expires: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// The length of the file.
    pub bytes: u64,
    /// The CRC-64 of the file, which its last eight bytes say; nothing where it has none.
    pub crc64: Option<String>,
    /// `replsync-1`.
    pub digest_algorithm: String,
    /// The digest of its keyspace.
    pub digest: String,
    /// The digest of its expiries.
    pub digest_expiries: String,
    /// The version of the RDB.
    pub rdb_version: u16,
    /// `redis` or `valkey`.
    pub product: String,
    /// The version of the source.
    pub server_version: String,
    /// Its address.
    pub source: String,
    /// `master` or `replica`.
    pub source_role: String,
    /// Rounds over keys that were written meanwhile.
    pub rounds: u64,
    /// Keys that were read.
    pub keys_copied: u64,
    /// … of them again.
    pub keys_copied_again: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Big values that were read in parts.
    pub big_values: u64,
    /// Their parts.
    pub big_parts: u64,
    /// For how long one batch held the source up, at most.
    pub longest_batch_ms: f64,
    /// Keys read a second.
    pub copies_per_s: f64,
    /// Processor time of the source meanwhile, its other clients' among it.
    pub source_cpu_s: f64,
    /// Whether the source was made to keep a backlog.
    pub primed: bool,
    /// How often the link, or a connection beside it, was made anew.
    pub reconnects: u64,
    /// The most that waited in the spool.
    pub spooled_bytes_max: u64,
    /// When it began.
    pub started_at: String,
    /// When the file had all that it holds.
    pub cut_at: String,
    /// When it was read back.
    pub finished_at: String,
    /// From one to the other.
    pub duration_s: f64,
    /// Until the source was left alone.
    pub capture_s: f64,
    /// What is as it was when each key was read, because servers change it without the stream.
    pub as_of_copy: Vec<String>,
    /// What it does not hold.
    pub left_out: Vec<String>,
    /// What makes it less than it could be.
    pub caveats: Vec<String>,
}

/// When it was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub started_ms: u64,
    pub cut_ms: u64,
    pub finished_ms: u64,
    pub took: Duration,
}

/// What no stream tells (design of the capture, "what exact means").
const AS_OF_COPY: [&str; 3] = [
    "delivery counts of pending stream entries, and idle times of consumers",
    "what scripts wrote under REPL_NONE",
    "what DEBUG commands changed",
];
const LEFT_OUT: [&str; 2] =
    ["LRU and LFU hints: a server that loads it begins them anew", "scripts that were loaded by SCRIPT LOAD"];

impl Manifest {
    pub(super) fn new(rdb: &Path, facts: &Facts) -> Self {
        Self {
            manifest_version: MANIFEST_VERSION,
            tool: concat!("replsync ", env!("CARGO_PKG_VERSION")).to_owned(),
            rdb: rdb.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            facts: facts.clone(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Error::Folder`] when there is none, or it is of another form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let cannot = |source| Error::folder(path, "cannot be read as a manifest")(source);
        let text = std::fs::read(path).map_err(cannot)?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| cannot(error.into()))?;
        match manifest.manifest_version {
            MANIFEST_VERSION => Ok(manifest),
            other => Err(cannot(std::io::Error::other(format!("it is of version {other}")))),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, Error> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Error::Thread(error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }
}

impl Facts {
    /// What is said of any source.
    pub(super) fn of_source(source: &Endpoint, info: &Info, method: Method, at: Position) -> Self {
        let Server { product, version: (major, minor, patch) } = info.server;
        Self {
            method: method.name().to_owned(),
            replid: at.replid.to_string(),
            offset: at.offset,
            product: match product {
                Product::Redis => "redis",
                Product::Valkey => "valkey",
            }
            .to_owned(),
            server_version: format!("{major}.{minor}.{patch}"),
            source: source.to_string(),
            source_role: match info.role {
                Role::Master => "master",
                Role::Replica => "replica",
            }
            .to_owned(),
            digest_algorithm: "replsync-1".to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn of_capture(
        source: &Endpoint,
        before: &Info,
        report: &Report,
        written: &Written,
        spooled_bytes_max: u64,
    ) -> Self {
        let seconds = report.took.as_secs_f64();
        let mut left_out = LEFT_OUT.map(str::to_owned).to_vec();
        if report.source.has((7, 0), None) {
            // They are not of the data there.
            left_out.truncate(1);
        }
        Self {
            exact: report.exact,
            stream_db: report.stream_db,
            rdb_version: report.rdb_version,
            forks_caused: report.forks_caused,
            forks_other: report.forks_other,
            evicted: report.evicted.1.saturating_sub(report.evicted.0),
            evicted_before: report.evicted.0,
            evicted_after: report.evicted.1,
            pause_ms: ms(report.pause),
            pauses: report.pauses,
            keys: written.keys,
            bytes: written.bytes,
            crc64: Some(format!("{:016x}", written.crc64)),
            rounds: report.rounds,
            keys_copied: report.copied,
            keys_copied_again: report.copied_again,
            bytes_copied: report.copied_bytes,
            big_values: report.big_values,
            big_parts: report.big_parts,
            longest_batch_ms: ms(report.longest_batch),
            copies_per_s: (report.copied as f64 / seconds.max(0.001)).round(),
            source_cpu_s: thousandths(report.source_cpu.as_secs_f64()),
            primed: report.primed,
            reconnects: report.reconnects,
            spooled_bytes_max,
            capture_s: thousandths(seconds),
            as_of_copy: AS_OF_COPY.map(str::to_owned).to_vec(),
            left_out,
            caveats: report.caveats.iter().map(ToString::to_string).collect(),
            ..Self::of_source(source, before, Method::ForkFree, report.position)
        }
    }

    /// What the file says against what was written, where that is known; nothing where both are the same.
    pub(super) fn differs_from(&self, found: &Found) -> Option<String> {
        let crc64 = found.crc64.map(|sum| format!("{sum:016x}"));
        if self.method == Method::FullSync.name() {
            return (self.bytes != found.bytes)
                .then(|| format!("it has {} bytes, and {} were received", found.bytes, self.bytes));
        }
        if (self.keys, self.bytes) != (found.keys, found.bytes) {
            return Some(format!(
                "it has {} keys in {} bytes, and {} in {} were written",
                found.keys, found.bytes, self.keys, self.bytes
            ));
        }
        (self.crc64 != crc64).then(|| format!("its checksum is {crc64:?}, and {:?} was written", self.crc64))
    }

    /// With what was found in the file.
    pub(super) fn checked(self, found: &Found, times: &Times) -> Self {
        Self {
            keys: found.keys,
            expires: found.expires,
            functions: found.functions,
            crc64: found.crc64.map(|sum| format!("{sum:016x}")),
            digest: found.keyspace.data().to_string(),
            digest_expiries: found.keyspace.expiries().to_string(),
            started_at: iso(times.started_ms),
            cut_at: iso(times.cut_ms),
            finished_at: iso(times.finished_ms),
            duration_s: thousandths(times.took.as_secs_f64()),
            ..self
        }
    }
}

pub(super) fn ms(time: Duration) -> f64 {
    thousandths(time.as_secs_f64() * 1000.0)
}

pub(super) fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
