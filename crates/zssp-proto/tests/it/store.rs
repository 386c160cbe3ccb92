//! The store in memory keeps to what every store must do.

use zssp_harness::store_suite::EVERY_STORE;
use zssp_proto::MemoryStore;

#[test]
fn the_store_in_memory_does_what_every_store_must() {
    for (name, test) in EVERY_STORE {
        println!("{name}");
        test(&MemoryStore::new());
    }
}
