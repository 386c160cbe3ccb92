//! What replies take, and what the peer may make of that.

use super::*;

/// So large that a window of them is more than the credit.
const LEN: usize = 80_000;

/// A reply of the peer's to the message `asked` of ours, with `len` bytes.
fn reply(seq: u32, asked: u32, len: usize) -> Vec<u8> {
    let message =
        seqex::Message { seq: seq.into(), reply_to: Some(asked.into()), order: Order::Unordered, data: () };
    let header = seqex::encoding::MessageHeader::new(CHANNEL, &message);
    [&header[..], &vec![1; len]].concat()
}

/// An end that has sent so many messages of one byte, and of which the peer has seen all.
fn asking(count: usize) -> Pair {
    let mut pair = Pair::new();
    for _ in 0..count {
        let now = pair.now;
        pair.ends[0].send(now, Order::Unordered, &[0]).unwrap();
    }
    pair.drive(10 * MS, [false, false], &mut [Vec::new(), Vec::new()]);
    pair
}

//= ZSSP-STR-06  replies count by themselves
#[test]
fn a_peer_that_replies_more_than_it_may_ends_the_connection() {
    let count = CREDIT / LEN;
    let mut pair = asking(count + 1);
    let now = pair.now;
    for seq in 0..count as u32 {
        pair.ends[0].handle_payload(now, &reply(seq, seq, LEN));
    }
    assert_eq!(pair.ends[0].state.ended(), None);
    let rest = CREDIT - count * LEN;
    pair.ends[0].handle_payload(now, &reply(count as u32, count as u32, rest + 1));
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
}

//= ZSSP-STR-06  those to requests are taken at once, those to others when the application is done
#[test]
fn what_was_replied_and_what_it_answers_count_until_they_are_dealt_with() {
    let mut pair = asking(2);
    let now = pair.now;
    pair.ends[0].handle_payload(now, &reply(0, 0, LEN));
    assert_eq!((pair.ends[0].state.replies, pair.ends[0].freed), (LEN, 0));
    assert_eq!(pair.ends[0].receive(now).unwrap().len(), LEN);
    assert_eq!((pair.ends[0].state.replies, pair.ends[0].freed), (0, 1));

    let (answer, mut answered) = oneshot::channel();
    let request = Sending { answer: Some(answer), ..Sending::new(Bytes::from_static(b"?"), 0) };
    pair.ends[0].with(now, |state, effects| state.send(CHANNEL, Order::Unordered, request, effects)).unwrap();
    pair.drive(10 * MS, [false, false], &mut [Vec::new(), Vec::new()]);
    pair.ends[0].handle_payload(pair.now, &reply(1, 2, LEN));
    assert_eq!(pair.ends[0].state.replies, 0);
    let (answer, data) = pair.ends[0].answers.pop().unwrap();
    answer.send(data.unwrap()).unwrap();
    assert_eq!(answered.try_recv().unwrap().len(), LEN);
}

//= ZSSP-STR-06  whoever replies to replies has asked for it
#[test]
fn a_reply_to_a_reply_does_not_count() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.ends[1].send(now, Order::Unordered, &[0]).unwrap();
    pair.drive(10 * MS, [false, false], &mut [Vec::new(), Vec::new()]);
    let now = pair.now;
    let Arrived { token, data, .. } = pair.ends[0].take(now).unwrap();
    let answering = answering(token, &data, None);
    pair.ends[0]
        .with(now, |state, effects| state.reply(now, answering, Bytes::from_static(b"!"), effects))
        .unwrap();
    pair.drive(10 * MS, [false, false], &mut [Vec::new(), Vec::new()]);
    pair.ends[0].handle_payload(pair.now, &reply(1, 0, LEN));
    assert_eq!(pair.ends[0].state.replies, 0);
    assert_eq!(pair.ends[0].receive(pair.now).unwrap().len(), LEN);
}

//= ZSSP-STR-06  a stream knows none, so none has to be kept
#[test]
fn a_reply_to_a_chunk_ends_the_connection() {
    let mut pair = Pair::new();
    let now = pair.now;
    let id = pair.ends[0].state.open_stream().unwrap().unwrap();
    assert!(pair.ends[0].state.lanes.get(LaneId::Stream(id)).is_some());
    let prefix = LaneId::Stream(id).group().prefix().unwrap();
    let channel = LaneId::Stream(id).channel();
    let message = seqex::Message { seq: 5.into(), reply_to: Some(0.into()), order: Order::Ordered, data: () };
    let header = seqex::encoding::MessageHeader::new(channel, &message);
    pair.ends[0].handle_payload(now, &[&prefix[..], &header[..], b"\0x"].concat());
    assert!(matches!(pair.ends[0].state.ended(), Some(CloseReason::Protocol(_))));
}

/// Both sides' applications answer in the task that receives. One has replied to a reply before: it goes on taking replies
/// when a full window of its messages waits for a lost one.
#[test]
fn a_channel_with_a_reply_to_a_reply_gets_on_while_replies_wait() {
    let mut pair = Pair::new();
    pair.ends[0].send(pair.now, Order::Unordered, b"small talk").unwrap();
    let mut taken = [0; 2];
    let mut act = |pair: &mut Pair, side: usize| {
        let now = pair.now;
        while let Some(Arrived { token, data, answers }) = pair.ends[side].take(now) {
            taken[side] += 1;
            let answering = answering(token, &data, answers.as_ref());
            let reply: &[u8] = match (&data[..], &answers) {
                (b"small talk", _) => b"indeed",
                (b"indeed", _) => b"yes",
                (b"bulk" | b"lost", None) => &[1; LEN],
                (b"and you?", None) => b"fine",
                (_, None) => panic!("nobody has sent that"),
                (_, Some(_)) => b"",
            };
            let reply = Bytes::copy_from_slice(reply);
            pair.ends[side].with(now, |state, effects| match &reply[..] {
                b"" => state.acknowledge(now, answering, effects),
                _ => state.reply(now, answering, reply, effects).unwrap(),
            });
        }
    };
    pair.drive_with(Duration::from_secs(1), &mut act);

    let heals = pair.now + Duration::from_secs(2);
    let is_broken = std::rc::Rc::new(std::cell::Cell::new(true));
    let broken = is_broken.clone();
    pair.lost_by_content =
        Some(Box::new(move |payload| broken.get() && payload.windows(4).any(|part| part == b"lost")));
    let count = 63;
    for number in 0..count {
        let data: &[u8] = if number == 0 { b"lost" } else { b"bulk" };
        pair.ends[0].send(pair.now, Order::Unordered, data).unwrap();
    }
    pair.ends[1].send(pair.now, Order::Unordered, b"and you?").unwrap();
    pair.drive_with(heals - pair.now, &mut act);
    is_broken.set(false);
    pair.drive_with(Duration::from_secs(60), &mut act);
    // Of the first: "indeed", the question, and a reply to each; of the second: "small talk", "yes", all, and "fine".
    assert_eq!(taken, [count + 2, count + 3]);
    assert!(pair.ends.iter().all(|end| end.state.is_drained()));
}

/// What the peer sent before it closed is all there to be taken, though numbers of the window were left to its answers.
#[test]
fn what_arrived_before_the_peer_closed_is_kept() {
    let mut pair = Pair::new();
    let now = pair.now;
    // As many as there is a place for.
    for _ in 0..100 {
        pair.ends[0].send(now, Order::Unordered, &[0]).unwrap();
    }
    for number in 0..5 {
        pair.ends[1].send(now, Order::Unordered, &[number]).unwrap();
    }
    pair.drive(100 * MS, [false, false], &mut [Vec::new(), Vec::new()]);
    let now = pair.now;
    let reason = CloseReason::Peer { code: 0, reason: b""[..].into() };
    pair.ends[0].with(now, |state, effects| state.end(reason, Farewell::Over, effects));
    let taken: Vec<u8> =
        std::iter::from_fn(|| pair.ends[0].take(now)).map(|arrived| arrived.data[0]).collect();
    assert_eq!(taken, [0, 1, 2, 3, 4]);
}
