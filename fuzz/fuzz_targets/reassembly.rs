//! Fragments of packets in any order to a session's reassembly, against a plain model.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|script: &[u8]| zssp_proto::fuzzing::reassembly(Instant::now(), script));
