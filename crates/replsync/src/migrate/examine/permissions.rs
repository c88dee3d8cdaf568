//! What our user may not do, by name.

use std::collections::HashMap;

use super::super::{Error, ErrorKind};
use super::facts::{Unseen, items};
use super::finding::{Finding, Subject, listed};
use super::needs::{For, Need};
use super::rules::Rules;
use crate::capture::PROBE_CHANNEL;
use crate::endpoint::{Client, Endpoint, Info, Pipelined};
use crate::resp::Reply;

/// So many commands are named in one finding; `--json` names all.
const NAMES: usize = 12;

/// What our user may do on a server, of what is needed there.
#[derive(Clone, Debug, Default)]
pub(super) struct Permissions {
    user: String,
    /// What it may not do.
    missing: Vec<Need>,
    /// What the server does not have under its own name, though its version does.
    absent: Vec<Need>,
    /// It may touch only keys of certain names.
    keys_limited: bool,
    /// It may publish only on channels of certain names.
    channels_limited: bool,
    /// Why it was not told which commands the server has.
    commands_unseen: Option<String>,
    /// Why it cannot be told what it may do; then nothing is missing as far as is known.
    untold: Option<String>,
    /// What would be tried, were it told: for the one who sets permissions.
    needed: Vec<Need>,
}

/// What a server says of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// Allowed, but not on any key.
    SomeKeys,
    /// Allowed, but not on any channel.
    SomeChannels,
    Forbidden,
    Absent,
    Untold,
}

impl Permissions {
    /// Asks which of `needs` this user may not meet. It runs none of them.
    pub async fn ask(
        client: &mut Client,
        server: &Endpoint,
        info: &Info,
        needs: Vec<Need>,
    ) -> Result<Self, Error> {
        let user =
            server.login().and_then(|login| login.user.clone()).unwrap_or_else(|| "default".to_owned());
        let mut permissions = Self { user, ..Self::default() };
        let needs = permissions.look_for(client, needs).await?;
        permissions.needed = needs.clone();
        if info.server.has((7, 0), None) {
            permissions.try_out(client, needs).await?;
        } else if info.server.has((6, 0), None) {
            permissions.read_rules(client, needs).await?;
        }
        // Before 6.0 who is in may do everything.
        Ok(permissions)
    }

    /// Sets aside what the server does not have (`rename-command`, or taken away), and returns the others: all, where it
    /// does not tell.
    async fn look_for(&mut self, client: &mut Client, needs: Vec<Need>) -> Result<Vec<Need>, Error> {
        let mut asked = Pipelined::default();
        let mut args = vec!["COMMAND", "INFO"];
        args.extend(needs.iter().map(Need::base));
        asked.add(&args);
        let reply = client.pipeline("COMMAND INFO", &asked).await?.pop().unwrap_or(Reply::Nil);
        self.commands_unseen = reply.error();
        let rows = items(&reply);
        if rows.len() != needs.len() {
            return Ok(needs);
        }
        let mut present = Vec::new();
        for (need, row) in needs.into_iter().zip(rows) {
            if items(row).is_empty() { self.absent.push(need) } else { present.push(need) }
        }
        Ok(present)
    }

    /// From 7.0 on a server says what would become of a command without running it.
    async fn try_out(&mut self, client: &mut Client, needs: Vec<Need>) -> Result<(), Error> {
        let mut asked = Pipelined::default();
        for need in &needs {
            let mut args = vec!["ACL", "DRYRUN", &self.user];
            args.extend(need.args.iter().map(String::as_str));
            asked.add(&args);
        }
        let replies = client.pipeline("ACL DRYRUN", &asked).await?;
        for (need, reply) in needs.into_iter().zip(replies) {
            match verdict(&reply) {
                Verdict::Allowed => {}
                Verdict::SomeKeys => self.keys_limited = true,
                Verdict::SomeChannels => self.channels_limited = true,
                Verdict::Forbidden => self.missing.push(need),
                Verdict::Absent => self.absent.push(need),
                Verdict::Untold => {
                    let reply = reply.error().unwrap_or_default();
                    self.untold.get_or_insert(format!("ACL DRYRUN: {reply}"));
                }
            }
        }
        Ok(())
    }

    /// Before, its rules have to be read.
    async fn read_rules(&mut self, client: &mut Client, needs: Vec<Need>) -> Result<(), Error> {
        let mut asked = Pipelined::default();
        asked.add(&["ACL", "GETUSER", &self.user]);
        let reply = client.pipeline("ACL GETUSER", &asked).await?.pop().unwrap_or(Reply::Nil);
        let Some(rules) = field(&reply, "commands").and_then(Reply::text) else {
            let reply = reply.error().unwrap_or_else(|| "there is no such user".to_owned());
            self.untold = Some(format!("ACL GETUSER, which tells before 7.0: {reply}"));
            return Ok(());
        };
        let categories = Rules::categories(&rules);
        let mut asked = Pipelined::default();
        for category in &categories {
            asked.add(&["ACL", "CAT", category]);
        }
        let commands = client.pipeline("ACL CAT", &asked).await?.into_iter();
        let commands = commands.map(|reply| items(&reply).iter().filter_map(Reply::text).collect());
        let rules = Rules::new(&rules, categories.into_iter().zip(commands).collect::<HashMap<_, Vec<_>>>());
        self.missing = needs.into_iter().filter(|need| !rules.allow(need)).collect();
        let limited_to = |name, enough: &[&str]| {
            let is_enough = |pattern: &Reply| pattern.text().is_some_and(|text| enough.contains(&&text[..]));
            field(&reply, name).is_some_and(|patterns| !items(patterns).iter().any(is_enough))
        };
        self.keys_limited = limited_to("keys", &["*"]);
        // Channels have rules from 6.2 on.
        self.channels_limited = limited_to("channels", &["*", PROBE_CHANNEL]);
        Ok(())
    }

    /// What was not told.
    pub fn unseen(&self) -> Option<Unseen> {
        let reply = self.commands_unseen.clone()?;
        Some(Unseen { commands: vec!["COMMAND"], what: "which commands it has", reply })
    }

    /// The names of all that is missing, where that can be told.
    pub fn missing_names(&self) -> Option<Vec<String>> {
        self.untold.is_none().then(|| self.missing.iter().map(Need::name).collect())
    }

    /// The names of what the server does not have.
    pub fn absent_names(&self) -> Vec<String> {
        self.absent.iter().map(Need::name).collect()
    }

    /// How to grant these.
    pub fn grant(&self, commands: &[&str]) -> String {
        let rights: Vec<_> =
            commands.iter().map(|name| format!("+{}", name.to_ascii_lowercase().replace(' ', "|"))).collect();
        format!("ACL SETUSER {} {}", self.user, rights.join(" "))
    }

    /// What follows, for each use of what is missing.
    pub fn findings(&self, subject: Subject) -> Vec<Finding> {
        let mut findings = Vec::new();
        for why in [
            For::Everything,
            For::SomeData,
            For::Relative,
            For::HiddenFields,
            For::Flush,
            For::Verify,
            For::Pause,
        ] {
            let of = |needs: &[Need]| {
                needs.iter().filter(|need| need.why == why).map(Need::name).collect::<Vec<_>>()
            };
            let mut say = |message: String| {
                findings.push(match why {
                    For::Everything => Finding::refusal(subject, ErrorKind::Unreachable, message),
                    _ => Finding::warning(subject, message),
                });
            };
            let (missing, absent) = (of(&self.missing), of(&self.absent));
            if !missing.is_empty() {
                let grant = match missing.len() {
                    ..=NAMES => self.grant(&missing.iter().map(String::as_str).collect::<Vec<_>>()),
                    _ => format!("ACL SETUSER {} +@write +@read", self.user),
                };
                say(format!(
                    "user {:?} on the {subject} may not use {}, needed {}: {grant}",
                    self.user,
                    listed(&missing, NAMES),
                    why.text()
                ));
            }
            if !absent.is_empty() {
                say(format!(
                    "the {subject} does not know {}, needed {}: undo rename-command there (some managed services take \
                     commands away)",
                    listed(&absent, NAMES),
                    why.text()
                ));
            }
        }
        if self.keys_limited {
            let message = match subject {
                Subject::Target => "the first other key of the source stops the job (NOPERM)",
                _ => "--verify cannot look at the others",
            };
            findings.push(Finding::warning(
                subject,
                format!(
                    "user {:?} on the {subject} may touch only keys of certain names, and {message}: ACL SETUSER {0} \
                     allkeys",
                    self.user
                ),
            ));
        }
        if self.channels_limited && subject == Subject::Source {
            let message = format!(
                "user {:?} on the {subject} may not publish on the channel {PROBE_CHANNEL}, needed for --pause-source: ACL \
                 SETUSER {0} &{PROBE_CHANNEL}",
                self.user
            );
            findings.push(Finding::warning(subject, message));
        }
        if let Some(untold) = &self.untold {
            findings.push(Finding::note(subject, self.not_told(subject, untold)));
        }
        findings
    }

    fn not_told(&self, subject: Subject, why: &str) -> String {
        let needed = self.needed.iter().filter(|need| need.why == For::Everything).map(Need::name);
        format!(
            "not looked at on the {subject}: what user {:?} may do ({why}). Every migration needs {}",
            self.user,
            needed.collect::<Vec<_>>().join(", ")
        )
    }
}

/// What `ACL DRYRUN` means.
///
/// Source: `aclCommand` and `getAclErrorMessage` in `src/acl.c` of Redis 7.
fn verdict(reply: &Reply) -> Verdict {
    if reply.is_ok() {
        return Verdict::Allowed;
    }
    match (reply.text(), reply.error()) {
        (Some(text), _) if text.ends_with(" key") => Verdict::SomeKeys,
        (Some(text), _) if text.ends_with(" channel") => Verdict::SomeChannels,
        (Some(_), _) => Verdict::Forbidden,
        (None, Some(error)) if error.starts_with("ERR Command") && error.ends_with("not found") => {
            Verdict::Absent
        }
        _ => Verdict::Untold,
    }
}

/// A field of a reply that is a flat list of names and values.
fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    items(reply).chunks_exact(2).find(|pair| pair[0].text().as_deref() == Some(name)).map(|pair| &pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_form_of_the_answer_is_understood() {
        let bulk = |text: &'static str| verdict(&Reply::Bulk(Bytes::from_static(text.as_bytes())));
        let error = |text: &'static str| verdict(&Reply::Error(Bytes::from_static(text.as_bytes())));
        assert_eq!(verdict(&Reply::Simple(Bytes::from_static(b"OK"))), Verdict::Allowed);
        // Redis 7.0, then newer ones and Valkey.
        assert_eq!(bulk("This user has no permissions to run the 'psync' command"), Verdict::Forbidden);
        assert_eq!(
            bulk("User mover has no permissions to run the 'client|pause' command"),
            Verdict::Forbidden
        );
        assert_eq!(bulk("User mover has no permissions to access the 'k' key"), Verdict::SomeKeys);
        assert_eq!(bulk("User mover has no permissions to access the 'c' channel"), Verdict::SomeChannels);
        assert_eq!(bulk("User mover has no permissions to access database 5"), Verdict::Forbidden);
        assert_eq!(error("ERR Command 'PSYNC' not found"), Verdict::Absent);
        assert_eq!(
            error("NOPERM User mover has no permissions to run the 'acl|dryrun' command"),
            Verdict::Untold
        );
    }
}
