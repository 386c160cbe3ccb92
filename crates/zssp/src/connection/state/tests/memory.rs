//! What a message that waits holds on to, and what writers that wait do.

use std::task::Waker;

use super::*;

/// Acknowledgements, of nothing that was ever sent, in front of `message` make a payload of 50 kB, in a buffer of
/// `capacity`.
fn behind_acks(message: &[u8], capacity: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(capacity);
    while payload.len() < 50_000 {
        payload.extend_from_slice(&[0x18, 0, 0, 1, 0, 0, 0, 0, 0]);
    }
    payload.extend_from_slice(&[0x10, 0, 0, 0, 0, 0, 0]);
    payload.extend_from_slice(message);
    payload
}

/// Only its own bytes count for the credit, and it may take twice as many.
#[test]
fn a_short_message_does_not_hold_the_memory_of_a_long_payload() {
    let buffers = Arc::new(Buffers::default());
    for (message, capacity, kept) in [
        (1, 51_000, false),
        (1000, 52_000, false),
        (60_000, 111_000, true),
        (60_000, 119_000, true),
        (60_000, 122_000, false),
    ] {
        let message = vec![7; message];
        let mut payload = behind_acks(&message, capacity);
        assert_eq!(payload.capacity(), capacity);
        let memory = buffers.lend(&mut payload).unwrap();
        let bytes = memory.as_ref();
        let (now, mut end) = (Instant::now(), End::new(Instant::now(), settings(), Role::Initiator));
        let mut messages = Messages::new();
        let payload = Incoming::read(Body { bytes, memory: Some(&memory) }, None, &mut messages);
        let Incoming::Parsed(payload) = payload else { panic!("no datagram") };
        end.with(now, |state, effects| state.handle_payload(now, payload, effects));
        let arrived = end.take(now).unwrap();
        assert_eq!(arrived.data, message);
        assert_eq!(bytes.as_ptr_range().contains(&arrived.data.as_ptr()), kept, "{} bytes", message.len());
    }
}

/// Nothing but their own content.
#[test]
fn messages_in_a_bundle_take_no_other_memory() {
    let message = [0x10, 0, 0, 0, 0, 0, 0, b'm'];
    let bundle = [&[0xD9][..], &[&[0, 8][..], &message].concat().repeat(20)].concat();
    let mut messages = Messages::new();
    let mut read = || {
        let Incoming::Parsed(_) = Incoming::read(Body { bytes: &bundle, memory: None }, None, &mut messages)
        else {
            panic!("no datagram")
        };
        assert_eq!(messages.iter().flatten().count(), 20);
    };
    read();
    assert_eq!(allocation_counter::measure(read).count_total, 20);
}

/// Those who have something under way and those who have not, all of which want more than there is.
#[test]
fn writers_that_wait_for_room_take_no_memory() {
    const COST: usize = 60_000;
    let (now, mut effects) = (Instant::now(), Effects::default());
    let mut state = End::new(now, Settings { channels: 200, ..settings() }, Role::Initiator).state;
    let ids: Vec<_> = (0..200).map(LaneId::Channel).collect();
    for id in 0..200 {
        state.channel(id).unwrap();
    }
    let mut taken = vec![0; ids.len()];
    let mut round = |state: &mut State| {
        for (&id, taken) in ids.iter().zip(&mut taken) {
            while state.take_room(id, COST..=COST, Some(Waker::noop().clone()), &mut effects) > 0 {
                *taken += 1;
            }
        }
        for (&id, taken) in ids.iter().zip(&mut taken) {
            for _ in 0..std::mem::take(taken) {
                state.give_back(id, Kind::Message, COST, &mut effects);
            }
        }
        state.reclaim_room(&mut effects);
        assert!(effects.wakers.len() > 1, "somebody is called");
        effects.wakers.clear();
        effects.idle.clear();
    };
    (0..10).for_each(|_| round(&mut state));
    let memory = allocation_counter::measure(|| (0..100).for_each(|_| round(&mut state)));
    assert_eq!(memory.count_total, 0);
}
