//! A stream's consumer groups.

use std::collections::HashMap;

use super::super::super::{Kind, StreamId};
use super::super::{Unwritable, length, string};
use super::{id, key};

/// Groups, each with its consumers and what is pending. Held in memory: 40 bytes or so a pending entry.
///
/// Order of calls: [`group`](Self::group), then its consumers and pending entries, an entry after its consumer.
#[derive(Debug, Default)]
pub struct StreamGroups {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    name: Vec<u8>,
    last_id: StreamId,
    entries_read: Option<i64>,
    consumers: Vec<Consumer>,
    /// Where in `consumers` each stands.
    by_name: HashMap<Vec<u8>, usize>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Consumer {
    name: Vec<u8>,
    seen_time_ms: i64,
    active_time_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: StreamId,
    delivery_time_ms: i64,
    delivery_count: u64,
    consumer: usize,
}

const NO_GROUP: Unwritable = Unwritable("a stream's consumer before any group");

impl StreamGroups {
    /// The next group: the last id delivered, and how many entries it has read (from 7.0), if the server knows.
    pub fn group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<i64>) {
        self.groups.push(Group {
            name: name.to_vec(),
            last_id,
            entries_read,
            consumers: Vec::new(),
            by_name: HashMap::new(),
            pending: Vec::new(),
        });
    }

    /// A consumer of the last group: when it was last seen, and when it last got something (from 7.2; -1 for never), both
    /// in milliseconds since the epoch.
    ///
    /// # Errors
    /// When there is no group, or it has one of that name.
    pub fn consumer(
        &mut self,
        name: &[u8],
        seen_time_ms: i64,
        active_time_ms: i64,
    ) -> Result<(), Unwritable> {
        let group = self.groups.last_mut().ok_or(NO_GROUP)?;
        if group.by_name.insert(name.to_vec(), group.consumers.len()).is_some() {
            return Err(Unwritable("a stream's group has two consumers of one name"));
        }
        group.consumers.push(Consumer { name: name.to_vec(), seen_time_ms, active_time_ms });
        Ok(())
    }

    /// An entry of the last group that was delivered to `consumer` and not acknowledged yet: when it was delivered last, in
    /// milliseconds since the epoch, and how often. In any order.
    ///
    /// # Errors
    /// When there is no such consumer.
    pub fn pending(
        &mut self,
        consumer: &[u8],
        id: StreamId,
        delivery_time_ms: i64,
        delivery_count: u64,
    ) -> Result<(), Unwritable> {
        let group = self.groups.last_mut().ok_or(NO_GROUP)?;
        // as a rule that of the entry before
        let before = group.pending.last().map(|pending| pending.consumer);
        let is_same = |at: &usize| group.consumers.get(*at).is_some_and(|before| before.name == consumer);
        let consumer = match before.filter(is_same) {
            Some(before) => before,
            None => *group
                .by_name
                .get(consumer)
                .ok_or(Unwritable("a pending entry whose consumer is not in its group"))?,
        };
        group.pending.push(Pending { id, delivery_time_ms, delivery_count, consumer });
        Ok(())
    }

    pub(super) fn write(&mut self, kind: Kind, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        length(out, self.groups.len() as u64);
        self.groups.iter_mut().try_for_each(|group| group.write(kind, out))
    }
}

impl Group {
    fn write(&mut self, kind: Kind, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        string(out, &self.name);
        id(out, self.last_id);
        if kind != Kind::Stream1 {
            // -1 where it is not known (`SCG_INVALID_ENTRIES_READ` in `src/stream.h`)
            length(out, self.entries_read.unwrap_or(-1).cast_unsigned());
        }
        self.pending.sort_by_key(|pending| pending.id);
        if !self.pending.is_sorted_by(|a, b| a.id < b.id) {
            return Err(Unwritable("a stream's group has a pending entry twice"));
        }
        length(out, self.pending.len() as u64);
        for pending in &self.pending {
            out.extend_from_slice(&key(pending.id));
            out.extend_from_slice(&pending.delivery_time_ms.to_le_bytes());
            length(out, pending.delivery_count);
        }
        // stays sorted by id within each
        self.pending.sort_by_key(|pending| pending.consumer);
        let mut rest = &self.pending[..];
        length(out, self.consumers.len() as u64);
        for (index, consumer) in self.consumers.iter().enumerate() {
            let own = rest.partition_point(|pending| pending.consumer == index);
            let (own, others) = rest.split_at(own);
            rest = others;
            consumer.write(own, kind, out);
        }
        Ok(())
    }
}

impl Consumer {
    fn write(&self, pending: &[Pending], kind: Kind, out: &mut Vec<u8>) {
        string(out, &self.name);
        out.extend_from_slice(&self.seen_time_ms.to_le_bytes());
        if !matches!(kind, Kind::Stream1 | Kind::Stream2) {
            out.extend_from_slice(&self.active_time_ms.to_le_bytes());
        }
        length(out, pending.len() as u64);
        pending.iter().for_each(|pending| out.extend_from_slice(&key(pending.id)));
    }
}
