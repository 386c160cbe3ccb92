//! How long a frame to a peer and back takes: raw datagrams, nothing sealed.
//!
//! ```text
//! cargo run --release -p zssp-ethernet --example ethernet_ping -- eth0                     # answers, on one machine
//! cargo run --release -p zssp-ethernet --example ethernet_ping -- eth0/02:00:00:00:00:01   # asks, on another
//! ```

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: ethernet_ping INTERFACE[/MAC]")?;
    match argument.contains('/') {
        true => linux::ask(argument.parse()?),
        false => linux::answer(argument.parse()?),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;
    use std::time::{Duration, Instant};

    use zssp_ethernet::{EthernetAddress, InterfaceName, Link, Received, Settings};

    pub(super) fn answer(interface: InterfaceName) -> Result<(), Box<dyn Error>> {
        let mut link = Link::open(interface, &Settings::default())?;
        println!("answering at {}", link.sender.address());
        loop {
            if let Received::Batch(batch) = link.receivers[0].receive(None)? {
                for frame in batch.frames() {
                    link.sender.send(frame.source, [frame.bytes])?;
                }
            }
        }
    }

    pub(super) fn ask(peer: EthernetAddress) -> Result<(), Box<dyn Error>> {
        let mut link = Link::open(peer.interface, &Settings::default())?;
        for number in 0..10u32 {
            let start = Instant::now();
            link.sender.send(peer.mac, [&number.to_be_bytes()[..]])?;
            match link.receivers[0].receive(Some(Duration::from_secs(1)))? {
                Received::Batch(_) => println!("{number}: {} us", start.elapsed().as_micros()),
                _ => println!("{number}: no answer"),
            }
        }
        Ok(())
    }
}
