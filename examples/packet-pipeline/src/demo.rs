//! Two network namespaces with a wire between them.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::node::Error;

/// The namespaces, each with an interface `eth0`; removed when this is dropped.
pub(crate) struct Wire {
    names: [String; 2],
}

impl Wire {
    pub(crate) fn new(mtu: usize) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("the demonstration makes network namespaces, for which it has to run as root".into());
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let names = [0, 1].map(|end| format!("pipeline{}-{number}-{end}", std::process::id()));
        let wire = Self { names };
        let [a, b] = &wire.names;
        ip(&format!("netns add {a}"))?;
        ip(&format!("netns add {b}"))?;
        ip(&format!("-n {a} link add eth0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {b}"))?;
        ip(&format!("-n {a} link set eth0 up"))?;
        ip(&format!("-n {b} link set eth0 up"))?;
        for (end, name) in (0..).zip(&wire.names) {
            ip(&format!("-n {name} addr add {}/24 dev eth0", Self::ip(end)))?;
        }
        Ok(wire)
    }

    /// The address of one end, for UDP.
    pub(crate) fn ip(end: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 99, 1 + end)
    }

    /// Does something in one of the namespaces.
    pub(crate) fn at<T: Send>(&self, end: usize, task: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = format!("/run/netns/{}", self.names[end]);
        let run = || -> Result<T, Error> {
            let namespace = File::open(path)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(task())
        };
        thread::scope(|scope| scope.spawn(run).join()).map_err(|_| "a thread panicked")?
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = ip(&format!("netns del {name}")) {
                eprintln!("{error}");
            }
        }
    }
}

fn ip(arguments: &str) -> Result<(), Error> {
    let run = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = run.map_err(|error| format!("ip: {error}; apt-get install iproute2"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
