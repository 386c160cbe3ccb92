//! An established session: its keys, its counters, sealing and opening.

mod replay;
