use super::reader::Reader;
use super::{KeyId, Malformed};

/// A challenge or the response to one, which have the same form: `counter || mac || pow` (PROTOCOL 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// Bob's number of this challenge. Only Bob reads it.
    pub counter: u64,
    /// Bob's proof to himself that he gave this counter to this address.
    pub mac: [u8; 16],
    /// Alice's eight bytes: random at first, echoed by Bob, then the solution.
    pub pow: [u8; 8],
}

impl Challenge {
    /// Bytes of a challenge.
    pub const LEN: usize = 8 + 16 + 8;

    /// Any 32 bytes are a challenge; whether it is a good one is decided elsewhere.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        let [mac @ .., s, t, u, v, w, x, y, z] = rest;
        Self { counter: u64::from_be_bytes([a, b, c, d, e, f, g, h]), mac, pow: [s, t, u, v, w, x, y, z] }
    }

    /// The bytes as they travel and as the proof of work hashes them.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.counter.to_be_bytes());
        bytes[8..24].copy_from_slice(&self.mac);
        bytes[24..].copy_from_slice(&self.pow);
        bytes
    }
}

/// The packet in which Bob sends a challenge (PROTOCOL 4). It is not authenticated: the echo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChallengePacket {
    /// The key id that Alice's hello asked answers for; the header's key id is zero.
    pub kid: KeyId,
    /// The challenge, with the `pow` of that hello.
    pub challenge: Challenge,
}

impl ChallengePacket {
    /// Bytes of the packet.
    pub const LEN: usize = 4 + Challenge::LEN;

    /// Reads a whole packet.
    ///
    /// # Errors
    /// When the length is not [`LEN`](Self::LEN), or the key id zero.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(packet);
        let challenge = Self {
            kid: KeyId::new(*fields.array()?).ok_or(Malformed)?,
            challenge: Challenge::from_bytes(fields.array()?),
        };
        fields.end()?;
        Ok(challenge)
    }

    /// Appends the packet to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kid.to_bytes());
        out.extend_from_slice(&self.challenge.to_bytes());
    }
}
