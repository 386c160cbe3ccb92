//! The least that a packet costs: what the libraries do when they are called directly, without a protocol around.

use std::ops::Range;

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256Dec, Aes256Enc};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const HEADER: usize = 16;
const TAG: usize = 16;

/// Where the fragments of a packet lie.
pub(crate) struct Layout {
    pieces: Vec<usize>,
}

impl Layout {
    pub(crate) fn new(payload: usize, mtu: usize) -> Self {
        let packet = payload + TAG;
        let count = packet.div_ceil(mtu - HEADER);
        Self { pieces: (0..count).map(|i| packet / count + usize::from(i < packet % count)).collect() }
    }

    /// How many datagrams.
    pub(crate) fn count(&self) -> usize {
        self.pieces.len()
    }

    pub(crate) fn buffer_len(&self) -> usize {
        self.headers_len() + self.pieces.iter().sum::<usize>()
    }

    fn headers_len(&self) -> usize {
        HEADER * self.pieces.len()
    }

    /// The datagrams of a packet, one after the other.
    pub(crate) fn datagrams<'a>(&self, mut packet: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> {
        self.pieces.iter().map(move |piece| {
            let (datagram, rest) = std::mem::take(&mut packet).split_at_mut(HEADER + piece);
            packet = rest;
            datagram
        })
    }
}

/// The keys of one direction.
pub(crate) struct RawKeys {
    aead: LessSafeKey,
    protect: Aes256Enc,
    unprotect: Aes256Dec,
}

impl RawKeys {
    pub(crate) fn new() -> Self {
        let key = [0x42; 32];
        Self {
            aead: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap()),
            protect: Aes256Enc::new(&Array(key)),
            unprotect: Aes256Dec::new(&Array(key)),
        }
    }

    /// Encrypts to where the pieces will not overwrite one another, moves them to their places, and encrypts all
    /// headers at once.
    pub(crate) fn seal(&self, counter: u64, payload: &[u8], layout: &Layout, buffer: &mut [u8]) {
        let start = layout.headers_len();
        let (text, tag) = buffer[start..].split_at_mut(payload.len());
        self.aead.seal_out_of_place_scatter(nonce(counter), Aad::empty(), payload, text, &[], tag).unwrap();
        let (mut from, mut to) = (start, 0);
        for (number, piece) in layout.pieces.iter().enumerate() {
            buffer.copy_within(from..from + piece, to + HEADER);
            let header = &mut buffer[to..][..HEADER];
            header[..4].copy_from_slice(&[1; 4]);
            header[4] = number as u8;
            header[5] = layout.pieces.len() as u8;
            header[6..8].copy_from_slice(&[0, 8]);
            header[8..].copy_from_slice(&counter.to_be_bytes());
            (from, to) = (from + piece, to + HEADER + piece);
        }
        blocks(layout, buffer, |blocks| self.protect.encrypt_blocks(blocks));
    }

    /// Decrypts all headers at once, joins the pieces where there are several, and decrypts in place; the length of
    /// the payload.
    pub(crate) fn open(
        &self,
        counter: u64,
        layout: &Layout,
        packet: &mut [u8],
        joined: &mut Vec<u8>,
    ) -> usize {
        blocks(layout, packet, |blocks| self.unprotect.decrypt_blocks(blocks));
        let whole = if layout.pieces.len() == 1 {
            &mut packet[HEADER..]
        } else {
            joined.clear();
            let mut place = 0;
            for piece in &layout.pieces {
                joined.extend_from_slice(&packet[place + HEADER..][..*piece]);
                place += HEADER + piece;
            }
            &mut joined[..]
        };
        let (text, tag) = whole.split_at_mut(whole.len() - TAG);
        self.aead.open_in_place_separate_tag(nonce(counter), Aad::empty(), tag, text).unwrap().len()
    }
}

/// Runs `cipher` over the header blocks of a packet, all at once.
fn blocks(layout: &Layout, buffer: &mut [u8], cipher: impl Fn(&mut [Array<u8, aes::cipher::consts::U16>])) {
    let mut gathered = [Array([0; 16]); 48];
    let gathered = &mut gathered[..layout.pieces.len()];
    for (block, place) in gathered.iter_mut().zip(places(layout)) {
        block.copy_from_slice(&buffer[place]);
    }
    cipher(gathered);
    for (block, place) in gathered.iter().zip(places(layout)) {
        buffer[place].copy_from_slice(block);
    }
}

fn places(layout: &Layout) -> impl Iterator<Item = Range<usize>> {
    layout.pieces.iter().scan(0, |start, piece| {
        let place = *start + 4..*start + 20;
        *start += HEADER + piece;
        Some(place)
    })
}

/// A nonce as the protocol makes it.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
