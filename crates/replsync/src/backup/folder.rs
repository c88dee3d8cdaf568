//! Names in a backup's folder: what nobody takes for a backup, and what is one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::manifest::Manifest;
use super::time::compact;
use super::{Backup, Error, Facts};
use crate::endpoint::{Address, Endpoint};
use crate::files::{is_unfinished, unfinished};

/// So many backups of one source may begin in the same second.
const SAME_SECOND_MAX: u32 = 100;

/// What a backup of that source that begins now is called: `<host>-<port>-<UTC>`.
pub(super) fn name_of(source: &Endpoint, now_ms: u64) -> String {
    let source = match &source.address {
        Address::Tcp(host, port) => format!("{host}-{port}"),
        Address::Unix(path) => {
            path.file_stem().map_or_else(|| "unix".to_owned(), |name| name.to_string_lossy().into_owned())
        }
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let source: String = source.chars().map(plain).collect();
    // A name that begins with a dot is hidden.
    format!("{}-{}", source.trim_start_matches('.'), compact(now_ms))
}

/// A file that is no backup yet. It is locked, so that others can tell it from what a killed process has left; dropped,
/// it is removed.
#[derive(Debug)]
pub(super) struct Part {
    folder: PathBuf,
    name: String,
    file: Arc<File>,
    /// Threads that still write to it stop then.
    is_given_up: Arc<AtomicBool>,
}

impl Part {
    /// Removes what killed processes have left in the folder, and begins a file.
    pub fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        remove_leftovers(folder)?;
        for number in 1..=SAME_SECOND_MAX {
            let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let path = part_path(folder, &name, "rdb");
            let Some(file) = create_locked(&path)? else { continue };
            let part =
                Self { folder: folder.to_owned(), name, file: Arc::new(file), is_given_up: Arc::default() };
            // Whoever had this name before us has published by now.
            if !part.rdb().exists() && !part.manifest().exists() {
                return Ok(part);
            }
        }
        let source = io::ErrorKind::AlreadyExists.into();
        Err(Error::Folder { path: folder.join(name), what: "no name is free", source })
    }

    /// What it is called now.
    pub fn path(&self) -> PathBuf {
        part_path(&self.folder, &self.name, "rdb")
    }

    /// The file, for whoever writes to it.
    pub fn writer(&self) -> Writer {
        Writer { file: self.file.clone(), is_given_up: self.is_given_up.clone() }
    }

    /// What it will be called.
    pub fn rdb(&self) -> PathBuf {
        self.folder.join(format!("{}.rdb", self.name))
    }

    fn manifest(&self) -> PathBuf {
        self.folder.join(format!("{}.manifest.json", self.name))
    }

    /// Gives the file its name and a manifest. Both are on the disk then.
    pub fn publish(self, facts: Facts) -> Result<Backup, Error> {
        let (rdb, manifest) = (self.rdb(), self.manifest());
        let text = Manifest::new(&rdb, &facts).to_json()?;
        let part = part_path(&self.folder, &self.name, "manifest.json");
        let cannot = |what| Error::folder(&manifest, what);
        let Some(mut file) = create_locked(&part)? else {
            return Err(cannot("cannot write the manifest")(io::ErrorKind::AlreadyExists.into()));
        };
        let named = Named(&rdb);
        let done = (|| {
            file.write_all(&text).map_err(cannot("cannot write the manifest"))?;
            file.sync_all().map_err(cannot("cannot write the manifest"))?;
            fs::rename(self.path(), &rdb).map_err(Error::folder(&rdb, "cannot give the backup its name"))?;
            self.sync_folder()?;
            fs::rename(&part, &manifest).map_err(cannot("cannot give the manifest its name"))
        })();
        if let Err(error) = done {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        std::mem::forget(named);
        // From here on it exists: a folder that cannot be synced is no reason to take it back.
        if let Err(error) = self.sync_folder() {
            tracing::warn!(%error, "the backup is there, and whether its name outlives a crash is not known");
        }
        Ok(Backup { rdb, manifest, facts })
    }

    fn sync_folder(&self) -> Result<(), Error> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        match synced {
            // Not every file system lets a folder be synced.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                Ok(())
            }
            synced => synced.map_err(Error::folder(&self.folder, "cannot be synced")),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        // Once published, it has another name.
        let _ = fs::remove_file(self.path());
    }
}

/// A file that has its name and no manifest yet: removed when there will be none.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// The file, as long as somebody wants it.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<File>,
    is_given_up: Arc<AtomicBool>,
}

impl Writer {
    /// Brings it to the disk, and out of the system's memory, so that what is read next comes from the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        // A hint.
        let _ = rustix::fs::fadvise(&*self.file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.is_given_up.load(Ordering::Relaxed) {
            true => Err(io::Error::other("nobody wants this backup any more")),
            false => (&*self.file).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn part_path(folder: &Path, name: &str, extension: &str) -> PathBuf {
    folder.join(unfinished(&format!("{name}.{extension}")))
}

/// A new file that is ours; nothing where the name is taken.
fn create_locked(path: &Path) -> Result<Option<File>, Error> {
    let cannot = |source| Error::folder(path, "cannot make a file")(source);
    let file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    match file.try_lock() {
        // Another backup that began just now may have taken it for a leftover before it was locked.
        Ok(()) if is_named(&file, path) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks: leftovers stay there.
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, path = %path.display(), "no lock");
            Ok(Some(file))
        }
    }
}

fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Removes unfinished files that nobody holds a lock on: their processes are gone.
fn remove_leftovers(folder: &Path) -> Result<(), Error> {
    let cannot = |source| Error::folder(folder, "cannot be read")(source);
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name();
        // Only what is called so: nothing else here is ours to open.
        if !name.to_str().is_some_and(is_unfinished) {
            continue;
        }
        // Whatever is in the way of looking at it is in the way of removing it.
        let Ok(file) = File::options().write(true).open(entry.path()) else { continue };
        if file.try_lock().is_ok() && fs::remove_file(entry.path()).is_ok() {
            let path = entry.path();
            tracing::warn!(path = %path.display(), "removed what a backup that was killed has left");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let name = |url: &str| name_of(&url.parse().unwrap(), 1_795_536_341_999);
        assert_eq!(name("redis://legacy.example:6380"), "legacy.example-6380-20261124T160541Z");
        assert_eq!(name("redis://[fe80::1]"), "fe80__1-6379-20261124T160541Z");
        assert_eq!(name("unix:///run/.red is.sock"), "red_is-20261124T160541Z");
    }

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at(".replsync-x.rdb.part"), b"left").unwrap();
        fs::write(at("dump.rdb"), b"other").unwrap();
        fs::write(at(".other.part"), b"other").unwrap();
        let held = Part::create(folder.path(), "y").unwrap();
        assert!(
            !at(".replsync-x.rdb.part").exists() && at("dump.rdb").exists() && at(".other.part").exists()
        );
        let other = Part::create(folder.path(), "y").unwrap();
        assert!(held.path().exists() && other.path() != held.path());
        let (one, two) = (held.path(), other.path());
        drop((held, other));
        assert!(!one.exists() && !two.exists());
    }

    #[test]
    fn a_writer_stops_when_its_file_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part::create(folder.path(), "y").unwrap();
        let mut writer = part.writer();
        writer.write_all(b"REDIS").unwrap();
        drop(part);
        assert!(writer.write_all(b"0011").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
