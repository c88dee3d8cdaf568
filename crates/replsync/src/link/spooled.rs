//! How events wait on disk.
//!
//! A byte says which; numbers are big-endian.
//!
//! ```text
//! 1 full resync     offset 8, replid
//! 2 payload start   (length 8, where it is known)
//! 3 payload         bytes
//! 4 payload end
//! 5 commands        arrived_ms 8, then for each: the offset behind it 8, its bytes as they came
//! 6 resumed         offset 8, replid
//! ```
//!
//! A command says itself where it ends, and is read again as it was read from the socket.

use bytes::{Buf, BytesMut};

use super::{Error, Event};
use crate::psync::Position;
use crate::resp::{CommandScanner, Frame};
use crate::spool::{Item, Record};

const FULL_RESYNC: u8 = 1;
const PAYLOAD_START: u8 = 2;
const PAYLOAD: u8 = 3;
const PAYLOAD_END: u8 = 4;
const COMMANDS: u8 = 5;
const RESUMED: u8 = 6;

impl Item for Result<Event, Error> {
    fn cost_bytes(&self) -> usize {
        match self {
            Ok(Event::Payload(bytes)) => bytes.len(),
            Ok(Event::Commands { commands, .. }) => {
                commands.iter().map(|(command, _)| command.cost_bytes()).sum()
            }
            Ok(_) | Err(_) => 0,
        }
    }

    fn encode(&self, record: &mut Record<'_>) -> bool {
        match self {
            Ok(Event::FullResync(position)) => put_position(record, FULL_RESYNC, position),
            Ok(Event::Resumed(position)) => put_position(record, RESUMED, position),
            Ok(Event::PayloadStart(len)) => {
                record.put(&[PAYLOAD_START]);
                if let Some(len) = len {
                    record.put(&len.to_be_bytes());
                }
            }
            Ok(Event::Payload(bytes)) => {
                record.put(&[PAYLOAD]);
                record.put(bytes);
            }
            Ok(Event::PayloadEnd) => record.put(&[PAYLOAD_END]),
            Ok(Event::Commands { commands, arrived_ms }) => {
                record.put(&[COMMANDS]);
                record.put(&arrived_ms.to_be_bytes());
                for (command, offset) in commands {
                    record.put(&offset.to_be_bytes());
                    record.put(&command.raw);
                }
            }
            // Errors have causes that are no bytes.
            Ok(Event::Down { .. }) | Err(_) => return false,
        }
        true
    }

    fn decode(mut body: BytesMut) -> Option<Self> {
        let event = match body.try_get_u8().ok()? {
            FULL_RESYNC => Event::FullResync(position(body)?),
            RESUMED => Event::Resumed(position(body)?),
            PAYLOAD_START if body.is_empty() => Event::PayloadStart(None),
            PAYLOAD_START => Event::PayloadStart(Some(body.try_get_u64().ok()?)),
            PAYLOAD => Event::Payload(body.freeze()),
            PAYLOAD_END => Event::PayloadEnd,
            COMMANDS => commands(body)?,
            _ => return None,
        };
        Some(Ok(event))
    }
}

fn put_position(record: &mut Record<'_>, kind: u8, position: &Position) {
    record.put(&[kind]);
    record.put(&position.offset.to_be_bytes());
    record.put(position.replid.as_str().as_bytes());
}

fn position(mut body: BytesMut) -> Option<Position> {
    let offset = body.try_get_u64().ok()?;
    let replid = std::str::from_utf8(&body).ok()?.parse().ok()?;
    Some(Position { replid, offset })
}

fn commands(mut body: BytesMut) -> Option<Event> {
    let arrived_ms = body.try_get_u64().ok()?;
    let (mut scanner, mut commands) = (CommandScanner::default(), Vec::new());
    while !body.is_empty() {
        let offset = body.try_get_u64().ok()?;
        let Ok(Some(Frame::Command(command))) = scanner.next(&mut body) else { return None };
        commands.push((command, offset));
    }
    Some(Event::Commands { commands, arrived_ms })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::resp::write_command;
    use crate::spool;

    fn position() -> impl Strategy<Value = Position> {
        ("[0-9a-f]{40}", any::<u64>())
            .prop_map(|(replid, offset)| Position { replid: replid.parse().unwrap(), offset })
    }

    /// Commands of a stream that has newlines between them, with their offsets.
    fn commands() -> impl Strategy<Value = Event> {
        let command = (prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5), 0u64..3);
        (any::<u32>(), prop::collection::vec(command, 1..20), any::<u64>()).prop_map(
            |(start, commands, arrived_ms)| {
                let mut stream = BytesMut::new();
                let mut offset = u64::from(start);
                let commands = commands.into_iter().map(|(args, newlines)| {
                    write_command(&mut stream, &args);
                    offset += newlines + stream.len() as u64;
                    let Ok(Some(Frame::Command(command))) = CommandScanner::default().next(&mut stream)
                    else {
                        panic!("it does not read what was written")
                    };
                    (command, offset)
                });
                Event::Commands { commands: commands.collect(), arrived_ms }
            },
        )
    }

    fn event() -> impl Strategy<Value = Result<Event, Error>> {
        let down = || Error::ShuttingDown { master: "m".to_owned(), position: None };
        prop_oneof![
            position().prop_map(|at| Ok(Event::FullResync(at))),
            position().prop_map(|at| Ok(Event::Resumed(at))),
            any::<Option<u64>>().prop_map(|len| Ok(Event::PayloadStart(len))),
            any::<Vec<u8>>().prop_map(|bytes| Ok(Event::Payload(bytes.into()))),
            Just(()).prop_map(|()| Ok(Event::PayloadEnd)),
            commands().prop_map(Ok),
            Just(()).prop_map(move |()| Ok(Event::Down { error: down(), retry_in: Duration::from_secs(1) })),
            Just(()).prop_map(move |()| Err(down())),
        ]
    }

    proptest! {
        #[test]
        fn events_come_back_from_disk_as_they_were(events in prop::collection::vec(event(), 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let (mut sender, mut receiver) = spool::queue(spool::Config { memory_bytes: 0, ..Default::default() });
                let expected: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
                for event in events {
                    sender.send(event).unwrap();
                }
                prop_assert_eq!(receiver.gauge().bytes() > 0, expected.len() > 1);
                for expected in expected {
                    let event = receiver.recv().await.unwrap();
                    prop_assert_eq!(event.map(|event| format!("{event:?}")), Some(expected));
                }
                Ok(())
            })?;
        }

        #[test]
        fn what_is_no_event_is_refused(bytes: Vec<u8>, kind in 0u8..8) {
            // Not a word on what it gives for bytes that happen to be an event, but that it does not panic.
            let _ = <Result<Event, Error>>::decode([&[kind][..], &bytes].concat()[..].into());
            prop_assert!(<Result<Event, Error>>::decode(BytesMut::from(&b"\x05short"[..])).is_none());
            prop_assert!(<Result<Event, Error>>::decode(BytesMut::new()).is_none());
        }
    }
}
