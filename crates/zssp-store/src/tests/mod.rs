//! What no test from outside can do: the disk fails, or forgets, at every single operation.

mod crash;
mod disk;
mod kills;
mod week;
