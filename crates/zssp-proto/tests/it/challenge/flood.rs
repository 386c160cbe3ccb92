//! Hellos without end, from one address or from many false ones.

use super::*;

/// Hellos without end: of the right length and of random content, or recorded ones.
pub(super) struct Flood {
    random: Xoshiro256PlusPlus,
    sources: Sources,
    /// Made beforehand.
    hellos: Vec<Vec<u8>>,
    /// The answer to a challenge that is to be answered.
    answer: Option<Vec<u8>>,
    mtu: usize,
    /// How many arrive in a thousandth of a second.
    pub(super) in_a_millisecond: u32,
    pub(super) arrived: u64,
    /// Those of them that answered a challenge.
    answered: usize,
    /// How many answers went back at once.
    pub(super) replies: usize,
}

/// Where a flood comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sources {
    /// One address that is somebody's, who answers five hundred challenges a second, as fast as one core can.
    One,
    /// From everywhere, so nobody gets the challenges.
    Spoofed,
    /// The same, and of each hello the first fragment only.
    SpoofedFirstFragments,
}

impl Flood {
    /// A hundred thousand a second that nobody has made.
    pub(super) fn new(seed: u64, sources: Sources, mtu: usize) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let hellos = (0..500)
            .map(|_| {
                let mut hello = vec![0; HELLO];
                random.fill(&mut hello[16..]);
                hello[..8].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0]);
                // The header's counter is where a hello repeats it, so that it costs the most.
                hello.copy_within(HELLO - 40..HELLO - 32, 8);
                hello
            })
            .collect();
        Self {
            random,
            sources,
            hellos,
            answer: None,
            mtu,
            in_a_millisecond: 100,
            arrived: 0,
            answered: 0,
            replies: 0,
        }
    }

    /// From everywhere, and all the same one.
    pub(super) fn of(seed: u64, hello: Vec<u8>) -> Self {
        let forged = Self::new(seed, Sources::Spoofed, hello.len());
        Self { hellos: vec![hello], ..forged }
    }

    /// What arrives in about a thousandth of a second, at random moments, and what comes of it.
    pub(super) fn arrive(&mut self, pair: &mut Pair) {
        for number in 0..self.in_a_millisecond {
            let mut hello = self.hellos[self.random.random_range(0..self.hellos.len())].clone();
            if let Some(answer) = self.answer.take() {
                hello[HELLO - 32..].copy_from_slice(&answer);
                self.answered += 1;
            }
            let from = match self.sources {
                Sources::One => 99,
                Sources::Spoofed | Sources::SpoofedFirstFragments => self.random.random_range(100..60_000),
            };
            if self.sources == Sources::SpoofedFirstFragments {
                // Each is another packet's.
                self.random.fill(&mut hello[8..16]);
            }
            let honest = pair.bob.take_outgoing();
            for fragment in self.fragments(hello) {
                pair.bob.receive(from, fragment);
            }
            // What goes back goes to nobody, or to him.
            for (_, reply) in pair.bob.take_outgoing() {
                self.replies += 1;
                if number == 0 && self.sources == Sources::One && self.random.random_bool(0.5) {
                    self.answer = Some(proof_of_work(&reply[20..]));
                }
            }
            honest.into_iter().for_each(|(to, datagram)| pair.bob.put_back(to, datagram));
            self.arrived += 1;
            let mean = MS / self.in_a_millisecond;
            pair.drive_for(self.random.random_range(Duration::ZERO..2 * mean));
        }
    }

    /// What is sent of a hello: two fragments of nearly the same size where it does not fit a datagram.
    fn fragments(&self, hello: Vec<u8>) -> Vec<Vec<u8>> {
        if hello.len() <= self.mtu {
            return vec![hello];
        }
        let (header, body) = hello.split_at(16);
        let mut header = header.to_vec();
        header[5] = 2;
        let (first, second) = body.split_at(body.len().div_ceil(2));
        let first = [&header, first].concat();
        if self.sources == Sources::SpoofedFirstFragments {
            return vec![first];
        }
        header[4] = 1;
        vec![first, [&header, second].concat()]
    }
}

/// A response to this challenge.
fn proof_of_work(challenge: &[u8]) -> Vec<u8> {
    let mut response = challenge.to_vec();
    for pow in 0u64.. {
        response[24..].copy_from_slice(&pow.to_be_bytes());
        let hash = PROVIDERS[0].sha512(&[&response]);
        if u16::from_be_bytes([hash[0], hash[1]]) >> 3 == 0 {
            break;
        }
    }
    response
}

/// Bob can do a thousand pieces of handshake work a second. Meanwhile a peer whom he knows agrees with him on a new key.
//= ZSSP-ZCP-04  under load
//= ZSSP-ZCP-09  at most three hashes
//= ZSSP-SEC-05  a flood costs Bob no more than its sender
//= ZSSP-SEC-04  and no memory
#[test]
fn an_honest_peer_connects_in_the_middle_of_a_flood() {
    seeds::run(8, |seed| {
        let sources = if seed % 2 == 0 { Sources::Spoofed } else { Sources::One };
        let mtu = if seed % 4 < 2 { 9000 } else { 1280 };
        let mut pair = Pair::with(seed, &Setup { mtu, ..Setup::default() });
        let known = PeerName::new(b"known");
        let id =
            pair.alice.open_with(open_to(&pair.bob).name(known.clone()).identity(b"known".to_vec())).unwrap();
        // His hellos are counted by the second.
        pair.drive_for(2 * SECOND);
        pair.bob.pool = Pool::Worker { each: MS, queue: 256 };
        let mut flood = Flood::new(seed, sources, mtu);
        (0..500).for_each(|_| flood.arrive(&mut pair));
        let tried = pair.bob.take_faults();
        assert!(tried.iter().all(|fault| *fault == Fault::Forged));
        // The last to answer a challenge may still be waiting.
        let unasked = tried.len() + 1 - flood.answered;
        assert!((200..300).contains(&unasked), "{unasked} before the challenges began");
        let (hashes, arrived) = (pair.bob.keys.hashes(), flood.arrived);
        (0..100).for_each(|_| flood.arrive(&mut pair));
        if sources == Sources::Spoofed {
            assert!(pair.bob.keys.hashes() - hashes <= 3 * (flood.arrived - arrived));
        }

        let ratchet = |pair: &Pair| *pair.alice.store.load(&known).unwrap().first.fingerprint();
        let before = ratchet(&pair);
        pair.alice.rekey();
        pair.alice.open(&pair.bob);
        let begun = pair.elapsed();
        let (mut connected, mut rekeyed) = (None, None);
        while connected.is_none() || rekeyed.is_none() {
            flood.arrive(&mut pair);
            assert!(pair.elapsed() - begun < 3 * SECOND, "honest peers wait at most 3 s");
            let (stats, limits) = (pair.bob.stats(), Limits::default());
            assert!(stats.pending_bytes <= limits.pending_bytes && stats.hello_bytes <= limits.hello_bytes);
            assert!(stats.pending_handshakes <= 1 && stats.key_ids <= 4, "{stats:?}");
            let now = Some(pair.elapsed() - begun);
            connected = connected
                .or(now.filter(|_| [&pair.alice, &pair.bob].iter().all(|peer| peer.sessions.len() == 2)));
            rekeyed = rekeyed.or(now.filter(|_| ratchet(&pair) != before));
        }
        println!("{sources:?}: connected after {connected:?}, a new key after {rekeyed:?}");
        assert!(challenges(&pair) >= 1);
        let came_through = pair.bob.take_faults().len();
        assert_eq!(came_through > 0, sources == Sources::One, "{came_through} worked for it");

        // It ends by itself.
        pair.drive_for(10 * SECOND);
        let other = pair.bob.sessions[0].id();
        pair.alice.close(id);
        pair.bob.close(other);
        let before = challenges(&pair);
        pair.bob.take_happenings();
        pair.alice.open(&pair.bob);
        pair.drive_for(SECOND);
        assert_eq!(challenges(&pair), before);
        assert!(pair.bob.take_happenings().contains(&Happening::Established(Role::Responder)));
        pair.assert_steady("after the flood");
    });
}

/// Every slot for incomplete hellos is taken anew eight times in a tenth of a second, before Alice's hello comes and while
/// its two fragments do.
//= ZSSP-REA-08  one bounded buffer, which an outsider cannot grow
//= ZSSP-REA-09  and in which nobody can aim at a slot
#[test]
fn an_honest_peer_connects_through_a_flood_of_first_fragments() {
    seeds::run(8, |seed| {
        let mut pair = Pair::with(seed, &Setup { mtu: 1280, ..Setup::default() });
        let mut flood = Flood::new(seed, Sources::SpoofedFirstFragments, 1280);
        (0..100).for_each(|_| flood.arrive(&mut pair));
        assert!(pair.bob.stats().hellos_evicted > 5000, "{:?}", pair.bob.stats());
        pair.alice.open(&pair.bob);
        let begun = pair.elapsed();
        while !(pair.alice.has_session() && pair.bob.has_session()) {
            flood.arrive(&mut pair);
            assert!(pair.elapsed() - begun < SECOND / 10, "not even a fragment was lost");
            assert!(pair.bob.stats().hello_bytes <= Limits::default().hello_bytes);
        }
        assert_eq!(pair.bob.take_faults(), []);
    });
}

/// One who answers his challenges without the work, under each of the salts there are, one after the other.
//= ZSSP-ZCP-09  at most three hashes, those of the next challenge among them
#[test]
fn an_answer_without_the_work_costs_three_hashes() {
    let (mut pair, mut hello, mut challenge) = challenged();
    let mut most = 0;
    for _ in 0..40 {
        pair.stand_still_for(7 * SECOND);
        hello[HELLO - 32..].copy_from_slice(&challenge[20..]);
        let idle = (0u8..).find(|pow| {
            hello[HELLO - 1] = *pow;
            let hash = PROVIDERS[0].sha512(&[&hello[HELLO - 32..]]);
            u16::from_be_bytes([hash[0], hash[1]]) >> 3 != 0
        });
        assert!(idle.is_some());
        let before = pair.bob.keys.hashes();
        pair.bob.receive(1, hello.clone());
        most = most.max(pair.bob.keys.hashes() - before);
        // Once within the life of a salt, and then over its end.
        if pair.elapsed().as_secs() % 3 == 0 {
            challenge = take_one(&mut pair.bob);
        } else {
            pair.bob.take_outgoing();
        }
    }
    assert_eq!(most, 3);
}
