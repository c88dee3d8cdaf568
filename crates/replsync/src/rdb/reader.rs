//! The reader: an RDB as a sequence of items, each value left to the caller to skip, copy, check or decode.

mod structure;

use super::element::Element;
use super::input::Input;
use super::item::{Checksum, Entry, Item, ModuleAux};
use super::kind::{Kind, Magic, Op};
use super::measure::{self, Measure};
use super::opcode::{self, pre_release};
use super::primitive::{StringHead, array, byte, length, millis, string_head};
use super::walk::{Halt, walk};
use super::{Error, Limits, ModuleId, decode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// Between items.
    Items,
    /// Before the value of an entry.
    Value(Kind),
    Done,
    Failed,
}

/// What was said about the key to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pending {
    expiry_ms: Option<i64>,
    idle_seconds: Option<u64>,
    freq: Option<u8>,
    metadata_classes: u8,
}

/// A place between two items of an RDB, at which another reader can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the RDB: where an opcode or a type byte stands.
    pub offset: u64,
    /// The family of the RDB, which its first bytes say.
    pub magic: Magic,
    /// Its version.
    pub version: u16,
    /// The database selected there.
    pub db: u32,
}

/// Reads an RDB item by item.
///
/// ```text
/// next_item ─► Header, Aux …, Entry ─► (key, raw_value | check_value | decode_value | nothing) ─► next_item … End ─► None
/// ```
///
/// It holds one key, and of a value only what it is asked for. After an error it is of no use:
/// every further call answers [`Error::Stopped`].
#[derive(Debug)]
pub struct Reader<I> {
    input: I,
    limits: Limits,
    state: State,
    magic: Magic,
    version: u16,
    db: u32,
    pending: Pending,
    key: Vec<u8>,
    /// Where the current entry begins.
    entry_offset: u64,
    metadata: Vec<u8>,
    scratch: decode::Scratch,
    /// Whether it started at a [`Place`], or its sum was taken: then it cannot know the checksum.
    resumed: bool,
    /// The CRC-64 of what was read, once the end is reached.
    sum: u64,
}

impl<I: Input> Reader<I> {
    /// Reads `input`, which stands before the magic, within the default limits.
    pub fn new(input: I) -> Self {
        Self::with_limits(input, Limits::default())
    }

    /// Reads `input`, which stands before the magic.
    pub fn with_limits(input: I, limits: Limits) -> Self {
        Self {
            input,
            limits,
            state: State::Start,
            magic: Magic::Redis,
            version: 0,
            db: 0,
            pending: Pending::default(),
            key: Vec::new(),
            entry_offset: 0,
            metadata: Vec::new(),
            scratch: decode::Scratch::default(),
            resumed: false,
            sum: 0,
        }
    }

    /// Goes on at `place`, at whose offset `input` stands. What is before it is not summed, so an [`Item::End`] that
    /// this reader comes to has no checksum that could be compared; [`take_sum`](Self::take_sum) has what was read since.
    pub fn resume(input: I, limits: Limits, place: Place) -> Self {
        let mut reader = Self::with_limits(input, limits);
        reader.input.start_checksum();
        (reader.magic, reader.version, reader.db) = (place.magic, place.version, place.db);
        (reader.state, reader.resumed) = (State::Items, true);
        reader
    }

    /// Where the reader is, if it is between two items with nothing said yet of a key to come: after an item was
    /// read and, for an entry, its value too.
    pub fn place(&self) -> Option<Place> {
        let &Self { magic, version, db, .. } = self;
        let between = self.state == State::Items && self.pending == Pending::default();
        between.then(|| Place { offset: self.input.offset(), magic, version, db })
    }

    /// Where the current entry begins, whether its value was read or not; nothing before the first one. A reader that
    /// is [resumed](Reader::resume) there gives the entry again, but without what stands before it: its expiry, for one.
    pub fn entry_place(&self) -> Option<Place> {
        let &Self { magic, version, db, entry_offset, .. } = self;
        (entry_offset > 0).then_some(Place { offset: entry_offset, magic, version, db })
    }

    /// The CRC-64 of what was read since the last call, or since the start or the place where it was resumed; up to the
    /// last item or value, and after [`Item::End`] up to the checksum of the file. To be called where there is a
    /// [`place`](Self::place), and after the end. From then on the reader does not compare the checksum itself.
    pub fn take_sum(&mut self) -> u64 {
        if self.state == State::Done {
            return self.sum;
        }
        self.input.release();
        let sum = self.input.checksum();
        self.input.start_checksum();
        self.resumed = true;
        sum
    }

    /// The next item; nothing after [`Item::End`]. The value of the current entry is skipped if it was not read.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes up to the end of this item; see [`Error`].
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        let result = self.advance();
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// The name of the current entry; empty before the first one.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What modules attached to the key of the current entry, in their own words: the bytes after the opcode.
    pub fn key_metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The version of the RDB; 0 before the header was read.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Bytes read so far. After the end, bytes of the RDB; what follows it is the caller's.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// What is under the reader.
    pub fn into_input(self) -> I {
        self.input
    }

    /// The bytes of the current value as they stand after the key, or nothing when they are more than
    /// `max_bytes`: then the value is still unread, and at most about `max_bytes` were held to find that out.
    ///
    /// # Errors
    /// [`Error::NoValue`] when the value was read already, else as [`Reader::next_item`].
    pub fn raw_value(&mut self, max_bytes: usize) -> Result<Option<&[u8]>, Error> {
        Ok(self.key_and_raw_value(max_bytes)?.1)
    }

    /// Passes over the current value, which the next [`Reader::next_item`] would do otherwise.
    ///
    /// # Errors
    /// As [`Reader::raw_value`].
    pub fn skip_value(&mut self) -> Result<(), Error> {
        let kind = self.unread()?;
        self.state = State::Failed;
        self.skip(kind.grammar())?;
        self.state = State::Items;
        Ok(())
    }

    /// The key and [`Reader::raw_value`], both borrowed.
    ///
    /// # Errors
    /// As [`Reader::raw_value`].
    pub fn key_and_raw_value(&mut self, max_bytes: usize) -> Result<(&[u8], Option<&[u8]>), Error> {
        let kind = self.unread()?;
        self.input.mark();
        let until = self.input.offset().saturating_add(max_bytes as u64);
        match walk(&mut self.input, kind.grammar(), &self.limits, until) {
            Ok(()) => {
                self.state = State::Items;
                Ok((&self.key, Some(self.input.since_mark())))
            }
            Err(Halt::Over) => {
                self.input.rewind();
                Ok((&self.key, None))
            }
            Err(Halt::Error(error)) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// Decodes the current value into `sink`, piece by piece as it is read: the key, and an element.
    ///
    /// Held at a time: one string, or one blob of packed elements (listpack, ziplist, intset), both within
    /// [`Limits`]; of a stream also the pending entries of one group. When the sink fails, the reader stops.
    ///
    /// # Errors
    /// As [`Reader::raw_value`], and what the sink answers.
    pub fn decode_value<E: From<Error>>(
        &mut self,
        sink: &mut impl FnMut(&[u8], Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let kind = self.unread()?;
        self.state = State::Failed;
        let key = &self.key;
        let mut sink = |element: Element<'_>| sink(key, element);
        decode::value(kind, &mut self.input, &self.limits, &mut self.scratch, &mut sink)?;
        self.state = State::Items;
        Ok(())
    }

    /// Moves past the current value and says how large it is, from the counts that stand in it.
    ///
    /// # Errors
    /// As [`Reader::raw_value`].
    pub fn measure_value(&mut self) -> Result<Measure, Error> {
        let kind = self.unread()?;
        self.state = State::Failed;
        let measure = measure::value(kind, &mut self.input, &self.limits, &mut self.scratch)?;
        self.state = State::Items;
        Ok(measure)
    }

    fn unread(&self) -> Result<Kind, Error> {
        match self.state {
            State::Value(kind) => Ok(kind),
            State::Failed => Err(Error::Stopped { offset: self.offset() }),
            _ => Err(Error::NoValue { offset: self.offset() }),
        }
    }

    #[inline]
    fn advance(&mut self) -> Result<Option<Item>, Error> {
        self.input.release();
        match self.state {
            State::Items => {}
            State::Value(kind) => {
                self.skip(kind.grammar())?;
                self.state = State::Items;
            }
            State::Start => return self.header().map(Some),
            State::Done => return Ok(None),
            State::Failed => return Err(Error::Stopped { offset: self.offset() }),
        }
        loop {
            let offset = self.input.offset();
            let opcode = byte(&mut self.input)?;
            if opcode < opcode::LEAST {
                return self.entry(opcode, offset).map(Some);
            }
            if let Some(item) = self.after_opcode(opcode, offset)? {
                return Ok(Some(item));
            }
        }
    }

    fn skip(&mut self, grammar: &[Op]) -> Result<(), Error> {
        match walk(&mut self.input, grammar, &self.limits, u64::MAX) {
            Ok(()) => Ok(()),
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Over) => Err(Error::Truncated { offset: self.offset(), wanted: u64::MAX }),
        }
    }

    /// What follows `opcode`: an item, or nothing when it only says something about the key to come.
    ///
    /// Source: `rdbLoadRioWithLoadingCtx` in `src/rdb.c` of both products.
    fn after_opcode(&mut self, opcode: u8, offset: u64) -> Result<Option<Item>, Error> {
        let input = &mut self.input;
        match opcode {
            opcode::EXPIRETIME_MS => self.pending.expiry_ms = Some(millis(input)?),
            opcode::EXPIRETIME => {
                self.pending.expiry_ms = Some(i64::from(i32::from_le_bytes(array(input)?)) * 1000);
            }
            opcode::IDLE => self.pending.idle_seconds = Some(length(input)?),
            opcode::FREQ => self.pending.freq = Some(byte(input)?),
            opcode::SELECTDB => self.db = self.small(length)?,
            opcode::KEY_META if self.magic == Magic::Redis => {
                self.pending.metadata_classes = self.read_key_metadata()?;
            }
            opcode::SLOT_IMPORT if self.magic == Magic::Valkey => return self.slot_import().map(Some),
            opcode::RESIZEDB => {
                let (keys, expires) = (length(input)?, length(input)?);
                return Ok(Some(Item::ResizeDb { db: self.db, keys, expires }));
            }
            opcode::AUX => {
                return Ok(Some(Item::Aux { key: self.text()?, value: self.text()? }));
            }
            opcode::FUNCTION2 => return Ok(Some(Item::Function(self.text()?))),
            opcode::MODULE_AUX => return self.module_aux().map(Some),
            opcode::SLOT_INFO => {
                let (slot, keys, expires) = (length(input)?, length(input)?, length(input)?);
                return Ok(Some(Item::SlotInfo { slot, keys, expires }));
            }
            opcode::EOF => return self.end().map(Some),
            byte => return Err(self.unknown(byte, offset)),
        }
        Ok(None)
    }

    fn header(&mut self) -> Result<Item, Error> {
        self.input.start_checksum();
        let bytes: [u8; 9] = array(&mut self.input)?;
        let (magic, digits) = match (bytes.strip_prefix(b"REDIS"), bytes.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => (Magic::Redis, digits),
            (_, Some(digits)) => (Magic::Valkey, digits),
            _ => (Magic::Redis, &b""[..]),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Error::BadMagic { found: bytes.escape_ascii().to_string() });
        }
        let version = digits.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
        if !magic.reads(version) {
            return Err(Error::UnsupportedVersion { magic: magic.as_str(), version });
        }
        (self.magic, self.version, self.state) = (magic, version, State::Items);
        Ok(Item::Header { magic, version })
    }

    #[inline]
    fn entry(&mut self, type_byte: u8, offset: u64) -> Result<Item, Error> {
        let Some(kind) = Kind::of(type_byte, self.magic) else {
            return Err(self.unknown(type_byte, offset));
        };
        let pending = std::mem::take(&mut self.pending);
        if pending.metadata_classes == 0 {
            self.metadata.clear();
        }
        let head = string_head(&mut self.input, &self.limits)?;
        self.key.clear();
        if let StringHead::Plain(len) = head {
            // not more than the limit, so within usize where it can be held at all
            self.key.extend_from_slice(self.input.take(usize::try_from(len).unwrap_or(usize::MAX))?);
        } else {
            self.key.extend_from_slice(decode::string_body(&mut self.input, head, &mut self.scratch.first)?);
        }
        self.state = State::Value(kind);
        let Pending { expiry_ms, idle_seconds, freq, metadata_classes } = pending;
        self.entry_offset = offset;
        let db = self.db;
        Ok(Item::Entry(Entry {
            db,
            kind,
            type_byte,
            expiry_ms,
            idle_seconds,
            freq,
            metadata_classes,
            offset,
        }))
    }

    #[cold]
    fn unknown(&self, byte: u8, offset: u64) -> Error {
        let version = self.version;
        if let Some(what) = pre_release(byte) {
            return Error::PreRelease { byte, offset, what };
        }
        if byte >= opcode::LEAST {
            Error::UnknownOpcode { byte, offset, version }
        } else {
            Error::UnknownType { byte, offset, version }
        }
    }

    /// A string that is held whole.
    fn text(&mut self) -> Result<Vec<u8>, Error> {
        Ok(decode::string(&mut self.input, &self.limits, &mut self.scratch.first)?.to_vec())
    }

    /// A number that must fit, such as a database.
    fn small(&mut self, read: impl Fn(&mut I) -> Result<u64, Error>) -> Result<u32, Error> {
        let offset = self.input.offset();
        let number = read(&mut self.input)?;
        u32::try_from(number).map_err(|_| Error::TooLong { offset, len: number, limit: u64::from(u32::MAX) })
    }

    /// Copies what `grammar` describes, which must be within the limits.
    fn copy(&mut self, grammar: &[Op]) -> Result<Vec<u8>, Error> {
        let offset = self.input.offset();
        let limit = self.limits.max_string_bytes;
        self.input.mark();
        match walk(&mut self.input, grammar, &self.limits, offset.saturating_add(limit)) {
            Ok(()) => {
                let bytes = self.input.since_mark().to_vec();
                self.input.release();
                Ok(bytes)
            }
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Over) => Err(Error::TooLong { offset, len: limit.saturating_add(1), limit }),
        }
    }

    /// Source: `rdbLoadRioWithLoadingCtx` and `rdbSaveSingleModuleAux` in `src/rdb.c`.
    fn module_aux(&mut self) -> Result<Item, Error> {
        let offset = self.input.offset();
        let raw = self.copy(&[Op::Len, Op::Len, Op::Len, Op::ModuleParts])?;
        let mut input = super::Slice::new(&raw);
        let id = ModuleId(length(&mut input)?);
        let (opcode, when) = (length(&mut input)?, length(&mut input)?);
        if opcode != 2 {
            return Err(Error::Corrupt {
                what: "a module's aux does not say when it is to be loaded",
                offset,
            });
        }
        Ok(Item::ModuleAux(ModuleAux { id, when, raw }))
    }

    /// For each class a specification of four bytes, then parts as of a module's value.
    ///
    /// Source: `rdbSaveKeyMetadata` in `src/keymeta.c` of Redis 8.6.
    fn read_key_metadata(&mut self) -> Result<u8, Error> {
        let offset = self.input.offset();
        self.metadata = self.copy(&[Op::Repeat(&[Op::Fixed(4), Op::ModuleParts])])?;
        let classes = length(&mut super::Slice::new(&self.metadata))?;
        u8::try_from(classes).map_err(|_| Error::TooLong { offset, len: classes, limit: 255 })
    }

    /// Source: `clusterRDBSaveSlotImports` in `src/cluster_migrateslots.c` of Valkey 9.
    fn slot_import(&mut self) -> Result<Item, Error> {
        let job = self.text()?;
        let offset = self.input.offset();
        let count = length(&mut self.input)?;
        if count > SLOTS {
            return Err(Error::TooLong { offset, len: count, limit: SLOTS });
        }
        let ranges = (0..count)
            .map(|_| Ok((length(&mut self.input)?, length(&mut self.input)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Item::SlotImport { job, ranges })
    }

    fn end(&mut self) -> Result<Item, Error> {
        self.state = State::Done;
        self.sum = self.input.checksum();
        if self.version < 5 && self.magic == Magic::Redis {
            return Ok(Item::End { checksum: Checksum::None });
        }
        let expected = self.sum;
        let offset = self.input.offset();
        let found = u64::from_le_bytes(array(&mut self.input)?);
        match found {
            0 => Ok(Item::End { checksum: Checksum::None }),
            _ if self.resumed => Ok(Item::End { checksum: Checksum::NotSummed(found) }),
            _ if found == expected => Ok(Item::End { checksum: Checksum::Verified }),
            _ => Err(Error::Checksum { expected, found, offset }),
        }
    }
}

/// Slots of a cluster.
const SLOTS: u64 = 16384;
