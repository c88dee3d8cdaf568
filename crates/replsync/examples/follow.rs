//! Print a master's commands with their offsets: `follow redis://127.0.0.1:6379`.
//!
//! It begins with a full resync, whose RDB it passes over, and never ends by itself.

use std::error::Error;
use std::io::{Write, stdout};

use replsync::endpoint::Endpoint;
use replsync::link::{Config, Event, Link};
use replsync::psync::Announce;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let master: Endpoint = std::env::args().nth(1).ok_or("usage: follow redis://host:port")?.parse()?;
    let mut link = Link::start(master, Config::new(Announce::unseen("follow", None)), None);
    let mut out = stdout().lock();
    loop {
        match link.next().await? {
            Event::FullResync(position) => writeln!(out, "full resync from {position}")?,
            Event::Resumed(position) => writeln!(out, "goes on at {position}")?,
            Event::Down { error, retry_in } => writeln!(out, "down, again in {retry_in:?}: {error}")?,
            Event::Commands { commands, .. } => {
                for (command, offset) in commands {
                    let args: Vec<_> =
                        command.args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
                    writeln!(out, "{offset} {}", args.join(" "))?;
                }
            }
            Event::PayloadStart(_) | Event::Payload(_) | Event::PayloadEnd => {}
        }
        out.flush()?;
    }
}
