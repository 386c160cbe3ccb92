//! Any packet length and MTU to the canonical split.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zssp_proto::fuzzing::split(bytes));
