//! Real servers, each on a free loopback port (and a unix socket) in a temporary folder, ended by their handle.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{Conn, Version, int};
use crate::tls::Certificates;

/// The servers that tests know, oldest first of each product.
pub const ALL: [&str; 11] = [
    "redis-5.0",
    "redis-6.0",
    "redis-6.2",
    "redis-7.0",
    "redis-7.2",
    "redis-7.4",
    "redis-8.0",
    "redis-8.6",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9",
];

/// A server that runs until it is dropped.
pub struct TestServer {
    name: String,
    port: u16,
    tls_port: Option<u16>,
    login: String,
    program: PathBuf,
    args: Vec<String>,
    folder: tempfile::TempDir,
    child: Child,
}

/// What a server is started with beyond the ordinary.
#[derive(Default)]
pub struct Options<'a> {
    args: Vec<&'a str>,
    password: Option<&'a str>,
    user: Option<(&'a str, &'a str)>,
    file: Option<&'a [u8]>,
    config: Option<&'a Path>,
    tls: Option<&'a Certificates>,
}

impl<'a> Options<'a> {
    /// More configuration, as on a server's command line: `["--maxmemory", "2mb"]`.
    pub fn args(mut self, args: &[&'a str]) -> Self {
        self.args.extend(args);
        self
    }

    /// Asks for that password (`requirepass`), and connects with it.
    pub fn password(mut self, password: &'a str) -> Self {
        self.password = Some(password);
        self
    }

    /// Knows that ACL user, who may do everything, and connects as that one; from Redis 6.0 on.
    pub fn user(mut self, name: &'a str, password: &'a str) -> Self {
        self.user = Some((name, password));
        self
    }

    /// Reads that configuration file first: for what a command line cannot say (an empty word, on old servers).
    pub fn config(mut self, path: &'a Path) -> Self {
        self.config = Some(path);
        self
    }

    /// Listens on a second port for TLS, with that certificate and for clients with one of that CA (unless
    /// `tls-auth-clients` says otherwise); see `scripts/servers.sh` for the servers that are built with it.
    pub fn tls(mut self, server: &'a Certificates) -> Self {
        self.tls = Some(server);
        self
    }

    /// Starts with that RDB file as its data.
    pub fn rdb(mut self, file: &'a [u8]) -> Self {
        self.file = Some(file);
        self
    }
}

impl TestServer {
    /// Starts the server of that name (see `scripts/servers.sh`), with more configuration.
    ///
    /// # Panics
    /// When there is no such server, or it does not answer within ten seconds: a test has nothing to go on with.
    pub fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, &Options::default().args(args))
    }

    /// The same with more options.
    ///
    /// # Panics
    /// As `start`.
    pub fn start_with(name: &str, options: &Options) -> Self {
        let program = program(name);
        assert!(program.exists(), "there is no {}: run scripts/servers.sh {name}", program.display());
        let mut last = None;
        for _ in 0..5 {
            // Between the choice of the port and the server's bind another test may take it.
            match Self::try_start(name, &program, options) {
                Ok(server) => return server,
                Err(error) => last = Some(error),
            }
        }
        panic!("{name} does not start: {:#}", last.expect("five tries were made"));
    }

    /// The same for a server that may refuse to start, as it does with a damaged file: then the error holds its log.
    pub fn try_start_with(name: &str, options: &Options) -> Result<Self> {
        loop {
            match Self::try_start(name, &program(name), options) {
                Err(error) if format!("{error:#}").contains("Address already in use") => {}
                other => return other,
            }
        }
    }

    fn try_start(name: &str, program: &Path, options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        if let Some(file) = options.file {
            std::fs::write(folder.path().join("dump.rdb"), file)?;
        }
        let free_port = || Ok::<_, std::io::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let port = free_port()?;
        let tls_port = options.tls.map(|_| free_port()).transpose()?;
        let path = |file: &str| folder.path().join(file).display().to_string();
        let (port_text, dir, log, socket) =
            (port.to_string(), path(""), path("server.log"), path("server.sock"));
        let config = options.config.map(|path| path.display().to_string());
        let mut args: Vec<&str> = config.iter().map(String::as_str).collect();
        args.extend(["--port", &port_text, "--bind", "127.0.0.1", "--dir", &dir]);
        args.extend(["--logfile", &log, "--unixsocket", &socket, "--save", "", "--appendonly", "no"]);
        args.extend(["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        if !["redis-5.0", "redis-6.0", "redis-6.2"].contains(&name) && !name.contains('/') {
            args.extend(["--enable-debug-command", "yes"]); // for DEBUG DIGEST and JMAP of test servers
        }
        let mut login = String::new();
        let mut user_line = Vec::new();
        if let Some(password) = options.password {
            args.extend(["--requirepass", password]);
            login = format!(":{password}@");
        }
        if let Some((user, password)) = options.user {
            user_line = ["on", &format!(">{password}"), "~*", "+@all"].map(str::to_owned).to_vec();
            // Channels have rules of their own since 6.2; before, this is none.
            if !["redis-5.0", "redis-6.0"].contains(&name) {
                user_line.push("allchannels".to_owned());
            }
            args.extend(["--user", user]);
            login = format!("{user}:{password}@");
        }
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        args.extend(user_line);
        if let (Some(port), Some(tls)) = (tls_port, options.tls) {
            args.extend(["--tls-port".to_owned(), port.to_string()]);
            for (option, file) in [("ca-cert", &tls.ca), ("cert", &tls.certificate), ("key", &tls.key)] {
                args.extend([format!("--tls-{option}-file"), file.display().to_string()]);
            }
        }
        args.extend(options.args.iter().map(|&arg| arg.to_owned()));
        let child = spawn(program, &args)?;
        let program = program.to_owned();
        let mut server = Self { name: name.to_owned(), port, tls_port, login, program, args, folder, child };
        server.wait_until_up()?;
        Ok(server)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}: {}", self.log());
            }
            let answer = Conn::open(&self.url()).and_then(|mut conn| conn.words("PING"));
            match answer {
                Ok(_) => return Ok(()),
                // A replica whose master is away answers so; it is up all the same.
                Err(error) if format!("{error:#}").contains("MASTERDOWN") => return Ok(()),
                // One that is made to load slowly is wanted so.
                Err(error)
                    if format!("{error:#}").contains("LOADING")
                        && self.args.iter().any(|arg| arg == "--key-load-delay") =>
                {
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error.context(self.log())),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://…`, with user and password where it asks for them.
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login, self.port)
    }

    /// `rediss://…` by that host name or address, for one that was started with `tls`.
    ///
    /// # Panics
    /// For another one.
    pub fn tls_url(&self, host: &str) -> String {
        let port = self.tls_port.expect("it was started with TLS");
        format!("rediss://{}{host}:{port}", self.login)
    }

    /// `unix:///…`, its unix socket.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.folder.path().join("server.sock").display())
    }

    /// Its working folder, where `dump.rdb` and `server.log` lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// A connection with that database selected.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn client(&self, db: u32) -> Conn {
        let mut conn = Conn::open(&self.url()).expect("the server takes connections");
        if db != 0 {
            conn.select(db).expect("the database exists");
        }
        conn
    }

    /// A section of INFO.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn info(&self, section: &str) -> String {
        self.client(0).info(section).expect("INFO answers")
    }

    /// One field of INFO as a number; 0 where it is missing.
    pub fn info_number(&self, field: &str) -> i64 {
        let value = self.client(0).info_field(field).expect("INFO answers");
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// Who it says it is.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn version(&self) -> Version {
        self.client(0).version().expect("INFO answers")
    }

    /// An RDB file of what it holds, as its own SAVE writes it.
    pub fn save(&self) -> Result<Vec<u8>> {
        self.client(0).words("SAVE")?;
        std::fs::read(self.folder.path().join("dump.rdb")).context("SAVE left no dump.rdb")
    }

    /// Makes it a replica of another and waits until the copy is in.
    pub fn replicate(&self, master: &TestServer) -> Result<()> {
        self.client(0).words(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
        self.wait_for_replication(master, false)
    }

    /// Waits, as its replica, until it has everything that the master has sent. Nothing may write meanwhile.
    pub fn wait_for_offset_of(&self, master: &TestServer) -> Result<()> {
        self.wait_for_replication(master, true)
    }

    fn wait_for_replication(&self, master: &TestServer, to_the_offset: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let info = self.info("replication");
            let offset = master.info_number("master_repl_offset");
            let up = info.contains("master_link_status:up");
            if up && (!to_the_offset || info.contains(&format!("slave_repl_offset:{offset}\r"))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} does not follow {}: {}", self.name, master.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it (SIGKILL). What it held is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, on the same port and in the same folder, after `kill`.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.program, &self.args)?;
        self.wait_until_up()
    }

    /// Stops it from running (SIGSTOP): connections stay, nothing answers.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets it run again.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// Waits for the next `n` keys to be there, over all databases; for tests that watch a copy under way.
    pub fn wait_for_keys(&self, count: u64, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while self.client(0).keys()? < count {
            if Instant::now() > deadline {
                bail!("{} keys did not arrive within {timeout:?}", count);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// How many times it forked: as it counts itself, or before 6.2 by what it has logged of each.
    pub fn forks_seen(&self) -> i64 {
        self.forks().unwrap_or_else(|| self.log().matches("started by pid").count() as i64)
    }

    /// How many times it forked, where it counts that (6.2 and newer).
    pub fn forks(&self) -> Option<i64> {
        let field = self.client(0).info_field("total_forks").ok()??;
        int(&redis::Value::BulkString(field.trim().as_bytes().to_vec()))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() && self.log().contains("REDIS BUG REPORT") {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(" # ")).collect();
            eprintln!("{} crashed:\n{}", self.name, lines.join("\n"));
        }
    }
}

/// Where `scripts/servers.sh` leaves that server's launcher; a name with a slash is a program itself.
pub fn program(name: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let servers = std::env::var_os("REPLSYNC_SERVERS").map(PathBuf::from);
    servers.unwrap_or_else(|| crate::workspace().join("target/servers")).join(name).join("server")
}

/// Sends a signal (`TERM`, `STOP` …) to a process that the caller started and has not waited for.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid} failed");
}

fn spawn(program: &Path, args: &[String]) -> Result<Child> {
    let null = Stdio::null;
    // A test that is killed runs no destructors: its servers die with it all the same.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.args(args).stdin(null()).stdout(null()).stderr(null());
    command.spawn().with_context(|| format!("cannot run {}", program.display()))
}
