//! Where the peer is, and whether it really is there.
//!
//! A peer whose address changes goes on sending, from the new one. What is authentic may have been sent on by anybody, so
//! the new address is asked first, with a token that only the peer can read and only somebody there gets; until the
//! answer has come, everything else goes to the old one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::frame::Token;

/// How often a new address is asked before it is forgotten. With the pong that may answer what came from there, no more
/// than three times the bytes of the smallest payload go to an address that has proven nothing.
const ATTEMPTS: u32 = 2;

/// The peer's address, and one that may become it.
#[derive(Debug)]
pub(super) struct Path {
    remote: SocketAddr,
    candidate: Option<Candidate>,
}

/// An address that authentic payloads have come from.
#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    token: Token,
    attempts: u32,
    next: Instant,
}

/// The peer is somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// On another road.
    Elsewhere,
    /// At another port of the same host: most likely a router has forgotten the old one.
    Rebound,
}

impl Path {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self { remote, candidate: None }
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// An authentic payload has come from `from`. Yields whether that address is to be asked, which takes a token that
    /// nobody can foresee: without one, the next payload from there is another occasion.
    pub(super) fn heard(&mut self, now: Instant, from: SocketAddr, token: &mut Option<Token>) -> bool {
        // One at a time: the one asked first answers, or is forgotten soon.
        if from == self.remote || self.candidate.is_some() {
            return false;
        }
        let Some(token) = token.take() else { return false };
        self.candidate = Some(Candidate { address: from, token, attempts: 0, next: now });
        true
    }

    //= ZSSP-LIV-03  only the answer to a token moves the peer
    /// A token has come back.
    pub(super) fn answered(&mut self, token: Token) -> Option<Moved> {
        let address = self.candidate.take_if(|candidate| candidate.token == token)?.address;
        let before = std::mem::replace(&mut self.remote, address);
        Some(if before.ip() == address.ip() { Moved::Rebound } else { Moved::Elsewhere })
    }

    //= ZSSP-LIV-04  a number of times
    /// Whom to ask now, with which token. `interval` is how long an answer takes at most, usually.
    pub(super) fn asks(&mut self, now: Instant, interval: Duration) -> Option<(SocketAddr, Token)> {
        let candidate = self.candidate.as_mut().filter(|candidate| candidate.next <= now)?;
        if candidate.attempts == ATTEMPTS {
            self.candidate = None;
            return None;
        }
        candidate.attempts += 1;
        candidate.next = now + interval;
        Some((candidate.address, candidate.token))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.candidate.as_ref().map(|candidate| candidate.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn heard(path: &mut Path, now: Instant, from: SocketAddr, token: u8) -> bool {
        path.heard(now, from, &mut Some([token; 8]))
    }

    fn address(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], port))
    }

    //= ZSSP-LIV-03  neither what is heard nor a wrong token
    #[test]
    fn an_address_is_asked_before_it_is_believed() {
        let (mut path, now) = (Path::new(address(1, 1)), Instant::now());
        assert!(!heard(&mut path, now, address(1, 1), 1));
        assert!(!path.heard(now, address(1, 2), &mut None), "not without a token");
        assert!(heard(&mut path, now, address(1, 2), 2));
        let (asked, token) = path.asks(now, 100 * MS).unwrap();
        assert_eq!((asked, path.remote()), (address(1, 2), address(1, 1)));
        assert_eq!(path.answered([0; 8]), None);
        assert_eq!(path.answered(token), Some(Moved::Rebound));
        assert_eq!(path.remote(), address(1, 2));
        assert_eq!(path.answered(token), None, "a token is good once");
        assert!(heard(&mut path, now, address(7, 2), 3));
        let (_, other) = path.asks(now, 100 * MS).unwrap();
        assert_ne!(token, other);
        assert_eq!(path.answered(other), Some(Moved::Elsewhere));
    }

    //= ZSSP-LIV-04  two small payloads, whatever comes from there
    #[test]
    fn an_address_that_does_not_answer_is_forgotten() {
        let (mut path, mut now) = (Path::new(address(1, 1)), Instant::now());
        assert!(heard(&mut path, now, address(2, 2), 4));
        let mut asked = 0;
        while let Some(next) = path.deadline() {
            assert!(!heard(&mut path, now, address(2, 2), 5));
            now = next;
            asked += u32::from(path.asks(now, 100 * MS).is_some());
        }
        assert_eq!((asked, path.remote()), (ATTEMPTS, address(1, 1)));
        assert!(heard(&mut path, now, address(3, 3), 6), "another has its chance");
    }
}
