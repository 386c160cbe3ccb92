//! What a recorded side drew at random, so that one of ours can draw the same.

use std::collections::VecDeque;

use zssp_proto::wire::HEADER_LEN;
use zssp_sim::vectors::{Event, Op, Who};

/// Everything one side drew, in the order of its use.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Ephemeral P-384 secret scalars.
    pub p384: VecDeque<[u8; 48]>,
    /// KEM decapsulation keys.
    pub kem: VecDeque<Box<[u8; 3168]>>,
    /// Ciphertexts, with the decapsulation keys that they are for.
    ///
    /// Recorded is the secret that went into the handshake, which differs between suites. A provider has to answer
    /// with that of FIPS 203, and gets it by decapsulating.
    pub encapsulations: VecDeque<Encapsulated>,
    /// Key ids.
    pub kids: VecDeque<[u8; 4]>,
    /// The `pow` of hellos.
    pub pows: VecDeque<[u8; 8]>,
}

/// An encapsulation to be repeated.
#[derive(Debug, Clone)]
pub struct Encapsulated {
    /// What was sent.
    pub ciphertext: Box<[u8; 1568]>,
    /// The decapsulation key of its receiver.
    pub secret: Box<[u8; 3168]>,
}

impl Script {
    /// What `who` drew in `events`. Key ids and `pow` were not recorded; they are read from the packets.
    pub fn of(who: Who, events: &[Event]) -> Self {
        let mut script = Self::default();
        // Alice's last one is what Bob encapsulates to.
        let mut kem = None;
        for event in events {
            if let Op::KemKeypair { secret, .. } = &event.op {
                kem = Some(secret);
            }
            if let Op::Send { fragments, .. } = &event.op {
                script.read_packet(event.who == who, fragments);
            }
            if event.who != who {
                continue;
            }
            match &event.op {
                Op::KemEncapsulate { ciphertext, .. } => {
                    let encapsulated = kem.map(|secret| Encapsulated {
                        ciphertext: ciphertext.clone(),
                        secret: secret.clone(),
                    });
                    script.encapsulations.extend(encapsulated);
                }
                Op::KemKeypair { secret, .. } => script.kem.push_back(secret.clone()),
                Op::P384Keypair { secret, .. } => script.p384.push_back(*secret),
                _ => {}
            }
        }
        script
    }

    /// Whether everything was drawn.
    pub fn is_spent(&self) -> bool {
        self.p384.is_empty()
            && self.kem.is_empty()
            && self.encapsulations.is_empty()
            && self.kids.is_empty()
            && self.pows.is_empty()
    }

    /// Reads what a side drew from a packet: its own hello carries its key id and `pow`, and each packet of the peer's
    /// comes under one of its key ids.
    fn read_packet(&mut self, own: bool, fragments: &[Vec<u8>]) {
        let Some(kid) = fragments.first().and_then(|fragment| fragment.first_chunk::<4>()) else { return };
        let without_kid = *kid == [0; 4];
        // Of what comes without a key id, type 0 is a hello and 9 a challenge.
        if own && without_kid && fragments[0].get(7) == Some(&0) {
            let packet: Vec<u8> =
                fragments.iter().filter_map(|f| f.get(HEADER_LEN..)).flatten().copied().collect();
            // The same hello with another response has the same key id.
            self.kids.extend(packet.first_chunk::<4>().filter(|kid| !self.kids.contains(kid)).copied());
            self.pows.extend(packet.last_chunk::<8>().copied());
        } else if !own && !without_kid && !self.kids.contains(kid) {
            self.kids.push_back(*kid);
        }
    }
}
