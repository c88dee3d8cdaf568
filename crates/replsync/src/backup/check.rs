//! The file, read back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::folder::Part;
use super::{Error, Facts, Phase, Progress, blocking};
use crate::clock::now_signed_ms;
use crate::digest::Keyspace;
use crate::verify::{self, Checksum, verify};

const TELL_EVERY: Duration = Duration::from_millis(200);

/// What was found in the file.
#[derive(Debug)]
pub(super) struct Found {
    pub keys: u64,
    pub expires: u64,
    pub functions: u64,
    pub bytes: u64,
    /// Nothing where it has none (`rdbchecksum no`).
    pub crc64: Option<u64>,
    pub keyspace: Keyspace,
}

/// Reads the file back, every value of it, and holds it against what was written.
pub(super) async fn read_back(
    part: &Part,
    facts: &Facts,
    progress: &Arc<watch::Sender<Progress>>,
) -> Result<Found, Error> {
    progress.send_modify(|progress| progress.phase = Phase::Verifying);
    let options = verify::Options { digest: true, findings_max: 10, ..verify::Options::at(now_signed_ms()) };
    let (path, seen) = (part.path(), Arc::new(verify::Progress::default()));
    let work = {
        let (path, seen) = (path.clone(), seen.clone());
        blocking(move || {
            let report = verify(&path, &options, &seen);
            let last = last_8(&path).map_err(Error::folder(&path, "cannot be read back"))?;
            Ok((report, last))
        })
    };
    let tell = async {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            progress.send_modify(|progress| progress.bytes_verified = seen.bytes().0);
        }
    };
    let (report, last) = tokio::select! {
        done = work => done?,
        never = tell => never,
    };
    let unsound = |what: String| Error::Unsound { path: path.clone(), what };
    if let Some(failed) = report.failed {
        return Err(Error::folder(&path, "cannot be read back")(io::Error::other(failed)));
    }
    if let Some(finding) = report.findings.first() {
        let at = finding.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        return Err(unsound(format!("{}{at}", finding.message)));
    }
    let keyspace = match report.keyspace {
        Some(keyspace) if !report.is_aof => keyspace,
        _ => return Err(unsound("it is not an RDB that can be read to its end".to_owned())),
    };
    let found = Found {
        keys: report.keys,
        expires: report.expires,
        functions: report.functions,
        bytes: report.bytes,
        crc64: (report.checksum == Checksum::Verified).then_some(last),
        keyspace,
    };
    match facts.differs_from(&found) {
        Some(what) => Err(unsound(what)),
        None => Ok(found),
    }
}

/// The checksum at the end.
fn last_8(path: &std::path::Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, file.metadata()?.len().saturating_sub(8))?;
    Ok(u64::from_le_bytes(bytes))
}
