//! Standard output carries results, standard error everything else.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use replsync::inspect::printable;
pub use replsync::inspect::thousands as count;
use serde::Serialize;

use crate::args::Output;
use crate::exit::{ExitCode, Failure};
use crate::stderr::Stderr;

/// Prints a result: as JSON where that is asked, else as text for people.
pub fn result(output: &Output, document: &impl Serialize, text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match output.json {
        true => {
            serde_json::to_string(document).map_err(io::Error::other).and_then(|json| writeln!(out, "{json}"))
        }
        false => write!(out, "{text}"),
    };
    match written.and_then(|()| out.flush()) {
        // Who has stopped reading has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure {
            message: format!("the result cannot be written to standard output: {error}"),
            code: ExitCode::Unreachable,
        }),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: &'a str,
    exit_code: u8,
}

/// Prints why a command failed: on standard error for people, with `--json` on standard output for scripts, too.
pub fn error(output: &Output, stderr: &Stderr, failure: &Failure) {
    stderr.line(&format!("error: {}", failure.message));
    if output.json {
        let document = ErrorDocument { error: &failure.message, exit_code: failure.code as u8 };
        // Where that cannot be written either, the exit code has to do.
        let _ = result(output, &document, "");
    }
}

/// Writes a file so that nobody ever sees half of it: under another name beside it, renamed once it is on the disk.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure {
        message: format!("{} cannot be written: {error}", path.display()),
        code: ExitCode::Unreachable,
    };
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(format!("{} is no name of a file", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(hidden);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(failed(error));
    }
    // The name, too, is to outlive a crash; not every file system lets a folder be synced.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// A path for people: nothing in it moves a cursor or is taken for another line.
pub fn path(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

/// A key's name in JSON: text where it is UTF-8.
#[derive(Serialize)]
pub enum Name<'a> {
    /// `"key": "…"`
    #[serde(rename = "key")]
    Text(Cow<'a, str>),
    /// `"key_base64": "…"`
    #[serde(rename = "key_base64")]
    Base64(String),
}

impl<'a> Name<'a> {
    pub fn of(name: &'a [u8]) -> Self {
        match std::str::from_utf8(name) {
            Ok(text) => Self::Text(Cow::Borrowed(text)),
            Err(_) => Self::Base64(base64(name)),
        }
    }

    pub fn into_owned(self) -> Name<'static> {
        match self {
            Self::Text(text) => Name::Text(Cow::Owned(text.into_owned())),
            Self::Base64(text) => Name::Base64(text),
        }
    }
}

/// Bytes as text (RFC 4648), for names that are no UTF-8.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let part = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0)) << (16 - 8 * at);
        let bits = part(0) | part(1) | part(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit > chunk.len() { '=' } else { DIGITS[index as usize] as char });
        }
    }
    text
}

/// A count of things: `1 key`, `1,234 keys`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_the_rfc() {
        let texts =
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| super::base64(text.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
