//! The header cipher that every provider has unless it brings its own.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256Dec, Aes256Enc};

use super::secret::wiped;
use super::{Block, ProtectKey, Secret, UnprotectKey};

//= ZSSP-HP-01  one AES-256 block, no mode
/// Prepares an AES-256 key for encrypting header blocks (PROTOCOL 3.3).
pub(super) fn protect_key(key: &Secret<32>) -> Box<dyn ProtectKey> {
    Box::new(Encrypting(Aes256Enc::new(Array::cast_from_core(key.expose()))))
}

/// Prepares an AES-256 key for decrypting header blocks (PROTOCOL 3.3).
pub(super) fn unprotect_key(key: &Secret<32>) -> Box<dyn UnprotectKey> {
    Box::new(Decrypting(Aes256Dec::new(Array::cast_from_core(key.expose()))))
}

const _: () = wiped::<Aes256Enc>();
const _: () = wiped::<Aes256Dec>();

struct Encrypting(Aes256Enc);

struct Decrypting(Aes256Dec);

impl ProtectKey for Encrypting {
    fn protect(&self, blocks: &mut [Block]) {
        match Array::cast_slice_from_core_mut(blocks) {
            [block] => self.0.encrypt_block(block),
            blocks => self.0.encrypt_blocks(blocks),
        }
    }
}

impl UnprotectKey for Decrypting {
    fn unprotect(&self, blocks: &mut [Block]) {
        match Array::cast_slice_from_core_mut(blocks) {
            [block] => self.0.decrypt_block(block),
            blocks => self.0.decrypt_blocks(blocks),
        }
    }
}
