//! Any bytes to the parser of SEQEX frames: what it finds survives being written and parsed again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| seqex::fuzzing::encoding(bytes));
