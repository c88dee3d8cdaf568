//! Which names are small strings, as far as can be told before they are read.
//!
//! A small string costs a server less than half of what DUMP does, if it is asked for as one; but a key of another
//! type answers with an error, which is counted in the server's statistics. Names of one form mostly have one type:
//! what stands before the first digit is the form here.

use xxhash_rust::xxh3::xxh3_64;

/// So many forms are told apart; others share a place.
const PLACES: usize = 4096;
/// So many small strings in a row make a form one of small strings.
const ENOUGH: u8 = 8;
/// What one that was none costs.
const LOSS: u8 = 64;

/// What was seen of each form of names.
pub(super) struct Guess(Vec<u8>);

impl Guess {
    pub fn new() -> Self {
        Self(vec![0; PLACES])
    }

    /// Whether a key is likely a small string.
    pub fn is_text(&self, key: &[u8]) -> bool {
        self.0.get(place(key)).is_some_and(|seen| *seen >= ENOUGH)
    }

    /// What it was.
    pub fn learn(&mut self, key: &[u8], was_text: bool) {
        if let Some(seen) = self.0.get_mut(place(key)) {
            *seen = match was_text {
                true => seen.saturating_add(1),
                false => seen.saturating_sub(LOSS).min(ENOUGH - 1),
            };
        }
    }
}

fn place(key: &[u8]) -> usize {
    let form = key.iter().position(u8::is_ascii_digit).unwrap_or(key.len()).min(24);
    xxh3_64(&key[..form]) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_strings_is_learnt_and_unlearnt() {
        let mut guess = Guess::new();
        assert!(!guess.is_text(b"user:1"));
        for n in 0..20 {
            guess.learn(format!("user:{n}").as_bytes(), true);
        }
        assert!(guess.is_text(b"user:77:name") && !guess.is_text(b"queue:1"));
        guess.learn(b"user:5", false);
        assert!(!guess.is_text(b"user:1"));
    }
}
