//! The way out, every step *parallel*: load the key ring, take a counter, seal the payload in one run, move the
//! pieces apart, protect all headers in one batch (PROTOCOL 3.2, 3.3, 5.1).

use super::{KeyUse, Session};
use crate::crypto::{ProviderError, TAG_LEN};
use crate::wire::{PacketNonce, PacketType};
use crate::zfp::{Run, Split, SplitError, protect, spread};

impl Session {
    /// Bytes of buffer that [`seal`](Self::seal) needs for a payload of `payload_len` bytes: the sealed payload and
    /// the header of each fragment.
    ///
    /// # Errors
    /// As [`seal`](Self::seal): the payload is too large, or the MTU too small.
    pub fn sealed_len(payload_len: usize, mtu: usize) -> Result<usize, SealError> {
        split(payload_len, mtu).map(|split| split.buffer_len())
    }

    /// The largest payload one packet can carry at this MTU; 0 below the smallest MTU, 128.
    pub const fn max_payload_len(mtu: usize) -> usize {
        Split::max_payload(mtu)
    }

    /// Seals `payload` into datagrams of at most `mtu` bytes, which lie one after the other in `buffer` (type 8,
    /// PROTOCOL 5.1). Any number of threads may do this at once.
    ///
    /// A datagram may be lost, so payloads may; what must arrive goes through a reliable protocol on top. A buffer
    /// that was sealed must be sent at most once, as it is.
    ///
    /// # Errors
    /// See [`SealError`]. Nothing is written in a way that may be sent.
    pub fn seal(&self, payload: &[u8], mtu: usize, buffer: &mut [u8]) -> Result<Sealed, SealError> {
        self.seal_parts(&[payload], mtu, buffer)
    }

    /// [`seal`](Self::seal)s the concatenation of `parts`: a frame header and its data, or several messages in one
    /// packet. With AWS-LC all but the last part are copied once more, with pure Rust all of them.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal_parts(&self, parts: &[&[u8]], mtu: usize, buffer: &mut [u8]) -> Result<Sealed, SealError> {
        let payload_len = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let split = split(payload_len, mtu)?;
        let needed = split.buffer_len();
        //= ZSSP-DEF-19  a buffer that is too short is an error
        let buffer = buffer.get_mut(..needed).ok_or(SealError::BufferTooSmall { needed })?;

        //= ZSSP-ST-25  a session can be sealed with in S1, S2, R1 and R2 only
        //= ZSSP-DEF-04  without one no counter is used up
        let ring = self.0.keys.load();
        //= ZSSP-DEF-04  refused before a counter is taken
        let ring = ring.as_ref().ok_or(SealError::Closed)?;
        let epoch = ring.current();
        let (counter, key_use) = self.0.usage.take(epoch, split.packet_len());
        match key_use {
            KeyUse::Good => {}
            KeyUse::RekeyDue => self.0.wake(epoch),
            KeyUse::UsedUp => {
                self.0.wake(epoch);
                return Err(SealError::KeyUsedUp);
            }
        }
        //= ZSSP-PKT-09  the payload and its tag
        let nonce = PacketNonce::new(PacketType::Payload, counter);
        //= ZSSP-SEC-01  nothing leaves unsealed
        //= ZSSP-DEF-11  the prepared key is shared, without a lock
        ring.seal_key().seal(&nonce.aead(), &[], parts, &mut buffer[split.headers_len()..])?;
        spread(buffer, &split, Some(epoch.remote_kid), nonce);
        //= ZSSP-DEF-10  the header cipher is shared, without a lock
        protect(&*self.0.ingress.header.protect, buffer, &split);
        Ok(Sealed { split, rekey_due: key_use == KeyUse::RekeyDue })
    }
}

fn split(payload_len: usize, mtu: usize) -> Result<Split, SealError> {
    let packet_len =
        payload_len.checked_add(TAG_LEN).ok_or(SealError::TooLarge { limit: Split::max_payload(mtu) })?;
    Split::new(packet_len, mtu).map_err(|error| match error {
        SplitError::MtuTooSmall { mtu } => SealError::MtuTooSmall { mtu },
        SplitError::TooLarge { .. } | SplitError::TooShort { .. } => {
            SealError::TooLarge { limit: Split::max_payload(mtu) }
        }
    })
}

/// Where the datagrams of a sealed payload lie in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    split: Split,
    rekey_due: bool,
}

impl Sealed {
    pub(crate) const fn of(split: Split) -> Self {
        Self { split, rekey_due: false }
    }

    /// Bytes of the buffer that are in use, from its start.
    #[expect(clippy::len_without_is_empty, reason = "there is always a tag")]
    pub const fn len(&self) -> usize {
        self.split.buffer_len()
    }

    /// How many datagrams.
    pub const fn count(&self) -> usize {
        self.split.count()
    }

    /// Whether with this packet it became time for another key: [`Context::expired`] has something to do at once,
    /// which whoever sleeps until [`Context::next_deadline`] cannot know. True about once in 2^30 packets.
    ///
    /// [`Context::expired`]: crate::Context::expired
    /// [`Context::next_deadline`]: crate::Context::next_deadline
    pub const fn is_rekey_due(&self) -> bool {
        self.rekey_due
    }

    /// Each datagram by itself.
    pub fn datagrams(self, buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.split.fragments().filter_map(move |range| buffer.get(range))
    }

    /// The datagrams as at most two runs of equal length, for segmented sends: each is the bytes of a run and the
    /// length of one datagram in it.
    pub fn runs(self, buffer: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
        let mut rest = buffer;
        self.split.runs().map_while(move |Run { datagram_len, count }| {
            let (run, after) = rest.split_at_checked(datagram_len * count)?;
            rest = after;
            Some((run, datagram_len))
        })
    }
}

/// Why a payload was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The buffer is shorter than [`Session::sealed_len`].
    #[error("the buffer must have {needed} bytes")]
    BufferTooSmall {
        /// Bytes that would do.
        needed: usize,
    },
    /// The session has ended; open another.
    #[error("the session has ended")]
    Closed,
    /// The key was used as often as is safe: the session can only be closed.
    #[error("the session's key is used up; open another session")]
    KeyUsedUp,
    /// Datagrams this small are not used.
    #[error("an MTU of {mtu} is below the smallest, 128")]
    MtuTooSmall {
        /// What was asked for.
        mtu: usize,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The payload does not fit 48 fragments of this MTU. Send it in several payloads.
    #[error("the payload is above the {limit} bytes that this MTU allows")]
    TooLarge {
        /// The largest payload at this MTU.
        limit: usize,
    },
}
