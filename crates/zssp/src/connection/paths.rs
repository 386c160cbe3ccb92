//! Where the peer is, and whether it really is there.
//!
//! A peer whose address changes goes on sending, from the new one; or to another address of this host, if it was this host
//! that moved. What is authentic may have been sent on by anybody, so the new path is asked first, with a token that only
//! the peer can read and only somebody there gets; until the answer has come, everything else goes the old way.
//!
//! A path is left for another one only, not for the same with a local address where that was open: whoever connected, and
//! so let the system choose the local address, goes on letting it.

use std::time::{Duration, Instant};

use crate::frame::Token;
use crate::link::Path;

/// How often a new path is asked for one payload that came from there. With the pong that may answer that one, no more
/// than three times the bytes of the smallest payload go to an address that has proven nothing.
const ATTEMPTS: u32 = 2;

/// How long an answer is waited for at the least, from the last payload that came from there: three time-outs of a road of
/// which nothing is known (RFC 9000, 8.2.4). It may be much longer than the one that the peer has left.
const PATIENCE: Duration = Duration::from_secs(3);

/// Paths that are asked side by side: a router may not yet have settled on one of several ports, and whoever sends on what
/// he sees may add any number. A payload counts once, for the path on which it was quickest, so it takes him this many that
/// he is quicker with, one after the other and each from another address, to have the peer's path forgotten.
const CANDIDATES: usize = 32;

/// The path to the peer, and those that may become it.
#[derive(Debug)]
pub(super) struct Paths {
    current: Path,
    /// The one that was heard last is the last.
    candidates: Vec<Candidate>,
}

/// A path that authentic payloads have come by.
#[derive(Debug)]
struct Candidate {
    path: Path,
    token: Token,
    /// Since a payload came from there that counts.
    attempts: u32,
    /// When it may be asked again.
    next: Instant,
    /// When it is forgotten.
    until: Instant,
}

// What the crate's documentation says of them.
const _: () = assert!(CANDIDATES * size_of::<Candidate>() <= 3 * 1024);

/// The peer is somewhere else, or speaks to another address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// On another road.
    Elsewhere,
    /// At another port of the same host: most likely a router has forgotten the old one.
    Rebound,
}

impl Paths {
    pub(super) fn new(current: Path) -> Self {
        Self { current, candidates: Vec::new() }
    }

    pub(super) fn current(&self) -> Path {
        self.current
    }

    /// An authentic payload has come by `path`. Yields whether that path is to be asked, which takes a token that nobody
    /// can foresee: without one, the next payload from there is another occasion. Where there are too many, the one that
    /// was heard longest ago gives way.
    pub(super) fn heard(&mut self, now: Instant, path: Path, token: &mut Option<Token>) -> bool {
        if self.current.matches(path) {
            return false;
        }
        if let Some(place) = self.candidates.iter().position(|candidate| candidate.path == path) {
            self.candidates[place..].rotate_left(1);
            return self.candidates.last_mut().is_some_and(|candidate| candidate.heard(now));
        }
        let Some(token) = token.take() else { return false };
        // Not the one that was asked longest ago: how long its answer takes is not known, and it may be the peer's.
        if self.candidates.len() == CANDIDATES {
            self.candidates.remove(0);
        }
        self.candidates.push(Candidate { path, token, attempts: 0, next: now, until: now + PATIENCE });
        true
    }

    //= ZSSP-LIV-03  only the answer to a token moves the peer
    /// A token has come back. Of the other paths, any that the peer takes now will be heard again.
    pub(super) fn answered(&mut self, token: Token) -> Option<Moved> {
        let path = self.candidates.iter().find(|candidate| candidate.token == token)?.path;
        self.candidates = Vec::new();
        let mut before = std::mem::replace(&mut self.current, path);
        before.remote.set_port(path.remote.port());
        Some(if before.matches(path) { Moved::Rebound } else { Moved::Elsewhere })
    }

    //= ZSSP-LIV-04  a number of times
    /// Whom to ask now, with which token. `interval` is how long an answer takes at most, usually.
    pub(super) fn asks(&mut self, now: Instant, interval: Duration) -> Option<(Path, Token)> {
        self.candidates.retain(|candidate| candidate.until > now);
        if self.candidates.is_empty() {
            // A connection does not keep the memory.
            self.candidates = Vec::new();
        }
        let candidate = self.candidates.iter_mut().find(|candidate| candidate.asks_at() <= now)?;
        candidate.attempts += 1;
        candidate.next = now + interval;
        candidate.until = candidate.until.max(now + 3 * interval);
        Some((candidate.path, candidate.token))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.candidates.iter().map(Candidate::asks_at).min()
    }
}

impl Candidate {
    /// Another payload has come from there. Yields whether that has it asked again.
    fn heard(&mut self, now: Instant) -> bool {
        let again = self.was_asked(now);
        if again {
            self.attempts = 0;
            self.until = self.until.max(now + PATIENCE);
        }
        again
    }

    /// Whether it was asked for the last payload that counts, and should have answered.
    fn was_asked(&self, now: Instant) -> bool {
        self.attempts == ATTEMPTS && self.next <= now
    }

    /// When it is asked, or forgotten.
    fn asks_at(&self) -> Instant {
        if self.attempts == ATTEMPTS { self.until } else { self.next.min(self.until) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn heard(paths: &mut Paths, now: Instant, from: Path, token: u8) -> bool {
        paths.heard(now, from, &mut Some([token; 8]))
    }

    fn address(last: u8, port: u16) -> Path {
        SocketAddr::from(([10, 0, 0, last], port)).into()
    }

    /// The same path, at an address of this host.
    fn at(local: u8, path: Path) -> Path {
        Path { local_ip: Some(IpAddr::from([192, 0, 2, local])), ..path }
    }

    //= ZSSP-LIV-03  neither what is heard nor a wrong token
    #[test]
    fn an_address_is_asked_before_it_is_believed() {
        let (mut paths, now) = (Paths::new(address(1, 1)), Instant::now());
        assert!(!heard(&mut paths, now, address(1, 1), 1));
        assert!(!paths.heard(now, address(1, 2), &mut None), "not without a token");
        assert!(heard(&mut paths, now, address(1, 2), 2));
        let (asked, token) = paths.asks(now, 100 * MS).unwrap();
        assert_eq!((asked, paths.current()), (address(1, 2), address(1, 1)));
        assert_eq!(paths.answered([0; 8]), None);
        assert_eq!(paths.answered(token), Some(Moved::Rebound));
        assert_eq!(paths.current(), address(1, 2));
        assert_eq!(paths.answered(token), None, "a token is good once");
        assert!(heard(&mut paths, now, address(7, 2), 3));
        let (_, other) = paths.asks(now, 100 * MS).unwrap();
        assert_ne!(token, other);
        assert_eq!(paths.answered(other), Some(Moved::Elsewhere));
    }

    //= ZSSP-LIV-04  two small payloads, whatever comes from there
    #[test]
    fn an_address_that_does_not_answer_is_forgotten() {
        let (mut paths, mut now) = (Paths::new(address(1, 1)), Instant::now());
        assert!(heard(&mut paths, now, address(2, 2), 4));
        let mut asked = 0;
        while let Some(next) = paths.deadline() {
            assert!(!heard(&mut paths, now, address(2, 2), 5));
            now = next;
            asked += u32::from(paths.asks(now, 100 * MS).is_some());
        }
        assert_eq!((asked, paths.current()), (ATTEMPTS, address(1, 1)));
        assert!(heard(&mut paths, now, address(3, 3), 6), "another has its chance");
    }

    /// From a network at home to one of a mobile operator.
    #[test]
    fn a_peer_is_followed_to_a_much_longer_road() {
        let (mut paths, start) = (Paths::new(address(1, 1)), Instant::now());
        assert!(heard(&mut paths, start, address(2, 2), 4));
        let (_, token) = paths.asks(start, 10 * MS).unwrap();
        while let Some(next) = paths.deadline().filter(|&next| next < start + 1000 * MS) {
            paths.asks(next, 10 * MS);
        }
        assert_eq!(paths.answered(token), Some(Moved::Elsewhere));
    }

    /// Of that time `interval` knows, or of the road before alone.
    #[test]
    fn a_peer_is_followed_to_a_road_of_whatever_length() {
        for (interval, round_trip) in [(4500 * MS, 4000 * MS), (10 * MS, 4000 * MS)] {
            let (mut paths, start) = (Paths::new(address(1, 1)), Instant::now());
            let (mut first, mut at) = (None, Duration::ZERO);
            while at < round_trip {
                let now = start + at;
                heard(&mut paths, now, address(2, 2), (at.as_millis() / 100) as u8);
                while let Some((_, token)) = paths.asks(now, interval) {
                    first.get_or_insert(token);
                }
                at += 100 * MS;
            }
            let token = first.expect("it was asked");
            assert_eq!(paths.answered(token), Some(Moved::Elsewhere), "{round_trip:?}, not {interval:?}");
        }
    }

    /// What was sent on from anywhere must not keep the peer from being found.
    #[test]
    fn where_there_are_too_many_the_one_heard_longest_ago_gives_way() {
        let (mut paths, start) = (Paths::new(address(1, 1)), Instant::now());
        let others: Vec<_> = (0..CANDIDATES as u8).map(|other| address(2 + other, 2)).collect();
        for (&other, token) in others.iter().zip(0..) {
            assert!(heard(&mut paths, start, other, token));
        }
        // The first has been heard again since, so it is the second that gives way.
        let now = start + MS;
        heard(&mut paths, now, others[0], 100);
        let peer = address(100, 1);
        assert!(!paths.heard(now, peer, &mut None), "not without a token");
        assert_eq!(paths.candidates.len(), CANDIDATES, "nobody gives way to who is not asked");
        assert!(heard(&mut paths, now, peer, 101));
        let left: Vec<_> = paths.candidates.iter().map(|candidate| candidate.path).collect();
        assert_eq!(left, [&others[2..], &[others[0], peer]].concat());
        assert_eq!(paths.answered([1; 8]), None);
        assert_eq!(paths.answered([101; 8]), Some(Moved::Elsewhere));
    }

    /// The peer's router gives it one of its ports in turn, or somebody adds more of them, and each answer takes much longer
    /// than those of the road before.
    //= ZSSP-LIV-04  three times what came from each
    #[test]
    fn a_peer_that_comes_by_several_paths_in_turn_is_found() {
        for (ports, round_trip) in [(4, 25), (4, 500), (5, 25), (5, 500), (8, 25), (8, 500)] {
            let (mut paths, start) = (Paths::new(address(1, 1)), Instant::now());
            let (mut came, mut asked) = (vec![0; ports], vec![0; ports]);
            let (mut first, mut found) = (None, None);
            for ms in 0..1000 {
                let now = start + MS * ms;
                if ms % 5 == 0 {
                    let port = ms as usize / 5 % ports;
                    came[port] += 1;
                    heard(&mut paths, now, address(2, port as u16), (ms / 5) as u8);
                }
                while let Some((path, token)) = paths.asks(now, 10 * MS) {
                    let port = usize::from(path.remote.port());
                    asked[port] += 1;
                    assert!(asked[port] <= ATTEMPTS * came[port]);
                    first.get_or_insert((now + round_trip * MS, token));
                }
                if let Some((_, token)) = first.filter(|(at, _)| *at <= now) {
                    found = paths.answered(token).map(|_| ms);
                    break;
                }
            }
            assert_eq!(found, Some(round_trip), "{ports} paths: what was asked first is still good");
            assert_eq!((paths.current(), paths.deadline()), (address(2, 0), None));
        }
    }

    /// Nine of ten payloads come from other addresses first, sent on by somebody.
    //= ZSSP-LIV-04  three times what came from each, also from those that were forgotten meanwhile
    #[test]
    fn a_peer_is_found_among_more_paths_than_are_asked() {
        const OTHERS: u16 = 2 * CANDIDATES as u16;
        let (mut paths, start) = (Paths::new(address(1, 1)), Instant::now());
        let (mut came, mut asked) = ([0; OTHERS as usize + 1], [0; OTHERS as usize + 1]);
        let (mut first, mut found) = (None, None);
        for ms in 0..1000_u16 {
            let now = start + MS * u32::from(ms);
            let port = if ms % 10 == 9 { 0 } else { 1 + ms % OTHERS };
            came[usize::from(port)] += 1;
            paths.heard(now, address(2, port), &mut Some(u64::from(ms).to_be_bytes()));
            while let Some((path, token)) = paths.asks(now, 10 * MS) {
                let port = usize::from(path.remote.port());
                asked[port] += 1;
                assert!(asked[port] <= ATTEMPTS * came[port]);
                if port == 0 {
                    first.get_or_insert((now + 500 * MS, token));
                }
            }
            assert!(paths.candidates.len() <= CANDIDATES);
            if let Some((_, token)) = first.filter(|(at, _)| *at <= now) {
                found = paths.answered(token).map(|_| ms);
                break;
            }
        }
        assert_eq!((found, paths.current()), (Some(509), address(2, 0)));
    }

    /// Questions get lost, too. Each payload from there is worth some.
    //= ZSSP-LIV-04  three times what came from there
    #[test]
    fn what_goes_on_coming_from_there_is_another_occasion() {
        let (mut paths, start) = (Paths::new(address(1, 1)), Instant::now());
        let (mut came, mut asked, mut tokens) = (0, 0, Vec::new());
        for ms in 0..1000 {
            let now = start + MS * ms;
            if ms % 100 == 0 {
                came += 1;
                heard(&mut paths, now, address(2, 2), 4);
            }
            while let Some((path, token)) = paths.asks(now, 10 * MS) {
                assert_eq!(path, address(2, 2));
                asked += 1;
                tokens.push(token);
            }
            assert!(asked <= 2 * came, "{asked} questions for {came} payloads");
        }
        assert_eq!(asked, 20);
        assert_eq!(paths.answered(tokens[0]), Some(Moved::Elsewhere), "any of them has an answer");
    }

    //= ZSSP-LIV-08  by the path that the peer takes
    #[test]
    fn whoever_was_spoken_to_answers_from_there_until_the_peer_speaks_to_another_address() {
        let (mut paths, now) = (Paths::new(at(1, address(1, 1))), Instant::now());
        assert!(!heard(&mut paths, now, at(1, address(1, 1)), 1));
        assert!(!heard(&mut paths, now, address(1, 1), 1), "a link that does not say which");
        assert!(heard(&mut paths, now, at(2, address(1, 1)), 2));
        let (asked, token) = paths.asks(now, 100 * MS).unwrap();
        assert_eq!((asked, paths.current()), (at(2, address(1, 1)), at(1, address(1, 1))));
        assert_eq!(paths.answered(token), Some(Moved::Elsewhere));
        assert_eq!(paths.current(), at(2, address(1, 1)));
        assert!(heard(&mut paths, now, at(2, address(1, 9)), 3));
        let (_, token) = paths.asks(now, 100 * MS).unwrap();
        assert_eq!(paths.answered(token), Some(Moved::Rebound));
    }

    #[test]
    fn whoever_left_the_local_address_to_the_system_goes_on_so_until_the_peer_moves() {
        let (mut paths, now) = (Paths::new(address(1, 1)), Instant::now());
        for local in [1, 2, 1] {
            assert!(!heard(&mut paths, now, at(local, address(1, 1)), 1));
        }
        assert_eq!(paths.current(), address(1, 1));
        assert!(heard(&mut paths, now, at(2, address(1, 7)), 2));
        let (_, token) = paths.asks(now, 100 * MS).unwrap();
        assert_eq!(paths.answered(token), Some(Moved::Rebound));
        assert_eq!(paths.current(), at(2, address(1, 7)), "the peer's router knows only that one");
    }
}
