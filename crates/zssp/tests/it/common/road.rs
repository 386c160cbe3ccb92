//! A road of the kernel's own: two network namespaces with a third between them.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use zssp::link::Udp;
use zssp_segment::Segment;

/// Two hosts and the router between them, each a network namespace; removed when this is dropped.
pub(crate) struct Road {
    prefix: String,
}

pub(crate) const LEFT: &str = "left";
pub(crate) const RIGHT: &str = "right";
const ROUTER: &str = "router";
const PORT: u16 = 7777;

impl Road {
    /// `None` where there can be none, which is said. Where `CI` is set there has to be one.
    pub(crate) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Segment::for_test(0)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Made first, so that what there is of it is removed when the rest fails.
        let road = Self { prefix: format!("zssp-road{}-{number}", std::process::id()) };
        road.build();
        Some(road)
    }

    fn build(&self) {
        ip(&format!("netns add {}", self.name(ROUTER)));
        for host in [LEFT, RIGHT] {
            let (name, router, network) = (self.name(host), self.name(ROUTER), network(host));
            ip(&format!("netns add {name}"));
            ip(&format!("-n {router} link add {host} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {router} addr add 10.77.{network}.1/24 dev {host}"));
            ip(&format!("-n {router} link set {host} up"));
            ip(&format!("-n {name} addr add 10.77.{network}.2/24 dev eth0"));
            // What is sent as a run is to be datagrams on the road, each with a fate of its own.
            ip(&format!("-n {name} link set eth0 gso_max_segs 1 up"));
            ip(&format!("-n {name} route add default via 10.77.{network}.1"));
        }
        self.on(ROUTER, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    }

    /// Sets what the way between the router and a host carries. Before, it is what Ethernet does.
    pub(crate) fn set_mtu(&self, host: &str, mtu: usize) {
        ip(&format!("-n {} link set {host} mtu {mtu}", self.name(ROUTER)));
        ip(&format!("-n {} link set eth0 mtu {mtu}", self.name(host)));
    }

    /// A socket on a host, which may be used from anywhere.
    pub(crate) fn bind(&self, host: &str) -> Udp {
        let runtime = tokio::runtime::Handle::current();
        self.on(host, || {
            let _context = runtime.enter();
            Udp::bind(SocketAddr::from(([0; 4], PORT)), 4 << 20).unwrap()
        })
    }

    /// Has the router lose one datagram of so many on the way to a host, at random. `None` where the kernel is built without
    /// what that takes, which is said, here and below.
    pub(crate) fn lose(&self, host: &str, one_in: u32) -> Option<()> {
        const SHOT: u32 = 2;
        self.tc(&format!("qdisc add dev {host} clsact"))?;
        self.draw(&format!("dev {host} egress bpf direct-action"), one_in, SHOT)
    }

    /// Has others overtake one datagram of ten on the way to a host. That is what the kernel's network emulator is for;
    /// without it, they wait in a slow queue beside a fast one.
    pub(crate) fn reorder(&self, host: &str) -> Option<()> {
        const SLOW: u32 = 0x1_0002;
        match self.try_tc(format!("qdisc add dev {host} root netem delay 10ms reorder 10%").split(' ')) {
            Ok(()) => return Some(()),
            Err(error) => println!("without netem: {error}"),
        }
        self.tc(&format!("qdisc add dev {host} root handle 1: htb default 1"))?;
        self.tc(&format!("class add dev {host} parent 1: classid 1:1 htb rate 1gbit quantum 9000"))?;
        self.tc(&format!("class add dev {host} parent 1: classid 1:2 htb rate 5mbit quantum 9000"))?;
        self.tc(&format!("qdisc add dev {host} parent 1:2 pfifo limit 100"))?;
        self.draw(&format!("dev {host} parent 1: bpf"), 10, SLOW)
    }

    /// Has the router pass so many bits a second to a host, and keep so many bytes waiting: what is more is lost.
    pub(crate) fn narrow(&self, host: &str, rate: u64, queue: u64) -> Option<()> {
        self.tc(&format!("qdisc add dev {host} root tbf rate {rate}bit burst 5000 limit {queue}"))
    }

    /// How many datagrams the router has lost on the way to a host.
    pub(crate) fn lost(&self, host: &str) -> u64 {
        let arguments = ["-n", &self.name(ROUTER), "-s", "qdisc", "show", "dev", host];
        let output = Command::new("tc").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // What a queue inside of another loses, both of them count.
        let outermost = |queue: &&str| queue.contains(" root ") || queue.starts_with("clsact ");
        let count = |queue: &str| queue.split("(dropped ").nth(1)?.split(',').next()?.parse::<u64>().ok();
        text.split("qdisc ")
            .filter(outermost)
            .map(|queue| count(queue).expect("a count of what it dropped"))
            .sum()
    }

    /// Has one packet of so many meet a fate of its own: a program for the kernel, of four instructions.
    fn draw(&self, filter: &str, one_in: u32, fate: u32) -> Option<()> {
        // Load a random number; if it is not below this one, go on as usual; otherwise do that.
        let program = format!("4,32 0 0 4294963256,53 0 1 {},6 0 0 0,6 0 0 {fate}", u32::MAX / one_in);
        let arguments = format!("filter add {filter} bytecode");
        Self::or_skip(self.try_tc(arguments.split(' ').chain([&*program])))
    }

    fn tc(&self, arguments: &str) -> Option<()> {
        Self::or_skip(self.try_tc(arguments.split(' ')))
    }

    fn or_skip(done: Result<(), String>) -> Option<()> {
        done.inspect_err(|error| eprintln!("SKIPPED: {error}")).ok()
    }

    /// Runs `tc` on the router.
    fn try_tc<'a>(&self, arguments: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let mut command = Command::new("tc");
        let output = command.args(["-n", &self.name(ROUTER)]).args(arguments).output();
        let output = output.map_err(|error| format!("tc: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn on<T: Send>(&self, name: &str, task: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name(name));
        let run = || {
            let namespace = File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            task()
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap()
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        for name in [LEFT, RIGHT, ROUTER] {
            let removed = Command::new("ip").args(["netns", "del", &self.name(name)]).output();
            if !removed.is_ok_and(|output| output.status.success()) {
                eprintln!("the network namespace {} is left over", self.name(name));
            }
        }
    }
}

/// The address of the socket that is [bound](Road::bind) there.
pub(crate) fn address(host: &str) -> SocketAddr {
    SocketAddr::from(([10, 77, network(host), 2], PORT))
}

fn network(host: &str) -> u8 {
    u8::from(host == RIGHT)
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
