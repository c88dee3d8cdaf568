//! What one server says of itself.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Error;
use super::finding::{Finding, Subject};
use super::leftovers::Leftovers;
use super::permissions::Permissions;
use super::{Memory, Persistence, Seen, sentinels, settings};
use crate::capture::Modules;
use crate::endpoint::{Client, Clock, Info, Pipelined};
use crate::resp::Reply;

/// What one server says of itself. What is not there, it did not say.
#[derive(Debug)]
pub(super) struct Facts {
    pub info: Info,
    /// Settings by the names in [`settings::ASKED`]; empty where it tells none.
    pub settings: BTreeMap<&'static str, String>,
    /// Names of its ACL users; without any before 6.0.
    pub users: Option<BTreeSet<String>>,
    /// Modules, less those that come with the server.
    pub modules: Option<BTreeSet<String>>,
    /// How many function libraries it has.
    pub functions: Option<u64>,
    /// How many Sentinels are connected to it.
    pub sentinels: Option<usize>,
    pub clock: Option<Clock>,
    pub permissions: Permissions,
    pub leftovers: Option<Leftovers>,
    /// What it would not say.
    pub unseen: Vec<Unseen>,
}

/// A question that a server did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unseen {
    /// The commands that ask.
    pub commands: Vec<&'static str>,
    /// What it would have told.
    pub what: &'static str,
    /// What the server said instead.
    pub reply: String,
}

impl Facts {
    /// Asks the server at the other end of `client`, all at once. Permissions and leftovers are asked for apart.
    pub async fn ask(client: &mut Client, info: Info) -> Result<Self, Error> {
        let mut asked = Pipelined::default();
        for name in settings::ASKED {
            asked.add(&["CONFIG", "GET", name]);
        }
        let mut questions: Vec<(&'static str, &'static str)> =
            vec![("CLIENT LIST", "whether Sentinels watch it"), ("MODULE LIST", "its modules")];
        if info.server.has((6, 0), None) {
            questions.push(("ACL USERS", "its users"));
        }
        if info.server.has((7, 0), None) {
            questions.push(("FUNCTION LIST", "its functions"));
        }
        for (command, _) in &questions {
            asked.add(&command.split(' ').collect::<Vec<_>>());
        }
        let mut replies = client.pipeline("what it is", &asked).await?.into_iter();
        let mut unseen = Vec::new();
        let settings = read_settings(replies.by_ref().take(settings::ASKED.len()), &mut unseen);
        let mut facts = Self {
            settings,
            users: (!info.server.has((6, 0), None)).then(BTreeSet::new),
            modules: None,
            functions: (!info.server.has((7, 0), None)).then_some(0),
            sentinels: None,
            clock: None,
            permissions: Permissions::default(),
            leftovers: None,
            unseen,
            info,
        };
        for ((command, what), reply) in questions.into_iter().zip(replies) {
            match reply.error() {
                Some(reply) => facts.unseen.push(Unseen { commands: vec![command], what, reply }),
                None => facts.take(command, &reply),
            }
        }
        match Clock::ask(client).await? {
            Ok(clock) => facts.clock = Some(clock),
            Err(reply) => facts.unseen.push(Unseen { commands: vec!["TIME"], what: "its clock", reply }),
        }
        Ok(facts)
    }

    fn take(&mut self, command: &str, reply: &Reply) {
        match command {
            "CLIENT LIST" => self.sentinels = reply.text().map(|list| sentinels::count(&list)),
            "MODULE LIST" => self.modules = Modules::of_list(reply).names().cloned(),
            "ACL USERS" => self.users = Some(items(reply).iter().filter_map(Reply::text).collect()),
            _ => self.functions = Some(items(reply).len() as u64),
        }
    }

    pub fn keep_permissions(&mut self, permissions: Permissions) {
        self.unseen.extend(permissions.unseen());
        self.permissions = permissions;
    }

    pub fn keep_leftovers(&mut self, looked: Result<Leftovers, String>) {
        match looked {
            Ok(leftovers) => self.leftovers = Some(leftovers),
            Err(reply) => self.unseen.push(Unseen {
                commands: Leftovers::commands(self.info.server),
                what: "whether a killed migration left expiries behind",
                reply,
            }),
        }
    }

    /// A setting, where the server has it and tells.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.setting(name)?.parse().ok()
    }

    /// What it would not say, in one note.
    pub fn unseen_findings(&self, subject: Subject) -> Option<Finding> {
        let first = self.unseen.first()?;
        let ask = |unseen: &Unseen| format!("{} ({})", unseen.what, unseen.commands.join(", "));
        let what: Vec<_> = self.unseen.iter().map(ask).collect();
        let mut message =
            format!("not looked at on the {subject}: {}. It said: {}", what.join(", "), first.reply);
        if first.reply.starts_with("NOPERM") {
            let rights: Vec<_> = self.unseen.iter().flat_map(|unseen| unseen.commands.clone()).collect();
            message += &format!("; {} lets doctor look", self.permissions.grant(&rights));
        }
        Some(Finding::note(subject, message))
    }

    /// For the one who asked.
    pub fn seen(self) -> Seen {
        let noperm = |unseen: &&Unseen| unseen.reply.starts_with("NOPERM");
        let unseen = self.unseen.iter().filter(noperm).flat_map(|unseen| unseen.commands.clone());
        let missing = self.permissions.missing_names().map(|mut names| {
            names.extend(unseen.map(str::to_owned).filter(|name| !names.contains(name)).collect::<Vec<_>>());
            names
        });
        Seen {
            memory: Memory::of(&self.info),
            persistence: Persistence::of(&self),
            clock: self.clock,
            missing_permissions: missing,
            missing_commands: self.permissions.absent_names(),
            sentinels: self.sentinels,
            fork_free: None,
            info: self.info,
        }
    }
}

fn read_settings(
    replies: impl Iterator<Item = Reply>,
    unseen: &mut Vec<Unseen>,
) -> BTreeMap<&'static str, String> {
    let mut read = BTreeMap::new();
    for (name, reply) in settings::ASKED.into_iter().zip(replies) {
        if let Some(value) = items(&reply).get(1).and_then(Reply::text) {
            read.insert(name, value);
        } else if let (Some(reply), true) = (reply.error(), unseen.is_empty()) {
            unseen.push(Unseen { commands: vec!["CONFIG GET"], what: "its settings", reply });
        }
    }
    read
}

/// The elements of an array; none of anything else.
pub(super) fn items(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(items) => items,
        _ => &[],
    }
}
