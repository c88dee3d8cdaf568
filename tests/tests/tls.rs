//! Servers over TLS: that all of a migration works, and what an operator reads where it does not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use replsync_tests::fill::fill;
use replsync_tests::job::{self, arrive, assert_equal, stop};
use replsync_tests::node::{Node, Outcome};
use replsync_tests::server::{Options, TestServer};
use replsync_tests::settle::expire;
use replsync_tests::tls::{Authority, Certificates, ca_args};
use replsync_tests::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(120);

/// The servers of scripts/servers.sh that are built with TLS.
const WITH_TLS: [&str; 8] =
    ["redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6", "valkey-8.0", "valkey-8.1", "valkey-9"];

fn start(name: &str, certificates: &Certificates, args: &[&str]) -> TestServer {
    TestServer::start_with(name, &Options::default().tls(certificates).args(args))
}

fn doctor(url: &str, more: &[String]) -> Result<Outcome> {
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let outcome = Node::run(&[&["doctor", url], &more[..]].concat(), PATIENCE)?;
    println!("{}", outcome.stderr.trim());
    Ok(outcome)
}

#[test]
fn every_server_that_speaks_tls_is_asked_over_it() -> Result<()> {
    let (ca, mut opened) = (Authority::new("ours")?, 0);
    let (server, client) = (ca.sign("server", &["localhost", "127.0.0.1"])?, ca.sign("client", &[])?);
    for name in WITH_TLS {
        let server = TestServer::start_with(name, &Options::default().tls(&server).password("s3cret"));
        for host in ["localhost", "127.0.0.1"] {
            let outcome = doctor(&server.tls_url(host), &client.args("from"))?;
            outcome.assert(0, &[]);
            ensure!(outcome.stdout.contains("master"), "{}", outcome.stdout);
            opened += 1;
        }
    }
    ensure!(opened == 16);
    Ok(())
}

/// All of it: the copy, the stream, links that break, the verification, the expiries at the end.
#[test]
fn a_migration_has_tls_on_both_sides() -> Result<()> {
    let (here, there) = (Authority::new("here")?, Authority::new("there")?);
    let more = [
        here.sign("client", &[])?.args("from"),
        there.sign("client", &[])?.args("to"),
        vec!["--verify".to_owned()],
    ];
    let more = more.concat();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    for (from, to) in [("redis-7.0", "redis-8.0"), ("redis-7.4", "valkey-9"), ("redis-8.6", "redis-7.4")] {
        let source = start(from, &here.sign("server", &["localhost"])?, &[]);
        let target = start(to, &there.sign("server", &["localhost"])?, &[]);
        fill(&source.url(), 3_000, 1)?;
        // More than any buffer on the way holds.
        source.client(3).call(&["SET", "large", &"x".repeat(9 << 20)])?;
        let writer = Writer::start(&source.url(), 1, 1_000)?;
        let urls = [source.tls_url("localhost"), target.tls_url("localhost")];
        let mut node = job::start(&urls[0], &urls[1], &more)?;
        // The first mark may come with the copy.
        arrive(&mut node, &source, &target, PATIENCE)?;
        for _ in 0..3 {
            arrive(&mut node, &source, &target, PATIENCE)?;
            source.client(0).words("CLIENT KILL TYPE replica")?;
        }
        writer.stop()?;
        expire(&source.url())?;
        arrive(&mut node, &source, &target, PATIENCE)?;
        let report = stop(node)?.json()?;
        let (full, partial) = (source.info_number("sync_full"), source.info_number("sync_partial_ok"));
        println!("{from} to {to}: sync_full {full}, sync_partial_ok {partial}");
        ensure!(full == 1 && partial > 0, "a link that broke went on where it was");
        ensure!(report["digest"]["from"] == report["digest"]["to"] && report["verified"] == true, "{report}");
        assert_equal(&source, &target)?;
    }
    Ok(())
}

/// A server that dies says no farewell in TLS, which is no other matter than one that dies without TLS.
#[test]
fn a_source_that_dies_ends_the_job_as_without_tls() -> Result<()> {
    let ca = Authority::new("ours")?;
    let args =
        [ca.sign("client", &[])?.args("from"), vec!["--reconnect-for".to_owned(), "1s".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut source = start("redis-7.4", &ca.sign("server", &["localhost"])?, &[]);
    let target = TestServer::start("redis-7.4", &[]);
    let mut node = job::start(&source.tls_url("localhost"), &target.url(), &args)?;
    for _ in 0..2 {
        arrive(&mut node, &source, &target, PATIENCE)?;
    }
    source.kill();
    let outcome = node.wait(PATIENCE)?;
    println!("{}", outcome.stderr);
    outcome.assert(3, &["Connection refused"]);
    ensure!(!outcome.stderr.contains("close_notify"), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn what_is_wrong_with_a_certificate_is_said() -> Result<()> {
    let (ca, other) = (Authority::new("ours")?, Authority::new("another")?);
    let client = ca.sign("client", &[])?;
    let wrong_ca = [client.args("from")[2..].to_vec(), ca_args("from", &other.file())].concat();
    let trusting = |more: &[&str]| {
        let more = more.iter().map(|&arg| arg.to_owned());
        client.args("from").into_iter().chain(more).collect::<Vec<_>>()
    };

    let server = start("redis-7.4", &ca.sign("server", &["localhost"])?, &[]);
    doctor(&server.tls_url("localhost"), &trusting(&[]))?.assert(0, &[]);
    doctor(&server.tls_url("localhost"), &wrong_ca)?
        .assert(3, &["was not signed by a CA in", "--from-tls-ca"]);
    let made_anew = Authority::new("ours")?;
    let renewed = ca_args("from", &made_anew.file());
    doctor(&server.tls_url("localhost"), &renewed)?
        .assert(3, &["same name with another key", "--from-tls-ca"]);
    // A CA that only the tests know is not among the system's, if there are any.
    let unknown = doctor(&server.tls_url("localhost"), &client.args("from")[2..])?;
    match unknown.code {
        Some(2) => unknown.assert(2, &["no CA certificates", "--from-tls-ca"]),
        _ => unknown.assert(3, &["was not signed by a CA that this system trusts", "--from-tls-ca"]),
    }

    let by_address = server.tls_url("127.0.0.1");
    doctor(&by_address, &trusting(&[]))?
        .assert(3, &["is for localhost, not for 127.0.0.1", "--from-tls-server-name"]);
    doctor(&by_address, &trusting(&["--from-tls-server-name", "localhost"]))?.assert(0, &[]);
    doctor(&by_address, &trusting(&["--from-tls-any-name"]))?.assert(0, &[]);
    doctor(&by_address, &[&wrong_ca[..], &["--from-tls-any-name".to_owned()]].concat())?
        .assert(3, &["was not signed by a CA in"]);

    let nameless = start("redis-7.4", &ca.sign("nameless", &[])?, &[]);
    doctor(&nameless.tls_url("localhost"), &trusting(&[]))?.assert(3, &["is for no name at all"]);
    doctor(&nameless.tls_url("localhost"), &trusting(&["--from-tls-any-name"]))?.assert(0, &[]);

    let expired = start("redis-7.4", &ca.sign_expired("expired", &["localhost"])?, &[]);
    for args in [trusting(&[]), trusting(&["--from-tls-any-name"])] {
        doctor(&expired.tls_url("localhost"), &args)?.assert(3, &["expired", "days ago", "renew it"]);
    }
    Ok(())
}

/// `openssl req -x509` makes such certificates; `redis-cli --cacert` takes them.
#[test]
fn a_certificate_that_signed_itself_is_trusted_when_it_is_named() -> Result<()> {
    let ca = Authority::new("ours")?;
    let [own, foreign] = ["own", "foreign"].map(|name| ca.self_signed(name, &["localhost"]));
    let (own, foreign) = (own?, foreign?);
    let server = start("valkey-9", &own, &["--tls-auth-clients", "no"]);
    let url = server.tls_url("localhost");
    doctor(&url, &ca_args("from", &own.ca))?.assert(0, &[]);
    doctor(&url, &ca_args("from", &foreign.ca))?.assert(3, &["its certificate"]);
    doctor(&url, &ca_args("from", &ca.file()))?.assert(3, &["its certificate"]);
    let by_address = server.tls_url("127.0.0.1");
    doctor(&by_address, &ca_args("from", &own.ca))?.assert(3, &["is for localhost, not for 127.0.0.1"]);
    let any_name = [ca_args("from", &own.ca), vec!["--from-tls-any-name".to_owned()]].concat();
    doctor(&by_address, &any_name)?.assert(0, &[]);
    // By its name alone it is nobody.
    let old = ca.self_signed_expired("old", &["localhost"])?;
    let server = start("redis-7.4", &old, &["--tls-auth-clients", "no"]);
    doctor(&server.tls_url("localhost"), &ca_args("from", &old.ca))?.assert(3, &["expired"]);
    Ok(())
}

#[test]
fn a_server_that_asks_who_we_are_is_understood() -> Result<()> {
    let (ca, other) = (Authority::new("ours")?, Authority::new("another")?);
    let files = ca.sign("server", &["localhost"])?;
    let trusted = ca_args("from", &ca.file());
    let foreign = [trusted.clone(), other.sign("foreign", &[])?.args("from")[2..].to_vec()].concat();
    let made_anew = Authority::new("ours")?;
    let namesake = made_anew.sign("namesake", &[])?;
    let namesake = [trusted.clone(), namesake.args("from")[2..].to_vec()].concat();
    let expired = ca.sign_expired("late", &[])?.args("from");
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let server = start("redis-7.4", &files, &["--tls-protocols", protocols]);
        let url = server.tls_url("localhost");
        doctor(&url, &ca.sign("client", &[])?.args("from"))?.assert(0, &[]);
        doctor(&url, &trusted)?.assert(3, &["wants a client certificate", "--from-tls-cert"]);
        for unknown in [&foreign, &namesake] {
            doctor(&url, unknown)?.assert(3, &["does not take our client certificate", "tls-ca-cert-file"]);
        }
        doctor(&url, &expired)?.assert(3, &["does not take our client certificate", "expired"]);
    }
    let server = start("redis-7.4", &files, &["--tls-auth-clients", "optional"]);
    doctor(&server.tls_url("localhost"), &trusted)?.assert(0, &[]);
    Ok(())
}

#[test]
fn plain_and_tls_ports_are_told_apart() -> Result<()> {
    let ca = Authority::new("ours")?;
    let files = ca.sign("server", &["localhost"])?;
    let trusted = ca_args("from", &ca.file());
    for name in WITH_TLS {
        let server = start(name, &files, &["--tls-auth-clients", "no"]);
        let plain_to_tls = server.tls_url("localhost").replace("rediss", "redis");
        for url in [plain_to_tls.clone(), plain_to_tls.replace("//", "//:pw@")] {
            doctor(&url, &[])?.assert(3, &["rediss://"]);
        }
    }
    let server = TestServer::start("redis-7.4", &[]);
    let tls_to_plain = server.url().replace("redis", "rediss").replace("127.0.0.1", "localhost");
    doctor(&tls_to_plain, &trusted)?.assert(3, &["speaks no TLS on this port", "redis://"]);
    Ok(())
}

#[test]
fn files_of_ours_are_looked_at_before_anything_is_connected() -> Result<()> {
    let ca = Authority::new("ours")?;
    let [one, two] = ["one", "two"].map(|name| ca.sign(name, &[]));
    let (one, two) = (one?, two?);
    let nowhere = PathBuf::from("/nonexistent/ca.crt");
    let text = |path: &PathBuf| path.display().to_string();
    let case = |option: &str, value: String| vec![format!("--from-tls-{option}"), value];
    let pair = |certificate: &PathBuf, key: &PathBuf| {
        [case("cert", text(certificate)), case("key", text(key)), ca_args("from", &one.ca)].concat()
    };
    // Nobody listens there, which would be exit code 3.
    let url = "rediss://127.0.0.1:1";
    for (args, words) in [
        (ca_args("from", &nowhere), "cannot read the certificate in /nonexistent/ca.crt"),
        (ca_args("from", &one.key), "no certificate can be read from"),
        (pair(&one.certificate, &two.key), "are of no use"),
        (pair(&one.certificate, &one.certificate), "no private key can be read from"),
        (case("cert", text(&one.certificate)), "--from-tls-key"),
        (vec!["--from-tls-any-name".to_owned()], "--from-tls-ca"),
        (
            [ca_args("from", &one.ca), case("server-name", "no name".to_owned())].concat(),
            "no host name or address",
        ),
    ] {
        doctor(url, &args)?.assert(2, &[words]);
    }
    doctor("redis://127.0.0.1:1", &ca_args("from", &one.ca))?.assert(2, &["rediss://"]);
    doctor(url, &pair(&one.certificate, &one.key))?.assert(3, &["cannot connect"]);
    Ok(())
}
