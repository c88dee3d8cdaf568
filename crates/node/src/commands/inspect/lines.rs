//! Keys as JSON lines.

use std::io::{self, Write};

use replsync::inspect::Key;
use serde::Serialize;

use crate::exit::{ExitCode, Failure};
use crate::output::Name;

/// Lines are written whole, so many bytes at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Standard output, line by line.
pub struct Lines {
    buffer: Vec<u8>,
    is_open: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    db: u32,
    #[serde(flatten)]
    name: Name<'a>,
    r#type: &'a str,
    encoding: &'static str,
    elements: Option<u64>,
    bytes: u64,
    expires_at_ms: Option<i64>,
    expired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields_with_expiry: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freq: Option<u8>,
}

impl Lines {
    pub fn new() -> Self {
        Self { buffer: Vec::with_capacity(2 * BUFFER_BYTES), is_open: true }
    }

    /// Adds a key, and says whether anybody reads on.
    pub fn add(&mut self, key: &Key<'_>) -> Result<bool, Failure> {
        let name;
        let line = Line {
            db: key.db,
            name: Name::of(key.name),
            r#type: match key.module {
                None => key.data_type.name(),
                Some(_) => {
                    name = key.type_name();
                    &name
                }
            },
            encoding: key.encoding,
            elements: key.elements,
            bytes: key.bytes,
            expires_at_ms: key.expires_at_ms,
            expired: key.is_expired,
            fields_with_expiry: (key.field_expiries > 0).then_some(key.field_expiries),
            idle_seconds: key.idle_seconds,
            freq: key.freq,
        };
        serde_json::to_writer(&mut self.buffer, &line).map_err(|error| failed(&error.into()))?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(self.is_open)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = match self.is_open {
            true => out.write_all(&self.buffer).and_then(|()| out.flush()),
            false => Ok(()),
        };
        self.buffer.clear();
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_open = false;
                Ok(())
            }
            written => written.map_err(|error| failed(&error)),
        }
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure {
        message: format!("the keys cannot be written to standard output: {error}"),
        code: ExitCode::Unreachable,
    }
}
