//! Expiries that a killed migration left shifted: what it wrote into a server would never expire there.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::ErrorKind;
use super::facts::items;
use super::finding::{Finding, Subject, counted};
use crate::endpoint::{Client, Endpoint, Error, Info, Pipelined};
use crate::resp::Reply;
use crate::server::Server;
use crate::shift::Shift;

/// So many keys of a database are looked at …
pub(super) const KEYS: u64 = 10_000;
/// … or so many, where a job is about to begin.
pub(super) const KEYS_BRIEFLY: u64 = 1_000;
/// So many hashes of a database, and of each about so many fields.
const HASHES: usize = 1_000;
const FIELDS: usize = 100;
/// Keys that are asked for at once.
const AT_ONCE: &str = "500";
/// The look as a whole ends after this.
const TIME: Duration = Duration::from_secs(2);

/// What a look at a part of a server's expiries has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leftovers {
    keys: Tally,
    fields: Tally,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    looked_at: u64,
    shifted: u64,
}

impl Leftovers {
    /// Looks at keys of databases that hold expiries at all, over a connection of its own. An error is the server's
    /// word, or why there is none.
    pub async fn look(
        server: &Endpoint,
        timeout: Duration,
        info: &Info,
        keys_max: u64,
    ) -> Result<Self, String> {
        let mut found = Self::default();
        let with_expiries = info.keyspace.iter().filter_map(|(db, keyspace)| {
            let fields = keyspace.expiring_hashes > 0;
            (keyspace.expires > 0 || fields).then_some((*db, fields))
        });
        let databases: Vec<_> = with_expiries.collect();
        if databases.is_empty() || info.is_loading() {
            return Ok(found);
        }
        let mut look = Look {
            client: Client::connect(server, timeout).await.map_err(word)?,
            until: Instant::now() + TIME,
            absolute: info.server.has((7, 0), None),
        };
        if info.server.has((7, 2), None) {
            // Looking at a hash is no use of it. Without the right to say so, it is looked at all the same.
            let asked = look.client.ask(&["CLIENT", "NO-TOUCH", "ON"]).await;
            asked.map(drop).or_else(|error| match error {
                Error::Refused { .. } => Ok(()),
                error => Err(word(error)),
            })?;
        }
        for (db, fields) in databases {
            look.database(db, fields, keys_max, &mut found).await?;
        }
        Ok(found)
    }

    /// The commands that look.
    pub fn commands(server: Server) -> Vec<&'static str> {
        let expiry = if server.has((7, 0), None) { "PEXPIRETIME" } else { "PTTL" };
        let mut commands = vec!["SCAN", expiry];
        if server.has((7, 4), Some((9, 0))) {
            commands.extend(["TYPE", "HSCAN", "HPEXPIRETIME"]);
        }
        commands
    }

    /// What was found, if anything was.
    pub fn describe(&self) -> Option<String> {
        let of = |tally: Tally, one, many, shift| {
            (tally.shifted > 0).then(|| {
                format!(
                    "of {} looked at, {} shifted by {shift}",
                    counted(tally.looked_at, one, many),
                    has(tally)
                )
            })
        };
        let keys = of(self.keys, "key", "keys", "2^60 ms");
        let fields = of(self.fields, "hash field", "hash fields", "2^45 ms");
        match (keys, fields) {
            (Some(keys), Some(fields)) => Some(format!("{keys}, and {fields}")),
            (keys, fields) => keys.or(fields),
        }
    }

    /// What it means for a source.
    pub fn of_source(&self) -> Option<Finding> {
        let message = format!(
            "a migration into the source was killed, or still runs: {}, and would never expire. Let that migration end, \
             or do it anew from its own source, before this one",
            self.describe()?
        );
        Some(Finding::refusal(Subject::Source, ErrorKind::Unsafe, message))
    }

    /// What it means for a target.
    pub fn of_target(&self) -> Option<Finding> {
        let message = format!(
            "a migration into the target was killed, or still runs: {}, and would never expire; --flush-target starts \
             anew",
            self.describe()?
        );
        Some(Finding::warning(Subject::Target, message))
    }
}

fn has(tally: Tally) -> String {
    match tally.shifted {
        1 => "1 has an expiry that is".to_owned(),
        many => format!("{many} have an expiry that is"),
    }
}

fn word(error: Error) -> String {
    match error {
        Error::Refused { reply, .. } => reply,
        error => error.to_string(),
    }
}

struct Look {
    client: Client,
    until: Instant,
    /// Whether the server has PEXPIRETIME.
    absolute: bool,
}

impl Look {
    async fn database(
        &mut self,
        db: u32,
        with_fields: bool,
        keys_max: u64,
        found: &mut Leftovers,
    ) -> Result<(), String> {
        self.ask(&[b"SELECT", db.to_string().as_bytes()]).await?;
        let (mut cursor, mut looked_at, mut hashes_left) = (Bytes::from_static(b"0"), 0, HASHES);
        while looked_at < keys_max && Instant::now() < self.until {
            let reply = self.ask(&[b"SCAN", &cursor[..], b"COUNT", AT_ONCE.as_bytes()]).await?;
            let Some((next, names)) = reply.scan_page() else {
                return Err(self.client.unexpected(&["SCAN"], &reply).to_string());
            };
            looked_at += names.len() as u64;
            let hashes = self.keys(&names, with_fields, &mut found.keys).await?;
            let hashes = &hashes[..hashes.len().min(hashes_left)];
            hashes_left -= hashes.len();
            self.fields(hashes, &mut found.fields).await?;
            cursor = next;
            if &cursor[..] == b"0" {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the keys' expiries, and returns those that are hashes, where that matters.
    async fn keys(&mut self, keys: &[Bytes], types: bool, tally: &mut Tally) -> Result<Vec<Bytes>, String> {
        let name = if self.absolute { "PEXPIRETIME" } else { "PTTL" };
        let mut asked = Pipelined::default();
        for key in keys {
            asked.add(&[name.as_bytes(), key]);
            if types {
                asked.add(&[b"TYPE", &key[..]]);
            }
        }
        let replies = self.pipeline("expiries", &asked).await?;
        let mut hashes = Vec::new();
        for (key, replies) in keys.iter().zip(replies.chunks(1 + usize::from(types))) {
            if let Some(Reply::Integer(answer_ms)) = replies.first() {
                tally.add(match self.absolute {
                    true => Shift::KEY.off(*answer_ms).is_some(),
                    false => Shift::KEY.is_in_ttl(*answer_ms),
                });
            }
            if replies.get(1).and_then(Reply::text).as_deref() == Some("hash") {
                hashes.push(key.clone());
            }
        }
        Ok(hashes)
    }

    /// Looks at the expiries of some fields of each hash.
    async fn fields(&mut self, hashes: &[Bytes], tally: &mut Tally) -> Result<(), String> {
        let mut asked = Pipelined::default();
        for key in hashes {
            asked.add(&[b"HSCAN", &key[..], b"0", b"COUNT", b"100", b"NOVALUES"]);
        }
        let pages = self.pipeline("fields", &asked).await?;
        let mut asked = Pipelined::default();
        for (key, page) in hashes.iter().zip(&pages) {
            let names = items(page).get(1).map_or(&[][..], items);
            let names: Vec<_> = names.iter().filter_map(Reply::bulk).take(FIELDS).collect();
            let count = names.len().to_string();
            let mut args = vec![&b"HPEXPIRETIME"[..], key, b"FIELDS", count.as_bytes()];
            args.extend(names.iter().map(|name| &name[..]));
            if !names.is_empty() {
                asked.add(&args);
            }
        }
        for reply in self.pipeline("expiries of fields", &asked).await? {
            for at_ms in items(&reply) {
                if let Reply::Integer(at_ms) = at_ms {
                    tally.add(Shift::FIELD.off(*at_ms).is_some());
                }
            }
        }
        Ok(())
    }

    async fn ask(&mut self, args: &[&[u8]]) -> Result<Reply, String> {
        self.client.ask(args).await.map_err(word)
    }

    /// Replies without errors among them: the first of those is the error. (A key that has changed its type
    /// meanwhile is as good as none.)
    async fn pipeline(&mut self, what: &str, asked: &Pipelined) -> Result<Vec<Reply>, String> {
        let replies = self.client.pipeline(what, asked).await.map_err(word)?;
        let mut errors = replies.iter().filter_map(Reply::error);
        match errors.find(|error| !error.starts_with("WRONGTYPE")) {
            Some(error) => Err(error),
            None => Ok(replies),
        }
    }
}

impl Tally {
    fn add(&mut self, shifted: bool) {
        self.looked_at += 1;
        self.shifted += u64::from(shifted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_said_with_what_was_looked_at() {
        let tally = |looked_at, shifted| Tally { looked_at, shifted };
        let text = |keys, fields| Leftovers { keys, fields }.describe();
        assert_eq!(text(tally(10, 0), tally(5, 0)), None);
        assert_eq!(
            text(tally(10_000, 2), tally(1, 1)).unwrap(),
            "of 10000 keys looked at, 2 have an expiry that is shifted by 2^60 ms, and of 1 hash field looked at, 1 has \
             an expiry that is shifted by 2^45 ms"
        );
    }
}
