//! Somebody on the line against two peers with an established session.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| zssp_harness::pair::hostile(script));
