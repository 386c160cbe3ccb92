//! Hosts on one Ethernet segment: network namespaces, each with an interface `eth0` on a common bridge.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The namespaces; they are removed when this is dropped.
#[derive(Debug)]
pub struct Segment {
    prefix: String,
    hosts: usize,
}

impl Segment {
    /// A segment with so many hosts, for a test; or `None` where it cannot be made, which is said. Where `CI` is set it has
    /// to be.
    ///
    /// # Panics
    /// When it can be made, and that fails; or cannot, and `CI` is set.
    #[must_use]
    pub fn for_test(hosts: usize) -> Option<Self> {
        let reason = match Self::obstacle() {
            None => return Some(Self::new(hosts).unwrap_or_else(|error| panic!("{error}"))),
            Some(reason) => reason,
        };
        assert!(std::env::var_os("CI").is_none(), "this test {reason}");
        eprintln!("SKIPPED: this test {reason}");
        None
    }

    /// A segment with so many hosts, numbered from 0.
    ///
    /// # Errors
    /// What keeps it from being made, in words.
    pub fn new(hosts: usize) -> Result<Self, String> {
        match Self::obstacle() {
            None => Self::build(hosts),
            Some(reason) => Err(format!("a segment of network namespaces {reason}")),
        }
    }

    fn build(hosts: usize) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Made first, so that what there is of it is removed when the rest fails.
        let segment = Self { prefix: format!("zssp{}-{number}", std::process::id()), hosts };
        let hub = segment.hub();
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add hub type bridge"))?;
        ip(&format!("-n {hub} link set hub up"))?;
        for host in 0..hosts {
            let name = segment.name(host);
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {hub} link add port{host} type veth peer name eth0 netns {name}"))?;
            ip(&format!("-n {hub} link set port{host} master hub up"))?;
            ip(&format!("-n {name} link set lo up"))?;
            segment.ip(host, "link set eth0 up")?;
        }
        Ok(segment)
    }

    /// Sets the MTU of the whole segment.
    ///
    /// # Errors
    /// That of `ip`.
    pub fn set_mtu(&self, mtu: usize) -> Result<(), String> {
        for host in 0..self.hosts {
            ip(&format!("-n {} link set port{host} mtu {mtu}", self.hub()))?;
            self.ip(host, &format!("link set eth0 mtu {mtu}"))?;
        }
        Ok(())
    }

    /// Runs `ip` on a host.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, host: usize, arguments: &str) -> Result<(), String> {
        ip(&format!("-n {} {arguments}", self.name(host)))
    }

    /// A command that runs on a host.
    #[must_use]
    pub fn command(&self, host: usize, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).arg(program);
        command
    }

    /// Does something on a host, on a thread of its own. Sockets opened there stay there, whoever uses them.
    ///
    /// # Panics
    /// When the task does.
    pub fn on<T: Send>(&self, host: usize, task: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name(host));
        let run = || {
            let namespace = File::open(path).unwrap_or_else(|error| panic!("a namespace of ours: {error}"));
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("a namespace of ours: {error}"));
            task()
        };
        let done = thread::scope(|scope| scope.spawn(run).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Why there can be none here: root of a container may not be allowed to make one, so it is tried, once.
    fn obstacle() -> Option<&'static str> {
        static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
        let find = || {
            if !rustix::process::geteuid().is_root() {
                Some("needs root".to_owned())
            } else if Command::new("ip").arg("-V").output().is_err() {
                Some("needs `ip`: apt-get install iproute2".to_owned())
            } else {
                Self::build(0).err().map(|error| format!("needs network namespaces: {error}"))
            }
        };
        OBSTACLE.get_or_init(find).as_deref()
    }

    fn name(&self, host: usize) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for name in (0..self.hosts).map(|host| self.name(host)).chain([self.hub()]) {
            // All of them were made, unless one failed.
            if !Path::new("/run/netns").join(&name).exists() {
                continue;
            }
            if let Err(error) = ip(&format!("netns del {name}")) {
                eprintln!("the network namespace {name} is left over: {error}");
            }
        }
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let run = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = run.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
