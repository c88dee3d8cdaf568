//! Attach to a server's stream without a fork, and print what was learnt and what comes: `attach redis://127.0.0.1:6379`.

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use replsync::capture::{AttachOptions, attach};
use replsync::endpoint::Endpoint;
use replsync::link::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    let _ = writeln!(stderr(), "{error}");
    ExitCode::FAILURE
}

async fn run() -> Result<(), Box<dyn Error>> {
    let source: Endpoint = std::env::args().nth(1).ok_or("usage: attach redis://host:port")?.parse()?;
    let mut attached = attach(&source, &AttachOptions::default()).await?;
    let db = attached.stream_db.map_or("not known".to_owned(), |db| db.to_string());
    let how = if attached.primed { "primed" } else { "had a backlog" };
    let mut out = stdout().lock();
    writeln!(out, "{source} at {}, database {db}, {how}, {} forks", attached.start, attached.forks_caused)?;
    loop {
        match attached.link.next().await? {
            Event::Commands { commands, .. } => {
                for (command, offset) in commands {
                    let args: Vec<_> =
                        command.args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
                    writeln!(out, "{offset} {}", args.join(" "))?;
                }
            }
            other => writeln!(out, "{other:?}")?,
        }
        out.flush()?;
    }
}
