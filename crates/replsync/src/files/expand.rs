//! What the words of a command line name: files, folders, patterns, standard input.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Error;

/// The word for standard input.
pub const STDIN: &str = "-";

/// What a file is called that is not finished: `.replsync-NAME.part`. In folders such files are passed over.
pub fn unfinished(name: &str) -> String {
    format!("{UNFINISHED}{name}{UNFINISHED_END}")
}

/// Whether that is the name of one.
pub fn is_unfinished(file_name: &str) -> bool {
    file_name.strip_prefix(UNFINISHED).is_some_and(|rest| rest.ends_with(UNFINISHED_END))
}

const UNFINISHED: &str = ".replsync-";
const UNFINISHED_END: &str = ".part";

/// What words come to.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Files to be read, in the order of the words, those of a folder or a pattern sorted by name. Each once.
    pub files: Vec<PathBuf>,
    /// Folders, and files in them, that could not be looked at.
    pub failed: Vec<Error>,
    /// Files in folders that are no RDB files.
    pub left_out: u64,
}

/// What `words` come to. A word that exists is that file, or the RDB files in that folder and all below it: regular files
/// that end in `.rdb` or start with `REDIS` or `VALKEY` and a version, but for [unfinished](is_unfinished) ones (links to
/// folders are not followed). Another word
/// with `*`, `?` or `[` is a pattern, for shells that did not expand it; `**` stands for folders at any depth. What
/// is left is taken as the name of a file, which [`RdbFile::open`](super::RdbFile::open) will not find.
///
/// # Errors
/// [`Error::Pattern`], and [`Error::Nothing`] for a pattern or a folder that comes to nothing.
pub fn expand(words: &[PathBuf]) -> Result<Expanded, Error> {
    let mut found = Expanded::default();
    for word in words {
        let (files, failed) = (found.files.len(), found.failed.len());
        let is_pattern = word.to_str().filter(|text| text.contains(['*', '?', '[']));
        match is_pattern {
            _ if word == Path::new(STDIN) || word.is_file() => found.files.push(word.clone()),
            _ if word.is_dir() => found.folder(word),
            Some(pattern) if fs::symlink_metadata(word).is_err() => found.pattern(pattern)?,
            _ => found.files.push(word.clone()),
        }
        if (found.files.len(), found.failed.len()) == (files, failed) {
            return Err(Error::Nothing { word: word.display().to_string() });
        }
    }
    let mut seen = HashSet::new();
    found.files.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

impl Expanded {
    fn pattern(&mut self, pattern: &str) -> Result<(), Error> {
        let wrong = |what| Error::Pattern { pattern: pattern.to_owned(), what };
        let paths = glob::glob(pattern).map_err(|error| wrong(error.msg))?;
        let mut matched = Vec::new();
        for path in paths {
            match path {
                Ok(path) => matched.push(path),
                Err(error) => {
                    self.failed.push(Error::List { path: error.path().to_owned(), source: error.into() });
                }
            }
        }
        for path in each_once(matched) {
            if path.is_dir() { self.folder(&path) } else { self.files.push(path) }
        }
        Ok(())
    }

    /// The RDB files in a folder and below, depth first, by name.
    fn folder(&mut self, folder: &Path) {
        let list = |source| Error::List { path: folder.to_owned(), source };
        let entries = match fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => entries,
            Err(error) => return self.failed.push(list(error)),
        };
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            // Links are followed to files only: those to folders may lead in a circle.
            match (fs::symlink_metadata(&path), fs::metadata(&path)) {
                (Ok(own), _) if own.is_dir() => self.folder(&path),
                (Ok(_), Ok(file)) if file.is_file() => self.file(path),
                (Ok(_), Ok(_)) => self.left_out += 1,
                (_, Err(source)) | (Err(source), _) => self.failed.push(Error::Open { path, source }),
            }
        }
    }

    fn file(&mut self, path: PathBuf) {
        if path.file_name().is_some_and(|name| is_unfinished(&name.to_string_lossy())) {
            self.left_out += 1;
            return;
        }
        if path.extension().is_some_and(|extension| extension == "rdb") {
            return self.files.push(path);
        }
        match starts_as_rdb(&path) {
            Ok(true) => self.files.push(path),
            Ok(false) => self.left_out += 1,
            Err(source) => self.failed.push(Error::Open { path, source }),
        }
    }
}

/// `**` follows links to folders, in circles, too: of several ways to one file the shortest stays.
fn each_once(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort_by_key(|path| path.components().count());
    let mut seen = HashSet::new();
    paths.retain(|path| {
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
        folder.is_none_or(|folder| seen.insert(folder.join(path.file_name().unwrap_or_default())))
    });
    paths.sort();
    paths
}

fn starts_as_rdb(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(9).read_to_end(&mut start)?;
    let digits = start.strip_prefix(b"REDIS").or_else(|| start.strip_prefix(b"VALKEY"));
    Ok(digits.is_some_and(|digits| digits.len() >= 3 && digits.iter().all(u8::is_ascii_digit)))
}
