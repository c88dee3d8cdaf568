//! A sink that keeps copies on disk until the cut, and makes an RDB of them.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use bytes::Bytes;

use super::change::{BigValue, Change, Cut, Form, Sink, Value};
use crate::rdb::encode::{self, HashFields, KeptField};
use crate::rdb::{self, DataType, FileWriter, Finished, Kind, Magic};
use crate::server::Server;
use crate::spool::{self, Body, Config, Gauge, Latest, Log};

/// Keeps copies in [logs](Log): one for each space, and one for each big value.
pub struct Store {
    config: Config,
    spaces: HashMap<u32, Log>,
    bigs: HashMap<u32, Log>,
    functions: Bytes,
    entry: Vec<u8>,
}

impl Store {
    /// Copies wait as `config` says.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            spaces: HashMap::new(),
            bigs: HashMap::new(),
            functions: Bytes::new(),
            entry: Vec::new(),
        }
    }
}

impl Sink for Store {
    type Output = Stored;
    type Error = spool::Error;

    fn spooled(&self) -> Gauge {
        self.config.budget.gauge()
    }

    fn change(&mut self, change: Change) -> Result<(), spool::Error> {
        match change {
            Change::Opened { space, .. } => _ = self.spaces.insert(space, Log::new(&self.config)),
            Change::Dropped { space } => _ = self.spaces.remove(&space),
            // Which database has which space is told at the cut.
            Change::Swapped { .. } => {}
            // So is how its parts are put together.
            Change::BigBegun { .. } => {}
            Change::Value(value) => {
                let Some(log) = self.spaces.get_mut(&value.space) else { return Ok(()) };
                self.entry.clear();
                let Value { expiry_ms, kind, key, raw, .. } = &value;
                encode::entry(&mut self.entry, *expiry_ms, kind.type_byte(), key, raw);
                log.put(value.id.0, &[&self.entry], value.expiry_ms.is_some())?;
            }
            Change::Absent { space, id, .. } => {
                if let Some(log) = self.spaces.get_mut(&space) {
                    log.remove(id.0)?;
                }
            }
            Change::Part { big, id, body } => {
                let log = self.bigs.entry(big).or_insert_with(|| Log::new(&self.config));
                match body {
                    Some(body) => log.put(id.0, &[&body], false)?,
                    None => log.remove(id.0)?,
                }
            }
            Change::BigVoid { big } => _ = self.bigs.remove(&big),
            Change::Functions(functions) => self.functions = functions,
        }
        Ok(())
    }

    fn finish(mut self, cut: Cut) -> Result<Stored, spool::Error> {
        let mut databases = BTreeMap::new();
        for (db, space) in &cut.spaces {
            let log = self.spaces.remove(space).unwrap_or_else(|| Log::new(&self.config));
            databases.insert(*db, Database { keys: log.latest()?, bigs: Vec::new() });
        }
        // What is left belongs to spaces that are no more.
        self.spaces.clear();
        for big in &cut.bigs {
            let database = cut.database_of(big.space).and_then(|db| databases.get_mut(&db));
            let (Some(database), Some(log)) = (database, self.bigs.remove(&big.big)) else { continue };
            let parts = log.latest()?;
            // Without elements it is no key, but a string may be empty.
            if !parts.is_empty() || big.form == Form::String {
                database.bigs.push((big.clone(), parts));
            }
        }
        databases.retain(|_, database| !database.keys.is_empty() || !database.bigs.is_empty());
        Ok(Stored { cut, functions: self.functions, databases, has_place: true })
    }
}

/// What a database holds at the cut.
#[derive(Debug)]
pub struct Database {
    /// Its keys, as they stand in an RDB; flagged are those with an expiry.
    pub keys: Latest,
    /// Its big values, in parts.
    pub bigs: Vec<(BigValue, Latest)>,
}

/// A capture on disk.
#[derive(Debug)]
pub struct Stored {
    /// Where it is exact.
    pub cut: Cut,
    /// The functions, as they stand in an RDB.
    pub functions: Bytes,
    /// The databases that hold keys.
    pub databases: BTreeMap<u32, Database>,
    /// Whether the RDB says where in the stream it is. One that is not exact must not: a server that starts on it would go
    /// on from there, and stay wrong without a sign of it.
    pub has_place: bool,
}

/// Why no RDB could be made of it.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What was kept cannot be read.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was kept is not what was written.
    #[error("a part of a big value cannot be read: {0}")]
    Part(#[from] rdb::Error),
}

impl Stored {
    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.databases.values().map(|database| database.keys.len() + database.bigs.len() as u64).sum()
    }

    /// Writes it as an RDB of `server`, with `aux` fields before those that say where in the stream it is. `told` hears
    /// how many keys are written, now and then.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn write_rdb<W: Write>(
        &mut self,
        out: W,
        server: Server,
        aux: &[(&str, String)],
        told: &mut dyn FnMut(u64),
    ) -> Result<Finished<W>, WriteError> {
        let version = self.cut.rdb_version;
        let mut file = FileWriter::new(out, Magic::of_version(version), version);
        for (name, value) in aux {
            file.aux(name.as_bytes(), value.as_bytes())?;
        }
        if self.has_place {
            let position = self.cut.position;
            file.aux(b"repl-stream-db", self.cut.stream_db.to_string().as_bytes())?;
            file.aux(b"repl-id", position.replid.as_str().as_bytes())?;
            file.aux(b"repl-offset", position.offset.to_string().as_bytes())?;
        }
        file.functions(&self.functions)?;
        let mut keys = 0;
        for (db, database) in &mut self.databases {
            file.select(*db)?;
            let expiring = database.bigs.iter().filter(|(big, _)| big.expiry_ms.is_some()).count();
            file.resize(
                database.keys.len() + database.bigs.len() as u64,
                database.keys.flagged() + expiring as u64,
            )?;
            database.keys.rewind();
            while let Some(body) = database.keys.next()? {
                write_body(&mut file, body)?;
                keys += 1;
                if keys % 4096 == 0 {
                    told(keys);
                }
            }
            for (big, parts) in &mut database.bigs {
                write_big(&mut file, big, parts, server)?;
                keys += 1;
                told(keys);
            }
        }
        Ok(file.finish()?)
    }
}

fn write_body<W: Write>(file: &mut FileWriter<W>, body: Body<'_>) -> Result<(), WriteError> {
    match body {
        Body::Whole(bytes) => file.raw(bytes)?,
        Body::Large(mut pieces) => {
            while let Some(piece) = pieces.next()? {
                file.raw(piece)?;
            }
        }
    }
    Ok(())
}

/// A big value put together from its parts.
fn write_big<W: Write>(
    file: &mut FileWriter<W>,
    big: &BigValue,
    parts: &mut Latest,
    server: Server,
) -> Result<(), WriteError> {
    parts.rewind();
    let plain = |data_type| encode::plain_kind(data_type).unwrap_or(Kind::String);
    let kind = match big.form {
        Form::Hash => return write_hash(file, big, parts, server),
        Form::Stream(kind) => kind,
        Form::String => Kind::String,
        Form::List => plain(DataType::List),
        Form::Set => plain(DataType::Set),
        Form::Zset => plain(DataType::Zset),
    };
    file.begin_entry(big.expiry_ms, kind.type_byte(), &big.key)?;
    file.raw(&big.head(parts.len(), parts.bytes()))?;
    while let Some(body) = parts.next()? {
        write_body(file, body)?;
    }
    Ok(())
}

/// A hash, whose fields may have expiries: the least of them stands first, so it is read twice.
fn write_hash<W: Write>(
    file: &mut FileWriter<W>,
    big: &BigValue,
    parts: &mut Latest,
    server: Server,
) -> Result<(), WriteError> {
    let mut fields = HashFields::default();
    each_field(parts, &mut |field| {
        fields.add(field.expiry_ms);
        Ok(())
    })?;
    let no_form = || io::Error::other("a field has an expiry, and the source's version has none");
    let form = fields.form(server).ok_or_else(no_form)?;
    let mut bytes = Vec::new();
    form.head(&mut bytes);
    file.begin_entry(big.expiry_ms, form.kind().type_byte(), &big.key)?;
    file.raw(&bytes)?;
    parts.rewind();
    each_field(parts, &mut |field| {
        bytes.clear();
        form.kept(&mut bytes, field);
        file.raw(&bytes)
    })
}

fn each_field(
    parts: &mut Latest,
    take: &mut impl FnMut(KeptField<'_>) -> io::Result<()>,
) -> Result<(), WriteError> {
    while let Some(body) = parts.next()? {
        match body {
            Body::Whole(bytes) => take(KeptField::parse(bytes)?)?,
            Body::Large(mut pieces) => {
                let mut all = Vec::new();
                while let Some(piece) = pieces.next()? {
                    all.extend_from_slice(piece);
                }
                take(KeptField::parse(&all)?)?;
            }
        }
    }
    Ok(())
}
