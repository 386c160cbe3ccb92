use proptest::prelude::*;

use super::*;
use crate::fuzzing;

/// Lengths of PROTOCOL 5.1, written out as numbers.
//= ZSSP-PKT-04  C1 is a tag
//= ZSSP-PKT-05  C2 is a tag
//= ZSSP-PKT-08  D is a tag
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
//= ZSSP-PKT-01  the fields of X1
//= ZSSP-PKT-02  the fields of X2
//= ZSSP-PKT-03  the fields of X3
//= ZSSP-PKT-11  the counter of X1
//= ZSSP-PKT-12  the counter of X2
//= ZSSP-ZCP-01  every hello ends with a response
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

//= ZSSP-HDR-01  integers are big-endian
//= ZSSP-HDR-03  sixteen bytes, laid out as follows
//= ZSSP-HDR-04  the key id, or zero
//= ZSSP-HDR-05  the fragment number
//= ZSSP-HDR-06  the fragment count
//= ZSSP-HDR-07  the reserved byte is sent as 0, and is part of the AEAD nonce
//= ZSSP-HDR-08  the packet type
//= ZSSP-HDR-09  the counter
//= ZSSP-HDR-10  the AEAD nonce is two zero bytes and the packet nonce
#[test]
fn header_layout() {
    let nonce = PacketNonce::new(PacketType::Payload, 0x1112_1314_1516_1718);
    let mut header = FragmentHeader { kid: KeyId::new([1, 2, 3, 4]), number: 5, count: 6, nonce };
    let mut bytes = [1, 2, 3, 4, 5, 6, 0, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
    assert_eq!(header.emit(), bytes);
    assert_eq!(nonce.aead(), [0, 0, 0, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
    header.kid = None;
    assert_eq!(header.emit()[..4], [0; 4]);

    bytes[6] = 9;
    let changed = FragmentHeader::parse(&bytes).unwrap().nonce;
    assert_eq!(changed.aead()[..4], [0, 0, 9, 8]);
    assert_ne!(changed, nonce);
}

//= ZSSP-HDR-02  four bytes, not all zero
#[test]
fn zero_is_not_a_key_id() {
    assert_eq!(Hello::parse(&[0; Hello::LEN]), Err(Malformed));
    assert_eq!(ChallengePacket::parse(&[0; ChallengePacket::LEN]), Err(Malformed));
}

//= ZSSP-HDR-05  the number is below the count
//= ZSSP-HDR-06  the count is 1 to 48
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

/// Random bytes whose length is now and then exactly that of a packet.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    const LENGTHS: [usize; 8] = [16, 36, 69, 81, 85, 1653, 1749, 4177];
    let near = (prop::sample::select(&LENGTHS[..]), 0..3_usize).prop_map(|(len, off)| len + off - 1);
    prop_oneof![3 => near, 1 => 0..5000_usize].prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
}

proptest! {
    #[test]
    fn parse_and_emit_are_inverse(bytes in packet()) {
        fuzzing::parsers(&bytes);
    }

    #[test]
    fn exactly_the_right_lengths_are_accepted(bytes in packet()) {
        let (len, kid) = (bytes.len(), !bytes.starts_with(&[0; 4]));
        prop_assert_eq!(Hello::parse(&bytes).is_ok(), len == Hello::LEN && kid);
        prop_assert_eq!(Response::parse(&bytes).is_ok(), len == Response::LEN);
        prop_assert_eq!(Completion::parse(&bytes).is_ok(), (81..=4177).contains(&len));
        prop_assert_eq!(Control::parse(&bytes).is_ok(), len == Control::LEN);
        prop_assert_eq!(Rekey::parse(&bytes).is_ok(), len == Rekey::LEN);
        prop_assert_eq!(RekeyBody::parse(&bytes).is_ok(), len == RekeyBody::LEN);
        prop_assert_eq!(ChallengePacket::parse(&bytes).is_ok(), len == ChallengePacket::LEN && kid);
        prop_assert_eq!(FragmentHeader::peek_kid(&bytes).is_ok(), len >= MIN_FRAGMENT_LEN);
    }

    #[test]
    fn headers_parse_as_they_were_emitted(kid: [u8; 4], count in 1..=48_u8, number: u8, t in 0..10_u8, c: u64) {
        let packet_type = PacketType::from_byte(t).unwrap();
        let nonce = PacketNonce::new(packet_type, c);
        let header = FragmentHeader { kid: KeyId::new(kid), number: number % count, count, nonce };
        prop_assert_eq!(FragmentHeader::parse(&header.emit()), Ok(header));
        prop_assert_eq!((nonce.packet_type(), nonce.counter()), (Some(packet_type), c));
    }

    //= ZSSP-HP-04  a fragment shorter than 32 bytes is not read
    #[test]
    fn a_datagram_splits_into_header_and_chunk(mut bytes in prop::collection::vec(any::<u8>(), 0..80), n: u8) {
        // Most headers are made plausible, or else hardly any would be accepted.
        if let (true, [_, _, _, _, number, count, ..]) = (n < 200, &mut bytes[..]) {
            *count = 1 + *count % 48;
            *number %= *count;
        }
        fuzzing::parsers(&bytes);
        let plausible = bytes.get(5).is_some_and(|count| (1..=48).contains(count) && bytes[4] < *count);
        let split = FragmentHeader::split_off(&mut bytes).is_ok();
        prop_assert_eq!(split, plausible && bytes.len() >= MIN_FRAGMENT_LEN);
    }
}
