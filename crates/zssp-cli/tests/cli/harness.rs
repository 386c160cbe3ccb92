//! Processes with deadlines, and the files they work on.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Nothing here takes nearly as long, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with the keys of two peers and a place to receive into.
pub(crate) struct Scene {
    folder: TempDir,
    pub(crate) alice: String,
    pub(crate) bob: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let key = |name: &str| keygen(&folder.path().join(name));
        let (alice, bob) = (key("alice.key"), key("bob.key"));
        Self { folder, alice, bob }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The receiver's folder.
    pub(crate) fn inbox(&self) -> PathBuf {
        self.path("in")
    }

    /// `zssp receive` as Bob, with Alice welcome.
    pub(crate) fn receive(&self, more: &[&str]) -> Receiver {
        Receiver::start(self.receive_command(&["--allow", &self.alice]).args(more))
    }

    /// `zssp receive` as Bob, with nobody welcome yet.
    pub(crate) fn receive_command(&self, more: &[&str]) -> Command {
        self.receive_at("127.0.0.1:0", more)
    }

    /// The same at a certain address.
    pub(crate) fn receive_at(&self, address: &str, more: &[&str]) -> Command {
        let mut command = zssp(["receive", "--listen", address, "--key"]);
        command.arg(self.path("bob.key")).arg("--dir").arg(self.inbox()).args(more);
        command
    }

    /// `zssp send` as Alice.
    pub(crate) fn send(&self, to: &Receiver, paths: &[&Path]) -> Command {
        let mut command = zssp(["send", "--key"]);
        command.arg(self.path("alice.key")).args(["--to", &format!("{}@{}", self.bob, to.address)]);
        command.arg("--").args(paths);
        command
    }

    /// A file of the given size that takes no room on the disk, so that a transfer of it can be cut off at leisure.
    pub(crate) fn endless(&self, size: u64) -> PathBuf {
        let path = self.path("endless");
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// Waits until part of a file has arrived.
    pub(crate) fn wait_for_partial(&self) {
        self.wait_for_bytes(1 << 20);
    }

    /// Waits until so much of a file has arrived, and less than all of it.
    pub(crate) fn wait_for_bytes(&self, bytes: u64) {
        let arrived = || self.partial().filter(|size| *size >= bytes);
        eventually("an unfinished file of some size", arrived);
    }

    /// The size of what has arrived of the file that is not complete.
    pub(crate) fn partial(&self) -> Option<u64> {
        fs::read_dir(self.inbox()).unwrap().filter_map(Result::ok).find_map(|entry| {
            let partial = entry.file_name().as_encoded_bytes().starts_with(b".zssp-partial-");
            let size = entry.metadata().ok()?.len();
            partial.then_some(size)
        })
    }

    /// What lies in the receiver's folder.
    pub(crate) fn arrived(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.inbox())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn zssp<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zssp"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Makes a key and returns the public one.
pub(crate) fn keygen(path: &Path) -> String {
    let output = finish(zssp(["keygen"]).arg(path));
    assert!(output.success(), "{output:?}");
    output.stdout.trim().to_owned()
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Asserts the exit code and a word of the explanation.
    #[track_caller]
    pub(crate) fn failed_with(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.stderr.contains(words), "no `{words}` in {self:#?}");
    }
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Finished {
    Running::start(command).finish()
}

/// A process that is killed when the test is over, whatever became of it.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// What was read of it so far.
    read: String,
    stderr: mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let (tell, stderr) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            let _ = tell.send(String::from_utf8_lossy(&text).into_owned());
        });
        Self { child, stdout: Some(stdout), read: String::new(), stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Reads standard output up to and with the first line that contains `words`.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, words: &str) {
        let stdout = self.stdout.as_mut().unwrap();
        loop {
            let start = self.read.len();
            let length = stdout.read_line(&mut self.read).unwrap();
            assert!(length > 0, "no line with `{words}` in {:#?}", self.read);
            if self.read[start..].contains(words) {
                return;
            }
        }
    }

    /// Reads nothing more of standard output.
    pub(crate) fn hang_up(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn finish(mut self) -> Finished {
        let mut stdout = std::mem::take(&mut self.read);
        let reader = self.stdout.take().map(|mut reader| {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = reader.read_to_string(&mut text);
                text
            })
        });
        let status: ExitStatus = eventually("the end of a process", || self.child.try_wait().unwrap());
        if let Some(reader) = reader {
            stdout.push_str(&reader.join().unwrap());
        }
        let stderr = self.stderr.recv_timeout(PATIENCE).unwrap();
        Finished { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `zssp receive` or `zssp serve`.
pub(crate) struct Receiver {
    running: Running,
    pub(crate) address: String,
}

impl Receiver {
    /// Starts the command and waits until it says where it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut running = Running::start(command);
        let mut line = String::new();
        running.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        match line.trim().strip_prefix("listening on ") {
            Some(address) => Self { address: address.to_owned(), running },
            None => panic!("not listening but {line:?}: {:#?}", running.finish()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    pub(crate) fn finish(self) -> Finished {
        self.running.finish()
    }

    /// Ends a receiver that would go on for ever.
    pub(crate) fn stop(self) -> Finished {
        self.signal("INT");
        self.finish()
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
