//! Values of the fixtures, and damaged copies of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use replsync::checksum::crc64;
use replsync::rdb::{DataType, Item, Kind, Magic, Reader, Slice, decode_string, readable};
use replsync::server::Server;
use replsync_tests::workspace;

/// What a value is, and its raw bytes.
pub type Value = (Kind, Vec<u8>);

/// The RDB files of `crates/replsync/tests/data`, by name, the smallest first.
pub fn fixtures() -> Result<Vec<(String, Vec<u8>)>> {
    let folder = workspace().join("crates/replsync/tests/data");
    let mut files = Vec::new();
    for file in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path: PathBuf = file?.path();
        if path.extension().is_some_and(|extension| extension == "rdb") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, std::fs::read(&path)?));
        }
    }
    files.sort_by_key(|(name, file): &(String, Vec<u8>)| (file.len(), name.clone()));
    Ok(files)
}

/// The values in the fixtures that `by` loads, by kind, each once. Module values are left out: they are their module's.
///
/// Where a packed value is compressed, it is there uncompressed too, so that what is in it is damaged and not only its
/// compression.
pub fn values(by: Server) -> Result<BTreeMap<u8, Vec<Value>>> {
    let (mut values, mut seen): (BTreeMap<u8, Vec<_>>, _) = (BTreeMap::new(), BTreeSet::new());
    for (name, file) in fixtures()? {
        let mut reader = Reader::new(Slice::new(&file));
        while let Some(item) = reader.next_item().with_context(|| name.clone())? {
            let Item::Entry(entry) = item else { continue };
            let raw = reader.raw_value(usize::MAX)?.context("a value")?.to_vec();
            if entry.kind.data_type() == DataType::Module || !readable(entry.kind, by) {
                continue;
            }
            let plain = uncompressed(entry.kind, &raw);
            for raw in [Some(raw), plain].into_iter().flatten() {
                if seen.insert((entry.type_byte, raw.clone())) {
                    values.entry(entry.type_byte).or_default().push((entry.kind, raw));
                }
            }
        }
    }
    Ok(values)
}

fn uncompressed(kind: Kind, raw: &[u8]) -> Option<Vec<u8>> {
    use Kind::*;
    let packed = matches!(
        kind,
        HashListpack
            | ZsetListpack
            | SetListpack
            | HashZiplist
            | ZsetZiplist
            | ListZiplist
            | SetIntset
            | HashZipmap
    );
    (packed && replsync::rdb::is_compressed(raw)).then_some(())?;
    let blob = decode_string(raw).ok()?;
    Some([&[0x80][..], &u32::try_from(blob.len()).ok()?.to_be_bytes(), &blob].concat())
}

/// A value of any kind, each as likely, with a byte or two changed: mostly of a small value, and near its ends, where
/// what delimits it stands.
pub fn damaged(values: &BTreeMap<u8, Vec<Value>>, rng: &mut Rng) -> Value {
    let kinds: Vec<_> = values.values().collect();
    let of_kind = kinds[rng.usize(..kinds.len())];
    let mut pick = || &of_kind[rng.usize(..of_kind.len())];
    let (one, other) = (pick(), pick());
    let (kind, raw) = if one.1.len() <= other.1.len() { one } else { other };
    let mut raw = raw.clone();
    for _ in 0..1 + usize::from(rng.u8(..) < 50) {
        damage(&mut raw, rng);
    }
    (*kind, raw)
}

/// Changes one byte.
pub fn damage(bytes: &mut [u8], rng: &mut Rng) {
    const FLIPS: [u8; 12] = [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xff, 3, 6, 0xc0];
    let at = match rng.u8(..4) {
        0 => rng.usize(..bytes.len().min(24)),
        1 => bytes.len() - 1 - rng.usize(..bytes.len().min(16)),
        _ => rng.usize(..bytes.len()),
    };
    if rng.u8(..4) == 0 {
        // a number more or less
        bytes[at] = bytes[at].wrapping_add(if rng.bool() { 1 } else { 0xff });
    } else {
        bytes[at] ^= FLIPS[rng.usize(..FLIPS.len())];
    }
}

/// The first bytes of a file that holds values as `by` loads them.
pub fn magic(by: Server) -> &'static [u8] {
    match Magic::of_version(by.rdb_version()) {
        Magic::Redis => b"REDIS0014",
        Magic::Valkey => b"VALKEY080",
    }
}

/// The header of a file: family and version.
pub fn header(file: &[u8]) -> Result<(Magic, u16)> {
    match Reader::new(Slice::new(file)).next_item()? {
        Some(Item::Header { magic, version }) => Ok((magic, version)),
        other => bail!("{other:?} is no header"),
    }
}

/// A copy of `file` with a byte changed behind the header, under a checksum that fits.
pub fn damaged_file(file: &[u8], rng: &mut Rng) -> Vec<u8> {
    let (mut file, len) = (file.to_vec(), file.len() - 8);
    damage(&mut file[9..len - 1], rng);
    let checksum = crc64(&file[..len]);
    file[len..].copy_from_slice(&checksum.to_le_bytes());
    file
}
