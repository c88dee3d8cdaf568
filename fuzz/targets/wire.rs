//! What the fuzz targets of the wire do with their input. Plain functions: an ordinary test replays inputs through
//! them too. The first byte says how the rest is cut into pieces.

use bytes::{BufMut, BytesMut};
use redis_protocol::resp2::{decode::decode, types::OwnedFrame};
use replsync::psync::{Announce, Credentials, Event, Position, Replica};
use replsync::resp::reply;
use replsync::resp::{CommandScanner, Frame, Reply, ReplyDecoder, write_bulk};

/// Pieces of 1 to 64 bytes.
fn pieces(data: &[u8]) -> Option<(std::slice::Chunks<'_, u8>, &[u8])> {
    let (how, rest) = data.split_first()?;
    Some((rest.chunks(1 + usize::from(how % 64)), rest))
}

/// A replication stream: the same frames whole and in pieces, all bytes accounted for, and each command is what
/// redis-protocol reads from the same bytes.
pub fn repl_stream(data: &[u8]) {
    let Some((pieces, whole)) = pieces(data) else { return };
    let whole_scan = scan([whole]);
    assert_eq!(whole_scan, scan(pieces));
    let (frames, taken, _) = whole_scan;
    let mut at = 0;
    for frame in frames {
        match frame {
            Frame::Newline(len) => at += len,
            Frame::Command(command) => {
                assert_eq!(command.raw, whole[at..at + command.raw.len()]);
                at += command.raw.len();
                match decode(&command.raw) {
                    Ok(Some((OwnedFrame::Array(args), len))) => {
                        assert_eq!(len, command.raw.len());
                        let ours = command.args.iter().map(|arg| OwnedFrame::BulkString(arg.to_vec()));
                        assert!(ours.eq(args), "{command:?}");
                    }
                    other => panic!("{command:?} is {other:?} to redis-protocol"),
                }
            }
        }
    }
    assert_eq!(at, taken);
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, usize, bool) {
    let (mut scanner, mut buf, mut frames, mut fed) =
        (CommandScanner::default(), BytesMut::new(), Vec::new(), 0);
    let mut taken = 0;
    for piece in pieces {
        buf.extend_from_slice(piece);
        fed += piece.len();
        loop {
            match scanner.next(&mut buf) {
                Ok(Some(frame)) => {
                    taken = fed - buf.len();
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(_) => return (frames, taken, false),
            }
        }
    }
    (frames, taken, true)
}

/// A whole connection of a replica, from the answer to PING on: the same events whole and in pieces, a payload as long
/// as its header says, and offsets that count the bytes behind it.
pub fn replica(data: &[u8]) {
    let Some((pieces, whole)) = pieces(data) else { return };
    for resume in [false, true] {
        assert_eq!(connection(resume, [whole]), connection(resume, pieces.clone()));
    }
}

/// What happened on a connection, payload bytes put together, and whether it went well.
fn connection<'a>(resume: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, BytesMut, bool) {
    let position = Position { replid: "0".repeat(40).parse().expect("40 digits"), offset: 1000 };
    let credentials = resume.then(|| Credentials { user: None, password: "secret".into() });
    let announce = Announce::unseen("fuzz", resume.then(|| "9.0.0".into()));
    let mut replica = Replica::new(credentials, announce, resume.then_some(position));
    let (mut events, mut payload, mut payload_len) = (Vec::new(), BytesMut::new(), None);
    // bytes of the connection so far, those before its stream, and the offset that the stream began at
    let (mut fed, mut before_stream, mut began_at) = (0, 0, 0);
    for piece in pieces {
        replica.input().extend_from_slice(piece);
        fed += piece.len() as u64;
        loop {
            while replica.transmit().is_some() {}
            let event = replica.event();
            let taken = fed - replica.input().len() as u64;
            match event {
                Ok(None) => break,
                Err(_) => return (events, payload, false),
                Ok(Some(Event::Payload(bytes))) => {
                    payload.extend_from_slice(&bytes);
                    assert!(payload.len() as u64 <= payload_len.unwrap_or(u64::MAX));
                    continue;
                }
                Ok(Some(event)) => events.push(event),
            }
            match events.last() {
                Some(Event::FullResync(position) | Event::Continue(position)) => {
                    (before_stream, began_at) = (taken, position.offset);
                }
                Some(Event::PayloadStart(len)) => payload_len = *len,
                Some(Event::PayloadEnd) => {
                    before_stream = taken;
                    assert_eq!(payload_len.unwrap_or(payload.len() as u64), payload.len() as u64);
                }
                Some(Event::Command { command, offset } | Event::GetAck { command, offset }) => {
                    assert_eq!(offset - began_at, taken - before_stream, "{command:?}");
                    assert_eq!(replica.position().map(|position| position.offset), Some(*offset));
                }
                Some(Event::Payload(_)) | None => {}
            }
        }
    }
    (events, payload, true)
}

/// A server's replies: the same ones whole and in pieces, as long as redis-protocol finds them, within the limits,
/// and read again once they are written.
pub fn reply(data: &[u8]) {
    const LIMITS: reply::Limits = reply::Limits { depth_max: 8, bytes_max: 1 << 16 };
    let Some((pieces, whole)) = pieces(data) else { return };
    let mut decoder = ReplyDecoder::new(LIMITS);
    let mut buf = BytesMut::from(whole);
    let mut found = Vec::new();
    let ok = loop {
        let before = whole.len() - buf.len();
        match decoder.next(&mut buf) {
            Ok(Some(reply)) => {
                let bytes = &whole[before..whole.len() - buf.len()];
                if !matches!(reply, Reply::Simple(_) | Reply::Error(_)) {
                    let theirs = decode(bytes).expect("what we read, they read").expect("and it is whole");
                    assert_eq!(theirs.1, bytes.len(), "{reply:?}");
                }
                assert!(depth(&reply) <= LIMITS.depth_max, "{reply:?}");
                let mut again = BytesMut::new();
                write(&mut again, &reply);
                assert_eq!(ReplyDecoder::default().next(&mut again), Ok(Some(reply.clone())));
                assert!(again.is_empty());
                found.push(reply);
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let (mut decoder, mut buf, mut again) = (ReplyDecoder::new(LIMITS), BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buf) {
                Ok(Some(reply)) => again.push(reply),
                Ok(None) => break,
                Err(error) => {
                    assert!(!ok, "in pieces only: {error}");
                    assert_eq!(found, again);
                    return;
                }
            }
        }
    }
    assert!(ok, "whole only: an error");
    assert_eq!(found, again);
}

/// Arrays within arrays, empty ones not counted.
fn depth(reply: &Reply) -> usize {
    match reply {
        Reply::Array(replies) if !replies.is_empty() => 1 + replies.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn write(out: &mut BytesMut, reply: &Reply) {
    match reply {
        Reply::Simple(text) => line(out, b'+', text),
        Reply::Error(text) => line(out, b'-', text),
        Reply::Integer(number) => line(out, b':', number.to_string().as_bytes()),
        Reply::Bulk(bytes) => write_bulk(out, bytes),
        Reply::Nil => out.put_slice(b"$-1\r\n"),
        Reply::Array(replies) => {
            line(out, b'*', replies.len().to_string().as_bytes());
            for reply in replies {
                write(out, reply);
            }
        }
    }
}

fn line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}
