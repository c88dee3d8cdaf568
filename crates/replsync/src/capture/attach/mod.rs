//! Attaching to a live server's replication stream without a full sync, and so without a fork.
//!
//! ```text
//! ask for its conditions ► refuse what could fork, evict, or be counted on
//!   ► no backlog? prime it: a replica that asks for a full sync and is gone before the master's diskless delay ends
//!   ► INFO's position ► PSYNC from there: CONTINUE
//!   ► publish from two databases: the stream then says which one it has selected
//! ```
//!
//! A master answers a PSYNC that it will not continue only when it forks: so [the link](crate::link::FullResync::Never)
//! asks INFO before, and closes the connection when no answer comes.

mod conditions;
mod error;
mod modules;
mod prime;
mod stream_db;
mod verdict;

use std::time::Duration;

use crate::clock::now_ms;
use crate::endpoint::{self, Client, Endpoint, Info, Role};
use crate::link::{self, Event, FullResync, Link, NotContinued};
use crate::psync::{Announce, Position};
use crate::server::Product;
use crate::spool;

pub use conditions::{Conditions, Settings};
pub use error::AttachError;
pub use modules::Modules;
pub(crate) use verdict::counts_replicas;
pub use verdict::{Allowed, Caveat, Refusal, SettingChange, Verdict, Warning, Way, can_attach};

/// A PSYNC that is not answered for so long is given up. Masters that wait before they fork wait for 5 s by default, and
/// no less than 1 s where they wait at all.
const PSYNC_WITHIN: Duration = Duration::from_millis(900);
/// So often is a place in the stream taken that is gone when it is asked for.
const TRIES: u32 = 3;

/// How to attach.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// What was agreed to.
    pub allowed: Allowed,
    /// How long connecting and single answers may take.
    pub timeout: Duration,
    /// How long the link, or a connection beside it, may be down.
    pub reconnect_for: Duration,
    /// Where the stream waits for a consumer that is behind.
    pub spool: spool::Config,
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self {
            allowed: Allowed::default(),
            timeout: Duration::from_secs(5),
            reconnect_for: Duration::from_secs(60),
            spool: spool::Config::default(),
        }
    }
}

/// A link that follows a server's stream, and what was learnt on the way.
#[derive(Debug)]
pub struct Attached {
    /// The server's INFO, asked once the link was up.
    pub info: Info,
    /// The link. Its next event is what lies behind `start`.
    pub link: Link,
    /// Where the link is: never inside a transaction.
    pub start: Position,
    /// The database that the stream has selected at `start`; nothing where that is not known until the next SELECT.
    pub stream_db: Option<u32>,
    /// Forks of the server while it was primed; before 6.2, where none are counted, 1 if there was any.
    pub forks_caused: u64,
    /// Whether it had no backlog and was made to have one.
    pub primed: bool,
    /// Whether it is a replica: then no mark of ours reaches the stream, and a pause holds up nobody.
    pub is_replica: bool,
    /// It is in Valkey's `import-mode`, where keys that are past their time hide: every connection that reads keys has
    /// to say `CLIENT IMPORT-SOURCE ON` first.
    pub import_source: bool,
    /// What makes a copy less than exact, as was agreed to.
    pub caveats: Vec<Caveat>,
    /// What is worth saying, and was said.
    pub warnings: Vec<Warning>,
    /// Two connections that are up, to be used again: each costs the server memory. The first may have another database
    /// selected than it began with.
    pub(in crate::capture) clients: [Client; 2],
}

/// Attaches to the stream of `source`.
///
/// # Errors
/// [`AttachError::Refused`] when that could not be done without a fork or other harm: nothing was changed then.
pub async fn attach(source: &Endpoint, options: &AttachOptions) -> Result<Attached, AttachError> {
    let mut control = Client::connect(source, options.timeout).await?;
    let conditions = Conditions::ask(&mut control, source, options.timeout).await?;
    let Verdict { way, refusals, caveats, warnings } = can_attach(&conditions, options.allowed);
    if let Some(refusal) = refusals.into_iter().next() {
        return Err(AttachError::Refused(refusal));
    }
    // Before anything is done.
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let first = conditions.info.clone();
    let second = another(source, &first, options.timeout).await?;
    let import_source = conditions.is_importing();
    if import_source {
        see_what_hides(&mut control).await?;
    }
    let announce = announce(&first);
    let (second, primed, forks_caused) = match way {
        Way::Continue => (second, false, 0),
        Way::Prime { change, delay } => {
            // It takes two connections itself.
            drop(second);
            let forks = prime::prime(source, change, delay, announce.clone(), options.timeout).await?;
            (another(source, &first, options.timeout).await?, true, forks)
        }
    };
    let (mut link, start) = follow(source, &mut control, &first, announce, options).await?;
    let learnt = stream_db::learn(&mut link, &mut control, &conditions, start, options.timeout).await?;
    let info = control.info().await?;
    same_server(&first, &info)?;
    Ok(Attached {
        is_replica: info.role == Role::Replica,
        info,
        link,
        start: learnt.position,
        stream_db: learnt.db,
        forks_caused,
        primed,
        import_source,
        caveats,
        warnings,
        clients: [control, second],
    })
}

/// How we show ourselves: unseen by Sentinel, and told from others of us.
fn announce(info: &Info) -> Announce {
    let version = match info.server.product {
        Product::Valkey => info.field("valkey_version").map(str::to_owned),
        Product::Redis => None,
    };
    Announce::unseen(&format!("{}-{:x}", std::process::id(), now_ms()), version)
}

/// Another connection to the same server.
async fn another(source: &Endpoint, first: &Info, limit: Duration) -> Result<Client, AttachError> {
    let mut client = Client::connect(source, limit).await?;
    same_server(first, &client.info().await?)?;
    Ok(client)
}

/// A proxy may send two connections to two servers.
fn same_server(one: &Info, other: &Info) -> Result<(), AttachError> {
    match one.run_id == other.run_id {
        true => Ok(()),
        false => Err(AttachError::Refused(Refusal::TwoServers)),
    }
}

/// Under `import-mode` a key that is past its time is neither deleted nor shown, but to an import source.
async fn see_what_hides(client: &mut Client) -> Result<(), AttachError> {
    match client.ask(&["CLIENT", "IMPORT-SOURCE", "ON"]).await {
        Ok(_) => Ok(()),
        Err(endpoint::Error::Refused { reply, .. }) => {
            Err(AttachError::Refused(Refusal::ImportMode { reply }))
        }
        Err(error) => Err(error.into()),
    }
}

/// A link from where the server is now.
async fn follow(
    source: &Endpoint,
    control: &mut Client,
    first: &Info,
    announce: Announce,
    options: &AttachOptions,
) -> Result<(Link, Position), AttachError> {
    let config = link::Config {
        connect_timeout: options.timeout,
        reconnect_for: options.reconnect_for,
        spool: options.spool.clone(),
        full_resync: FullResync::Never { answer_within: PSYNC_WITHIN },
        ..link::Config::new(announce)
    };
    let mut tries = 0;
    loop {
        // Priming has begun a new history.
        let info = control.info().await?;
        same_server(first, &info)?;
        let mut link = Link::start(source.clone(), config.clone(), Some(info.position));
        tries += 1;
        match resumed(&mut link).await {
            Ok(position) => return Ok((link, position)),
            // A small backlog, or one that was just given up: it may go well from where the server is by now.
            Err(link::Error::NotContinued { reason, .. }) if tries < TRIES && may_pass(reason) => {}
            Err(source) => return Err(AttachError::Link { source }),
        }
    }
}

async fn resumed(link: &mut Link) -> Result<Position, link::Error> {
    loop {
        match link.next().await? {
            Event::Resumed(position) => return Ok(position),
            Event::Down { error, .. } => tracing::warn!(%error, "not attached yet"),
            _ => {}
        }
    }
}

fn may_pass(reason: NotContinued) -> bool {
    matches!(reason, NotContinued::MovedOn { .. } | NotContinued::AnotherHistory(_))
}
