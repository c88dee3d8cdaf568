//! What a server says that decides whether we can attach to it. Asking changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::modules::{self, Modules};
use crate::capture::footprint::new_commands;
use crate::endpoint::{self, Address, Client, Clock, Endpoint, Info, Pipelined, Role};
use crate::resp::Reply;

/// The settings that are asked for.
const ASKED: [&str; 6] = [
    "repl-diskless-sync",
    "repl-diskless-sync-delay",
    "repl-diskless-sync-max-replicas",
    "databases",
    "cluster-databases",
    "import-mode",
];

/// Settings by name, or what a server answered that tells none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// Those that it has.
    Told(BTreeMap<&'static str, String>),
    /// Its error.
    Untold(String),
}

impl Settings {
    /// A setting, where it is known.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self {
            Settings::Told(settings) => settings.get(name).map(String::as_str),
            Settings::Untold(_) => None,
        }
    }

    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// What a server says that decides whether we can attach to it.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Its INFO.
    pub info: Info,
    /// The settings that matter here.
    pub settings: Settings,
    /// Why settings may not be changed, where it says so without trying (7.0 and newer).
    pub set_refused: Option<String>,
    /// Its modules.
    pub modules: Modules,
    /// How many of a capture's commands are new to it and will cost it memory, where that may evict keys.
    pub new_commands: u64,
    /// Of a replica: its clock against its master's, or why that is not known.
    pub clock: Option<Result<Clock, String>>,
}

impl Conditions {
    /// Asks the server at the other end of `client`, which is `server`; of a replica its master, too.
    pub async fn ask(
        client: &mut Client,
        server: &Endpoint,
        limit: Duration,
    ) -> Result<Self, endpoint::Error> {
        let info = client.info().await?;
        let mut asked = Pipelined::default();
        for name in ASKED {
            asked.add(&["CONFIG", "GET", name]);
        }
        let settings = read(client.pipeline("CONFIG GET", &asked).await?);
        let set_refused = set_refused(client, &info, server).await?;
        let modules = modules::ask(client).await?;
        let may_evict = info.evicts() && info.headroom_bytes().is_some() && info.server.has((7, 0), None);
        let new_commands = match may_evict {
            true => new_commands(&client.ask_text(&["INFO", "latencystats"]).await?),
            false => 0,
        };
        let clock = match info.role {
            Role::Replica => Some(against_master(client, &info, server, limit).await),
            Role::Master => None,
        };
        Ok(Self { info, settings, set_refused, modules, new_commands, clock })
    }

    /// Whether it is in Valkey's `import-mode`.
    pub fn is_importing(&self) -> bool {
        self.settings.get("import-mode") == Some("yes")
    }
}

/// What `ACL DRYRUN` says of CONFIG SET, where that is no. Who may not even ask has to try.
async fn set_refused(
    client: &mut Client,
    info: &Info,
    server: &Endpoint,
) -> Result<Option<String>, endpoint::Error> {
    if !info.server.has((7, 0), None) {
        return Ok(None);
    }
    let user = server.login().and_then(|login| login.user.as_deref()).unwrap_or("default");
    match client.ask(&["ACL", "DRYRUN", user, "CONFIG", "SET", "repl-diskless-sync", "yes"]).await {
        Ok(reply) if reply.is_ok() => Ok(None),
        Ok(reply) => Ok(reply.text()),
        Err(endpoint::Error::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(replies: Vec<Reply>) -> Settings {
    let mut told = BTreeMap::new();
    for (name, reply) in ASKED.into_iter().zip(replies) {
        if let Some(error) = reply.error() {
            return Settings::Untold(error);
        }
        if let Reply::Array(pair) = &reply
            && let Some(value) = pair.get(1).and_then(Reply::text)
        {
            told.insert(name, value);
        }
    }
    Settings::Told(told)
}

/// A replica's clock against its master's. The master is asked with the replica's own user and password.
async fn against_master(
    replica: &mut Client,
    info: &Info,
    server: &Endpoint,
    limit: Duration,
) -> Result<Clock, String> {
    let host = info.field("master_host").unwrap_or_default().to_owned();
    let port = info.number("master_port").and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
    let master = Endpoint { address: Address::Tcp(host, port), ..server.clone() };
    let text = |error: endpoint::Error| error.to_string();
    let mut master = Client::connect(&master, limit).await.map_err(text)?;
    let here = Clock::ask(replica).await.map_err(text)??;
    let there = Clock::ask(&mut master).await.map_err(text)??;
    Ok(here.against(there))
}
