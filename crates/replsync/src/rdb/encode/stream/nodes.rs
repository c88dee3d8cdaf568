//! A stream's entries, in listpacks of a hundred or so.

use super::super::super::StreamId;
use super::super::listpack::{self, FRAME_BYTES, Items};
use super::super::{Unwritable, length};
use super::key;

/// When a node is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// The most entries (`stream-node-max-entries`); 0 for any number.
    pub max_entries: u64,
    /// About the most bytes (`stream-node-max-bytes`); 0 for any number. A longer entry has a node of its own.
    pub max_bytes: usize,
}

impl Default for NodeLimits {
    /// What servers do that were not told otherwise.
    fn default() -> Self {
        Self { max_entries: 100, max_bytes: 4096 }
    }
}

/// What a server takes for one entry or one node, whatever the limits (`STREAM_LISTPACK_MAX_SIZE` in `src/t_stream.c`).
const NODE_MAX_BYTES: usize = 1 << 30;
const SAME_FIELDS: i64 = 2;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodesWritten {
    /// Nodes: the number that stands before them.
    pub nodes: u64,
    /// Entries in them.
    pub entries: u64,
    /// The first entry.
    pub first_id: Option<StreamId>,
    /// The last entry.
    pub last_id: Option<StreamId>,
}

/// Makes nodes of entries, as a server does from 6.2 on that is sent them one after the other. (Older ones look at what
/// is in a node and not at what comes, and take any node.)
///
/// Source: `streamAppendItem` in `src/t_stream.c`.
#[derive(Debug, Default)]
pub struct StreamNodes {
    limits: NodeLimits,
    written: NodesWritten,
    node: Node,
}

/// The node that entries are added to; without entries it has not begun.
#[derive(Debug, Default)]
struct Node {
    id: StreamId,
    entries: u64,
    /// The names of the first entry's fields, one behind the other, and where each ends.
    names: Vec<u8>,
    ends: Vec<usize>,
    /// All that follows the two counters in front.
    items: Items,
}

impl StreamNodes {
    /// Makes nodes within these limits.
    pub fn new(limits: NodeLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Adds the next entry, its fields and values in order. What is in the node before it goes to `out` if it has no
    /// room left.
    ///
    /// # Errors
    /// When the id is not beyond the one before, or the entry is longer than 1 GiB.
    pub fn push<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        out: &mut Vec<u8>,
        id: StreamId,
        fields: &[(F, V)],
    ) -> Result<(), Unwritable> {
        if self.written.last_id.is_some_and(|last| last >= id) {
            return Err(Unwritable("a stream's entries do not ascend"));
        }
        let bytes = fields.iter().fold(0usize, |bytes, (field, value)| {
            bytes.saturating_add(field.as_ref().len()).saturating_add(value.as_ref().len())
        });
        // with room for what surrounds each item
        if bytes.saturating_add(fields.len().saturating_mul(20)) > NODE_MAX_BYTES {
            return Err(Unwritable("a stream entry of more than 1 GiB"));
        }
        if self.node.entries > 0 && self.is_full_for(bytes) {
            self.end_node(out);
        }
        if self.node.entries == 0 {
            self.node.begin(id, fields);
        }
        self.node.push(id, fields);
        self.written.entries += 1;
        self.written.first_id.get_or_insert(id);
        self.written.last_id = Some(id);
        Ok(())
    }

    /// Ends the last node.
    pub fn finish(mut self, out: &mut Vec<u8>) -> NodesWritten {
        self.end_node(out);
        self.written
    }

    fn is_full_for(&self, bytes: usize) -> bool {
        let max_bytes = match self.limits.max_bytes {
            0 => NODE_MAX_BYTES,
            some => some.min(NODE_MAX_BYTES),
        };
        let max_entries = if self.limits.max_entries == 0 { u64::MAX } else { self.limits.max_entries };
        self.node.len_bytes().saturating_add(bytes) >= max_bytes || self.node.entries >= max_entries
    }

    fn end_node(&mut self, out: &mut Vec<u8>) {
        if self.node.entries > 0 {
            self.node.end(out);
            self.written.nodes += 1;
        }
    }
}

impl Node {
    /// The master entry: the fields that most entries have.
    fn begin<F: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, id: StreamId, fields: &[(F, V)]) {
        self.id = id;
        self.names.clear();
        self.ends.clear();
        self.items.clear();
        self.items.int(fields.len() as i64);
        for (field, _) in fields {
            self.items.text(field.as_ref());
            self.names.extend_from_slice(field.as_ref());
            self.ends.push(self.names.len());
        }
        self.items.int(0);
    }

    fn push<F: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, id: StreamId, fields: &[(F, V)]) {
        let same = self.has_names(fields);
        let items = &mut self.items;
        items.int(if same { SAME_FIELDS } else { 0 });
        items.int(id.ms.wrapping_sub(self.id.ms).cast_signed());
        items.int(id.seq.wrapping_sub(self.id.seq).cast_signed());
        let before = items.count;
        if !same {
            items.int(fields.len() as i64);
        }
        for (field, value) in fields {
            if !same {
                items.text(field.as_ref());
            }
            items.text(value.as_ref());
        }
        // the entry's own length, for who goes backwards: flags and id as well
        items.int((items.count - before + 3) as i64);
        self.entries += 1;
    }

    fn has_names<F: AsRef<[u8]>, V: AsRef<[u8]>>(&self, fields: &[(F, V)]) -> bool {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let mut names = starts.zip(&self.ends).map(|(start, end)| &self.names[start..*end]);
        fields.len() == self.ends.len()
            && fields.iter().all(|(field, _)| names.next() == Some(field.as_ref()))
    }

    /// The counters in front: live entries, deleted ones.
    fn counters(&self) -> Items {
        let mut counters = Items::default();
        counters.int(self.entries.cast_signed());
        counters.int(0);
        counters
    }

    fn len_bytes(&self) -> usize {
        FRAME_BYTES + self.counters().bytes.len() + self.items.bytes.len()
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let counters = self.counters();
        let key = key(self.id);
        length(out, key.len() as u64);
        out.extend_from_slice(&key);
        length(out, self.len_bytes() as u64);
        listpack::write(out, &counters, &self.items);
        self.entries = 0;
    }
}
