use std::time::Duration;

use super::{Forgery, Pair, Setup};

/// Lets somebody on the line do what `script` says to a pair with an established session: send any bytes, recorded
/// datagrams, recorded ones that were changed, and datagrams with a right header and any content. Any bytes are a
/// script, so this is the body of a fuzz target as well as of a test.
///
/// # Panics
/// When that had an effect: a payload was delivered, the application was told something, the session does not work any
/// more, or something is held for good.
pub fn hostile(script: &[u8]) {
    let mut pair = Pair::established(1, &Setup { mtu: 1280, ..Setup::default() });
    assert!(pair.talk(), "the session works");
    let recorded: Vec<Vec<u8>> = pair.wire.iter().map(|datagram| datagram.bytes.clone()).collect();
    let mut script = Script(script);
    while let Some([action, a, b]) = script.take() {
        let mut datagram = recorded[usize::from(a) % recorded.len()].clone();
        match action >> 1 & 7 {
            0 => {}
            1 => datagram = script.take_up_to(usize::from(a)).to_vec(),
            2 => {
                let position = usize::from(b) * 7 % datagram.len();
                datagram[position] ^= a | 1;
            }
            3 => datagram.truncate(usize::from(b) * datagram.len() / 255),
            4 => {
                let other = &recorded[usize::from(b) % recorded.len()];
                datagram[..4].copy_from_slice(&other[..4]);
            }
            5 => {
                let [number, count, reserved, packet_type] = script.take().unwrap_or_default();
                let Some(kid) = datagram.first_chunk() else { continue };
                let forgery = Forgery {
                    kid: *kid,
                    fragment: (number, count),
                    reserved,
                    packet_type,
                    counter: u64::from(a),
                    body: &vec![b; 16 + 5 * usize::from(b)],
                };
                let sender = if action & 1 == 0 { &pair.alice } else { &pair.bob };
                datagram = sender.keys.forge(&forgery);
            }
            6 => {
                pair.drive_for(Duration::from_millis(20) * u32::from(a));
                continue;
            }
            _ => {
                pair.alice.flush();
                pair.bob.flush();
                continue;
            }
        }
        let (peer, from) = if action & 1 == 0 { (&mut pair.bob, 1) } else { (&mut pair.alice, 2) };
        peer.receive(from, datagram);
    }
    pair.drive_for(Duration::from_secs(20));

    assert!(pair.alice.take_payloads().is_empty() && pair.bob.take_payloads().is_empty(), "delivered");
    assert!(pair.talk(), "the session still works");
    for peer in [&mut pair.alice, &mut pair.bob] {
        assert_eq!(peer.take_happenings(), [], "told node {}", peer.node);
        let stats = peer.stats();
        assert_eq!(
            (stats.sessions, stats.key_ids, stats.pending_handshakes),
            (1, 1, 0),
            "node {}",
            peer.node
        );
        assert_eq!(stats.reassembly_bytes, 0, "node {}", peer.node);
        assert!(peer.is_idle(), "node {}", peer.node);
    }
}

/// The bytes that are left.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn take_up_to(&mut self, len: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
