//! Two small programs that the kernel runs on each frame (classic BPF).

use libc::{BPF_ABS, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, sock_filter};

use crate::header::SPREAD_OFFSET;

/// Accepts nothing: for a socket that is not ready.
pub(crate) static NOTHING: [sock_filter; 1] = [give(0)];

/// Accepts what is addressed to this card, neither to others nor to all.
//= ZSSP-ETH-05  decided in the kernel, before a frame takes any room
pub(crate) static TO_THIS_HOST: [sock_filter; 4] = [
    // The kernel's own note on the frame, which stands at an offset that no frame has.
    statement(BPF_LD | BPF_B | BPF_ABS, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned()),
    jump_unless(BPF_JEQ, libc::PACKET_HOST as u32),
    give(u32::MAX),
    give(0),
];

/// Gives the spread number, by which (modulo their number) a receiver is chosen.
//= ZSSP-ETH-04  the fragments of a packet go to one receiver
pub(crate) static SPREAD: [sock_filter; 2] = [
    statement(BPF_LD | BPF_H | BPF_ABS, SPREAD_OFFSET),
    sock_filter { code: (BPF_RET | RET_A) as u16, jt: 0, jf: 0, k: 0 },
];

/// Return the accumulator.
const RET_A: u32 = 0x10;

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes on, or skips one statement when the comparison with `k` fails.
const fn jump_unless(code: u32, k: u32) -> sock_filter {
    sock_filter { code: (BPF_JMP | code | BPF_K) as u16, jt: 0, jf: 1, k }
}

/// Returns `k`: so many bytes of the frame.
const fn give(k: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, k)
}
