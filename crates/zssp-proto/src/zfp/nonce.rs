use crate::wire::{Completion, PacketNonce, PacketType};

/// Counters of X2 are below this: three bytes of a tag (PROTOCOL 5.1).
const RESPONSE_COUNTERS: u64 = 1 << 24;

/// What the key id of a fragment led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A responder that waits for X3 (state B2).
    AwaitCompletion,
    /// An initiator that waits for X2 (state A1).
    AwaitResponse,
    /// Anybody with header keys of both directions: from A3 and S1 on.
    Session,
    /// Key id zero: whoever it is, there is no key.
    Stranger,
}

/// The type of a packet that may come this way, or `None`: then nothing of the fragment is stored
/// (PROTOCOL 3.4).
///
/// For [`Route::Session`] this is half the decision; the replay window has the other half.
pub(crate) fn admitted(route: Route, nonce: PacketNonce) -> Option<PacketType> {
    use PacketType as T;
    //= ZSSP-RPL-10  other types never
    let packet_type = nonce.packet_type()?;
    let fits = match route {
        //= ZSSP-RPL-04  X2 in state A1, counter below 2^24
        Route::AwaitResponse => packet_type == T::Response && nonce.counter() < RESPONSE_COUNTERS,
        //= ZSSP-RPL-05  X3 in state B2, counter 0
        Route::AwaitCompletion => {
            packet_type == T::Completion && nonce.counter() == Completion::HEADER_COUNTER
        }
        Route::Session => !matches!(packet_type, T::Hello | T::Response | T::Completion | T::Challenge),
        //= ZSSP-RPL-09  hello and challenge, with key id zero only
        Route::Stranger => matches!(packet_type, T::Hello | T::Challenge),
    };
    fits.then_some(packet_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FragmentHeader, HEADER_LEN};

    /// The table of PROTOCOL 3.4, for every byte that a type can be.
    //= ZSSP-RPL-04  X2 in state A1
    //= ZSSP-RPL-05  X3 in state B2
    //= ZSSP-RPL-09  hello and challenge, with key id zero only
    //= ZSSP-RPL-10  other types never
    #[test]
    fn the_table() {
        for (route, allowed) in [
            (Route::AwaitResponse, 1..=1),
            (Route::AwaitCompletion, 2..=2),
            (Route::Session, 3..=8),
            (Route::Stranger, 0..=0),
        ] {
            for byte in 0..=u8::MAX {
                let expected = allowed.contains(&byte) || (route == Route::Stranger && byte == 9);
                assert_eq!(admitted(route, nonce(byte, 0)).is_some(), expected, "{route:?} {byte}");
            }
        }
    }

    //= ZSSP-RPL-04  X2 with a counter below 2^24
    //= ZSSP-RPL-05  X3 with counter 0
    //= ZSSP-PKT-13  the counter of X3 is 0
    #[test]
    fn counters_that_are_bounded() {
        let fits = |route, byte, counter| admitted(route, nonce(byte, counter)).is_some();
        assert!(fits(Route::AwaitResponse, 1, (1 << 24) - 1));
        assert!(!fits(Route::AwaitResponse, 1, 1 << 24));
        assert!(!fits(Route::AwaitCompletion, 2, 1));
        assert!(fits(Route::Session, 8, u64::MAX));
        assert!(fits(Route::Stranger, 0, u64::MAX));
    }

    /// A nonce whose type byte is anything, as it comes off the wire.
    fn nonce(type_byte: u8, counter: u64) -> PacketNonce {
        let mut header = [0; HEADER_LEN];
        header[5] = 1;
        header[7] = type_byte;
        header[8..].copy_from_slice(&counter.to_be_bytes());
        FragmentHeader::parse(&header).unwrap().nonce
    }
}
