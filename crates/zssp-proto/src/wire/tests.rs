use proptest::prelude::*;

use super::*;

/// Lengths of PROTOCOL 5.1, written out as numbers.
#[test]
fn packet_lengths() {
    assert_eq!(Hello::LEN, 1749);
    assert_eq!(Response::LEN, 1653);
    assert_eq!((Completion::MIN_LEN, Completion::MAX_LEN), (81, 4177));
    assert_eq!(Control::LEN, 16);
    assert_eq!((RekeyBody::LEN, Rekey::LEN), (69, 85));
    assert_eq!((Challenge::LEN, ChallengePacket::LEN), (32, 36));
}

/// Every field stands where PROTOCOL 5.1 puts it: byte `i` of each packet here is `i` modulo 251.
#[test]
fn fields_stand_in_order() {
    let bytes: Vec<u8> = (0..Hello::LEN).map(|i| (i % 251) as u8).collect();
    let hello = Hello::parse(&bytes).unwrap();
    assert_eq!(hello.kid.to_bytes(), [0, 1, 2, 3]);
    assert_eq!(hello.e[..], bytes[4..53]);
    assert_eq!(hello.e1[..], bytes[53..1637]);
    assert_eq!(hello.fingerprints[..], bytes[1637..1717]);
    assert_eq!(hello.response.to_bytes()[..], bytes[1717..]);
    assert_eq!(hello.response.counter.to_be_bytes()[..], bytes[1717..1725]);
    assert_eq!(hello.response.mac[..], bytes[1725..1741]);
    assert_eq!(hello.response.pow[..], bytes[1741..]);
    assert_eq!(hello.header_counter().to_be_bytes()[..], bytes[1709..1717]);

    let response = Response::parse(&bytes[..Response::LEN]).unwrap();
    assert_eq!(response.e[..], bytes[..49]);
    assert_eq!(response.ekem1[..], bytes[49..1633]);
    assert_eq!(response.kid[..], bytes[1633..1653]);
    assert_eq!(response.header_counter().to_be_bytes()[5..], bytes[1650..1653]);
    assert!(response.header_counter() < 1 << 24);

    let completion = Completion::parse(&bytes[..100]).unwrap();
    assert_eq!(completion.s[..], bytes[..65]);
    assert_eq!(completion.identity.as_bytes(), &bytes[65..100]);

    let body = RekeyBody::parse(&bytes[..69]).unwrap();
    assert_eq!(body.e[..], bytes[..49]);
    assert_eq!(body.kid[..], bytes[49..69]);

    let challenge = ChallengePacket::parse(&bytes[..36]).unwrap();
    assert_eq!(challenge.kid.to_bytes()[..], bytes[..4]);
    assert_eq!(challenge.challenge.to_bytes()[..], bytes[4..36]);
}

#[test]
fn zero_is_not_a_key_id() {
    assert_eq!(Hello::parse(&[0; Hello::LEN]), Err(Malformed));
    assert_eq!(ChallengePacket::parse(&[0; ChallengePacket::LEN]), Err(Malformed));
}

#[test]
fn headers_with_impossible_numbers_are_refused() {
    let header = |number, count| {
        let mut bytes = [7; HEADER_LEN];
        (bytes[4], bytes[5]) = (number, count);
        FragmentHeader::parse(&bytes).is_ok()
    };
    assert!(header(0, 1) && header(47, 48));
    assert!(!header(0, 0) && !header(1, 1) && !header(0, 49) && !header(0, 255) && !header(48, 48));
}

/// Parses with `parse`; whatever it accepts must emit to the very same bytes, at one of the lengths allowed.
macro_rules! parses_what_it_emits {
    ($view:ident, $bytes:expr, $lengths:expr) => {
        let bytes: &[u8] = $bytes;
        match $view::parse(bytes) {
            Ok(view) => {
                prop_assert!($lengths.contains(&bytes.len()));
                let mut emitted = Vec::new();
                view.emit(&mut emitted);
                prop_assert_eq!(&emitted[..], bytes);
                prop_assert_eq!($view::parse(&emitted), Ok(view));
            }
            Err(Malformed) => {
                prop_assert!(!$lengths.contains(&bytes.len()) || bytes.starts_with(&[0; 4]));
            }
        }
    };
}

/// Random bytes whose length is now and then exactly that of a packet.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    const LENGTHS: [usize; 8] = [16, 36, 69, 81, 85, 1653, 1749, 4177];
    let near = (prop::sample::select(&LENGTHS[..]), 0..3_usize).prop_map(|(len, off)| len + off - 1);
    prop_oneof![3 => near, 1 => 0..5000_usize].prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
}

proptest! {
    #[test]
    fn parse_and_emit_are_inverse(bytes in packet()) {
        parses_what_it_emits!(Hello, &bytes, [Hello::LEN]);
        parses_what_it_emits!(Response, &bytes, [Response::LEN]);
        parses_what_it_emits!(Completion, &bytes, (Completion::MIN_LEN..=Completion::MAX_LEN));
        parses_what_it_emits!(Control, &bytes, [Control::LEN]);
        parses_what_it_emits!(Rekey, &bytes, [Rekey::LEN]);
        parses_what_it_emits!(RekeyBody, &bytes, [RekeyBody::LEN]);
        parses_what_it_emits!(ChallengePacket, &bytes, [ChallengePacket::LEN]);
    }

    #[test]
    fn headers_parse_as_they_were_emitted(kid: [u8; 4], count in 1..=48_u8, number: u8, t in 0..10_u8, c: u64) {
        let packet_type = PacketType::from_byte(t).unwrap();
        let nonce = PacketNonce::new(packet_type, c);
        let header = FragmentHeader { kid: KeyId::new(kid), number: number % count, count, nonce };
        prop_assert_eq!(FragmentHeader::parse(&header.emit()), Ok(header));
        prop_assert_eq!((nonce.packet_type(), nonce.counter()), (Some(packet_type), c));
    }

    #[test]
    fn a_datagram_splits_into_header_and_chunk(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let copy = bytes.clone();
        prop_assert_eq!(FragmentHeader::peek_kid(&bytes).is_ok(), bytes.len() >= MIN_FRAGMENT_LEN);
        if let Ok((header, chunk)) = FragmentHeader::split_off(&mut bytes) {
            prop_assert!(copy.len() >= MIN_FRAGMENT_LEN);
            prop_assert_eq!(&header.emit()[..], &copy[..HEADER_LEN]);
            prop_assert_eq!(&*chunk, &copy[HEADER_LEN..]);
            prop_assert_eq!(FragmentHeader::peek_kid(&copy), Ok(header.kid));
        }
    }
}
