//! Any bytes to every parser: what one accepts, it emits unchanged.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zssp_proto::fuzzing::parsers(bytes));
