//! Any bytes to the parsers of what is inside sealed payloads: what one accepts, it writes unchanged.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zssp::fuzzing::frames(bytes));
