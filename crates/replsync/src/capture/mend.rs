//! Connections that break are made again, as the link is by itself.
//!
//! What was asked for on the connection that copies and was not answered is **given back**: keys and elements become dirty,
//! and their names go where those of dirty keys wait. That is what the stream does when it touches them, so nothing new
//! can go wrong: as long as something is dirty the capture is not exact, and what is dirty is read again. Pages are asked
//! for again from the same place, since a place is moved by an answer alone. What was answered before stays good: it
//! holds from its first INFO on, whatever became of the connection.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::attach::{AttachError, Attached, Refusal};
use super::capture::demoted;
use super::copy::{Item, KEY_SHOWN};
use super::ids::Owner;
use super::ledger::Ledger;
use super::mutant::lacks;
use super::run::{KEYS_MIN, Run};
use super::wire::Wire;
use super::{Error, Options};
use crate::endpoint::{self, Client, Endpoint, Info, Role};
use crate::psync::ReplId;
use crate::rdb::quoted;
use crate::resp::Reply;

/// The wait before the second try, and twice as long before each next one, up to the last; the first try is at once.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// So often a connection may break at a value that is asked for at once, by itself.
const BREAKS_MAX: u32 = 4;
/// An answer on the connection that copies takes no longer than this, or than answers may.
const COPY_WITHIN: Duration = Duration::from_secs(60);

/// The source, to be known again.
pub(super) struct Peer {
    endpoint: Endpoint,
    run_id: String,
    replid: ReplId,
    is_replica: bool,
    import_source: bool,
    timeout: Duration,
    /// For so long a connection may be broken.
    reconnect_for: Duration,
}

/// How long a connection has answered nothing, and how often it was made again meanwhile.
#[derive(Default)]
pub(super) struct Trouble {
    since: Option<Instant>,
    tries: u32,
}

impl Trouble {
    /// It has answered.
    pub fn is_over(&mut self) {
        *self = Self::default();
    }

    fn wait(&mut self) -> Duration {
        let tries = self.tries;
        self.tries += 1;
        match tries {
            0 => Duration::ZERO,
            tries => (BACKOFF * 2_u32.saturating_pow(tries - 1)).min(BACKOFF_MAX),
        }
    }
}

impl Peer {
    pub fn new(endpoint: &Endpoint, attached: &Attached, options: &Options, reconnect_for: Duration) -> Self {
        Self {
            endpoint: endpoint.clone(),
            run_id: attached.info.run_id.clone(),
            replid: attached.start.replid,
            is_replica: attached.is_replica,
            import_source: attached.import_source,
            timeout: options.timeout,
            reconnect_for,
        }
    }

    /// The error of a connection that did not answer in time.
    pub fn mute(&self, after: Duration) -> endpoint::Error {
        endpoint::Error::Timeout { server: self.endpoint.to_string(), what: "copying".to_owned(), after }
    }

    /// The error of one that answered with an error.
    pub fn refused(&self, command: &str, reply: String) -> endpoint::Error {
        endpoint::Error::Refused { server: self.endpoint.to_string(), command: command.to_owned(), reply }
    }

    /// A connection that was set up is asked for copies from now on.
    pub fn wire(&self, client: Client) -> Wire {
        Wire::start(&self.endpoint, client, COPY_WITHIN.max(self.timeout))
    }

    /// Sets a connection up that keys are read from.
    pub async fn prepare(&self, copying: &mut Client) -> Result<(), endpoint::Error> {
        if self.import_source && !lacks("import-source") {
            copying.ask(&["CLIENT", "IMPORT-SOURCE", "ON"]).await?;
        }
        // Since 7.2; before, DUMP counts as use.
        match copying.ask(&["CLIENT", "NO-TOUCH", "ON"]).await {
            Ok(_) | Err(endpoint::Error::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Another connection, after one that broke so.
    async fn reconnect(
        &self,
        trouble: &mut Trouble,
        error: endpoint::Error,
        for_copies: bool,
    ) -> Result<Client, Error> {
        let since = *trouble.since.get_or_insert_with(Instant::now);
        let mut last = error;
        loop {
            if !is_transient(&last) {
                return Err(last.into());
            }
            if since.elapsed() >= self.reconnect_for {
                return Err(Error::GaveUp { after: since.elapsed(), last });
            }
            let wait = trouble.wait().min(self.reconnect_for.saturating_sub(since.elapsed()));
            tracing::warn!(error = %last, retry_in_ms = wait.as_millis() as u64, "a connection to the source is down");
            sleep(wait).await;
            match self.connect(for_copies).await {
                Ok((client, info)) => {
                    self.check(&info, last)?;
                    return Ok(client);
                }
                Err(error) => last = error,
            }
        }
    }

    async fn connect(&self, for_copies: bool) -> Result<(Client, Info), endpoint::Error> {
        let mut client = Client::connect(&self.endpoint, self.timeout).await?;
        let info = client.info().await?;
        if for_copies {
            self.prepare(&mut client).await?;
        }
        Ok((client, info))
    }

    /// The address may lead elsewhere by now, and the server may be a master no more.
    fn check(&self, info: &Info, cause: endpoint::Error) -> Result<(), Error> {
        if info.role == Role::Replica && !self.is_replica {
            return Err(demoted(info, cause.into()));
        }
        if info.run_id != self.run_id {
            return Err(AttachError::Refused(Refusal::TwoServers).into());
        }
        Error::unless_same(self.replid, info.position.replid)
    }
}

/// Whether it may go well the next time: a server that cannot be reached, or that says so.
pub(super) fn is_transient(error: &endpoint::Error) -> bool {
    use endpoint::Error::{Broken, Connect, Mute, Refused, Timeout, Tls};
    match error {
        Connect { .. } | Tls { .. } | Timeout { .. } | Broken { .. } | Mute { .. } => true,
        // A script that runs for long refuses INFO, too.
        Refused { reply, .. } => reply.starts_with("BUSY") || reply.contains("max number of clients"),
        _ => false,
    }
}

/// Whether a script runs for so long that the source answers nothing else.
pub(super) fn is_busy(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with(b"BUSY"))
}

/// Gives back what was asked for and will not be answered, as far as the ledger knows of it.
pub(super) fn give_back(items: Vec<Item>, space: u32, ledger: &mut Ledger) {
    for item in items {
        match item {
            Item::Text(id, key) | Item::Size(id, key) | Item::Type(id, key, _) | Item::Whole(id, key) => {
                ledger.again(Owner::Space(space), id, &key);
            }
            Item::Elements(big, _, elements) => {
                elements.iter().for_each(|(id, name)| ledger.again(Owner::Big(big), *id, name));
            }
            // Their values have come, which without this are of no use.
            Item::FieldExpiries(big, fields) => {
                fields.iter().for_each(|(id, name, _)| ledger.again(Owner::Big(big), *id, name));
            }
            Item::Page(big) | Item::Stream(big, _) => {
                if let Some(big) = ledger.big(big) {
                    big.page_is_settled();
                }
            }
            Item::Expiry(big) => {
                if let Some(big) = ledger.big(big) {
                    big.expiry_is_asked = false;
                }
            }
            // They are dirty, and the cursor is where it was.
            Item::Functions | Item::Scan(_) => {}
        }
    }
}

impl Run {
    /// The connection that copies broke. It is made again by [`mend`](Self::mend), and not while writers are paused.
    pub(super) fn wire_is_broken(&mut self, error: endpoint::Error) {
        for batch in std::mem::take(&mut self.batches) {
            let (db, is_alone) = (batch.db, batch.items.len() == 1);
            for item in &batch.items {
                match item {
                    Item::Whole(id, key) if is_alone => {
                        let breaks = self.breaks.entry(*id).or_insert(0);
                        *breaks += 1;
                        if *breaks >= BREAKS_MAX {
                            let key = quoted(key, KEY_SHOWN);
                            self.blamed =
                                Some(Error::Breaks { db, key, times: *breaks, last: error.to_string() });
                        }
                    }
                    Item::Functions => self.functions_in_flight = false,
                    Item::Scan(_) => _ = self.scanning.remove(&batch.space),
                    _ => {}
                }
            }
            give_back(batch.items, batch.space, &mut self.ledger);
        }
        // Maybe it was more than the source lets a client wait for (`client-output-buffer-limit`).
        self.batch_keys = (self.batch_keys / 2).max(KEYS_MIN);
        self.broken = Some(error);
        self.tell_link();
    }

    /// Makes the connection that copies again, if it broke.
    pub(super) async fn mend(&mut self) -> Result<(), Error> {
        if let Some(error) = self.blamed.take() {
            return Err(error);
        }
        let Some(error) = self.broken.take() else { return Ok(()) };
        let client = tokio::select! {
            client = self.peer.reconnect(&mut self.wire_trouble, error, true) => client?,
            error = self.outlet.failure() => return Err(error),
        };
        self.wire = self.peer.wire(client);
        self.selected = Some(0);
        // The stream waits for us meanwhile, not we for it.
        self.late_since = None;
        self.stats.reconnects += 1;
        self.tell_link();
        Ok(())
    }

    async fn mend_control(&mut self, error: endpoint::Error) -> Result<(), Error> {
        self.control = tokio::select! {
            client = self.peer.reconnect(&mut self.control_trouble, error, false) => client?,
            error = self.outlet.failure() => return Err(error),
        };
        self.late_since = None;
        self.stats.reconnects += 1;
        Ok(())
    }

    /// Asks what can be asked twice, beside the copies.
    pub(super) async fn ask_control<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, Error> {
        loop {
            match self.control.ask(args).await {
                Ok(reply) => {
                    self.control_trouble.is_over();
                    return Ok(reply);
                }
                Err(error) => self.mend_control(error).await?,
            }
        }
    }

    /// INFO, of its default sections.
    pub(super) async fn info(&mut self) -> Result<Info, Error> {
        loop {
            match self.control.info().await {
                Ok(info) => {
                    self.control_trouble.is_over();
                    return Ok(info);
                }
                Err(error) => self.mend_control(error).await?,
            }
        }
    }

    pub(super) fn tell_link(&self) {
        let is_down = self.link_is_down || self.broken.is_some();
        self.progress.send_modify(|progress| progress.link_down = is_down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_is_at_once_and_later_ones_wait_longer() {
        let mut trouble = Trouble::default();
        let waits: Vec<u128> = (0..9).map(|_| trouble.wait().as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        trouble.is_over();
        assert_eq!(trouble.wait(), Duration::ZERO);
        trouble.tries = u32::MAX - 1;
        assert_eq!(trouble.wait(), BACKOFF_MAX);
    }
}
