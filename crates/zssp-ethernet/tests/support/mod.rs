//! Hosts on one Ethernet segment: network namespaces, each with an interface `eth0` on a common bridge.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use zssp_ethernet::{Link, Settings};

/// A segment with so many hosts, or `None` where this test cannot run, which is said. Where `CI` is set it has to.
pub(crate) fn segment(hosts: usize) -> Option<Segment> {
    let reason = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "needs `ip`: apt-get install iproute2"
    } else {
        return Some(Segment::new(hosts));
    };
    assert!(std::env::var_os("CI").is_none(), "this test {reason}");
    eprintln!("SKIPPED: this test {reason}");
    None
}

/// The namespaces; they are removed when this is dropped.
pub(crate) struct Segment {
    prefix: String,
    hosts: usize,
}

impl Segment {
    fn new(hosts: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Made first, so that what there is of it is removed when the rest fails.
        let segment = Self { prefix: format!("zssp{}-{number}", std::process::id()), hosts };
        let hub = segment.hub();
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link add hub type bridge"));
        ip(&format!("-n {hub} link set hub up"));
        for host in 0..hosts {
            let name = segment.name(host);
            ip(&format!("netns add {name}"));
            ip(&format!("-n {hub} link add port{host} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {hub} link set port{host} master hub up"));
            segment.ip(host, "link set eth0 up");
        }
        segment
    }

    /// Sets the MTU of the whole segment.
    pub(crate) fn set_mtu(&self, mtu: usize) {
        for host in 0..self.hosts {
            ip(&format!("-n {} link set port{host} mtu {mtu}", self.hub()));
            self.ip(host, &format!("link set eth0 mtu {mtu}"));
        }
    }

    /// Runs `ip` on a host.
    pub(crate) fn ip(&self, host: usize, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name(host)));
    }

    /// Does something on a host.
    pub(crate) fn on<T: Send>(&self, host: usize, task: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name(host));
        let run = || {
            let namespace = File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            task()
        };
        thread::scope(|scope| scope.spawn(run).join()).unwrap()
    }

    /// Opens `eth0` of a host. What is opened stays there, whoever uses it.
    pub(crate) fn open(&self, host: usize, settings: &Settings) -> Link {
        self.on(host, || Link::open("eth0".parse().unwrap(), settings)).unwrap()
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
            let removed = Command::new("ip").args(["netns", "del", &name]).output();
            if !removed.is_ok_and(|output| output.status.success()) {
                eprintln!("the network namespace {name} is left over");
            }
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
