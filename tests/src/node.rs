//! The binary `replsync-node` as a script sees it: arguments, output, signals, exit code.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::server::signal;

/// A run of the binary, killed when it is dropped before its end.
pub struct Node {
    child: Child,
    outputs: [Output; 2],
    peak_rss_bytes: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended the process.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The most memory it ever had resident.
    pub peak_rss_bytes: u64,
}

struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// `NODE_BIN`, or the binary beside the running test's own (`target/debug` or `target/release`).
///
/// # Panics
/// When there is none.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("NODE_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a process knows its program");
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("replsync-node")).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no replsync-node beside {}: cargo build -p replsync-node", own.display()))
}

impl Node {
    /// Starts it with those arguments.
    pub fn start(args: &[&str]) -> Result<Self> {
        Self::start_with(args, Stdio::piped(), &[])
    }

    /// The same with standard error going elsewhere (a terminal, to see the progress) and more environment.
    pub fn start_with(args: &[&str], stderr: Stdio, env: &[(&str, &str)]) -> Result<Self> {
        let program = program();
        // A test that is killed runs no destructors: what it started dies with it all the same.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program).args(args).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let outputs = [Output::collect(child.stdout.take()), Output::collect(child.stderr.take())];
        Ok(Self { child, outputs, peak_rss_bytes: 0 })
    }

    /// Runs it to its end.
    pub fn run(args: &[&str], timeout: Duration) -> Result<Outcome> {
        Self::start(args)?.wait(timeout)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        self.look_at_memory();
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal: `TERM`, `INT`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error until now.
    pub fn stderr(&self) -> String {
        self.outputs[1].so_far()
    }

    /// Waits for its end; one that does not come in time is killed and an error.
    pub fn wait(mut self, timeout: Duration) -> Result<Outcome> {
        let deadline = Instant::now() + timeout;
        let status = loop {
            self.look_at_memory();
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                bail!("replsync-node did not end within {timeout:?}; it said:\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let [stdout, stderr] = self.outputs.each_mut().map(Output::whole);
        Ok(Outcome { code: status.code(), stdout, stderr, peak_rss_bytes: self.peak_rss_bytes })
    }

    /// The kernel keeps the mark itself; it is read often because it goes with the process.
    fn look_at_memory(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        self.peak_rss_bytes = self.peak_rss_bytes.max(kib.unwrap_or(0) * 1024);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// The JSON document on standard output.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!("not one JSON document: {:?}; exit code {:?}; {}", self.stdout, self.code, self.stderr)
        })
    }

    /// Checks the exit code, and that standard error says all of these.
    ///
    /// # Panics
    /// When it is not so; the message shows everything.
    pub fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "standard error does not say {word:?}:\n{}", self.stderr);
        }
    }
}

impl Output {
    fn collect(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = text.clone();
        let thread = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                    into.lock().expect("no reader panics").extend_from_slice(&buffer[..len]);
                }
            })
        });
        Self { text, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no reader panics")).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.so_far()
    }
}
