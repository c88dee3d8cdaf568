//! Files that nobody else sees.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::Error;

/// Names are random; one that is taken all the same is tried again.
const NAMES_TRIED_MAX: usize = 100;

/// Makes a file without a name in that folder: it is gone with the process, however that ends.
pub(super) fn create(folder: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let unnamed = options.clone().custom_flags(OFlags::TMPFILE.bits() as i32).open(folder);
    unnamed
        .or_else(|_| create_named(folder, &mut options))
        .map_err(|source| Error::Create { folder: folder.to_owned(), source })
}

/// Where a file system knows no files without a name (NFS, many in user space): makes one with a name, and takes
/// that away at once.
fn create_named(folder: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.create_new(true);
    for number in 0..NAMES_TRIED_MAX {
        // The keys of a hasher are random.
        let random = RandomState::new().hash_one(number);
        let path = folder.join(format!(".replsync-spool-{}-{random:016x}", std::process::id()));
        match options.open(&path) {
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
