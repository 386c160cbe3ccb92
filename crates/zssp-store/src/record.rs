//! A ratchet pair as the bytes of one record.
//!
//! ```text
//! version:1  states:1  { chain length:8 || fingerprint:32 || key:32 } twice
//! ```
//! Big-endian; 146 bytes whether there are one or two states, the place of a second one that is not there is zero.

use zeroize::Zeroizing;
use zssp_proto::crypto::Secret;
use zssp_proto::{Fingerprint, RatchetPair, RatchetState};

const VERSION: u8 = 1;
const CHAIN_LENGTH: usize = 8;
const KEY: usize = 32;
const STATE: usize = CHAIN_LENGTH + Fingerprint::LEN + KEY;
/// Bytes of a record of version 1.
pub(crate) const LEN: usize = 2 + 2 * STATE;

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes cannot have been written by any version of this library.
    #[error("the record is damaged")]
    Damaged,
    /// A version to come wrote it.
    #[error("the record has format version {0}, which this version does not know")]
    Version(u8),
}

/// The record of `pair`, wiped when dropped.
pub(crate) fn encode(pair: &RatchetPair) -> Zeroizing<[u8; LEN]> {
    let mut record = Zeroizing::new([0; LEN]);
    let (head, states) = record.split_at_mut(2);
    head[0] = VERSION;
    for (state, place) in pair.states().zip(states.chunks_exact_mut(STATE)) {
        head[1] += 1;
        let (chain_length, rest) = place.split_at_mut(CHAIN_LENGTH);
        let (fingerprint, key) = rest.split_at_mut(Fingerprint::LEN);
        chain_length.copy_from_slice(&state.chain_length().to_be_bytes());
        fingerprint.copy_from_slice(state.fingerprint().as_bytes());
        key.copy_from_slice(state.key().expose());
    }
    record
}

/// The pair of a record.
pub(crate) fn parse(record: &[u8]) -> Result<RatchetPair, RecordError> {
    let (version, rest) = record.split_first().ok_or(RecordError::Damaged)?;
    if *version != VERSION {
        return Err(RecordError::Version(*version));
    }
    let (states, rest) = rest.split_first().ok_or(RecordError::Damaged)?;
    let (first, second) = rest.split_first_chunk::<STATE>().ok_or(RecordError::Damaged)?;
    let second = <&[u8; STATE]>::try_from(second).map_err(|_| RecordError::Damaged)?;
    let second = match states {
        1 if second.iter().all(|byte| *byte == 0) => None,
        2 => Some(parse_state(second)?),
        _ => return Err(RecordError::Damaged),
    };
    Ok(RatchetPair { first: parse_state(first)?, second })
}

fn parse_state(bytes: &[u8; STATE]) -> Result<RatchetState, RecordError> {
    let (chain_length, rest) = bytes.split_first_chunk::<CHAIN_LENGTH>().ok_or(RecordError::Damaged)?;
    let (fingerprint, key) = rest.split_first_chunk::<{ Fingerprint::LEN }>().ok_or(RecordError::Damaged)?;
    let key = Secret::from_slice(key).ok_or(RecordError::Damaged)?;
    Ok(RatchetState::new(key, Fingerprint::new(*fingerprint), u64::from_be_bytes(*chain_length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(seed: u8) -> RatchetState {
        let chain_length = u64::from_be_bytes([seed, 1, 2, 3, 4, 5, 6, 7]);
        RatchetState::new(Secret::new([seed; 32]), Fingerprint::new([seed ^ 0xFF; 32]), chain_length)
    }

    fn identical(a: &RatchetPair, b: &RatchetPair) -> bool {
        a.same(b)
            && a.states()
                .zip(b.states())
                .all(|(a, b)| a.key().ct_eq(b.key()) && a.chain_length() == b.chain_length())
    }

    //= ZSSP-RAT-01  one state or two, each with key, fingerprint and chain length
    #[test]
    fn a_pair_survives_being_written() {
        for pair in [
            RatchetPair { first: state(1), second: None },
            RatchetPair { first: state(1), second: Some(state(2)) },
            RatchetPair { first: state(1), second: Some(RatchetState::zero()) },
            RatchetPair::never_met(),
        ] {
            assert!(identical(&parse(&*encode(&pair)).unwrap(), &pair));
        }
    }

    #[test]
    fn the_format_does_not_change() {
        let record = encode(&RatchetPair { first: state(7), second: Some(state(9)) });
        let mut expected = vec![1, 2];
        for seed in [7, 9] {
            expected.extend([seed, 1, 2, 3, 4, 5, 6, 7]);
            expected.extend([seed ^ 0xFF; 32]);
            expected.extend([seed; 32]);
        }
        assert_eq!(record[..], expected);
        let one = encode(&RatchetPair { first: state(7), second: None });
        assert_eq!(one[1], 1);
        assert_eq!(one[2..74], expected[2..74]);
        assert_eq!(one[74..], [0; 72]);
    }

    #[test]
    fn what_no_version_wrote_is_damaged_and_what_a_later_one_wrote_is_not() {
        let whole = encode(&RatchetPair { first: state(1), second: Some(state(2)) });
        let read = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut record = whole.to_vec();
            change(&mut record);
            parse(&record).map(drop)
        };
        assert_eq!(read(&|_| ()), Ok(()));
        assert_eq!(read(&|record| record[0] = 2), Err(RecordError::Version(2)));
        assert_eq!(read(&|record| *record = vec![2]), Err(RecordError::Version(2)));
        assert_eq!(read(&|record| record[1] = 0), Err(RecordError::Damaged));
        assert_eq!(read(&|record| record[1] = 3), Err(RecordError::Damaged));
        assert_eq!(read(&|record| record[1] = 1), Err(RecordError::Damaged), "a second state nobody counted");
        assert_eq!(read(&|record| record.push(0)), Err(RecordError::Damaged));
        for len in 0..LEN {
            assert_eq!(read(&|record| record.truncate(len)), Err(RecordError::Damaged), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), LEN - 2..LEN + 2)) {
            let _ = parse(&bytes);
            bytes[0] = VERSION;
            bytes[1] = 1 + bytes[1] % 2;
            if let Ok(pair) = parse(&bytes) {
                prop_assert_eq!(&encode(&pair)[..], &bytes[..]);
            }
        }
    }
}
