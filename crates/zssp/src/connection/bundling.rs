//! Which payloads go out as one: small messages that leave at the same time.

use super::outgoing::Outgoing;
use crate::frame::{BUNDLE_START, LENGTH_LEN, MAX_BUNDLED};

/// Parts of a payload, at most: the start of a bundle, and of each that is in it the length and two parts of its own.
const MAX_PARTS: usize = BUNDLE_START.len() + 3 * MAX_BUNDLED;

/// The bundle that payloads are being put into.
#[derive(Debug, Default)]
pub(super) struct Bundling {
    /// Of all bundles of a connection.
    number: u64,
    payloads: usize,
    /// Bytes of the bundle.
    len: usize,
    /// The place in the round of what comes next.
    place: usize,
}

impl Bundling {
    /// Nothing joins what was put before.
    pub(super) fn end(&mut self) {
        self.payloads = 0;
    }

    /// Which bundle it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A payload of `len` bytes takes this place in the round. Yields whether it joins the one before it, in a bundle of
    /// `limit` bytes at most; if not, others may join it.
    pub(super) fn put(&mut self, place: usize, len: usize, limit: usize) -> bool {
        let joined = self.len + LENGTH_LEN + len;
        let joins = (1..MAX_BUNDLED).contains(&self.payloads) && place == self.place && joined <= limit;
        (self.payloads, self.len) = if joins {
            (self.payloads + 1, joined)
        } else {
            self.number += 1;
            (1, BUNDLE_START.len() + LENGTH_LEN + len)
        };
        self.place = place + 1;
        joins
    }
}

/// What goes together, of a round.
pub(super) fn bundles(payloads: &[Outgoing]) -> impl Iterator<Item = &[Outgoing]> {
    payloads.chunk_by(|_, next| next.joins())
}

/// Bytes of the payload that these are.
pub(super) fn bundled_len(payloads: &[Outgoing]) -> usize {
    match payloads {
        [alone] => alone.len(),
        several => {
            BUNDLE_START.len() + several.iter().map(|payload| LENGTH_LEN + payload.len()).sum::<usize>()
        }
    }
}

/// Gives the parts of a payload, or of the bundle that several are, to whoever seals them.
pub(super) fn with_parts<T>(payloads: &[Outgoing], seal: impl FnOnce(&[&[u8]]) -> T) -> T {
    if let [alone] = payloads {
        return seal(&alone.parts());
    }
    let mut lengths = [[0; LENGTH_LEN]; MAX_BUNDLED];
    for (length, payload) in lengths.iter_mut().zip(payloads) {
        // It fits a datagram.
        *length = (payload.len() as u16).to_be_bytes();
    }
    let mut parts = [&[][..]; MAX_PARTS];
    let bundled = lengths.iter().zip(payloads).flat_map(|(length, payload)| {
        let [head, body] = payload.parts();
        [length, head, body]
    });
    let mut len = 0;
    for (place, part) in parts.iter_mut().zip(std::iter::once(&BUNDLE_START[..]).chain(bundled)) {
        *place = part;
        len += 1;
    }
    seal(&parts[..len])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn bundles(lens: impl IntoIterator<Item = usize>, limit: usize) -> Vec<usize> {
        let mut bundling = Bundling::default();
        let mut counts = Vec::new();
        for (place, len) in lens.into_iter().enumerate() {
            match bundling.put(place, len, limit) {
                true => *counts.last_mut().expect("the first joins nothing") += 1,
                false => counts.push(1),
            }
        }
        assert_eq!(bundling.number(), counts.len() as u64);
        counts
    }

    #[test]
    fn what_fits_a_datagram_goes_together() {
        assert_eq!(bundles([50; 40], 1 + 10 * 52), [10; 4]);
        assert_eq!(bundles([50; 40], 10 * 52), [9, 9, 9, 9, 4]);
        assert_eq!(bundles([1, 2000, 1], 1000), [1; 3], "what is larger stays alone");
        assert_eq!(bundles([1; 100], 9000), [32, 32, 32, 4]);
    }

    #[test]
    fn nothing_joins_what_it_does_not_follow() {
        let mut bundling = Bundling::default();
        assert!(!bundling.put(3, 10, 1000));
        assert!(!bundling.put(5, 10, 1000), "something else is in between");
        assert!(bundling.put(6, 10, 1000));
        bundling.end();
        assert!(!bundling.put(7, 10, 1000));
    }

    //= ZSSP-BUN-01  one after the other, with their lengths
    #[test]
    fn parts_are_those_of_all_payloads() {
        let payload = |body: &'static str| Outgoing::new(Bytes::from_static(body.as_bytes())).start(b"<");
        let sealed = |payloads: &[Outgoing]| {
            let sealed = with_parts(payloads, |parts| parts.concat());
            assert_eq!(sealed.len(), bundled_len(payloads));
            sealed
        };
        assert_eq!(sealed(&[payload("alone")]), b"<alone");
        assert_eq!(sealed(&[payload("a"), payload("bc")]), b"\xD9\0\x02<a\0\x03<bc");
        let many: Vec<_> = (0..MAX_BUNDLED).map(|_| payload("x")).collect();
        assert_eq!(sealed(&many).len(), 1 + MAX_BUNDLED * 4);
    }
}
