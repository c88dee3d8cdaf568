//! What people forget: the floors of the library, and the licences and sources of what it is built from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use replsync_tests::workspace;

/// The rooms of `crates/replsync/src` by floor. A room uses only rooms of lower floors, and those of its own floor that
/// are named before it.
const FLOORS: [&[&str]; 7] = [
    &["server", "shift", "checksum", "resp"],
    &["rdb", "aof"],
    &["psync", "command"],
    &["files", "clock", "endpoint", "channel", "spool", "link"],
    &["digest", "compare", "apply"],
    &["capture", "relay"],
    &["verify", "inspect", "migrate", "backup"],
];

/// Floors that know no socket, clock or runtime.
const SANS_IO_FLOORS: usize = 3;
const NOT_SANS_IO: [&[&str]; 5] =
    [&["tokio"], &["std", "net"], &["std", "os", "unix", "net"], &["Instant", "now"], &["SystemTime", "now"]];

#[test]
fn no_room_uses_what_stands_above_it() -> Result<()> {
    let src = workspace().join("crates/replsync/src");
    let (mut wrong, mut files) = (Vec::new(), 0);
    for file in rust_files(&src)? {
        let name = file.strip_prefix(&src)?;
        if name != Path::new("lib.rs") {
            wrong.extend(violations(name, &std::fs::read_to_string(&file)?));
            files += 1;
        }
    }
    println!("{files} files looked at");
    ensure!(files > 0, "no files found in {}", src.display());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_import_is_found() {
    for (file, source) in [
        ("resp.rs", "use crate::rdb::Entry;"),
        ("rdb/mod.rs", "use super::psync;"),
        ("rdb/stream/mod.rs", "use super::super::command::Table;"),
        ("rdb/stream/deep.rs", "fn f() { super::super::super::apply::go() }"),
        ("rdb.rs", "use crate::{resp::{self, Frame}, link};"),
        ("rdb.rs", "fn f() { let x = crate::migrate::run(); }"),
        ("rdb.rs", "pub(crate) use {crate::apply as other};"),
        ("checksum.rs", "use crate::resp;"), // its own floor, but named after it
        ("psync.rs", "use crate::command;"),
        ("psync.rs", "use crate::nowhere::Thing;"),
        ("psync.rs", "use crate::*;"),
        ("attic/mod.rs", ""),
        ("psync.rs", "use tokio::io;"),
        ("psync/mod.rs", "use std::{fmt, net::IpAddr};"),
        ("psync/mod.rs", "let now = std::time::Instant::now();"),
        ("command.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
    ] {
        assert!(!violations(Path::new(file), source).is_empty(), "not found: {source} in {file}");
    }
    for (file, source) in [
        ("rdb.rs", "use crate::resp::Frame; use crate::rdb::Entry; use super::checksum;"),
        ("rdb/stream.rs", "use super::Entry; use super::super::resp; use self::part::x;"),
        ("resp.rs", "use crate::{server::Version, checksum};"),
        ("apply.rs", "use tokio::net::TcpStream; let now = Instant::now(); use crate::link::Link;"),
        ("resp.rs", "// use crate::rdb;\n/* crate::apply /* nested */ */ const S: &str = \"crate::apply\";"),
        ("resp.rs", "const R: &str = r#\"use crate::apply;\"#; const C: char = '\"'; fn f<'a>() {}"),
        ("resp.rs", "#[cfg(test)]\nmod tests { use crate::apply; fn f() { if true {} } }"),
        ("rdb/tests.rs", "use crate::apply;"),
    ] {
        assert_eq!(violations(Path::new(file), source), [""; 0], "{source} in {file}");
    }
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// What a file of that name (below `src`) may not say.
fn violations(file: &Path, source: &str) -> Vec<String> {
    let module = module_path(file);
    if module.iter().any(|name| name == "tests") {
        return Vec::new();
    }
    let room = module.first().map_or("", |name| name);
    let place = |name: &str| {
        FLOORS
            .iter()
            .enumerate()
            .find_map(|(floor, rooms)| Some((floor, rooms.iter().position(|&room| room == name)?)))
    };
    let Some(own) = place(room) else {
        return vec![format!("{}: the room {room} stands on no floor: see FLOORS", file.display())];
    };
    let mut wrong = BTreeSet::new();
    for path in paths(&without_tests(tokens(source))) {
        if let Some(used) = room_of(&path, &module).filter(|used| *used != room) {
            let why = match place(used) {
                None => "is no room",
                Some(floor) if floor > own => "stands above it",
                Some(_) => "",
            };
            if !why.is_empty() {
                wrong.insert(format!(
                    "{}: {room} uses {used}, which {why} ({})",
                    file.display(),
                    path.join("::")
                ));
            }
        }
        let does_io = |banned: &&&[&str]| path.windows(banned.len()).any(|part| part == **banned);
        if own.0 < SANS_IO_FLOORS && NOT_SANS_IO.iter().any(|banned| does_io(&banned)) {
            wrong.insert(format!("{}: {} on a sans-IO floor", file.display(), path.join("::")));
        }
    }
    wrong.into_iter().collect()
}

/// `rdb/stream/mod.rs` is `rdb::stream`.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|name| name == "mod") {
        parts.pop();
    }
    parts
}

/// The room at the root of the crate that a path leads to, if it leads there.
fn room_of<'a>(path: &'a [String], module: &[String]) -> Option<&'a str> {
    let rest = match path.first()?.as_str() {
        "crate" => &path[1..],
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            if ups < module.len() {
                return None;
            }
            &path[ups..]
        }
        _ => return None,
    };
    rest.first().map(String::as_str)
}

/// Words and signs of a source text, without comments, strings and characters; `::` is one sign.
fn tokens(source: &str) -> Vec<String> {
    let text: Vec<char> = source.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(n, c)| text.get(at + n) == Some(&c));
    while at < text.len() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if starts(at, "//") {
            at += text[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                let step = if starts(at, "/*") {
                    1
                } else if starts(at, "*/") {
                    -1
                } else {
                    0
                };
                depth += step;
                at += if step == 0 { 1 } else { 2 };
                if depth == 0 || at >= text.len() {
                    break;
                }
            }
        } else if let Some(len) = raw_string_len(&text[at..]) {
            at += len;
        } else if text[at] == '"' {
            at += 1;
            while at < text.len() && text[at] != '"' {
                at += if text[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if text[at] == '\'' && (text.get(at + 1) == Some(&'\\') || text.get(at + 2) == Some(&'\'')) {
            at += if text[at + 1] == '\\' { 3 } else { 2 };
            at += text[at.min(text.len())..].iter().take_while(|c| **c != '\'').count() + 1;
        } else if word(text[at]) {
            let len = text[at..].iter().take_while(|c| word(**c)).count();
            tokens.push(text[at..at + len].iter().collect());
            at += len;
        } else if starts(at, "::") {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !text[at].is_whitespace() {
                tokens.push(text[at].to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// The length of a raw string (`r"…"`, `br#"…"#`) at the start of a text.
fn raw_string_len(text: &[char]) -> Option<usize> {
    let prefix = text.iter().take_while(|c| "br".contains(**c)).count();
    let hashes = text[prefix..].iter().take_while(|c| **c == '#').count();
    if !text[..prefix].contains(&'r') || prefix > 2 || text.get(prefix + hashes) != Some(&'"') {
        return None;
    }
    let body = prefix + hashes + 1;
    let end: String = format!("\"{}", "#".repeat(hashes));
    let rest: String = text[body..].iter().collect();
    let chars_before = rest.find(&end).map(|byte| rest[..byte].chars().count()).unwrap_or(rest.len());
    Some(body + chars_before + end.len())
}

/// Leaves out `#[cfg(test)] mod … { … }`: tests may look down from above.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].iter().take(marker.len()).eq(marker.iter()) {
            let mut depth = 0;
            while at < tokens.len() {
                depth += match tokens[at].as_str() {
                    "{" => 1,
                    "}" => -1,
                    _ => 0,
                };
                at += 1;
                if depth == 0 && (tokens[at - 1] == "}" || tokens[at - 1] == ";") {
                    break;
                }
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Every path in a text, the trees of `use` unfolded.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_word(&tokens[at]) { unfold(tokens, &mut at, &[], &mut found) } else { at += 1 }
    }
    found
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn unfold(tokens: &[String], at: &mut usize, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        match tokens.get(*at).map(String::as_str) {
            Some("{") => {
                *at += 1;
                while *at < tokens.len() && tokens[*at] != "}" {
                    if tokens[*at] == "{" || is_word(&tokens[*at]) {
                        unfold(tokens, at, &path, found);
                    } else {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            Some(word) if is_word(word) || word == "*" => {
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                *at += 1;
            }
            _ => break,
        }
        if tokens.get(*at).is_some_and(|token| token == "::") {
            *at += 1;
        } else {
            break;
        }
    }
    found.push(path);
}

#[test]
fn licences_and_sources_are_those_of_deny_toml() -> Result<()> {
    let deny = std::fs::read_to_string(workspace().join("deny.toml"))?;
    let allowed = allowed_licences(&deny)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(workspace());
    let output = command.output().context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    println!("{} packages", packages.len());
    let mut wrong = Vec::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("");
        if !is_allowed(licence, &allowed) {
            wrong.push(format!("{}: licence {licence:?}", package["name"]));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| source != "registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{}: from {source:?}", package["name"]));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "(MIT OR GPL-3.0) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception OR X",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND X", "GPL-3.0 WITH LLVM-exception"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

/// The list `allow` of deny.toml's licences.
fn allowed_licences(deny: &str) -> Result<Vec<String>> {
    let section = deny.split("[licenses]").nth(1).context("deny.toml has no [licenses]")?;
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let list = list.context("deny.toml allows no licences")?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Whether an SPDX expression can be met with these: any side of OR, every side of AND.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut at = 0;
    let met = any_side(&words, &mut at, allowed);
    met && at == words.len()
}

fn any_side(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = every_side(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= every_side(words, at, allowed);
    }
    met
}

fn every_side(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one_side(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one_side(words, at, allowed);
    }
    met
}

fn one_side(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let met = any_side(words, at, allowed);
        *at += 1;
        return met;
    }
    let mut licence = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}
