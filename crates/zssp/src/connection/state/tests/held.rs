//! What has arrived and is not answered is said to be held, soon and whatever else is said: it is taken for lost neither
//! by evidence nor by a time-out.

use super::*;

const CHANNELS: u16 = 8;

/// More than a window holds.
const COUNT: usize = 150;

fn pair() -> Pair {
    let window = capacity(128);
    Pair::with(Settings { window, channels: CHANNELS.into(), ..settings() })
}

fn send(pair: &mut Pair, channel: u16, data: &'static [u8]) {
    let message = Sending::new(Bytes::from_static(data), 0);
    pair.ends[0]
        .with(pair.now, |state, effects| {
            state.channel(channel).unwrap();
            state.send(channel, Order::Unordered, message, effects)
        })
        .unwrap();
}

/// Answers the next message of a channel, by a reply of `len` bytes or by nothing.
fn answer(pair: &mut Pair, side: usize, channel: u16, len: Option<usize>) -> bool {
    let now = pair.now;
    let end = &mut pair.ends[side];
    end.state.channel(channel).unwrap();
    let Some(Arrived { token, data, answers }) =
        end.with(now, |state, effects| state.take_message(now, channel, effects))
    else {
        return false;
    };
    assert!(answers.is_none());
    let answering = Answering { channel, token, len: data.len(), asked: None };
    end.with(now, |state, effects| match len {
        Some(len) => state.reply(now, answering, vec![1; len].into(), effects).unwrap(),
        None => state.acknowledge(now, answering, effects),
    });
    true
}

fn nothing_was_lost(pair: &Pair) {
    for end in &pair.ends {
        let stats = end.state.stats();
        assert_eq!((stats.timeouts, stats.messages_lost), (0, 0), "{stats:?}");
    }
}

//= ZSSP-SEQ-19  what is held is not lost
/// Everything is replied to at once, and nobody takes the replies. Questions go out of some channels while the windows of
/// others are full, and replies wait for the congestion window.
#[test]
fn unread_replies_that_fill_the_windows_are_no_losses() {
    for len in [1, 100, 1000, 3000] {
        let mut pair = pair();
        for _ in 0..COUNT {
            (0..CHANNELS).for_each(|channel| send(&mut pair, channel, b"a question"));
        }
        pair.drive_with(Duration::from_secs(60), |pair, side| {
            while side == 1 && (0..CHANNELS).any(|channel| answer(pair, side, channel, Some(len))) {}
        });
        nothing_was_lost(&pair);
        let replies = pair.ends[0].state.replies;
        assert_eq!(replies, usize::from(CHANNELS) * 111 * len, "all windows are full but for answers");
    }
}

//= ZSSP-SEQ-19  though others that came with it are answered
#[test]
fn a_message_that_takes_longer_than_the_next_is_no_loss() {
    for len in [None, Some(1)] {
        let mut pair = pair();
        for data in [b"quick", b"slow!"] {
            send(&mut pair, CHANNEL, data);
        }
        let mut answered = false;
        pair.drive_with(Duration::from_secs(60), |pair, side| {
            answered |= side == 1 && !answered && answer(pair, side, CHANNEL, len);
        });
        nothing_was_lost(&pair);
        assert!(answered && pair.ends[1].state.has_messages(CHANNEL));
    }
}
