//! An element of a value, taken apart into a name, by which the other side has it too, and a content, which may differ.
//! Equal elements have equal bytes, whatever the encoding of their value.

use super::text::{both, quoted};
use crate::rdb::{ArrayValue, Element, ModulePart, StreamId};

/// An element's nature, in the order in which differences are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// An item of a list, by its index.
    Item,
    /// A member of a set.
    Member,
    /// A member of a sorted set; its score.
    Scored,
    /// A field of a hash; its expiry and value.
    Field,
    /// An entry of a stream, by its id; its fields and values.
    Entry,
    /// A stream's last id.
    LastId,
    /// A consumer group; the last id that was delivered.
    Group,
    /// A pending entry, by its group and id; whose it is.
    Pending,
    /// Where the next insertion into an array goes.
    InsertIndex,
    /// An element of an array, by its index; its type and value.
    ArrayItem,
    /// The module's type, and the version of its encoding.
    Module,
    /// A part of a module's value, by its index; its type and content.
    ModulePart,
}

impl Part {
    /// The word for it in machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Member | Self::Scored => "member",
            Self::Field => "field",
            Self::Entry => "entry",
            Self::LastId => "last_id",
            Self::Group => "group",
            Self::Pending => "pending",
            Self::InsertIndex => "insert_index",
            Self::ArrayItem => "element",
            Self::Module => "module",
            Self::ModulePart => "part",
        }
    }
}

/// Stands for the expiry of a field that never expires.
const NO_EXPIRY: u64 = u64::MAX;
/// Before the consumer of a pending entry, so that one without a name is not nobody.
const OWNED: u8 = b'c';

/// Takes apart an element of a value that is no string: nature, name and content, each of the two
/// in pieces that belong behind each other. `index` counts the elements before it; `meant` takes shifts off the
/// expiries of hash fields. What does not count, as the room's documentation says, is left out.
pub(super) fn take_apart(
    index: u64,
    element: Element<'_>,
    meant: impl Fn(u64) -> u64,
    give: impl FnOnce(Part, &[&[u8]], &[&[u8]]),
) {
    match element {
        Element::ListItem(item) => give(Part::Item, &[&index.to_be_bytes()], &[item]),
        Element::SetMember(member) => give(Part::Member, &[member], &[]),
        Element::ZsetMember { member, score } => give(Part::Scored, &[member], &[&float(score)]),
        Element::HashField { field, value, expiry_ms } => {
            let expiry = expiry_ms.map_or(NO_EXPIRY, meant);
            give(Part::Field, &[field], &[&expiry.to_be_bytes(), value]);
        }
        Element::StreamEntry { id: entry, fields } => {
            let texts = || fields.iter().flat_map(|(field, value)| [*field, *value]);
            let lens: Vec<[u8; 8]> = texts().map(|text| (text.len() as u64).to_be_bytes()).collect();
            let content: Vec<&[u8]> =
                lens.iter().zip(texts()).flat_map(|(len, text)| [&len[..], text]).collect();
            give(Part::Entry, &[&id(entry)], &content);
        }
        Element::StreamMeta { last_id, .. } => give(Part::LastId, &[], &[&id(last_id)]),
        Element::StreamGroup { name, last_id, .. } => give(Part::Group, &[name], &[&id(last_id)]),
        Element::StreamPending { group, consumer, id: entry, .. } => {
            give(Part::Pending, &[group, &id(entry)], &[&[OWNED], consumer]);
        }
        Element::StreamNacked { group, id: entry, .. } => give(Part::Pending, &[group, &id(entry)], &[]),
        Element::ArrayMeta { insert_index, .. } => {
            let index = insert_index.map(u64::to_be_bytes);
            give(Part::InsertIndex, &[], &[index.as_ref().map_or(&[], |index| &index[..])]);
        }
        Element::ArrayItem { index, value } => {
            let name = index.to_be_bytes();
            match value {
                ArrayValue::Bytes(text) => give(Part::ArrayItem, &[&name], &[b"text ", text]),
                // Clients see its text.
                ArrayValue::Int(number) => {
                    give(Part::ArrayItem, &[&name], &[b"text ", number.to_string().as_bytes()]);
                }
                ArrayValue::Float(number) => {
                    give(Part::ArrayItem, &[&name], &[b"float ", (number + 0.0).to_string().as_bytes()]);
                }
            }
        }
        Element::ModuleValue { id } => {
            give(Part::Module, &[], &[format!("{id}, version {}", id.encoding_version()).as_bytes()])
        }
        Element::ModulePart(part) => {
            // The type comes before it.
            let name = index.saturating_sub(1).to_be_bytes();
            let give =
                |text: &str, content: &[u8]| give(Part::ModulePart, &[&name], &[text.as_bytes(), content]);
            match part {
                ModulePart::Signed(number) => give("signed ", number.to_string().as_bytes()),
                ModulePart::Unsigned(number) => give("unsigned ", number.to_string().as_bytes()),
                ModulePart::Float(number) => give("float ", format!("{number:?}").as_bytes()),
                ModulePart::Double(number) => give("double ", format!("{number:?}").as_bytes()),
                ModulePart::String(text) => give("text ", text),
            }
        }
        Element::StreamConsumer { .. } | Element::StreamIdmp(_) | Element::StringPart(_) => {}
    }
}

/// Two numbers, so that they sort as bytes.
fn id(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

/// Zero has one sign here: servers do not tell its two apart.
fn float(number: f64) -> [u8; 8] {
    (number + 0.0).to_be_bytes()
}

/// An element, taken apart.
#[derive(Clone, Copy)]
pub(super) struct One<'a> {
    pub part: Part,
    pub name: &'a [u8],
    pub content: &'a [u8],
}

impl<'a> One<'a> {
    /// What it is, for people.
    pub fn subject(&self) -> String {
        let name = self.name;
        match self.part {
            Part::Module => "module".to_owned(),
            Part::ModulePart => format!("part {}", number(name)),
            Part::Item => format!("item {}", number(name)),
            Part::Member | Part::Scored => format!("member {}", quoted(name)),
            Part::Field => format!("field {}", quoted(name)),
            Part::Entry => format!("entry {}", id_of(name)),
            Part::LastId => "last id".to_owned(),
            Part::Group => format!("group {}", quoted(name)),
            Part::Pending => {
                let (group, id) = self.group_and_id();
                format!("pending entry {id} of group {}", quoted(group))
            }
            Part::InsertIndex => "where the next insertion goes".to_owned(),
            Part::ArrayItem => format!("element {}", number(name)),
        }
    }

    /// The name as text, where it is one: of a member, a field, a group, or a pending entry's group.
    pub fn text(&self) -> Option<&'a [u8]> {
        match self.part {
            Part::Member | Part::Scored | Part::Field | Part::Group => Some(self.name),
            Part::Pending => Some(self.group_and_id().0),
            _ => None,
        }
    }

    /// The index in its list, array or module value.
    pub fn index(&self) -> Option<u64> {
        matches!(self.part, Part::Item | Part::ArrayItem | Part::ModulePart).then(|| number(self.name))
    }

    /// The id of its entry in a stream.
    pub fn id(&self) -> Option<StreamId> {
        match self.part {
            Part::Entry => Some(id_of(self.name)),
            Part::Pending => Some(self.group_and_id().1),
            _ => None,
        }
    }

    fn group_and_id(&self) -> (&'a [u8], StreamId) {
        let (group, id) = self.name.split_at(self.name.len().saturating_sub(size_of::<[u64; 2]>()));
        (group, id_of(id))
    }

    /// How its content differs from that of the same element on the other side.
    pub fn contents(&self, other: &One<'_>) -> String {
        let (a, b) = (self.content, other.content);
        match self.part {
            Part::Item | Part::Member | Part::ArrayItem | Part::Module | Part::ModulePart => both(a, b),
            Part::Scored => format!("{} and {}", float_text(a), float_text(b)),
            Part::Field => {
                let ((expiry_a, a), (expiry_b, b)) = (split_expiry(a), split_expiry(b));
                let expiries = || format!("expires {} and {}", expiry_text(expiry_a), expiry_text(expiry_b));
                match (a == b, expiry_a == expiry_b) {
                    (true, _) => expiries(),
                    (false, true) => both(a, b),
                    (false, false) => format!("{}; {}", both(a, b), expiries()),
                }
            }
            Part::Entry => {
                let count = |content| texts(content).count() / 2;
                match texts(a).zip(texts(b)).find(|(a, b)| a != b) {
                    None => format!("{} and {} fields", count(a), count(b)),
                    // Of what is long, the end may not be held.
                    Some(((len_a, a), (len_b, b))) if a == b => {
                        format!("{len_a} and {len_b} bytes, which differ behind the first {}", a.len())
                    }
                    Some(((_, a), (_, b))) => both(a, b),
                }
            }
            Part::LastId | Part::Group => format!("{} and {}", id_of(a), id_of(b)),
            Part::Pending => format!("{} and {}", owner_text(a), owner_text(b)),
            Part::InsertIndex => format!("{} and {}", number_or_none(a), number_or_none(b)),
        }
    }

    /// Its content alone, where there is more than a name.
    pub fn content_text(&self) -> Option<String> {
        let content = self.content;
        Some(match self.part {
            Part::Member => return None,
            Part::Item | Part::ArrayItem | Part::Module | Part::ModulePart => quoted(content),
            Part::Scored => float_text(content),
            Part::Field => quoted(split_expiry(content).1),
            Part::Entry => format!("{} fields", texts(content).count() / 2),
            Part::LastId | Part::Group => id_of(content).to_string(),
            Part::Pending => owner_text(content),
            Part::InsertIndex => number_or_none(content),
        })
    }
}

/// The first eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn number_or_none(bytes: &[u8]) -> String {
    if bytes.is_empty() { "none".to_owned() } else { number(bytes).to_string() }
}

fn float_text(bytes: &[u8]) -> String {
    let float = f64::from_bits(number(bytes));
    // Not with three hundred digits.
    let is_far = float.is_finite() && float != 0.0 && !(1e-6..1e17).contains(&float.abs());
    if is_far { format!("{float:e}") } else { float.to_string() }
}

fn id_of(bytes: &[u8]) -> StreamId {
    StreamId { ms: number(bytes), seq: number(bytes.get(8..).unwrap_or_default()) }
}

fn owner_text(content: &[u8]) -> String {
    content.split_first().map_or_else(|| "nobody's".to_owned(), |(_, consumer)| quoted(consumer))
}

fn split_expiry(content: &[u8]) -> (u64, &[u8]) {
    (number(content), content.get(8..).unwrap_or_default())
}

fn expiry_text(expiry_ms: u64) -> String {
    if expiry_ms == NO_EXPIRY { "never".to_owned() } else { format!("at {expiry_ms}") }
}

/// The fields and values of a stream entry.
fn texts(mut content: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let (len, rest) = content.split_first_chunk()?;
        let len = u64::from_be_bytes(*len);
        let held = usize::try_from(len).map_or(rest.len(), |len| len.min(rest.len()));
        let (text, rest) = rest.split_at(held);
        content = rest;
        Some((len, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(part: Part, a: &[&[u8]], b: &[&[u8]]) -> String {
        let [a, b] = [a.concat(), b.concat()];
        let one = |content| One { part, name: &[0; 16], content };
        one(&a).contents(&one(&b))
    }

    #[test]
    fn a_field_differs_in_its_value_and_its_expiry() {
        let at = |ms: u64| ms.to_be_bytes();
        let of = |a: &[&[u8]], b: &[&[u8]]| texts_of(Part::Field, a, b);
        assert_eq!(of(&[&at(5), b"v"], &[&at(5), b"w"]), r#""v" and "w""#);
        assert_eq!(of(&[&at(5), b"v"], &[&at(NO_EXPIRY), b"v"]), "expires at 5 and never");
        assert_eq!(of(&[&at(5), b"v"], &[&at(6), b"w"]), r#""v" and "w"; expires at 5 and at 6"#);
    }

    /// Of an entry that is longer than what is held, the last text is cut.
    #[test]
    fn entries_differ_where_they_are_cut_too() {
        let len = |len: u64| len.to_be_bytes();
        let of = |a: &[&[u8]], b: &[&[u8]]| texts_of(Part::Entry, a, b);
        let field: &[&[u8]] = &[&len(1), b"f"];
        let with =
            |of: u64, value: &'static [u8]| [field.concat(), len(of).to_vec(), value.to_vec()].concat();
        assert_eq!(of(&[&with(900, b"abc")], &[&with(900, b"abd")]), r#""abc" and "abd""#);
        let more = "900 and 901 bytes, which differ behind the first 3";
        assert_eq!(of(&[&with(900, b"abc")], &[&with(901, b"abc")]), more);
        let [two, four] = [with(1, b"v"), [with(1, b"v"), with(1, b"v")].concat()];
        assert_eq!(of(&[&two], &[&four]), "1 and 2 fields");
    }
}
