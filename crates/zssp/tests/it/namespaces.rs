//! A road of the kernel's own, whose MTU changes: two network namespaces with a third between them.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use zssp::link::Udp;
use zssp::{Connection, Endpoint, SecretKey};
use zssp_segment::Segment;

use crate::common::run;

/// Two hosts and the router between them, each a network namespace; removed when this is dropped.
struct Road {
    prefix: String,
}

const ROUTER: &str = "router";
const HOSTS: [&str; 2] = ["left", "right"];

impl Road {
    /// `None` where this test cannot run, which is said. Where `CI` is set it has to.
    fn new() -> Option<Self> {
        Segment::for_test(0)?;
        // Made first, so that what there is of it is removed when the rest fails.
        let road = Self { prefix: format!("zssp-mtu{}", std::process::id()) };
        road.build();
        Some(road)
    }

    fn build(&self) {
        ip(&format!("netns add {}", self.name(ROUTER)));
        for (number, host) in HOSTS.into_iter().enumerate() {
            let (name, router) = (self.name(host), self.name(ROUTER));
            ip(&format!("netns add {name}"));
            ip(&format!("-n {router} link add {host} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {router} addr add 10.77.{number}.1/24 dev {host}"));
            ip(&format!("-n {router} link set {host} up"));
            ip(&format!("-n {name} addr add 10.77.{number}.2/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
            ip(&format!("-n {name} route add default via 10.77.{number}.1"));
            self.set_mtu(host, 9000);
        }
        self.on(ROUTER, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    }

    /// Sets what the way between the router and a host carries.
    fn set_mtu(&self, host: &str, mtu: usize) {
        ip(&format!("-n {} link set {host} mtu {mtu}", self.name(ROUTER)));
        ip(&format!("-n {} link set eth0 mtu {mtu}", self.name(host)));
    }

    /// An endpoint on a host, which may be called from anywhere.
    fn endpoint(&self, host: &str) -> Endpoint {
        let runtime = tokio::runtime::Handle::current();
        let link = self.on(host, || {
            let _context = runtime.enter();
            Udp::bind(SocketAddr::from(([0; 4], 7777)), 4 << 20).unwrap()
        });
        let builder = Endpoint::builder(SecretKey::generate().unwrap()).mtu(1232).max_mtu(8952);
        builder.bind_link(link).unwrap()
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
        for name in HOSTS.into_iter().chain([ROUTER]) {
            let removed = Command::new("ip").args(["netns", "del", &self.name(name)]).output();
            if !removed.is_ok_and(|output| output.status.success()) {
                eprintln!("the network namespace {} is left over", self.name(name));
            }
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sends messages of many fragments until datagrams are as `wanted`, and then one more.
async fn send_until(here: &Connection, wanted: impl Fn(usize) -> bool) {
    let channel = here.channel(0).unwrap();
    while !wanted(here.stats().mtu) {
        channel.request(vec![1; 50_000]).await.unwrap();
    }
    assert_eq!(channel.request(vec![2; 50_000]).await.unwrap(), "50000");
}

//= ZSSP-LIV-06  on the kernel's own road
#[test]
fn the_mtu_of_a_real_road_is_followed() {
    run(async {
        let Some(road) = Road::new() else { return };
        let (client, server) = (road.endpoint(HOSTS[0]), road.endpoint(HOSTS[1]));
        let to = SocketAddr::from(([10, 77, 1, 2], 7777));
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let connect = async { client.connect(to, server.public_key()).await.unwrap() };
        let (here, there) = tokio::join!(connect, accept);
        tokio::spawn(async move {
            let channel = there.channel(0).unwrap();
            while let Some(message) = channel.receive().await {
                let len = message.data().len().to_string();
                let _ = message.reply(len);
            }
        });
        send_until(&here, |mtu| mtu == 8952).await;
        // An IP header of 20 bytes, and one of UDP of 8.
        road.set_mtu(HOSTS[1], 1400);
        send_until(&here, |mtu| (1356..=1372).contains(&mtu)).await;
        println!("{:?}", here.stats());
        assert_eq!(here.stats().mtu_fallbacks, 1);
        // Now the sender's own interface, which the system says at once.
        road.set_mtu(HOSTS[0], 1300);
        send_until(&here, |mtu| (1256..=1272).contains(&mtu)).await;
        println!("{:?}", here.stats());
        assert_eq!(here.stats().mtu_fallbacks, 2);
        here.close(0, b"").await;
    });
}
