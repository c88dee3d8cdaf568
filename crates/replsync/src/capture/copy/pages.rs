//! What answers say of big values, which are read in parts.

use bytes::Bytes;

use super::{KEY_SHOWN, Place};
use crate::capture::big::{Big, Reading};
use crate::capture::change::{Change, Form};
use crate::capture::dialect::{Replies, refused};
use crate::capture::ids::{Id, Owner};
use crate::capture::run::Run;
use crate::capture::streams::Read;
use crate::capture::{Error, parts};
use crate::rdb::{DataType, quoted};
use crate::resp::Reply;

impl Run {
    pub(super) fn settle_page(
        &mut self,
        place: &Place,
        number: u32,
        replies: &mut Replies,
        fields: bool,
        page_bytes: u64,
    ) -> Result<(), Error> {
        let reply = replies.next()?;
        let is_void = self.ledger.is_void(place.db, place.space, place.since);
        let Some(big) = self.ledger.big(number) else { return Ok(()) };
        if matches!(&reply, Reply::Error(text) if text.starts_with(b"WRONGTYPE")) || is_void {
            big.page_is_settled();
            self.ledger.restart_big(number);
            return Ok(());
        }
        let page = parts::page(reply, big.data_type)?;
        let (data_type, count, asked) =
            (big.data_type, page.elements.len() as u64, page_len(big, page_bytes));
        // As many next time as make a good page, growing slowly: elements may be of very different sizes.
        big.page = (count * page_bytes / page.bytes.max(1)).clamp(1, 4 * big.page);
        let (mut kept, mut later) = (Vec::new(), Vec::new());
        match data_type {
            DataType::Hash | DataType::Set | DataType::Zset => {
                let ids: Vec<Id> = page
                    .elements
                    .iter()
                    .map(|element| self.ledger.id(Owner::Big(number), &element.name))
                    .collect();
                let Some(big) = self.ledger.big(number) else { return Ok(()) };
                for (element, id) in page.elements.into_iter().zip(ids) {
                    if !big.settle_page(id, place.since) {
                        continue;
                    }
                    match (data_type, fields) {
                        (DataType::Hash, true) => later.push((id, element.name, element.value)),
                        _ => kept.push((id, element.body(data_type))),
                    }
                }
                big.reading = match &page.cursor[..] {
                    b"0" => Reading::Done,
                    _ => Reading::Cursor(page.cursor),
                };
            }
            _ => {
                for element in page.elements {
                    kept.push((Id(u128::from(big.parts)), Some(element.body(data_type).unwrap_or_default())));
                    big.parts += 1;
                }
                let at = match big.reading {
                    Reading::At(at) => at,
                    _ => 0,
                };
                let got = if data_type == DataType::String { page.bytes } else { count };
                big.reading = if got < asked { Reading::Done } else { Reading::At(at + got) };
            }
        }
        if let Some(big) = self.ledger.big(number) {
            big.page_is_settled();
        }
        for (id, name, value) in later {
            self.ledger.asked(id);
            self.field_expiries.entry(number).or_default().push_back((id, name, value));
        }
        for (id, body) in kept {
            self.push_part(number, id, body);
        }
        Ok(())
    }

    /// A page of a stream.
    pub(super) fn settle_stream(
        &mut self,
        place: &Place,
        number: u32,
        replies: Vec<Reply>,
    ) -> Result<(), Error> {
        let is_void = self.ledger.is_void(place.db, place.space, place.since);
        let Some(big) = self.ledger.big(number) else { return Ok(()) };
        big.page_is_settled();
        let Some(stream) = &mut big.stream else { return Ok(()) };
        let read = if is_void { Read::Gone } else { stream.take(replies) };
        let parts = match read {
            Read::Parts(parts) => parts,
            Read::End(parts) => {
                big.reading = Reading::Done;
                parts
            }
            Read::Gone => {
                self.ledger.restart_big(number);
                return Ok(());
            }
            Read::Refused(command, error) => return Err(refused(command, &error)),
            Read::Unreadable(why) => {
                tracing::info!(key = quoted(&big.key, KEY_SHOWN), "a stream cannot be read in parts: {why}");
                let key = big.key.clone();
                self.unreadable.insert(self.ledger.id(Owner::Space(place.space), &key));
                self.ledger.restart_big(number);
                return Ok(());
            }
        };
        let first = big.parts;
        big.parts += parts.len() as u64;
        for (at, part) in (first..).zip(parts) {
            self.push_part(number, Id(u128::from(at)), Some(part));
        }
        Ok(())
    }

    /// Elements of a big value, as they stand in an RDB; nothing where it is of another type.
    pub(super) fn settle_elements(
        &mut self,
        place: &Place,
        number: u32,
        elements: Vec<(Id, Bytes)>,
        bodies: Option<Vec<Option<Bytes>>>,
        fields_unknown: bool,
    ) {
        let is_there = self.ledger.big(number).is_some();
        let Some(bodies) = bodies.filter(|_| is_there) else {
            elements.iter().for_each(|(id, _)| self.ledger.forget(*id));
            // Of another type by now, if it is there.
            self.ledger.restart_big(number);
            return;
        };
        for ((id, name), body) in elements.into_iter().zip(bodies) {
            if fields_unknown {
                self.ledger.again(Owner::Big(number), id, &name);
            } else if self.ledger.settle_element(number, id, &name, place.db, place.since) || self.is_lenient
            {
                self.push_part(number, id, body);
            }
        }
    }

    pub(super) fn push_part(&mut self, big: u32, id: Id, body: Option<Bytes>) {
        self.stats.big_parts += 1;
        self.stats.copied_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        self.push(Change::Part { big, id, body });
    }
}

/// How much of a big value is asked for next: elements, or bytes of a string.
pub(super) fn page_len(big: &Big, page_bytes: u64) -> u64 {
    match big.form {
        Form::String => page_bytes,
        _ => big.page,
    }
}
