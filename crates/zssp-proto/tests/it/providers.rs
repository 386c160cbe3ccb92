//! What every cryptographic provider must do, each alone and each with the others (PROTOCOL 2).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use zssp_proto::crypto::{
    Forged, KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN, KEM_SECRET_LEN, P384_PUBLIC_LEN, P384_SECRET_LEN, PROVIDERS,
    ProviderError, Secret, TAG_LEN,
};

//= ZSSP-SUI-04  the hash is SHA-512
#[test]
fn sha512_known_answers() {
    for provider in PROVIDERS {
        let empty = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                     47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                   2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(provider.sha512(&[]), bytes(empty));
        assert_eq!(provider.sha512(&[b"abc"]), bytes(abc));
        assert_eq!(provider.sha512(&[b"", b"a", b"", b"bc"]), bytes(abc));
    }
}

//= ZSSP-KDF-01  the PRF is HMAC-SHA-512
/// RFC 4231 cases 1, 2 and 6, and the empty key of `Split`.
#[test]
fn hmac_sha512_known_answers() {
    /// Key, message in parts, tag.
    type Case = (&'static [u8], &'static [&'static [u8]], &'static str);
    let cases: [Case; 4] = [
        (
            &[0x0B; 20],
            &[b"Hi ", b"There"],
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
             daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (
            b"Jefe",
            &[b"what do ya want for nothing?"],
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
        (
            &[0xAA; 131],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
             6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
        (
            b"",
            &[],
            "b936cee86c9f87aa5d3c6f2e84cb5a4239a5fe50480a6ec66b70ab5b1f4ac673\
             0c6c515421b327ec1d69402e53dfb49ad7381eb067b338fd7b0cb22247225d47",
        ),
    ];
    for provider in PROVIDERS {
        for (key, parts, expected) in cases {
            assert_eq!(provider.hmac_sha512(key, parts).expose(), &bytes::<64>(expected));
        }
    }
}

#[test]
fn random_bytes_fill_the_buffer_and_differ() {
    for provider in PROVIDERS {
        let (mut first, mut second) = ([0; 256], [0; 256]);
        provider.random(&mut first).unwrap();
        provider.random(&mut second).unwrap();
        assert_ne!(first, second);
        // A piece of honest randomness is all zeros once in 2^256 runs.
        assert!(first.chunks(32).all(|piece| piece != [0; 32]));
        provider.random(&mut []).unwrap();
    }
}

//= ZSSP-SUI-03  the AEAD is AES-256-GCM
/// Cases 13, 14 and 16 of the GCM submission to NIST.
#[test]
fn aes_gcm_known_answers() {
    let key16 = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let text16: [u8; 60] = bytes(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let aad16: [u8; 20] = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let sealed16: [u8; 76] = bytes(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece\
         0f4e1768cddf8853bb2d551b",
    );
    let sealed14: [u8; 32] = bytes("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    let sealed13: [u8; 16] = bytes("530f8afbc74536b9a963b4f1c4cb738b");
    /// Key, nonce, associated data, plaintext, ciphertext with its tag.
    type Case<'a> = ([u8; 32], [u8; 12], &'a [u8], &'a [u8], &'a [u8]);
    let cases: [Case<'_>; 3] = [
        ([0; 32], [0; 12], &[], &[], &sealed13),
        ([0; 32], [0; 12], &[], &[0; 16], &sealed14),
        (key16, bytes("cafebabefacedbaddecaf888"), &aad16, &text16, &sealed16),
    ];
    for provider in PROVIDERS {
        for (key, nonce, aad, text, expected) in cases {
            let key = Secret::new(key);
            let mut sealed = vec![0; text.len() + TAG_LEN];
            provider.seal_key(&key).seal(&nonce, aad, &[text], &mut sealed).unwrap();
            assert_eq!(sealed, expected);

            let mut opened = vec![0; text.len()];
            provider.open_key(&key).open(&nonce, aad, &sealed, &mut opened).unwrap();
            assert_eq!(opened, text);
        }
    }
}

#[test]
fn aead_refuses_every_changed_bit_and_shows_no_plaintext() {
    const LEN: usize = 23;
    let (key, nonce, aad, text) = (Secret::new([3; 32]), [4; 12], *b"bound", *b"attack at dawn, as ever");
    for provider in PROVIDERS {
        let open = provider.open_key(&key);
        let mut sealed = [0; LEN + TAG_LEN];
        provider.seal_key(&key).seal(&nonce, &aad, &[&text], &mut sealed).unwrap();

        let refused = |nonce: &[u8; 12], aad: &[u8], sealed: &[u8]| {
            let mut opened = [0xEE; LEN];
            assert_eq!(open.open(nonce, aad, sealed, &mut opened), Err(Forged));
            assert!(opened == [0xEE; LEN] || opened == [0; LEN], "plaintext got out");

            let mut buffer = sealed.to_vec();
            assert_eq!(open.open_in_place(nonce, aad, &mut buffer), Err(Forged));
            let (before, after) = (&sealed[..LEN], &buffer[..LEN]);
            assert!(after == before || after == [0; LEN], "plaintext got out");
        };
        for (i, bit) in bits(sealed.len()) {
            let mut other = sealed;
            other[i] ^= bit;
            refused(&nonce, &aad, &other);
        }
        for (i, bit) in bits(aad.len()) {
            let mut other = aad;
            other[i] ^= bit;
            refused(&nonce, &other, &sealed);
        }
        for (i, bit) in bits(nonce.len()) {
            let mut other = nonce;
            other[i] ^= bit;
            refused(&other, &aad, &sealed);
        }
        refused(&nonce, &[], &sealed);
        open.open(&nonce, &aad, &sealed, &mut [0; LEN]).unwrap();
    }
}

#[test]
fn aead_refuses_lengths_that_do_not_fit() {
    let (key, nonce) = (Secret::new([5; 32]), [6; 12]);
    for provider in PROVIDERS {
        let (seal, open) = (provider.seal_key(&key), provider.open_key(&key));
        for length in 0..40 {
            let text = vec![1; length];
            let mut sealed = vec![0; length + TAG_LEN];
            seal.seal(&nonce, &[], &[&text], &mut sealed).unwrap();
            for room in (0..80).filter(|room| *room != sealed.len()) {
                for parts in [
                    &[&text[..]][..],
                    &[&text, &[]],
                    &[&[], &text],
                    &[&text[..length / 2], &text[length / 2..]],
                ] {
                    let mut output = vec![0; room];
                    assert_eq!(seal.seal(&nonce, &[], parts, &mut output), Err(ProviderError));
                    assert!(output.iter().all(|byte| *byte == 0), "no plaintext is left there");
                }
            }
            for room in (0..80).filter(|room| *room != length) {
                assert_eq!(open.open(&nonce, &[], &sealed, &mut vec![0; room]), Err(Forged));
            }
            for cut in 0..sealed.len() {
                let mut opened = vec![0; cut.saturating_sub(TAG_LEN)];
                assert_eq!(open.open(&nonce, &[], &sealed[..cut], &mut opened), Err(Forged));
                assert_eq!(open.open_in_place(&nonce, &[], &mut sealed.clone()[..cut]), Err(Forged));
            }
        }
        for room in (0..80).filter(|room| *room != TAG_LEN) {
            assert_eq!(seal.seal(&nonce, &[], &[], &mut vec![0; room]), Err(ProviderError));
        }
    }
}

//= ZSSP-HP-01  one AES-256 block, no mode
/// The example in FIPS 197, appendix C.3.
#[test]
fn header_block_known_answer() {
    let key = Secret::new(core::array::from_fn(|i| i as u8));
    let plain = bytes("00112233445566778899aabbccddeeff");
    let cipher = bytes("8ea2b7ca516745bfeafc49904b496089");
    for provider in PROVIDERS {
        let (protect, unprotect) = (provider.protect_key(&key), provider.unprotect_key(&key));
        // Up to the 48 fragments of a packet: whole batches of the vector units, and what remains.
        for count in 0..=48 {
            let mut blocks = vec![plain; count];
            protect.protect(&mut blocks);
            assert_eq!(blocks, vec![cipher; count]);
            unprotect.unprotect(&mut blocks);
            assert_eq!(blocks, vec![plain; count]);
        }
    }
}

//= ZSSP-SUI-01  P-384, compressed points, the x-coordinate is shared
/// The first P-384 case of NIST's ECDH vectors (CAVP), and the generator.
#[test]
fn p384_known_answers() {
    let secret = bytes(
        "3cc3122a68f0d95027ad38c067916ba0eb8c38894d22e1b15618b6818a661774ad463b205da88cf699ab4d43c9cf98a1",
    );
    let x =
        "9803807f2f6d2fd966cdd0290bd410c0190352fbec7ff6247de1302df86f25d34fe4a97bef60cff548355c015dbb3e5f";
    let public = point(3, &bytes(x));
    let peer_x = bytes(
        "a7c76b970c3b5fe8b05d2838ae04ab47697b9eaf52e764592efda27fe7513272734466b400091adbf2d68c58e0c50066",
    );
    let shared: [u8; 48] = bytes(
        "5f9d29dc5e31a163060356213669c8ce132e22f57c9a04f40ba7fcead493b457e5621e766c40a2e3d4d6a04b25e533f1",
    );
    for provider in PROVIDERS {
        let pair = provider.p384_from_secret(&Secret::new(secret)).unwrap();
        assert_eq!(pair.public(), &public);
        assert_eq!(pair.secret().expose(), &secret);
        // A point and its negative have their x-coordinates in common, also after multiplication.
        assert_eq!(pair.agree(&point(2, &peer_x)).unwrap().expose(), &shared);
        assert_eq!(pair.agree(&point(3, &peer_x)).unwrap().expose(), &shared);

        let one = provider.p384_from_secret(&Secret::new(big_endian(1))).unwrap();
        assert_eq!(one.public(), &point(3, &bytes(GENERATOR_X)));
        assert_eq!(one.agree(&public).unwrap().expose(), &public[1..]);
    }
}

#[test]
fn p384_agrees_crosswise_and_survives_storing() {
    for alice in PROVIDERS {
        for bob in PROVIDERS {
            let (a, b) = (alice.p384_generate().unwrap(), bob.p384_generate().unwrap());
            assert_ne!(a.public(), b.public());
            assert!(alice.p384_is_valid(b.public()) && bob.p384_is_valid(a.public()));
            let shared = a.agree(b.public()).unwrap();
            assert!(shared.ct_eq(&b.agree(a.public()).unwrap()));

            let stored = bob.p384_from_secret(&a.secret()).unwrap();
            assert_eq!(stored.public(), a.public());
            assert!(stored.secret().ct_eq(&a.secret()));
            assert!(stored.agree(b.public()).unwrap().ct_eq(&shared));
        }
    }
}

#[test]
fn p384_refuses_what_is_no_point() {
    // 1 is the x-coordinate of no point. 2 is one, and must not be found under the name 2 + p.
    let mut bad = vec![point(2, &big_endian(1)), point(3, &big_endian(1))];
    bad.extend([P, P_PLUS_2].map(|x| point(2, &bytes(x))));
    bad.push(point(2, &[0xFF; 48]));
    let infinity = [0; P384_PUBLIC_LEN];
    bad.push(infinity);
    let prefixes = (0..=255).filter(|prefix| !matches!(prefix, 2 | 3));
    bad.extend(prefixes.map(|prefix| point(prefix, &bytes(GENERATOR_X))));

    for provider in PROVIDERS {
        let pair = provider.p384_generate().unwrap();
        for public in &bad {
            assert!(!provider.p384_is_valid(public), "{} took {public:02x?}", provider.name());
            assert!(pair.agree(public).is_err(), "{} agreed with {public:02x?}", provider.name());
        }
        assert!(provider.p384_is_valid(&point(2, &big_endian(2))));
    }
}

#[test]
fn p384_refuses_scalars_out_of_range() {
    let order: [u8; 48] = bytes(ORDER);
    let (mut above, mut below) = (order, order);
    above[47] += 1;
    below[47] -= 1;
    for provider in PROVIDERS {
        for secret in [[0; 48], order, above, [0xFF; 48]] {
            assert!(provider.p384_from_secret(&Secret::new(secret)).is_err(), "{}", provider.name());
        }
        let largest = provider.p384_from_secret(&Secret::new(below)).unwrap();
        assert_eq!(largest.public(), &point(2, &bytes(GENERATOR_X)));
    }
}

//= ZSSP-SUI-02  the KEM is ML-KEM-1024
#[test]
fn kem_agrees_crosswise() {
    for alice in PROVIDERS {
        let pair = alice.kem_generate().unwrap();
        assert_ne!(pair.public(), alice.kem_generate().unwrap().public());
        for bob in PROVIDERS {
            let sent = bob.kem_encapsulate(pair.public()).unwrap();
            assert!(sent.secret.ct_eq(&pair.decapsulate(&sent.ciphertext).unwrap()));
            let again = bob.kem_encapsulate(pair.public()).unwrap();
            assert!(!again.secret.ct_eq(&sent.secret) && again.ciphertext != sent.ciphertext);
        }
    }
}

/// A changed ciphertext is no error, and everybody who holds the key gets the same wrong secret.
#[test]
fn kem_rejects_implicitly() {
    let stored = recorded_kem_secret();
    let mut rejections = Vec::new();
    for provider in PROVIDERS {
        let pair = provider.kem_from_secret(&Secret::new(stored)).unwrap();
        let mut sent = provider.kem_encapsulate(pair.public()).unwrap();
        sent.ciphertext[700] ^= 1;
        assert!(!sent.secret.ct_eq(&pair.decapsulate(&sent.ciphertext).unwrap()));
        rejections.push(pair.decapsulate(&[0x5A; KEM_CIPHERTEXT_LEN]).unwrap());
    }
    assert!(rejections.iter().all(|secret| secret.ct_eq(&rejections[0])));
}

#[test]
fn kem_refuses_broken_keys() {
    const PUBLIC: usize = KEM_SECRET_LEN - 64 - KEM_PUBLIC_LEN;
    const HASH: usize = KEM_SECRET_LEN - 64;
    let stored = recorded_kem_secret();
    for provider in PROVIDERS {
        // The seed at the end may be anything, but a coefficient must be below 3329 and has room for 4095.
        let mut public: [u8; KEM_PUBLIC_LEN] = stored[PUBLIC..HASH].try_into().unwrap();
        public[KEM_PUBLIC_LEN - 1] ^= 1;
        assert!(provider.kem_encapsulate(&public).is_ok());
        for i in [0, 768, 1533] {
            let mut public = public;
            public[i..i + 3].fill(0xFF);
            assert!(provider.kem_encapsulate(&public).is_err(), "{} took byte {i}", provider.name());
        }
        for i in [PUBLIC, PUBLIC + 1000, HASH - 1, HASH, HASH + 31] {
            let mut stored = stored;
            stored[i] ^= 1;
            assert!(provider.kem_from_secret(&Secret::new(stored)).is_err(), "{} took {i}", provider.name());
        }
    }
}

#[test]
fn recorded_secrets_yield_the_recorded_public_keys() {
    let (mut p384, mut kem) = (0, 0);
    for event in recorded_events() {
        let field = |name: &str| event[name].as_str().unwrap();
        for provider in PROVIDERS {
            match event["op"].as_str().unwrap() {
                "p384_keypair" | "p384_static_keypair" => {
                    let secret: [u8; P384_SECRET_LEN] = bytes(field("secret"));
                    let pair = provider.p384_from_secret(&Secret::new(secret)).unwrap();
                    assert_eq!(pair.public(), &bytes(field("public")));
                    p384 += 1;
                }
                "kem_keypair" => {
                    let secret: [u8; KEM_SECRET_LEN] = bytes(field("secret"));
                    let pair = provider.kem_from_secret(&Secret::new(secret)).unwrap();
                    assert_eq!(pair.public(), &bytes(field("public")));
                    kem += 1;
                }
                _ => {}
            }
        }
    }
    assert!(p384 > 0 && kem > 0, "no recorded key pair was found");
}

proptest! {
    #[test]
    fn aead_does_not_depend_on_the_provider_or_on_how_the_plaintext_is_cut(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in vec(any::<u8>(), 0..80),
        text in vec(any::<u8>(), 0..2000),
        cuts in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let key = Secret::new(key);
        let mut expected = vec![0; text.len() + TAG_LEN];
        PROVIDERS[0].seal_key(&key).seal(&nonce, &aad, &[&text], &mut expected).unwrap();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([text.len()]);
        let parts: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &text[start..end]).collect();

        for provider in PROVIDERS {
            let (seal, open) = (provider.seal_key(&key), provider.open_key(&key));
            let mut sealed = vec![0xEE; text.len() + TAG_LEN];
            seal.seal(&nonce, &aad, &parts, &mut sealed).unwrap();
            prop_assert_eq!(&sealed, &expected);

            let mut opened = vec![0xEE; text.len()];
            open.open(&nonce, &aad, &sealed, &mut opened).unwrap();
            prop_assert_eq!(&opened, &text);
            prop_assert_eq!(open.open_in_place(&nonce, &aad, &mut sealed).unwrap(), &text);
        }
    }

    #[test]
    fn hashes_do_not_depend_on_the_provider_or_on_how_the_input_is_cut(
        key in vec(any::<u8>(), 0..300),
        parts in vec(vec(any::<u8>(), 0..200), 0..6),
    ) {
        let whole = parts.concat();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        for provider in PROVIDERS {
            prop_assert_eq!(provider.sha512(&parts), PROVIDERS[0].sha512(&[&whole]));
            let expected = PROVIDERS[0].hmac_sha512(&key, &[&whole]);
            prop_assert!(provider.hmac_sha512(&key, &parts).ct_eq(&expected));
        }
    }

    #[test]
    fn header_protection_is_undone_by_every_provider(key: [u8; 32], blocks: Vec<[u8; 16]>) {
        let key = Secret::new(key);
        for (one, other) in PROVIDERS.iter().zip(PROVIDERS.iter().rev()) {
            let mut protected = blocks.clone();
            one.protect_key(&key).protect(&mut protected);
            prop_assert!(blocks.is_empty() || protected != blocks);
            other.unprotect_key(&key).unprotect(&mut protected);
            prop_assert_eq!(&protected, &blocks);
        }
    }
}

const GENERATOR_X: &str =
    "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7";
const ORDER: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
const P: &str =
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff";
const P_PLUS_2: &str =
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff000000000000000100000001";

fn point(prefix: u8, x: &[u8; 48]) -> [u8; P384_PUBLIC_LEN] {
    core::array::from_fn(|i| if i == 0 { prefix } else { x[i - 1] })
}

fn big_endian(small: u8) -> [u8; 48] {
    core::array::from_fn(|i| if i == 47 { small } else { 0 })
}

/// Every single bit of `length` bytes.
fn bits(length: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..length).flat_map(|i| (0..8).map(move |bit| (i, 1 << bit)))
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    assert_eq!(hex.len(), 2 * N);
    core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

/// The events of all recorded sessions, those in the directory `ZSSP_VECTORS` if it is set.
fn recorded_events() -> Vec<Value> {
    let directory = env::var_os("ZSSP_VECTORS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/vectors"), PathBuf::from);
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .flat_map(|path| {
            let session: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            session["events"].as_array().unwrap().clone()
        })
        .collect()
}

fn recorded_kem_secret() -> [u8; KEM_SECRET_LEN] {
    let events = recorded_events();
    let pair = events.iter().find(|event| event["op"] == "kem_keypair").unwrap();
    bytes(pair["secret"].as_str().unwrap())
}
