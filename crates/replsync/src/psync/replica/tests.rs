use super::*;
use proptest::prelude::*;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const MARK: &str = "MARKfedcba9876543210fedcba9876543210fedc";

fn replica(resume: Option<u64>) -> Replica {
    let resume = resume.map(|offset| Position { replid: ID.parse().unwrap(), offset });
    let credentials = Credentials { user: Some("u".into()), password: "secret".into() };
    Replica::new(Some(credentials), Announce::unseen("t", Some("9.1.2".into())), resume)
}

/// Feeds `pieces`: the events with payload pieces joined, and what was sent.
fn drive<'a>(
    mut replica: Replica,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Result<(), Error>, String) {
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    let mut result = Ok(());
    for piece in pieces {
        sent.extend(replica.transmit().into_iter().flatten());
        replica.input().extend_from_slice(piece);
        loop {
            match replica.event() {
                Ok(None) => break,
                Ok(Some(Event::Payload(bytes))) => match events.last_mut() {
                    Some(Event::Payload(before)) => *before = [&before[..], &bytes].concat().into(),
                    _ => events.push(Event::Payload(bytes)),
                },
                Ok(Some(event)) => events.push(event),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if result.is_err() {
            break;
        }
    }
    sent.extend(replica.transmit().into_iter().flatten());
    (events, result, String::from_utf8(sent).unwrap())
}

fn full_sync(payload: &str) -> Vec<u8> {
    let stream = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n\n*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n*1\r\n$4\r\nPING\r\n";
    format!("\n+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n\n\n+FULLRESYNC {ID} 100\r\n\n\n{payload}{stream}")
        .into_bytes()
}

fn check_full_sync(input: &[u8], len: Option<u64>, pieces: &[&[u8]], what: &str) {
    let (events, result, _) = drive(replica(None), pieces.iter().copied());
    assert_eq!(result, Ok(()), "{what}");
    let [Event::FullResync(at), Event::PayloadStart(told), Event::Payload(rdb), Event::PayloadEnd, rest @ ..] =
        &events[..]
    else {
        panic!("{what}: {events:?} from {}", input.escape_ascii());
    };
    assert_eq!(
        (at.offset, at.replid.as_str(), *told, &rdb[..]),
        (100, ID, len, &b"REDIS0012 \r\n*1\r\n MARK"[..]),
        "{what}"
    );
    let offsets: Vec<_> = rest
        .iter()
        .map(|event| match event {
            Event::Command { command, offset } => (command.name(), *offset),
            Event::GetAck { offset, .. } => (&b"getack"[..], *offset),
            other => panic!("{what}: {other:?}"),
        })
        .collect();
    assert_eq!(offsets, [(&b"SELECT"[..], 123), (b"getack", 161), (b"PING", 175)], "{what}");
}

#[test]
fn a_full_sync_at_every_cut() {
    for (payload, len) in [
        ("$21\r\nREDIS0012 \r\n*1\r\n MARK".to_owned(), Some(21)),
        (format!("$EOF:{MARK}\r\nREDIS0012 \r\n*1\r\n MARK{MARK}"), None),
    ] {
        let input = full_sync(&payload);
        for cut in 0..=input.len() {
            let (a, b) = input.split_at(cut);
            check_full_sync(&input, len, &[a, b], &format!("cut at {cut}"));
        }
        check_full_sync(&input, len, &input.chunks(1).collect::<Vec<_>>(), "byte by byte");
    }
}

#[test]
fn the_handshake_says_what_it_should_in_order() {
    let (_, _, sent) = drive(replica(Some(41)), full_sync("").chunks(1));
    let words: Vec<_> = sent.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
    let expected = format!(
        "PING AUTH u secret REPLCONF listening-port 70000 REPLCONF ip-address replsync-t \
         REPLCONF capa eof capa psync2 REPLCONF version 9.1.2 PSYNC {ID} 42"
    );
    assert_eq!(words.join(" ").trim(), expected);
}

#[test]
fn a_partial_resync_goes_on_at_the_same_offset_under_the_new_id() {
    let other = ID.replace('0', "f");
    let handshake = "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n-ERR Unrecognized REPLCONF option: version\r\n";
    for (answer, id) in [("+CONTINUE".to_owned(), ID), (format!("+CONTINUE {other}"), &other)] {
        let input = format!("{handshake}{answer}\r\n*1\r\n$4\r\nPING\r\n");
        let (events, result, sent) = drive(replica(Some(7)), [input.as_bytes()]);
        assert_eq!(result, Ok(()));
        assert_eq!(events[0], Event::Continue(Position { replid: id.parse().unwrap(), offset: 7 }));
        assert!(matches!(events[1], Event::Command { offset: 21, .. }), "{events:?}");
        assert!(sent.ends_with("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n"), "{sent}");
    }
}

#[test]
fn refusals_are_told_apart() {
    let ok = "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
    for (input, step, transient) in [
        ("-LOADING Redis is loading the dataset in memory\r\n".to_owned(), Step::Ping, true),
        ("+PONG\r\n-WRONGPASS invalid username-password pair\r\n".to_owned(), Step::Auth, false),
        (format!("{ok}-NOMASTERLINK Can't SYNC while not connected with my master\r\n"), Step::Psync, true),
        (format!("{ok}-ERR unknown command 'PSYNC'\r\n"), Step::Psync, false),
        (format!("{ok}-NOPERM this user has no permissions\r\n"), Step::Psync, false),
        (format!("{ok}+FULLRESYNC {ID} 5\r\n-ERR child died\r\n"), Step::PayloadHeader, true),
    ] {
        let (_, result, sent) = drive(replica(None), [input.as_bytes()]);
        let error = result.expect_err(&input);
        assert!(matches!(&error, Error::Refused { step: at, .. } if *at == step), "{error}");
        assert_eq!(error.is_transient(), transient, "{error}");
        assert!(!error.to_string().contains("secret") && sent.contains("PING"));
    }
}

#[test]
fn nonsense_is_an_error_with_its_place() {
    let ok = "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
    for input in [
        "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
        format!("{ok}+FULLRESYNC {ID}\r\n"),
        format!("{ok}+FULLRESYNC short 5\r\n"),
        format!("{ok}+FULLRESYNC {ID} -1\r\n"),
        format!("{ok}+CONTINUE\r\n"),
        format!("{ok}+FULLRESYNC {ID} 5\r\n$-1\r\n"),
        format!("{ok}+FULLRESYNC {ID} 5\r\n$EOF:short\r\n"),
        format!("{ok}+FULLRESYNC {ID} 5\r\n$+4\r\n"),
        "x".repeat(LINE_LEN_MAX + 1),
    ] {
        let (_, result, _) = drive(replica(None), [input.as_bytes()]);
        assert!(matches!(result, Err(Error::Unexpected { .. })), "{result:?} for {:.80}", input);
    }
    let (_, result, _) = drive(replica(None), [&full_sync("$0\r\n")[..], b"REDIS0012"]);
    let error = result.unwrap_err().to_string();
    assert!(error.contains(&format!("{ID}:175")), "{error}");
}

proptest! {
    #[test]
    fn never_panics(input: Vec<u8>, resume: Option<u32>, prefix in 0usize..7) {
        let lines = ["+PONG\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n", "+CONTINUE\r\n"];
        let start: String = lines[..prefix].concat();
        let (_, result, _) = drive(replica(resume.map(u64::from)), [start.as_bytes(), &input]);
        if let Err(error) = result {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
