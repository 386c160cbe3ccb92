//! What a message that waits holds on to.

use super::*;

/// Acknowledgements, of nothing that was ever sent, in front of `message` make a payload of 50 kB.
fn behind_acks(message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while payload.len() < 50_000 {
        payload.extend_from_slice(&[0x18, 0, 0, 1, 0, 0, 0, 0, 0]);
    }
    payload.extend_from_slice(&[0x10, 0, 0, 0, 0, 0, 0]);
    [&payload, message].concat()
}

/// Only its own bytes count for the credit.
#[test]
fn a_short_message_does_not_hold_the_memory_of_a_long_payload() {
    for (message, kept) in [(vec![7; 1], false), (vec![7; 1000], false), (vec![7; 60_000], true)] {
        let memory = Bytes::from(behind_acks(&message));
        let (now, mut end) = (Instant::now(), End::new(Instant::now(), settings(), Role::Initiator));
        let payload = Incoming::read(Body { bytes: &memory, memory: Some(&memory) }, None);
        let Incoming::Parsed(payload) = payload else { panic!("no datagram") };
        end.with(now, |state, effects| state.handle_payload(now, payload, effects));
        let arrived = end.take(now).unwrap();
        assert_eq!(arrived.data, message);
        assert_eq!(memory.as_ptr_range().contains(&arrived.data.as_ptr()), kept, "{} bytes", message.len());
    }
}
