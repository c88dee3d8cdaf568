//! Standard error, written by a thread of its own.
//!
//! Whoever reads it may stall (a full pipe, a terminal that is held), and must not stall the job. What does not fit
//! into the queue is lost: logs and progress are worth less than data.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use indicatif::ProgressBar;

/// How many texts may wait.
const QUEUE: usize = 1024;
/// At the end, what waits has this long to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Message {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

/// A handle to write with.
#[derive(Clone)]
pub struct Stderr(SyncSender<Message>);

impl Stderr {
    /// Starts the thread. It takes the progress bar away while it writes.
    pub fn start(bar: Option<ProgressBar>) -> Self {
        let (sender, queue) = sync_channel(QUEUE);
        std::thread::spawn(move || write_all(&queue, bar.as_ref()));
        Self(sender)
    }

    /// Writes a line, sooner or later.
    pub fn line(&self, line: &str) {
        let _lost = self.0.try_send(Message::Text(format!("{}\n", harmless(line)).into_bytes()));
    }

    /// Waits until everything is written, but not for long.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _late = wait.recv_timeout(LAST_WORDS);
        }
    }
}

/// A message, with nothing in it that a terminal would obey: errors name files as they are.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let bites = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(bites) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if bites(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn write_all(queue: &Receiver<Message>, bar: Option<&ProgressBar>) {
    for message in queue {
        match message {
            // Nobody can be told that standard error cannot be written.
            Message::Text(text) => {
                let _ = match bar {
                    Some(bar) => bar.suspend(|| io::stderr().write_all(&text)),
                    None => io::stderr().write_all(&text),
                };
            }
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// Each write is one text: what tracing formats is a line.
impl Write for Stderr {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let _lost = self.0.try_send(Message::Text(buf.to_vec()));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
