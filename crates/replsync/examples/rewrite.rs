//! Rewrites the commands of a stream or an AOF for a target: `rewrite redis|valkey VERSION < commands > answers`.
//!
//! Each command is answered in RESP: `+AsIs`, `+Dropped why`, an array of the commands to send instead, or an
//! error where there is no rule.

use std::io::{self, BufRead, BufReader, Read, Write};

use bytes::Bytes;
use replsync::command::{Rewritten, Target, rewrite};
use replsync::server::{Product, Server, parse_version};

fn line(input: &mut impl BufRead) -> io::Result<Option<usize>> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.get(1..).and_then(|number| number.trim_end().parse().ok()))
}

fn command(input: &mut impl BufRead) -> io::Result<Option<Vec<Bytes>>> {
    let Some(count) = line(input)? else { return Ok(None) };
    let mut args = Vec::new();
    for _ in 0..count {
        let mut arg = Vec::new();
        let len = line(input)?.unwrap_or(0);
        input.by_ref().take(len as u64 + 2).read_to_end(&mut arg)?;
        arg.truncate(len);
        args.push(arg.into());
    }
    Ok(Some(args))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let product = if words.next().as_deref() == Some("valkey") { Product::Valkey } else { Product::Redis };
    let version = parse_version(&words.next().unwrap_or_default())?;
    let target = Target { server: Server { product, version }, commands: None };
    let (mut input, mut output) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    while let Some(args) = command(&mut input)? {
        let now_ms = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64;
        match rewrite(&args, &target, now_ms) {
            Ok(Rewritten::AsIs) => write!(output, "+AsIs\r\n")?,
            Ok(Rewritten::Dropped(why)) => write!(output, "+Dropped {why}\r\n")?,
            Err(no_rule) => write!(output, "-{no_rule}\r\n")?,
            Ok(Rewritten::Replaced(commands)) => {
                write!(output, "*{}\r\n", commands.len())?;
                for args in commands {
                    write!(output, "*{}\r\n", args.len())?;
                    for arg in args {
                        write!(output, "${}\r\n", arg.len())?;
                        output.write_all(&arg)?;
                        output.write_all(b"\r\n")?;
                    }
                }
            }
        }
    }
    Ok(())
}
