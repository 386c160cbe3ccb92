//! Fragments of hellos in any order to the buffer that strangers share, against a plain model.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|script: &[u8]| zssp_proto::fuzzing::hello_cache(Instant::now(), script));
