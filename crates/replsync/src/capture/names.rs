//! The names of dirty keys, on disk where they are many.

use bytes::{Buf, Bytes, BytesMut};

use super::ids::Owner;
use super::ledger::Name;
use crate::spool::{Error, Item, Receiver, Record, Sender, queue};

/// So many names make a record.
const CHUNK: usize = 512;

/// A queue of names.
pub(super) struct Names {
    sender: Sender<Vec<Name>>,
    receiver: Receiver<Vec<Name>>,
    /// Names that have yet to become a record.
    fresh: Vec<Name>,
    /// Names in records.
    waiting: u64,
}

impl Names {
    pub fn new(config: crate::spool::Config) -> Self {
        let (sender, receiver) = queue(config);
        Self { sender, receiver, fresh: Vec::new(), waiting: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.waiting + self.fresh.len() as u64
    }

    pub async fn push(&mut self, names: Vec<Name>) -> Result<(), Error> {
        if self.fresh.is_empty() {
            self.fresh = names;
        } else {
            self.fresh.extend(names);
        }
        if self.fresh.len() >= CHUNK {
            let chunk = std::mem::take(&mut self.fresh);
            let count = chunk.len() as u64;
            if self.sender.room(true).await.is_err() || self.sender.send(chunk).is_err() {
                return Err(self.receiver.failure().await);
            }
            self.waiting += count;
        }
        Ok(())
    }

    /// The next of them: those that have waited longest.
    pub async fn take(&mut self) -> Result<Vec<Name>, Error> {
        if self.waiting == 0 {
            return Ok(std::mem::take(&mut self.fresh));
        }
        let chunk = self.receiver.recv().await?.unwrap_or_default();
        self.waiting -= (chunk.len() as u64).min(self.waiting);
        Ok(chunk)
    }
}

/// For each name: 0 and its space or 1 and its big value (4 bytes), its length (4 bytes), itself; big-endian.
impl Item for Vec<Name> {
    fn cost_bytes(&self) -> usize {
        self.iter().map(|name| name.name.len() + size_of::<Name>()).sum()
    }

    fn encode(&self, record: &mut Record<'_>) -> bool {
        for Name { owner, name } in self {
            let (kind, number) = match owner {
                Owner::Space(space) => (0u8, space),
                Owner::Big(big) => (1, big),
            };
            let Ok(len) = u32::try_from(name.len()) else { return false };
            record.put(&[kind]);
            record.put(&number.to_be_bytes());
            record.put(&len.to_be_bytes());
            record.put(name);
        }
        true
    }

    fn decode(body: BytesMut) -> Option<Self> {
        let mut body: Bytes = body.freeze();
        let mut names = Vec::new();
        while !body.is_empty() {
            let kind = body.try_get_u8().ok()?;
            let number = body.try_get_u32().ok()?;
            let len = body.try_get_u32().ok()? as usize;
            let owner = match kind {
                0 => Owner::Space(number),
                1 => Owner::Big(number),
                _ => return None,
            };
            if body.len() < len {
                return None;
            }
            names.push(Name { owner, name: body.split_to(len) });
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_come_back_in_order_from_memory_and_from_disk() {
        let config = crate::spool::Config { memory_bytes: 1000, ..Default::default() };
        let mut names = Names::new(config);
        let name = |n: u32| Name {
            owner: if n.is_multiple_of(3) { Owner::Big(n) } else { Owner::Space(n) },
            name: vec![7; n as usize % 50].into(),
        };
        for n in 0..10_000 {
            names.push(vec![name(n)]).await.unwrap();
        }
        assert_eq!(names.len(), 10_000);
        assert!(names.receiver.gauge().bytes() > 100_000);
        let mut taken = Vec::new();
        while names.len() > 0 {
            taken.extend(names.take().await.unwrap());
        }
        assert_eq!(taken, (0..10_000).map(name).collect::<Vec<_>>());
    }
}
