//! On a road that neither loses nor reorders hardly anything is taken for lost, whatever is answered when, and how, and
//! what the peer takes its time for is not transmitted all the time.

use super::*;

/// A linear congruential generator (Knuth's MMIX); its high bits are random enough.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Both sides send `count` messages of `len` bytes at once. Each has up to `held` messages under its hands, and answers
/// any of them, `replied` in a hundred by a reply of the same size.
fn nothing_is_lost(seed: u64, count: usize, len: usize, (held, replied): (usize, usize)) {
    let mut pair = Pair::new();
    let mut random = Random(seed);
    let start = pair.now;
    for end in &mut pair.ends {
        for _ in 0..count {
            end.send(start, Order::Unordered, &vec![1; len]).unwrap();
        }
    }
    let mut at_work: [Vec<Arrived>; 2] = Default::default();
    let mut hold = [held; 2];
    let mut answered = 1;
    while answered > 0 {
        answered = 0;
        pair.drive_with(Duration::from_secs(600), |pair, side| {
            let now = pair.now;
            at_work[side].extend(std::iter::from_fn(|| pair.ends[side].take(now)));
            while at_work[side].len() > hold[side] {
                let index = random.below(at_work[side].len());
                let Arrived { token, data, answers } = at_work[side].swap_remove(index);
                let answering = answering(token, &data, answers.as_ref());
                let reply = answers.is_none() && random.below(100) < replied;
                pair.ends[side].with(now, |state, effects| {
                    if reply {
                        state.reply(now, answering, data, effects).unwrap();
                    } else {
                        state.acknowledge(now, answering, effects);
                    }
                });
                answered += 1;
            }
        });
        // What is still at work is answered when nothing else happens any more.
        hold = if hold == [0; 2] { [held; 2] } else { [0; 2] };
        if hold == [0; 2] {
            answered += at_work[0].len() + at_work[1].len();
        }
    }
    for end in &pair.ends {
        assert!(end.state.is_drained());
        let case = format!("seed {seed}, {len} bytes, {held} held, {replied} % replied to");
        let stats = end.state.stats();
        // A reply waits behind acknowledgements of what came after the message that it answers, if those are many.
        let few = if replied == 0 { 0 } else { stats.messages_sent / 100 };
        assert!(stats.messages_lost <= few, "{case}: {stats:?}");
        // What waits for an answer is asked about, ever more rarely, and there may be hundreds here.
        let asked = 40 * (pair.now.duration_since(start).as_secs() + 1);
        assert!(stats.messages_resent <= asked, "{case}: {} resent, not {asked}", stats.messages_resent);
    }
}

//= ZSSP-SEQ-19  what is held, or answered by a reply that waits for its turn, is not lost
#[test]
fn slow_answers_and_replies_that_wait_are_no_losses() {
    for (seed, (held, replied)) in (1..).zip([(0, 0), (0, 50), (10, 0), (10, 50), (40, 10), (10, 100)]) {
        for len in [40, 1000] {
            nothing_is_lost(seed, 1000, len, (held, replied));
        }
    }
}
