//! Hashes whose fields may expire, for servers that write them differently.
//!
//! Redis writes each expiry relative to the least of them, which stands in front: it must be known before the first field is
//! written. Valkey writes each as it is, behind the field. So fields are kept with their own expiries ([`kept_field`]),
//! counted ([`HashFields`]), and put into the form of a server when they are written ([`HashForm`]).

use super::super::decode::decode;
use super::super::primitive::length as read_length;
use super::super::{Element, Error, Kind, Limits, Slice, readable};
use super::{length, string as write_string};
use crate::server::Server;

/// A field to be kept until all are known: its expiry (in milliseconds since the epoch), itself, its value.
pub fn kept_field(out: &mut Vec<u8>, field: &[u8], value: &[u8], expiry_ms: Option<u64>) {
    // 0 stands for none
    length(out, expiry_ms.map_or(0, |expiry_ms| expiry_ms.saturating_add(1)));
    super::hash_field(out, field, value);
}

/// What [`kept_field`] made, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptField<'a> {
    /// When it expires, in milliseconds since the epoch.
    pub expiry_ms: Option<u64>,
    /// The field and its value, as [`hash_field`](super::hash_field) writes them.
    pub pair: &'a [u8],
}

impl<'a> KeptField<'a> {
    /// Takes one apart that stands alone in `kept`. Of the field and the value nothing is looked at.
    ///
    /// # Errors
    /// What is wrong with the expiry.
    pub fn parse(kept: &'a [u8]) -> Result<Self, Error> {
        let mut input = Slice::new(kept);
        let expiry_ms = read_length(&mut input)?.checked_sub(1);
        Ok(Self { expiry_ms, pair: input.rest() })
    }
}

/// What must be known of all fields before the first is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashFields {
    /// How many there are.
    pub count: u64,
    /// The first expiry among them, in milliseconds since the epoch.
    pub least_expiry_ms: Option<u64>,
}

impl HashFields {
    /// Takes in one more.
    pub fn add(&mut self, expiry_ms: Option<u64>) {
        self.count += 1;
        self.least_expiry_ms = match (self.least_expiry_ms, expiry_ms) {
            (Some(least), Some(expiry_ms)) => Some(least.min(expiry_ms)),
            (least, expiry_ms) => least.or(expiry_ms),
        };
    }

    /// How they are to be written for `by`: a plain hash where no field expires. `None` where one does and `by` has no
    /// field expiries.
    pub fn form(self, by: Server) -> Option<HashForm> {
        let kind = match self.least_expiry_ms {
            None => Kind::Hash,
            Some(_) => expiring_kind(by)?,
        };
        Some(HashForm { kind, fields: self })
    }
}

/// How `by` writes a hash with field expiries.
fn expiring_kind(by: Server) -> Option<Kind> {
    [Kind::HashTtl, Kind::ValkeyHashTtl].into_iter().find(|kind| readable(*kind, by))
}

/// How a hash is written: its head, then its fields.
///
/// Source: `rdbSaveObject` in `src/rdb.c` of Valkey 9; for Redis 7.4 the hashes with metadata in librdb's `src/lib/parser.c`.
#[derive(Clone, Copy, Debug)]
pub struct HashForm {
    kind: Kind,
    fields: HashFields,
}

impl HashForm {
    /// The type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What stands before the first field.
    pub fn head(&self, out: &mut Vec<u8>) {
        if self.kind == Kind::HashTtl {
            out.extend_from_slice(&self.least_ms().to_le_bytes());
        }
        length(out, self.fields.count);
    }

    /// A field.
    pub fn field(&self, out: &mut Vec<u8>, field: &[u8], value: &[u8], expiry_ms: Option<u64>) {
        self.expiry_before(out, expiry_ms);
        write_string(out, field);
        write_string(out, value);
        self.expiry_behind(out, expiry_ms);
    }

    /// A field that was kept.
    pub fn kept(&self, out: &mut Vec<u8>, field: KeptField<'_>) {
        self.expiry_before(out, field.expiry_ms);
        out.extend_from_slice(field.pair);
        self.expiry_behind(out, field.expiry_ms);
    }

    fn least_ms(&self) -> u64 {
        self.fields.least_expiry_ms.unwrap_or(0)
    }

    fn expiry_before(&self, out: &mut Vec<u8>, expiry_ms: Option<u64>) {
        if self.kind == Kind::HashTtl {
            // Relative to the least of them, plus 1: 0 stands for none.
            let after = |expiry_ms: u64| expiry_ms.saturating_sub(self.least_ms()).saturating_add(1);
            length(out, expiry_ms.map_or(0, after));
        }
    }

    fn expiry_behind(&self, out: &mut Vec<u8>, expiry_ms: Option<u64>) {
        if self.kind == Kind::ValkeyHashTtl {
            let expiry_ms = expiry_ms.map_or(-1, |expiry_ms| i64::try_from(expiry_ms).unwrap_or(i64::MAX));
            out.extend_from_slice(&expiry_ms.to_le_bytes());
        }
    }
}

/// Writes a hash with field expiries anew, in a form that `by` loads, with each expiry (in milliseconds since the epoch)
/// as `change` answers. `None`, and nothing in `out`, when `raw` is no such hash or `by` has no field expiries.
///
/// # Errors
/// As [`decode`], and what `change` answers.
pub fn rewrite_field_expiries<E: From<Error>>(
    kind: Kind,
    raw: &[u8],
    by: Server,
    out: &mut Vec<u8>,
    change: &mut impl FnMut(u64) -> Result<u64, E>,
) -> Result<Option<Kind>, E> {
    if !kind.has_field_expiries() || expiring_kind(by).is_none() {
        return Ok(None);
    }
    let mut fields = HashFields::default();
    each_field(kind, raw, &mut |_, _, expiry_ms| {
        fields.add(expiry_ms.map(&mut *change).transpose()?);
        Ok::<_, E>(())
    })?;
    let Some(form) = fields.form(by) else { return Ok(None) };
    out.clear();
    form.head(out);
    each_field(kind, raw, &mut |field, value, expiry_ms| {
        form.field(out, field, value, expiry_ms.map(&mut *change).transpose()?);
        Ok::<_, E>(())
    })?;
    Ok(Some(form.kind))
}

fn each_field<E: From<Error>>(
    kind: Kind,
    raw: &[u8],
    sink: &mut impl FnMut(&[u8], &[u8], Option<u64>) -> Result<(), E>,
) -> Result<(), E> {
    decode(kind, raw, &Limits::default(), &mut |element| match element {
        Element::HashField { field, value, expiry_ms } => sink(field, value, expiry_ms),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>, Option<u64>)>;

    fn fields(kind: Kind, raw: &[u8]) -> Fields {
        let mut fields = Fields::new();
        each_field::<Error>(kind, raw, &mut |field, value, expiry_ms| {
            fields.push((field.to_vec(), value.to_vec(), expiry_ms));
            Ok(())
        })
        .unwrap();
        fields
    }

    /// A Valkey hash, whose form is simple enough to be written by hand.
    fn valkey(fields: &Fields) -> Vec<u8> {
        let mut raw = vec![0x81];
        raw.extend((fields.len() as u64).to_be_bytes());
        for (field, value, expiry_ms) in fields {
            for text in [field, value] {
                raw.push(0x80);
                raw.extend((text.len() as u32).to_be_bytes());
                raw.extend(text);
            }
            raw.extend(expiry_ms.map_or(-1, |at| at as i64).to_le_bytes());
        }
        raw
    }

    #[test]
    fn servers_without_field_expiries_have_no_form() {
        let mut fields = HashFields::default();
        fields.add(None);
        assert_eq!(fields.form(Server::redis(6, 2)).map(|form| form.kind()), Some(Kind::Hash));
        fields.add(Some(7));
        fields.add(Some(9));
        assert_eq!(fields, HashFields { count: 3, least_expiry_ms: Some(7) });
        assert!(fields.form(Server::redis(7, 2)).is_none() && fields.form(Server::valkey(8, 1)).is_none());
    }

    #[test]
    fn what_is_no_such_hash_is_left_alone() {
        let mut out = Vec::new();
        let mut rewrite =
            |kind, raw: &[u8], by| rewrite_field_expiries::<Error>(kind, raw, by, &mut out, &mut Ok).unwrap();
        assert_eq!(rewrite(Kind::Hash, b"\x01\x01f\x01v", Server::redis(7, 4)), None);
        let expiring = valkey(&vec![(b"f".to_vec(), b"v".to_vec(), Some(5))]);
        assert_eq!(rewrite(Kind::ValkeyHashTtl, &expiring, Server::redis(7, 2)), None);
        let lasting = valkey(&vec![(b"f".to_vec(), b"v".to_vec(), None)]);
        assert_eq!(rewrite(Kind::ValkeyHashTtl, &lasting, Server::redis(7, 4)), Some(Kind::Hash));
        assert_eq!(out, b"\x01\x01f\x01v");
    }

    proptest! {
        #[test]
        fn kept_fields_become_those_of_any_server(
            hash in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>(), prop::option::of(0u64..1 << 48)), 0..8),
            by in prop::sample::select(vec![Server::redis(7, 4), Server::redis(8, 6), Server::valkey(9, 0)]),
        ) {
            let kept: Vec<Vec<u8>> = hash.iter().map(|(field, value, expiry_ms)| {
                let mut kept = Vec::new();
                kept_field(&mut kept, field, value, *expiry_ms);
                kept
            }).collect();
            let mut all = HashFields::default();
            kept.iter().for_each(|kept| all.add(KeptField::parse(kept).unwrap().expiry_ms));
            let form = all.form(by).unwrap();
            let mut raw = Vec::new();
            form.head(&mut raw);
            kept.iter().for_each(|kept| form.kept(&mut raw, KeptField::parse(kept).unwrap()));
            prop_assert_eq!(form.kind() == Kind::Hash, hash.iter().all(|(_, _, expiry_ms)| expiry_ms.is_none()));
            prop_assert!(readable(form.kind(), by));
            prop_assert_eq!(&fields(form.kind(), &raw), &hash);
        }

        #[test]
        fn what_is_written_is_read(
            hash in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>(), prop::option::of(0u64..1 << 45)), 0..20),
            by in prop::sample::select(vec![Server::redis(7, 4), Server::redis(8, 6), Server::valkey(9, 0)]),
        ) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let mut later = |at: u64| Ok::<_, Error>(at + (1 << 45));
            let kind = rewrite_field_expiries(Kind::ValkeyHashTtl, &valkey(&hash), by, &mut first, &mut later);
            let kind = kind.unwrap().unwrap();
            prop_assert!(readable(kind, by));
            let expected: Fields =
                hash.into_iter().map(|(field, value, at)| (field, value, at.map(|at| at + (1 << 45)))).collect();
            prop_assert_eq!(&fields(kind, &first), &expected);
            // And back, whatever it became.
            if kind != Kind::Hash {
                let mut back = |at: u64| Ok::<_, Error>(at);
                let kind = rewrite_field_expiries(kind, &first, Server::valkey(9, 0), &mut second, &mut back);
                prop_assert_eq!(&fields(kind.unwrap().unwrap(), &second), &expected);
            }
        }
    }
}
