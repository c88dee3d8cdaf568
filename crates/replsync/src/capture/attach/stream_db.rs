//! Which database the stream has selected.
//!
//! A stream that is joined in the middle says so at its next SELECT only, and a copy that gets it wrong is wrong without
//! a sign of it. PUBLISH travels in the stream and writes no key: published from two databases, at least one SELECT
//! comes with it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{AttachError, Conditions, Refusal};
use crate::capture::pause::PROBE_CHANNEL;
use crate::clock::now_ms;
use crate::endpoint::{Client, Error, Role};
use crate::link::{Event, Link};
use crate::psync::Position;
use crate::resp::StreamCommand;
use crate::server::Product;

/// What was learnt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learnt {
    /// The database that is selected, where that is known.
    pub db: Option<u32>,
    /// … at this position.
    pub position: Position,
}

/// Learns it, and reads the link's events as far as that takes.
pub(super) async fn learn(
    link: &mut Link,
    client: &mut Client,
    conditions: &Conditions,
    position: Position,
    limit: Duration,
) -> Result<Learnt, AttachError> {
    if conditions.info.role == Role::Replica {
        // Its stream is its master's: nothing of ours gets into it.
        return Ok(Learnt { db: None, position });
    }
    if conditions.info.is_cluster() {
        return Ok(Learnt { db: only_database_of_cluster(conditions), position });
    }
    let mark = format!("{}-{}", std::process::id(), now_ms());
    match publish(client, &mark).await? {
        Published::Marks => read_up_to(link, &mark, position, limit).await,
        Published::OneDatabase => Ok(Learnt { db: Some(0), position }),
        Published::Nothing(reply) => {
            tracing::warn!(
                "the database that the stream has selected is not known until its next SELECT: {reply} (ACL SETUSER \
                 <user> +select +publish &{PROBE_CHANNEL})"
            );
            Ok(Learnt { db: None, position })
        }
    }
}

/// Nodes of a cluster publish over its bus, not in the stream. But for Valkey 9 they have one database.
fn only_database_of_cluster(conditions: &Conditions) -> Option<u32> {
    let server = conditions.info.server;
    if server.product == Product::Redis || server.version < (9, 0, 0) {
        return Some(0);
    }
    (conditions.settings.number("cluster-databases") == Some(1)).then_some(0)
}

enum Published {
    /// The mark is in the stream twice, from two databases.
    Marks,
    /// There is only one.
    OneDatabase,
    /// We may not.
    Nothing(String),
}

async fn publish(client: &mut Client, mark: &str) -> Result<Published, AttachError> {
    for db in ["1", "0"] {
        match client.ask(&["SELECT", db]).await {
            Ok(_) => {}
            Err(Error::Refused { reply, .. }) if is_out_of_range(&reply) => {
                return Ok(Published::OneDatabase);
            }
            Err(Error::Refused { reply, .. }) => return Ok(Published::Nothing(reply)),
            Err(error) => return Err(error.into()),
        }
        match client.ask(&["PUBLISH", PROBE_CHANNEL, &format!("{mark}-{db}")]).await {
            Ok(_) => {}
            Err(Error::Refused { reply, .. }) => return Ok(Published::Nothing(reply)),
            // SELECT was answered: it is not the server that is held up.
            Err(Error::Timeout { .. }) => return Err(AttachError::Refused(Refusal::WritesPaused)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Published::Marks)
}

/// Source: `selectCommand` in `src/db.c`.
fn is_out_of_range(reply: &str) -> bool {
    let reply = reply.to_ascii_lowercase();
    reply.contains("out of range") || reply.contains("invalid db index")
}

/// Reads up to the second mark and the end of what came with it, so that nothing has to be given back to the link.
async fn read_up_to(
    link: &mut Link,
    mark: &str,
    position: Position,
    limit: Duration,
) -> Result<Learnt, AttachError> {
    let mut reader = Reader::new(format!("{mark}-0"), position);
    let deadline = Instant::now() + limit;
    while !reader.is_done() {
        match timeout_at(deadline, link.next()).await {
            Ok(Ok(Event::Resumed(position))) => reader.learnt.position = position,
            Ok(Ok(Event::Commands { commands, .. })) => reader.take(&commands),
            Ok(Ok(_)) => {}
            Ok(Err(source)) => return Err(AttachError::Link { source }),
            Err(_) if !reader.marked => {
                tracing::warn!(
                    "a message that was published did not come with the stream: its database is not known"
                );
                return Ok(Learnt { db: None, ..reader.learnt });
            }
            // A transaction that takes longer than that to come is a large one.
            Err(_) => return Err(AttachError::NoEnd { within: limit }),
        }
    }
    Ok(reader.learnt)
}

/// What the stream says of its database, up to a mark.
#[derive(Debug)]
struct Reader {
    last_mark: String,
    marked: bool,
    in_transaction: bool,
    learnt: Learnt,
}

impl Reader {
    fn new(last_mark: String, position: Position) -> Self {
        Self { last_mark, marked: false, in_transaction: false, learnt: Learnt { db: None, position } }
    }

    /// Past the mark, and outside of a transaction.
    fn is_done(&self) -> bool {
        self.marked && !self.in_transaction
    }

    fn take(&mut self, commands: &[(StreamCommand, u64)]) {
        for (StreamCommand { args, .. }, offset) in commands {
            self.learnt.position.offset = *offset;
            let name = args.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
            match (&name[..], args.get(1), args.get(2)) {
                (b"SELECT", Some(db), _) => {
                    self.learnt.db = std::str::from_utf8(db).ok().and_then(|db| db.parse().ok());
                }
                (b"MULTI", ..) => self.in_transaction = true,
                (b"EXEC", ..) => self.in_transaction = false,
                // PUBLISH, which may travel under another name.
                (_, Some(channel), Some(message)) => {
                    self.marked |=
                        channel[..] == *PROBE_CHANNEL.as_bytes() && message[..] == *self.last_mark.as_bytes();
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{CommandScanner, Frame};
    use bytes::BytesMut;

    fn position(offset: u64) -> Position {
        Position { replid: "a".repeat(40).parse().unwrap(), offset }
    }

    fn commands(text: &[&str]) -> Vec<(StreamCommand, u64)> {
        let (mut stream, mut read, mut offset) = (BytesMut::new(), Vec::new(), 100);
        for line in text {
            crate::resp::write_command(&mut stream, &line.split(' ').collect::<Vec<_>>());
        }
        let mut scanner = CommandScanner::default();
        while let Some(Frame::Command(command)) = scanner.next(&mut stream).unwrap() {
            offset += command.raw.len() as u64;
            read.push((command, offset));
        }
        read
    }

    #[test]
    fn the_stream_is_read_past_the_mark_and_out_of_a_transaction() {
        let mark = format!("PUBLISH {PROBE_CHANNEL} m-0");
        let first = commands(&["select 7", &format!("PUBLISH {PROBE_CHANNEL} m-1"), "SET a 1"]);
        let mut reader = Reader::new("m-0".to_owned(), position(100));
        reader.take(&first);
        assert!(!reader.is_done(), "the other mark is not the last");
        reader.take(&commands(&["SELECT 0", &mark, "SELECT 3", "MULTI", "SET a 1"]));
        assert!(!reader.is_done() && reader.marked, "within a transaction");
        let rest = commands(&["SELECT 5", "EXEC"]);
        reader.take(&rest);
        assert!(reader.is_done());
        assert_eq!(reader.learnt.db, Some(5), "whatever came last");
        assert_eq!(reader.learnt.position, position(rest.last().unwrap().1));
        let mut renamed = Reader::new("m-0".to_owned(), position(100));
        renamed.take(&commands(&["SELECT 0", &mark.replace("PUBLISH", "hush")]));
        assert!(renamed.is_done());
    }
}
