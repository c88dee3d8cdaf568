//! RDB files written.

use std::io::{self, Write};

use super::encode;
use super::{Magic, opcode};
use crate::checksum::Crc64;

/// How much is collected before it is summed and written.
const BUFFER_BYTES: usize = 256 * 1024;

/// What is as long as this is not copied into the buffer.
const DIRECT_BYTES: usize = 64 * 1024;

/// Writes an RDB file: what is given is taken as it is, in the order in which a server wants it.
///
/// Order of calls: [`new`](Self::new); [`aux`](Self::aux) fields; [`functions`](Self::functions); for each database
/// [`select`](Self::select), if wanted [`resize`](Self::resize), and its keys, each whole ([`entry`](Self::entry),
/// [`encoded`](Self::encoded)) or in parts ([`begin_entry`](Self::begin_entry), then [`raw`](Self::raw) as often as needed);
/// [`finish`](Self::finish). Nothing is checked but that: a file is as right as its values.
///
/// The sink needs no buffer of its own. After an error the writer is done: whatever is called next fails as well.
///
/// Source: `rdbSaveRio` in `src/rdb.c` of both products.
///
/// ```
/// use replsync::rdb::{FileWriter, Kind, Magic, encode};
///
/// let mut file = FileWriter::new(Vec::new(), Magic::Redis, 9);
/// file.aux(b"redis-ver", b"6.2.14")?;
/// file.select(0)?;
/// file.entry(None, Kind::String.type_byte(), b"k", b"\xc0\x2a")?;
/// let finished = file.finish()?;
/// assert_eq!(&finished.out[..9], b"REDIS0009");
/// assert_eq!(finished.out[finished.out.len() - 8..], finished.checksum.to_le_bytes());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FileWriter<W> {
    out: W,
    buffer: Vec<u8>,
    crc: Crc64,
    written_bytes: u64,
    has_failed: bool,
}

/// A file that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished<W> {
    /// What it was written to, flushed.
    pub out: W,
    /// The CRC-64 of all but the last eight bytes, which say it.
    pub checksum: u64,
    /// How long the file is.
    pub len_bytes: u64,
}

impl<W: Write> FileWriter<W> {
    /// Begins a file of that version: the one in the footers of the DUMP payloads that go into it.
    pub fn new(out: W, magic: Magic, version: u16) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES + DIRECT_BYTES);
        let digits = 9 - magic.as_str().len();
        buffer.extend_from_slice(format!("{}{version:0digits$}", magic.as_str()).as_bytes());
        Self { out, buffer, crc: Crc64::new(), written_bytes: 0, has_failed: false }
    }

    /// A field about the file; numbers as decimal text.
    ///
    /// # Errors
    /// What the sink answers; so it is with all that follow.
    pub fn aux(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.buffer.push(opcode::AUX);
        self.string(key)?;
        self.string(value)
    }

    /// All functions: a FUNCTION DUMP payload without its footer
    /// ([`dump::functions`](super::dump::functions) takes it off).
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn functions(&mut self, raw: &[u8]) -> io::Result<()> {
        self.raw(raw)
    }

    /// The code of one function library, shebang included.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn function(&mut self, code: &[u8]) -> io::Result<()> {
        self.buffer.push(opcode::FUNCTION2);
        self.string(code)
    }

    /// The database of the keys to come. A file may come back to one.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn select(&mut self, db: u32) -> io::Result<()> {
        self.buffer.push(opcode::SELECTDB);
        encode::length(&mut self.buffer, db.into());
        self.relieve()
    }

    /// How many keys the selected database has, and how many of them with an expiry: loaders make room for as many.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn resize(&mut self, keys: u64, expires: u64) -> io::Result<()> {
        self.buffer.push(opcode::RESIZEDB);
        encode::length(&mut self.buffer, keys);
        encode::length(&mut self.buffer, expires);
        self.relieve()
    }

    /// A key with its value, whose bytes are `raw`; the expiry in milliseconds since the epoch.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn entry(&mut self, expiry_ms: Option<i64>, type_byte: u8, key: &[u8], raw: &[u8]) -> io::Result<()> {
        self.begin_entry(expiry_ms, type_byte, key)?;
        self.raw(raw)
    }

    /// Keys that are encoded already, by [`encode::entry`].
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn encoded(&mut self, entries: &[u8]) -> io::Result<()> {
        self.raw(entries)
    }

    /// A key whose value follows in parts.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn begin_entry(&mut self, expiry_ms: Option<i64>, type_byte: u8, key: &[u8]) -> io::Result<()> {
        encode::entry_head(&mut self.buffer, expiry_ms, type_byte);
        self.string(key)
    }

    /// Bytes as they are: a part of a value.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < DIRECT_BYTES {
            self.buffer.extend_from_slice(bytes);
            return self.relieve();
        }
        self.write_buffer()?;
        // in pieces, so that what was summed is still in the processor's cache when it is written
        bytes.chunks(BUFFER_BYTES).try_for_each(|piece| self.write(piece))
    }

    /// How long the file is so far.
    pub fn len_bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// Ends the file and flushes the sink. Nothing is synced to a disk: that is for who knows what the sink is.
    ///
    /// # Errors
    /// As [`aux`](Self::aux).
    pub fn finish(mut self) -> io::Result<Finished<W>> {
        self.buffer.push(opcode::EOF);
        self.write_buffer()?;
        let checksum = self.crc.value();
        self.write(&checksum.to_le_bytes())?;
        self.out.flush()?;
        Ok(Finished { out: self.out, checksum, len_bytes: self.written_bytes })
    }

    fn string(&mut self, text: &[u8]) -> io::Result<()> {
        if text.len() < DIRECT_BYTES {
            encode::string(&mut self.buffer, text);
            return self.relieve();
        }
        encode::length(&mut self.buffer, text.len() as u64);
        self.raw(text)
    }

    #[inline]
    fn relieve(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.write_buffer() }
    }

    #[cold]
    fn write_buffer(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::other("an earlier write failed: the file is not whole"));
        }
        self.crc.update(bytes);
        self.out.write_all(bytes).inspect_err(|_| self.has_failed = true)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::{Checksum, DataType, Item, Kind, Reader, Slice};
    use proptest::prelude::*;

    /// Takes a few bytes at a time, and none after so many.
    struct Small {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let some = bytes.len().min(7_777).min(self.room);
            self.taken.extend_from_slice(&bytes[..some]);
            self.room -= some;
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_is_what_its_parts_are() {
        let mut file = FileWriter::new(Vec::new(), Magic::Valkey, 80);
        file.aux(b"repl-offset", b"123").unwrap();
        file.function(b"#!lua name=l\n").unwrap();
        file.functions(b"\xf5\x03abc").unwrap();
        file.select(9).unwrap();
        file.resize(2, 1).unwrap();
        file.entry(Some(-1), 0, b"12", b"\x01v").unwrap();
        let mut encoded = Vec::new();
        encode::idle(&mut encoded, 5);
        encode::entry(&mut encoded, None, 4, b"", b"\x00");
        file.encoded(&encoded).unwrap();
        let len_bytes = file.len_bytes();
        let finished = file.finish().unwrap();
        assert_eq!(finished.out.len() as u64, len_bytes + 9);
        let crc = crc64::crc64(0, &finished.out[..finished.out.len() - 8]);
        assert_eq!((finished.checksum, finished.len_bytes), (crc, len_bytes + 9));

        let mut reader = Reader::new(Slice::new(&finished.out));
        let mut items = Vec::new();
        while let Some(item) = reader.next_item().unwrap() {
            if let Item::Entry(entry) = &item {
                let about = (entry.db, entry.kind.data_type(), entry.expiry_ms, entry.idle_seconds);
                let expected = match items.len() {
                    5 => (9, DataType::String, Some(-1), None),
                    _ => (9, DataType::Hash, None, Some(5)),
                };
                assert_eq!(about, expected);
                assert_eq!(reader.key(), if items.len() == 5 { &b"12"[..] } else { b"" });
            }
            items.push(item);
        }
        assert_eq!(items[0], Item::Header { magic: Magic::Valkey, version: 80 });
        assert_eq!(items[1], Item::Aux { key: b"repl-offset".to_vec(), value: b"123".to_vec() });
        assert_eq!(items[2..4], [b"#!lua name=l\n".to_vec(), b"abc".to_vec()].map(Item::Function));
        assert_eq!(items[4], Item::ResizeDb { db: 9, keys: 2, expires: 1 });
        assert_eq!(items[7..], [Item::End { checksum: Checksum::Verified }]);
    }

    #[test]
    fn a_full_disk_is_not_forgotten() {
        let mut file = FileWriter::new(Small { taken: Vec::new(), room: 100_000 }, Magic::Redis, 11);
        let value = vec![1; DIRECT_BYTES];
        file.raw(&value).unwrap();
        assert_eq!(file.raw(&value).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.out.room = usize::MAX;
        assert!(file.raw(&value).is_err());
        file.select(1).unwrap(); // which only waits in the buffer
        assert!(file.finish().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn parts_of_any_length_make_the_same_file(lens in prop::collection::vec(0usize..3 * DIRECT_BYTES / 2, 0..9), key_len in 0usize..2 * DIRECT_BYTES) {
            let key = vec![b'k'; key_len];
            let parts: Vec<Vec<u8>> = lens.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
            let value = parts.concat();
            let mut head = Vec::new();
            encode::length(&mut head, value.len() as u64);

            let mut file = FileWriter::new(Small { taken: Vec::new(), room: usize::MAX }, Magic::Redis, 11);
            file.begin_entry(None, Kind::String.type_byte(), &key).unwrap();
            file.raw(&head).unwrap();
            parts.iter().for_each(|part| file.raw(part).unwrap());
            let finished = file.finish().unwrap();

            let mut expected = b"REDIS0011".to_vec();
            encode::entry(&mut expected, None, 0, &key, &[head, value].concat());
            expected.push(opcode::EOF);
            expected.extend(crc64::crc64(0, &expected).to_le_bytes());
            prop_assert!(finished.out.taken == expected);
        }
    }
}
