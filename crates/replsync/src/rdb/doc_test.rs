//! docs/formats/rdb.md says what the code says.

use super::kind::{Magic, Since, TYPES};
use super::opcode::{self, pre_release};
use crate::server::Server;

const DOC: &str = include_str!("../../../../docs/formats/rdb.md");

/// The cells of the rows of the table under that heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOC.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn types_are_those_of_the_table() {
    let expected: Vec<Vec<String>> = TYPES
        .iter()
        .map(|row| {
            let (since, by) = match row.since {
                Since::Always => (1, "both"),
                Since::Redis(version @ ..12) => (version, "both"),
                Since::Redis(version) => (version, "Redis"),
                Since::Valkey(version) => (version, "Valkey"),
            };
            let (byte, since) = (row.byte.to_string(), since.to_string());
            [&byte, row.data_type.name(), row.encoding, &since, by].map(str::to_owned).to_vec()
        })
        .collect();
    assert_eq!(rows("Types"), expected);
}

#[test]
fn opcodes_are_those_of_the_reader() {
    let names = [
        (opcode::EOF, "EOF"),
        (opcode::SELECTDB, "SELECTDB"),
        (opcode::EXPIRETIME, "EXPIRETIME"),
        (opcode::EXPIRETIME_MS, "EXPIRETIME_MS"),
        (opcode::RESIZEDB, "RESIZEDB"),
        (opcode::AUX, "AUX"),
        (opcode::FREQ, "FREQ"),
        (opcode::IDLE, "IDLE"),
        (opcode::MODULE_AUX, "MODULE_AUX"),
        (opcode::FUNCTION_PRE_GA, "FUNCTION_PRE_GA"),
        (opcode::FUNCTION2, "FUNCTION2"),
        (opcode::SLOT_INFO, "SLOT_INFO"),
        (opcode::KEY_META, "KEY_META (Redis), SLOT_IMPORT (Valkey)"),
    ];
    assert_eq!(opcode::KEY_META, opcode::SLOT_IMPORT);
    assert!(pre_release(opcode::FUNCTION_PRE_GA).is_some());
    let found: Vec<_> = rows("Opcodes").into_iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    assert_eq!(found, names);
}

#[test]
fn versions_are_those_of_the_servers() {
    for row in rows("Files") {
        let (magic, version) = row[0].split_once(' ').unwrap();
        let version: u16 = version.parse().unwrap();
        let family = Magic::of_version(version);
        assert!(family.reads(version) && family.as_str() == magic);
        for server in row[1].split(", ") {
            let (product, numbers) = server.split_once(' ').unwrap();
            let (major, minor) = numbers.split_once('.').unwrap();
            let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
            let server = match product {
                "Redis" => Server::redis(major, minor),
                _ => Server::valkey(major, minor),
            };
            assert_eq!(server.rdb_version(), version, "{server}");
        }
    }
}
