use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use zssp_proto::Fingerprint;
use zssp_sim::Address;

/// Longer than any datagram is under way, in any scenario.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// How long a receiver keeps the fragments of a packet that is not complete (PROTOCOL 3.5), a little less.
const REASSEMBLY: Duration = Duration::from_millis(4900);

/// What becomes of payloads: each has a number, and must be delivered once, whole, to the other side, unless
/// - the network has lost or changed every copy of one of its datagrams, or
/// - when one of its datagrams arrived, the receiver did not have the session in which it was sent: its process had
///   died since, or had not yet read the packet from which it has the keys, X2 or X3, or the session was replaced, or had
///   expired.
///
/// Which session that is, the ratchet state says that both sides have when it opens. A datagram that arrived in the
/// session, unchanged, is the receiver's to deliver: neither a rekeying nor a store that fails is an excuse.
#[derive(Debug, Default)]
pub struct Ledger {
    next: u64,
    under_way: BTreeMap<u64, Entry>,
    /// Whose each datagram is, by its bytes.
    datagrams: HashMap<Vec<u8>, (u64, usize)>,
    tally: Tally,
}

/// How many payloads had which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that were sealed; the sum of the others, when none is under way.
    pub sent: u64,
    /// Delivered, once.
    pub delivered: u64,
    /// Lost in the network.
    pub lost: u64,
    /// Arrived where their session was not.
    pub stranded: u64,
}

/// A payload that is under way.
#[derive(Debug)]
struct Entry {
    to: Address,
    sent: Instant,
    session: Fingerprint,
    payload: Vec<u8>,
    datagrams: Vec<Datagram>,
    delivered: bool,
}

/// What became of one of its datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Datagram {
    Arrived(Instant),
    Lost,
    Stranded,
}

impl Ledger {
    /// What became of all payloads that are not under way any more.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The next payload, `len` bytes with its number in front.
    pub(super) fn draw(&self, len: usize) -> Vec<u8> {
        let mut payload = self.next.to_be_bytes().to_vec();
        payload.extend((payload.len()..len).map(|place| (self.next as usize + place) as u8));
        payload
    }

    /// The payload last drawn was sealed for `to` as these datagrams.
    pub(super) fn send(
        &mut self,
        now: Instant,
        (to, session): (Address, Fingerprint),
        payload: Vec<u8>,
        datagrams: &[Vec<u8>],
    ) {
        for (place, datagram) in datagrams.iter().enumerate() {
            self.datagrams.insert(datagram.clone(), (self.next, place));
        }
        let datagrams = vec![Datagram::Lost; datagrams.len()];
        let entry = Entry { to, sent: now, session, payload, datagrams, delivered: false };
        self.under_way.insert(self.next, entry);
        self.next += 1;
        self.tally.sent += 1;
    }

    /// A datagram has arrived at a side that can read payloads in these sessions.
    pub(super) fn arrive<'s>(
        &mut self,
        now: Instant,
        datagram: &[u8],
        mut sessions: impl Iterator<Item = &'s Fingerprint>,
    ) {
        let Some((number, place)) = self.datagrams.get(datagram) else { return };
        let Some(entry) = self.under_way.get_mut(number) else { return };
        let fate = &mut entry.datagrams[*place];
        if !matches!(fate, Datagram::Arrived(_)) {
            let is_there = sessions.any(|session| *session == entry.session);
            *fate = if is_there { Datagram::Arrived(now) } else { Datagram::Stranded };
        }
    }

    /// `node` has delivered these payloads.
    ///
    /// # Panics
    /// When one is not what was sent to it, or was delivered before.
    pub(super) fn deliver(&mut self, node: Address, payloads: Vec<Vec<u8>>) {
        for payload in payloads {
            let number = payload.first_chunk().map_or(u64::MAX, |number| u64::from_be_bytes(*number));
            let Some(entry) = self.under_way.get_mut(&number) else {
                panic!("payload {number} was never sent, or long ago");
            };
            assert!(entry.payload == payload && entry.to == node, "payload {number} was changed");
            assert!(!entry.delivered, "payload {number} was delivered twice");
            entry.delivered = true;
        }
    }

    /// Closes the accounts of the payloads that can be under way no more.
    ///
    /// # Panics
    /// When one of them was not delivered, and nothing excuses that.
    pub(super) fn close(&mut self, now: Instant) {
        while let Some(entry) =
            self.under_way.first_entry().filter(|entry| entry.get().sent + UNDER_WAY < now)
        {
            let (number, entry) = entry.remove_entry();
            *entry.fate(number, &mut self.tally) += 1;
        }
        let under_way = &self.under_way;
        self.datagrams.retain(|_, (number, _)| under_way.contains_key(number));
    }
}

impl Entry {
    /// Which count it belongs to.
    fn fate<'t>(&self, number: u64, tally: &'t mut Tally) -> &'t mut u64 {
        if self.delivered {
            return &mut tally.delivered;
        }
        if self.datagrams.contains(&Datagram::Lost) {
            return &mut tally.lost;
        }
        let arrivals: Option<Vec<Instant>> = self
            .datagrams
            .iter()
            .map(|datagram| if let Datagram::Arrived(at) = datagram { Some(*at) } else { None })
            .collect();
        let Some(arrivals) = arrivals else { return &mut tally.stranded };
        let took = arrivals.iter().max().zip(arrivals.iter().min()).map(|(last, first)| *last - *first);
        // What the receiver gave up waiting for has come too late, which is the network's doing.
        assert!(
            took.is_some_and(|took| took > REASSEMBLY),
            "payload {number} to node {} arrived in its session and was not delivered",
            self.to
        );
        &mut tally.lost
    }
}
