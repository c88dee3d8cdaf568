//! Boundaries: where a value ends, by interpreting the grammar of its kind. Contents are not looked at.

use super::kind::Op;
use super::primitive::{StringHead, byte, length, string_head};
use super::window::Window;
use super::{Error, Input, Limits};

/// Why a walk ended early.
pub(super) enum Halt {
    /// The value is longer than the walk was allowed to go.
    Over,
    /// The input is bad.
    Error(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Moves `input` past what `grammar` describes, but never past the offset `until`: nothing is read that would.
///
/// The recursion is as deep as the table nests, whatever the input says; a count that the input cannot back up
/// ends in `Truncated`, since every step that is counted takes a byte at least.
pub(super) fn walk<I: Input>(input: &mut I, grammar: &[Op], limits: &Limits, until: u64) -> Result<(), Halt> {
    for op in grammar {
        match op {
            Op::Str => string(input, limits, until)?,
            Op::Len => {
                length(input)?;
            }
            Op::Fixed(n) => skip(input, u64::from(*n), until)?,
            Op::Decimal => match byte(input)? {
                253..=255 => {}
                n => skip(input, u64::from(n), until)?,
            },
            Op::Repeat(body) => {
                let count = length(input)?;
                match body {
                    [Op::Str] => strings(input, count, 0, limits, until)?,
                    [Op::Str, Op::Str] => strings(input, count.saturating_mul(2), 0, limits, until)?,
                    [Op::Str, Op::Fixed(after)] => strings(input, count, *after, limits, until)?,
                    _ => {
                        for _ in 0..count {
                            walk(input, body, limits, until)?;
                        }
                    }
                }
            }
            Op::ModuleParts => module_parts(input, limits, until)?,
            Op::Array => array(input, limits, until)?,
        }
    }
    if input.offset() > until { Err(Halt::Over) } else { Ok(()) }
}

#[inline]
fn skip<I: Input>(input: &mut I, n: u64, until: u64) -> Result<(), Halt> {
    if input.offset().saturating_add(n) > until {
        return Err(Halt::Over);
    }
    Ok(input.skip(n)?)
}

#[inline]
fn string<I: Input>(input: &mut I, limits: &Limits, until: u64) -> Result<(), Halt> {
    match string_head(input, limits)? {
        StringHead::Plain(len) => skip(input, len, until),
        StringHead::Lzf { compressed, .. } => skip(input, compressed, until),
        StringHead::Int(_) => Ok(()),
    }
}

/// So many strings, each followed by `after` bytes: what is at hand of them is passed in one go.
fn strings<I: Input>(input: &mut I, count: u64, after: u8, limits: &Limits, until: u64) -> Result<(), Halt> {
    let mut left = count;
    while left > 0 {
        let room = until.saturating_sub(input.offset());
        let mut window = Window::of(input, limits)?.up_to(room);
        left -= window.pass(left, usize::from(after));
        let used = window.used();
        input.consume(used);
        if left > 0 {
            string(input, limits, until)?;
            skip(input, u64::from(after), until)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Source: `rdbLoadCheckModuleValue` in `src/rdb.c`.
fn module_parts<I: Input>(input: &mut I, limits: &Limits, until: u64) -> Result<(), Halt> {
    loop {
        let offset = input.offset();
        match length(input)? {
            0 => return Ok(()),
            1 | 2 => {
                length(input)?;
            }
            3 => skip(input, 4, until)?,
            4 => skip(input, 8, until)?,
            5 => string(input, limits, until)?,
            _ => return Err(Error::Corrupt { what: "unknown opcode in a module's data", offset }.into()),
        }
        if input.offset() > until {
            return Err(Halt::Over);
        }
    }
}

/// Tags of array elements: text, integer, float, short text (`elementArray` in librdb's `src/lib/parser.c`).
pub(super) const ARRAY_TAGS: [u64; 4] = [0, 1, 2, 3];

fn array<I: Input>(input: &mut I, limits: &Limits, until: u64) -> Result<(), Halt> {
    let count = length(input)?;
    let offset = input.offset();
    match length(input)? {
        0 => {}
        1 => {
            length(input)?;
        }
        _ => return Err(Error::Corrupt { what: "an array's flag is neither 0 nor 1", offset }.into()),
    }
    let [text, int, float, short] = ARRAY_TAGS;
    for _ in 0..count {
        length(input)?;
        let offset = input.offset();
        match length(input)? {
            tag if tag == int || tag == float => skip(input, 8, until)?,
            tag if tag == text || tag == short => string(input, limits, until)?,
            _ => return Err(Error::Corrupt { what: "unknown tag of an array's element", offset }.into()),
        }
        if input.offset() > until {
            return Err(Halt::Over);
        }
    }
    Ok(())
}
